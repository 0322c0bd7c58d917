package pebble

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/store"
)

// DB is an open store.
type DB struct {
	store.Store
}

// Stats counts what the store did since Open.
type Stats struct {
	Groups       uint64 // group commits
	Txs          uint64 // transactions acknowledged
	Syncs        uint64 // waits for the disk on the road of an acknowledgement
	BytesWritten uint64 // bytes of keys and values acknowledged
}

// Finding is one thing that Check found wrong.
type Finding struct {
	What string // in plain words, without keys or values
	Err  error  // the engine's own words, for the operator
}

// Open opens the store in o.Dir, or makes it.
func Open(ctx context.Context, o Options) (*DB, error) {
	return nil, errs.E("store/pebble.Open", errs.Unsupported, "", nil)
}

// Stats gives the counters.
func (d *DB) Stats() Stats { return Stats{} }

// Check reads everything and lists what is damaged.
func (d *DB) Check(ctx context.Context) ([]Finding, error) {
	return nil, errs.E("store/pebble.Check", errs.Unsupported, "", nil)
}
