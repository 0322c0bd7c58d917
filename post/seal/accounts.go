package seal

import (
	"context"

	"postern.email/store"
)

// accountPage is how many account numbers one snapshot is held for.
const accountPage = 256

// EachAccount calls fn for every account number that any record lies behind, by shard and
// number, outside of any transaction, until fn returns an error. Numbers come in portions, so
// that neither memory nor a snapshot is held for long.
func EachAccount(ctx context.Context, st store.Store, fn func(store.Shard, AccountID) error) error {
	return EachNumber(ctx, st, AccountPrefix, fn)
}

// EachNumber is EachAccount for numbers behind another first byte than that of accounts.
func EachNumber(ctx context.Context, st store.Store, prefix byte, fn func(store.Shard, AccountID) error) error {
	shards, err := st.Occupied(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		start := []byte{prefix}
		for start != nil {
			page, next, err := numbers(ctx, st, s, prefix, start)
			if err != nil {
				return err
			}
			for _, id := range page {
				if err := fn(s, id); err != nil {
					return err
				}
			}
			start = next
		}
	}
	return nil
}

// numbers skips from number to number without reading what lies between.
func numbers(ctx context.Context, st store.Store, s store.Shard, prefix byte, start []byte) (page []AccountID, next []byte, err error) {
	end := []byte{prefix + 1}
	err = st.View(ctx, s, func(r store.Reader) error {
		page, next = nil, start
		for next != nil && len(page) < accountPage {
			from := next
			next = nil
			err := r.Scan(from, end, func(k, _ []byte) (bool, error) {
				var id AccountID
				copy(id[:], k[1:])
				page = append(page, id)
				next = id.EndOf(prefix)
				return false, nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return page, next, err
}
