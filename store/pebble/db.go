// Package pebble is the embedded engine of the store contract: one ordered
// key-value store in one directory, on Pebble.
//
// A record's key in Pebble is its shard (two bytes, big-endian) and its key, so
// all shards share one log and Tx.Other works for every shard. One goroutine, the
// committer, runs all transactions one after another and makes them durable in
// groups: one batch, one sync, many acknowledgements. Readers (View, Walk) read a
// snapshot that is taken after the sync, so they never see what a crash could
// take back.
//
// Who keeps what: committer.go the rule of acknowledgement, guardfs.go the rule
// that after a failed write nothing more is written, purge.go the rule that
// deleted bytes go away.
package pebble

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
)

// closeGrace is how long Close waits, after a failure of the disk, for calls that
// are still inside Pebble. If they do not come back, Pebble is left open.
const closeGrace = 2 * time.Second

// DB is an open store. It implements store.Store.
type DB struct {
	o     Options
	log   *slog.Logger
	guard *guard
	cache *pebble.Cache
	lock  *pebble.Lock
	pdb   *pebble.DB

	queue   queue
	intents intents
	watches watches
	snaps   snapshots
	stats   counters
	dirty   dirtyShards

	closing chan struct{} // closed by Close
	closed  sync.Once
	opsMu   sync.Mutex     // held to close closing, and to begin an op
	ops     sync.WaitGroup // running Purge and Check
	stopped chan struct{}  // closed when the committer has ended
	calls   sync.WaitGroup
	purging chan struct{} // capacity 1: held by the running Purge
	jobs    jobs          // of Pebble's background
}

var _ store.Store = (*DB)(nil)

// Stats counts what the store did since Open.
type Stats struct {
	Groups       uint64 // group commits
	Txs          uint64 // transactions acknowledged that wrote something
	Syncs        uint64 // syncs of the log asked of the disk
	BytesWritten uint64 // bytes handed to the log
}

type counters struct{ groups, txs, bytes atomic.Uint64 }

// Stats gives the counters.
func (d *DB) Stats() Stats {
	return Stats{
		Groups:       d.stats.groups.Load(),
		Txs:          d.stats.txs.Load(),
		Syncs:        d.guard.walSyncs.Load(),
		BytesWritten: d.stats.bytes.Load(),
	}
}

// Health implements store.Store.
func (d *DB) Health() error {
	if err := d.guard.failure(); err != nil {
		return errs.E("store/pebble", errs.Unavailable, publicStopped, err)
	}
	return nil
}

// Failed implements store.Store.
func (d *DB) Failed() <-chan struct{} { return d.guard.tripped }

// View implements store.Store. A View that is running delays Purge and Close.
func (d *DB) View(ctx context.Context, s store.Shard, fn func(store.Reader) error) error {
	const op = "store/pebble.View"
	if err := ctx.Err(); err != nil {
		return errs.E(op, errs.Canceled, "", err)
	}
	if err := checkShard(op, s); err != nil {
		return err
	}
	h, err := d.snaps.acquire()
	if err != nil {
		return err
	}
	defer d.snaps.release(h)
	r := &reader{ctx: ctx, stop: d.closing, src: h.snap, prefix: prefixOf(s)}
	defer r.end()
	return fn(r)
}

// Walk implements store.Store.
func (d *DB) Walk(ctx context.Context, fn func(s store.Shard, key, value []byte) (bool, error)) error {
	h, err := d.snaps.acquire()
	if err != nil {
		return err
	}
	defer d.snaps.release(h)
	r := &reader{ctx: ctx, stop: d.closing, src: h.snap}
	defer r.end()
	first, end := prefixOf(0), prefixOf(store.Shards)
	return r.scan(first[:], end[:], false, func(key, value []byte) (bool, error) {
		s, k := splitKey(key)
		return fn(s, k, value)
	})
}

// Occupied implements store.Store. It seeks from shard to shard with one iterator, and reads
// no value.
func (d *DB) Occupied(ctx context.Context) (shards []store.Shard, err error) {
	const op = "store/pebble.Occupied"
	h, err := d.snaps.acquire()
	if err != nil {
		return nil, err
	}
	defer d.snaps.release(h)
	r := &reader{ctx: ctx, stop: d.closing, src: h.snap}
	defer r.end()
	if err := r.usable(); err != nil {
		return nil, err
	}
	first, end := prefixOf(0), prefixOf(store.Shards)
	it, err := h.snap.NewIter(&pebble.IterOptions{LowerBound: first[:], UpperBound: end[:]})
	if err != nil {
		return nil, readError(op, err)
	}
	for ok := it.First(); ok && err == nil; {
		s, _ := splitKey(it.Key())
		if shards = append(shards, s); len(shards)%ctxEvery == 0 {
			err = r.usable()
		}
		next := prefixOf(s + 1)
		ok = it.SeekGE(next[:])
	}
	if err == nil && it.Error() != nil {
		err = readError(op, it.Error())
	}
	if cerr := it.Close(); err == nil && cerr != nil {
		err = readError(op, cerr)
	}
	if err != nil {
		return nil, err
	}
	return shards, nil
}

// Watch implements store.Store. The callers bound how many there are (one a
// waiting session).
func (d *DB) Watch(s store.Shard, key []byte) *store.Watch {
	return d.watches.add(string(fullKey(prefixOf(s), key)))
}

// Close stops the committer, waits for running Views and closes the directory.
// Updates that wait are answered with errs.Unavailable. After a failure of the
// disk it returns that failure.
func (d *DB) Close() error {
	var err error
	d.closed.Do(func() { err = d.close() })
	return err
}

func (d *DB) close() error {
	d.opsMu.Lock()
	close(d.closing)
	d.opsMu.Unlock()
	<-d.stopped
	d.ops.Wait()
	d.snaps.close()
	health := d.Health()
	if health != nil && !d.callsEnd() {
		// A call is stuck inside Pebble, waiting for a flush that cannot happen.
		// Closing Pebble would wait for that call for ever.
		return health
	}
	close(d.guard.release)
	d.calls.Wait()
	<-d.snaps.swept
	err := d.pdb.Close()
	d.cache.Unref()
	lockErr := d.lock.Close()
	switch {
	case health != nil:
		return health
	case err != nil:
		return errs.E("store/pebble.Close", errs.Internal, "", err)
	case lockErr != nil:
		return errs.E("store/pebble.Close", errs.Internal, "", lockErr)
	}
	return nil
}

// begin begins a Purge or Check, which Close waits for; ctx ends when the store
// closes or fails. end must be called.
func (d *DB) begin(ctx context.Context, failed <-chan struct{}) (_ context.Context, end func(), err error) {
	d.opsMu.Lock()
	defer d.opsMu.Unlock()
	select {
	case <-d.closing:
		return nil, nil, errs.E("store/pebble", errs.Unavailable, publicClosed, nil)
	default:
	}
	select {
	case <-failed:
		return nil, nil, d.Health()
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	d.ops.Go(func() {
		select {
		case <-d.closing:
		case <-failed:
		case <-ctx.Done():
		}
		cancel()
	})
	d.ops.Add(1)
	return ctx, func() { cancel(); d.ops.Done() }, nil
}

// callsEnd waits up to closeGrace until no call of inside is left.
func (d *DB) callsEnd() bool {
	done := make(chan struct{})
	go func() {
		d.calls.Wait()
		close(done)
	}()
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// inside runs a call of Pebble that a failed disk may block for ever, and leaves
// it behind when the guard trips. The error is that of the call or of the guard.
func (d *DB) inside(call func() error) error {
	done := make(chan error, 1)
	d.calls.Add(1)
	go func() {
		defer d.calls.Done()
		// Pebble panics, with locks held, where it sees no way on. That must not
		// take the process with it before it could say what happened: the store
		// stops instead.
		defer func() {
			if p := recover(); p != nil {
				done <- d.guard.trip(panicError(p))
			}
		}()
		done <- call()
	}()
	select {
	case err := <-done:
		if f := d.guard.failure(); f != nil {
			return f
		}
		return err
	case <-d.guard.tripped:
		return d.guard.failure()
	}
}
