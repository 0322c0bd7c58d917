package nym

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/post/seal"
	"postern.email/store"
)

// Bounds, and defaults of Options.
const (
	MaxBlocks = 64 // of one name
	MaxSets   = 8  // of one name
	MaxFeed   = 16 // blocks at once

	DefaultMaxNames   = 2000 // 330 KB each at most
	DefaultSweepEvery = time.Hour

	// LeastLife and MostLife are when a block expires at the earliest and at the latest to be
	// taken; it is used until LeastLife before it expires.
	LeastLife = time.Hour
	MostLife  = 5 * 24 * time.Hour

	newPerMinute, newBurst = 2, 100 // new names, of everybody together
	newAll                 = "all"
)

// Options of a Stock. Store and Root are needed; zero values stand for the defaults.
type Options struct {
	Store store.Store
	Root  *seal.Root

	MaxNames   int
	SweepEvery time.Duration
	// Deleted is called after each commit that deleted something. nil: nobody is told.
	Deleted func()

	Now    func() time.Time
	Logger *slog.Logger // nil: nothing is logged
}

// Stock is the stocks of all reply addresses. It may be used by many goroutines.
type Stock struct {
	o     Options
	fresh *limits.GCRA
	names atomic.Int64
	wake  chan struct{}
	count struct{ fed, used, expired, lost atomic.Uint64 }
}

// Stats of a Stock. Numbers are of all names together.
type Stats struct {
	Names int64 // reply addresses that are alive

	// Since Open:
	Fed     uint64 // blocks that were taken
	Used    uint64 // blocks that mail was taken for
	Expired uint64 // blocks that were never used
	Lost    uint64 // packets that could not be sent before their blocks expired
}

// Open opens the stocks in o.Store and counts them. errs.Invalid when the options make no sense.
func Open(ctx context.Context, o Options) (*Stock, error) {
	const op = "post/nym.Open"
	if o.Store == nil || o.Root == nil || o.MaxNames < 0 || o.SweepEvery < 0 {
		return nil, errs.E(op, errs.Invalid, "a store and a root key are needed", nil)
	}
	defaults.Zero(&o.MaxNames, DefaultMaxNames)
	defaults.Zero(&o.SweepEvery, DefaultSweepEvery)
	if o.Deleted == nil {
		o.Deleted = func() {}
	}
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	s := &Stock{o: o, fresh: limits.NewGCRA(newPerMinute, newBurst, 1, o.Now), wake: make(chan struct{}, 1)}
	err := s.each(ctx, kindStock, func(store.Shard, []byte, []byte) error { s.names.Add(1); return nil })
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	s.poke()
	return s, nil
}

// Stats gives what was counted.
func (s *Stock) Stats() Stats {
	c := &s.count
	return Stats{Names: s.names.Load(), Fed: c.fed.Load(), Used: c.used.Load(), Expired: c.expired.Load(), Lost: c.lost.Load()}
}

// Wake gives a value when there may be something to send (Next).
func (s *Stock) Wake() <-chan struct{} { return s.wake }

func (s *Stock) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// each calls fn for each record of a kind, outside of any transaction.
func (s *Stock) each(ctx context.Context, kind byte, fn func(in store.Shard, k, v []byte) error) error {
	for in := range store.Shard(seal.MixShards) {
		err := store.Walk(ctx, s.o.Store, in, []byte{prefix, kind}, []byte{prefix, kind + 1}, func(k, v []byte) (bool, error) { return true, fn(in, k, v) })
		if err != nil {
			return err
		}
	}
	return nil
}
