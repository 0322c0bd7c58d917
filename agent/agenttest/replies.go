package agenttest

import (
	"bytes"
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/post/nym"
	"postern.email/post/seal"
)

// Replies are reply addresses whose mail is not sealed: each is one packet with the mail itself.
type Replies struct {
	Stock  *nym.Stock
	serial uint64
	o      *Office
}

// Replies opens the reply addresses of the office.
func (o *Office) Replies() *Replies {
	o.TB.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		o.TB.Fatal(err)
	}
	s, err := nym.Open(context.Background(), nym.Options{Store: o.Store, Root: root, Now: o.Clock.Now})
	if err != nil {
		o.TB.Fatal(err)
	}
	return &Replies{Stock: s, o: o}
}

// Feed gives a reply address n blocks that last for two days.
func (r *Replies) Feed(name string, n int) {
	r.o.TB.Helper()
	r.serial++
	f := nym.Fed{Serial: r.serial}
	for range n {
		f.Blocks = append(f.Blocks, nym.Block{Raw: make([]byte, nym.BlockLen), Expires: r.o.Clock.Now().Add(48 * time.Hour)})
	}
	if _, err := r.Stock.Feed(context.Background(), name, f); err != nil {
		r.o.TB.Fatal(err)
	}
}

// Sent gives the mails that are to be sent, in the order of their blocks.
func (r *Replies) Sent() (out []string) {
	r.o.TB.Helper()
	list, err := r.Stock.Next(context.Background(), nil, 100)
	if err != nil {
		r.o.TB.Fatal(err)
	}
	for _, o := range list {
		out = append(out, string(o.Body))
	}
	return out
}

// Room is that of deliver.Replies.
func (r *Replies) Room(ctx context.Context, to mail.Address) error {
	_, _, err := r.set(ctx, to)
	return err
}

// Letter is that of deliver.Replies.
func (r *Replies) Letter(ctx context.Context, to, _ mail.Address, raw []byte) (*nym.Prepared, error) {
	name, set, err := r.set(ctx, to)
	if err != nil {
		return nil, err
	}
	return r.Stock.Prepare(name, set, [][]byte{raw})
}

func (r *Replies) set(ctx context.Context, to mail.Address) (name string, set nym.Set, err error) {
	name, _ = anon.ReplyName(to)
	sets, err := r.Stock.Sets(ctx, name)
	if err == nil && len(sets) == 0 {
		err = errs.E("agenttest.Replies", errs.Full, "the mailbox is full", nil)
	}
	if err != nil {
		return name, set, err
	}
	return name, sets[0], nil
}
