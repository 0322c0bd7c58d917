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

// walkPage is how many records one snapshot is held for.
const walkPage = 256

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
		for start != nil {
			page, next, err := n.page(ctx, s, start)
			if err != nil {
				return errs.Wrap(op, err)
			}
			for _, r := range page {
				if ok, err := fn(r); err != nil || !ok {
					return errs.Wrap(op, err)
				}
			}
			start = next
		}
	}
	return nil
}

// page reads up to walkPage records from start on, and where to go on.
func (n *Names) page(ctx context.Context, s store.Shard, start []byte) (page []Stored, next []byte, err error) {
	err = n.st.View(ctx, s, func(r store.Reader) error {
		page, next = nil, nil
		return r.Scan(start, []byte{letter + 1}, func(k, v []byte) (bool, error) {
			if len(page) == walkPage {
				next = append([]byte(nil), k...)
				return false, nil
			}
			out := Stored{Place: Place{Shard: s}}
			if len(k) != len(recordKey(out.Key)) {
				out.Err = errs.E("post/names.Walk", errs.Corrupt, "", nil)
			} else {
				out.Key = [20]byte(k[1:])
				out.Record, out.Err = n.open(out.Key, v)
			}
			page = append(page, out)
			return true, nil
		})
	})
	return page, next, err
}
