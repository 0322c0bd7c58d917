package deliver

import (
	"postern.email/post/seal"
	"postern.email/post/seen"
	"postern.email/store"
)

// once passes over an account that has got the mail before. The mark is computed before the
// transaction, which has to be quick.
func (d *Deliver) once(id seal.AccountID, proof [][]byte, put func(store.Tx) error) func(store.Tx) error {
	mark, now := d.o.Seen.Mark(id, proof...), d.o.Now()
	return func(tx store.Tx) error {
		first, err := d.o.Seen.Once(tx, id, mark, now)
		if err != nil || !first {
			return err
		}
		return put(tx)
	}
}

// onceLetter ends a transaction in which a letter comes again; nil for no letter.
func (d *Deliver) onceLetter(l *seen.Letter) func(store.Tx) error {
	if l == nil {
		return nil
	}
	now := d.o.Now()
	return func(tx store.Tx) error {
		first, err := d.o.Letters.OnceLetter(tx, *l, now)
		if err == nil && !first {
			err = errKnown
		}
		return err
	}
}
