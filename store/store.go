// Package store is the contract for all state of Postern: a small ordered
// key-value store with serializable transactions. The mail schema is written
// once, above it; engines (store/pebble, later store/postgres) lie below it and
// all pass the suite in store/storetest.
//
// Keys are ordered bytewise inside a shard. What belongs together (one account)
// lies in one shard; a transaction names its home shard and may reach another
// one only if the engine keeps both in one log (Tx.Other).
package store

import "context"

// Shard is a partition of the key space, 0 to Shards-1. An engine may keep
// shards on different machines; keys of different shards are unrelated.
type Shard uint16

// Shards is the number of shards. It is part of the on-disk format.
const Shards = 4096

// MaxKey and MaxValue bound one record in bytes; a transaction's writes
// together, each counted with a small overhead, may not exceed MaxTx. Beyond:
// errs.TooLarge, and nothing is written, even if the function ignores the error.
const (
	MaxKey   = 1024
	MaxValue = 1 << 20
	MaxTx    = 64 << 20
)

// Behind gives the first key behind all keys that begin with prefix; nil: the end of the shard's keys.
func Behind(prefix []byte) []byte {
	k := append([]byte(nil), prefix...)
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			return k[:i+1]
		}
	}
	return nil
}

// Reader reads one consistent state of a shard. It must not be used after the
// function it was passed to has returned, nor by two goroutines at once.
type Reader interface {
	// Get gives the value of key, or errs.NotFound. The slice is a copy of the
	// caller's own.
	Get(key []byte) ([]byte, error)

	// GetMany calls fn for each of keys that exists, in their order, until fn
	// returns false or an error; i is the place in keys. Keys must ascend
	// (errs.Invalid, before fn is called). Values are valid only during the call
	// and must not be changed. It is meant for keys that lie near each other: one
	// such call costs a fraction of as many Gets, and copies nothing. fn may read
	// and write as that of Scan.
	GetMany(keys [][]byte, fn func(i int, value []byte) (bool, error)) error

	// Scan calls fn for each key in [start, end) in ascending order until fn
	// returns false or an error. A nil end means the end of the shard. Slices
	// are valid only during the call. fn may read and write through the same
	// Reader; whether writes made during a scan are seen by it is unspecified.
	Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error

	// ScanReverse is Scan in descending order.
	ScanReverse(start, end []byte, fn func(key, value []byte) (bool, error)) error
}

// Tx is a Reader that sees its own writes. All its writes become visible and
// durable together, or none.
type Tx interface {
	Reader
	Set(key, value []byte) error
	// SetShared is Set without a copy of value, for large ones: nobody may change it until
	// Update has returned. The key is copied.
	SetShared(key, value []byte) error
	Delete(key []byte) error
	// DeleteRange deletes every key in [start, end).
	DeleteRange(start, end []byte) error

	// Other gives the same transaction in another shard, or errs.Unsupported
	// when the engine does not keep both shards in one log. Callers then fall
	// back to two transactions and an idempotency key.
	Other(Shard) (Tx, error)
}

// Store is an engine. All methods may be called by many goroutines.
type Store interface {
	// View runs fn on a state that is durable: what fn reads can never be
	// taken back by a crash. It sees every Update that returned before it
	// began. It works also after Health has turned bad, as far as the disk
	// can still be read. It may take long, but the old state that it reads is
	// kept as long, and Purge and Close wait for it. A context that ends stops
	// it at the next Get or within a long scan.
	View(ctx context.Context, s Shard, fn func(Reader) error) error

	// Update runs fn and makes its writes durable. Update returning nil IS the
	// acknowledgement rule of Postern: only then may a 250, an OK or a link ACK
	// be sent. If fn returns an error nothing is written and that error is
	// returned. Transactions are serializable. fn may be run more than once
	// and must have no effect outside the Tx but overwriting variables it
	// sets; it must be quick (microseconds) and must not block: seal, hash and
	// read files before, wait after. It runs in another goroutine, so it must
	// not call t.Fatal, and must not call View, Update, Walk or Purge. A panic in
	// it becomes an errs.Internal. When ctx ends before the transaction was
	// taken up, Update returns errs.Canceled and nothing is written; later the
	// outcome is awaited, so an error never hides a commit, except
	// errs.Unavailable after a failed sync (see Health).
	Update(ctx context.Context, s Shard, fn func(Tx) error) error

	// Intend announces that the caller will call Update within a millisecond or
	// two (it has a mail and is sealing it), so that the engine may hold a group
	// commit open for it. One that comes late delays others once, for a few
	// milliseconds. Call done after Update returned or when no Update will
	// follow.
	Intend() (done func())

	// Watch gives a watch that fires after any durable commit that set or
	// deleted exactly this key. Deletions by DeleteRange do not fire. The callers
	// bound how many watches there are.
	Watch(s Shard, key []byte) *Watch

	// Walk calls fn for every record of every shard, in shard and key order,
	// on one consistent durable state: for check, reveal, sweeps and backups.
	Walk(ctx context.Context, fn func(s Shard, key, value []byte) (bool, error)) error

	// Occupied gives the shards in which any record is, in ascending order, on a durable
	// state: what goes through all shards (sweeps, checks, the start of a queue) looks into
	// these alone, and costs what there is and not what there could be. A shard in which
	// nothing was before a moment ago may be missing.
	Occupied(ctx context.Context) ([]Shard, error)

	// Purge rewrites what the engine must rewrite so that the bytes of records
	// deleted or overwritten before the call are in no file afterwards. Keys
	// may stay a while as borders in an index. It waits for Views and Walks
	// that began before it, so give it a context that ends. It costs about the
	// size of what was written since the last one, several times over: call it
	// every few minutes when something was deleted, not after each deletion.
	Purge(ctx context.Context) error

	// Health is nil, or why the store accepts no more writes (errs.Unavailable
	// after a failed sync or write; it stays so until the process restarts).
	Health() error

	// Failed is closed when Health turns bad.
	Failed() <-chan struct{}

	// Close answers waiting Updates with errs.Unavailable, waits for running
	// Views and closes the files. After it every call gives errs.Unavailable. A
	// second Close does nothing. After a failure of the disk it returns that.
	Close() error
}

// Watch is a wake-up without content: the watcher re-reads what it watches.
// Several commits may fire it once; it never misses the last one.
type Watch struct {
	C     <-chan struct{} // capacity 1
	close func()
}

// NewWatch is for engines. close is called at most once by Close.
func NewWatch(c <-chan struct{}, close func()) *Watch { return &Watch{C: c, close: close} }

// Close ends the watch. C is not closed. Close may be called once only.
func (w *Watch) Close() { w.close() }
