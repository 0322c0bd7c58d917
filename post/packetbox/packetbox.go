package packetbox

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// PayloadLen is the length in bytes of every payload: that of mixnet/packet.PayloadLen.
const PayloadLen = 26592

// Defaults of Options, and limits.
const (
	DefaultMaxPackets = 2000
	DefaultRetention  = 30 * 24 * time.Hour
	DefaultRemember   = 3 // days
	DefaultSweepEvery = time.Hour

	// MaxKeys is how many clients an account may have.
	MaxKeys = 4
	// LeastRetention is the shortest time that packets can be kept: what is kept of a time is
	// the day.
	LeastRetention = 24 * time.Hour
)

// Options of Boxes. Store and Root are needed; zero values stand for the defaults.
type Options struct {
	Store store.Store
	Root  *seal.Root

	MaxPackets int           // that may wait for one account
	Retention  time.Duration // how long a packet waits at least; whole days
	Remember   int           // for how many days the name of a packet is remembered at least
	SweepEvery time.Duration

	// May says whether an account may get packets now: errs.NotFound and errs.Denied are for
	// good, other kinds for now. nil: always.
	May func(context.Context, seal.AccountID) error
	// Deleted is called after each commit that deleted something. nil: nobody is told.
	Deleted func()

	Now    func() time.Time
	Logger *slog.Logger // nil: nothing is logged
}

// Boxes are the mailboxes of all accounts. It may be used by many goroutines.
type Boxes struct {
	o     Options
	count counts
}

// counts since Open; waiting is what waits now.
type counts struct {
	boxes, waiting                         atomic.Int64
	stored, again, taken, expired, refused atomic.Uint64
}

// Stats of Boxes. Numbers are of all accounts together.
type Stats struct {
	Boxes   int64 // mailboxes
	Waiting int64 // packets that wait now

	// Since Open:
	Stored  uint64 // packets that were put
	Again   uint64 // packets that were put again, and were there or had been
	Taken   uint64 // removed because their client has them
	Expired uint64 // removed because of their age
	Refused uint64 // not taken: no such mailbox, full, or not allowed
}

// Stats gives what was counted.
func (b *Boxes) Stats() Stats {
	c := &b.count
	return Stats{Boxes: c.boxes.Load(), Waiting: c.waiting.Load(), Stored: c.stored.Load(), Again: c.again.Load(),
		Taken: c.taken.Load(), Expired: c.expired.Load(), Refused: c.refused.Load()}
}

// Open opens the mailboxes in o.Store and counts what waits in them. errs.Invalid when the
// options make no sense.
func Open(ctx context.Context, o Options) (*Boxes, error) {
	const op = "post/packetbox.Open"
	if o.Store == nil || o.Root == nil {
		return nil, errs.E(op, errs.Invalid, "a store and a root key are needed", nil)
	}
	defaults.Zero(&o.MaxPackets, DefaultMaxPackets)
	defaults.Zero(&o.Retention, DefaultRetention)
	defaults.Zero(&o.Remember, DefaultRemember)
	defaults.Zero(&o.SweepEvery, DefaultSweepEvery)
	if o.MaxPackets < 0 || o.Retention < LeastRetention || o.Remember < 0 || o.SweepEvery < 0 {
		return nil, errs.E(op, errs.Invalid, "a mailbox keeps at least one packet for a day", nil)
	}
	if o.May == nil {
		o.May = func(context.Context, seal.AccountID) error { return nil }
	}
	if o.Deleted == nil {
		o.Deleted = func() {}
	}
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	b := &Boxes{o: o}
	err := b.each(ctx, func(id seal.AccountID) error {
		st, err := b.state(ctx, id)
		if err != nil && errs.KindOf(err) != errs.Corrupt { // Check names it
			return err
		}
		b.count.boxes.Add(1)
		b.count.waiting.Add(int64(st.waiting))
		return nil
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return b, nil
}

// state reads how an account's mailbox stands.
func (b *Boxes) state(ctx context.Context, id seal.AccountID) (st state, err error) {
	err = b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		st, err = getState(r, id)
		return err
	})
	return st, err
}

// each calls fn for the account of each mailbox, outside of any transaction. Records that
// cannot be read are passed over.
func (b *Boxes) each(ctx context.Context, fn func(seal.AccountID) error) error {
	return b.names(ctx, nameMailbox, func(n storedName) error {
		if n.err != nil {
			return nil
		}
		return fn(n.id)
	})
}

// storedName is a record of a mailbox or link key as it lies in the store.
type storedName struct {
	kind  byte
	shard store.Shard
	place [placeLen]byte
	id    seal.AccountID
	err   error // it cannot be read
}

// names calls fn for each name of a kind, by shard, in portions.
func (b *Boxes) names(ctx context.Context, kind byte, fn func(storedName) error) error {
	return b.records(ctx, kind, func(n storedName, v []byte) error {
		if n.err == nil {
			n.id, n.err = b.openName(kind, n.place, v)
		}
		return fn(n)
	})
}

// records calls fn for each record of a kind, with its value, by shard, in portions.
func (b *Boxes) records(ctx context.Context, kind byte, fn func(storedName, []byte) error) error {
	for s := range store.Shard(seal.MixShards) {
		err := store.Walk(ctx, b.o.Store, s, []byte{letterName, kind}, []byte{letterName, kind + 1}, func(k, v []byte) (bool, error) {
			n := storedName{kind: kind, shard: s}
			if len(k) != nameKeyLen {
				n.err = corrupt("post/packetbox.names", nil)
			} else {
				n.place = [placeLen]byte(k[2:])
			}
			return true, fn(n, v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
