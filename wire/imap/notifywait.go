package imap

import (
	"context"
	"math"
	"slices"
)

// waitCommand waits for the first byte of a command. A client that asked for it by NOTIFY
// is told changes meanwhile, as in IDLE (RFC 5465 §3.1).
func (c *conn) waitCommand(ctx context.Context) error {
	if c.notify == nil || c.notify.nothing() {
		return c.r.wait()
	}
	c.notify.arm(c)
	w := &waiting{c: c, ctx: ctx, watches: c.notify.watches(), between: true}
	w.due.Store(math.MaxInt64)
	// What fired before is not in the channels any more.
	pending := slices.ContainsFunc(w.watches, func(x *watched) bool { return x.fired.Load() })
	c.s.watchers.join(w)
	if pending {
		w.kick()
	}
	err := c.r.wait()
	c.s.watchers.leave(w)
	if err == nil {
		err = c.w.err
	}
	return err
}

// immediate reports that expunged messages may be told between commands: the client has
// said that it uses no message numbers (RFC 5465 §5.3).
func (n *notify) immediate() bool { return !n.delayed && n.selected&evExpunge != 0 }

// fetchNew sends what the client wants to know of the messages that EXISTS just told, from
// number first and place at of the view on. Those it put there itself are left out (RFC
// 5465 §5.2).
func (c *conn) fetchNew(ctx context.Context, first uint32, v View, at int) error {
	f := &fetch{c: c, ctx: ctx, items: c.notify.items}
	f.plan()
	if f.needsBody(nil) {
		f.ahead.open(c.sel.mailbox)
		defer f.ahead.close()
	}
	seq := first
	for _, e := range v.Range(at, v.Len()) {
		if !c.notify.isOwn(c.sel.box, e.UID) {
			if err := f.next(seq, e); err != nil {
				return err
			}
		}
		seq++
	}
	return f.rest()
}
