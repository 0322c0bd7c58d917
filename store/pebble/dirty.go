package pebble

import (
	"sync"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
)

// dirtyShards knows which shards were written since the last Purge: their files
// may hold bytes of deleted or overwritten records. It is one bit a shard, kept
// in the store itself (metaDirty) by the same batch that makes a shard dirty, so
// that neither a crash nor a restart forgets it.
type dirtyShards struct {
	mu      sync.Mutex
	now     shardSet // written since the last Purge began
	purging shardSet // what the running Purge sees to
}

type shardSet [store.Shards / 8]byte

func (s *shardSet) has(n store.Shard) bool { return s[n/8]&(1<<(n%8)) != 0 }
func (s *shardSet) add(n store.Shard)      { s[n/8] |= 1 << (n % 8) }

func (s *shardSet) union(o *shardSet) shardSet {
	u := *s
	for i := range u {
		u[i] |= o[i]
	}
	return u
}

// load takes the bits that the last process left.
func (d *dirtyShards) load(bits []byte) error {
	if len(bits) != len(d.now) {
		return errs.E("store/pebble.Open", errs.Corrupt, "the store is damaged; run the store check", nil)
	}
	copy(d.now[:], bits)
	return nil
}

// note marks the shards of the group in its batch.
func (d *dirtyShards) note(b *pebble.Batch, txs []*txCore) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	grown := false
	mark := func(full []byte) {
		if s, _ := splitKey(full); s < store.Shards && !d.now.has(s) {
			d.now.add(s)
			grown = grown || !d.purging.has(s)
		}
	}
	for _, t := range txs {
		if t.engine {
			continue
		}
		for _, e := range t.sorted {
			mark(e.key)
		}
		for _, r := range t.ranges {
			mark(r.start)
		}
	}
	if !grown {
		return nil
	}
	all := d.now.union(&d.purging)
	return b.Set(metaDirty, all[:], nil)
}
