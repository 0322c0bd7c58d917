package deliver

import (
	"time"

	"postern.email/post/mailbox"
	"postern.email/post/seen"
	"postern.email/store"
)

// oncePlacer passes over the recipients that have got the mail before.
type oncePlacer struct {
	placer
	seen  *seen.Seen
	to    []mailbox.Target
	marks []seen.Mark // of to
	now   time.Time
}

// once computes the marks before the transaction, which has to be quick.
func (d *Deliver) once(p placer, to []mailbox.Target, proof [][]byte) *oncePlacer {
	o := &oncePlacer{placer: p, seen: d.o.Seen, to: to, marks: make([]seen.Mark, len(to)), now: d.o.Now()}
	for i := range to {
		o.marks[i] = d.o.Seen.Mark(to[i].ID, proof...)
	}
	return o
}

func (o *oncePlacer) Put(tx store.Tx, i int) (mailbox.Placed, error) {
	first, err := o.seen.Once(tx, o.to[i].ID, o.marks[i], o.now)
	if err != nil || !first {
		return mailbox.Placed{}, err
	}
	return o.placer.Put(tx, i)
}
