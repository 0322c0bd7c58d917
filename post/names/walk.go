package names

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/store"
)

// Stored is a record as it lies in the store.
type Stored struct {
	Place
	Record
	Err error // it cannot be read
}

// Walk calls fn for the record of every name behind the place after, or for all with the
// zero Place, shard by shard, outside of any transaction, until fn returns false or an error.
// A shard's names are read in portions, so that neither memory nor a snapshot is held for long.
func (n *Names) Walk(ctx context.Context, after Place, fn func(Stored) (bool, error)) error {
	const op = "post/names.Walk"
	shards, err := n.st.Occupied(ctx)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, s := range shards {
		if s < after.Shard {
			continue
		}
		start := []byte{letter}
		if s == after.Shard && after != (Place{}) {
			start = append(recordKey(after.Key), 0)
		}
		more := true
		err := store.Walk(ctx, n.st, s, start, []byte{letter + 1}, func(k, v []byte) (_ bool, err error) {
			more, err = fn(n.stored(s, k, v))
			return more, err
		})
		if err != nil || !more {
			return errs.Wrap(op, err)
		}
	}
	return nil
}

// stored reads a record.
func (n *Names) stored(s store.Shard, k, v []byte) Stored {
	out := Stored{Place: Place{Shard: s}}
	if len(k) != len(recordKey(out.Key)) {
		out.Err = errs.E("post/names.Walk", errs.Corrupt, "", nil)
		return out
	}
	out.Key = [20]byte(k[1:])
	out.Record, out.Err = n.open(out.Key, v)
	return out
}
