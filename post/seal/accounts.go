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
	shards, err := st.Occupied(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		start := []byte{AccountPrefix}
		for start != nil {
			page, next, err := accounts(ctx, st, s, start)
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

// accounts skips from account to account without reading what lies between.
func accounts(ctx context.Context, st store.Store, s store.Shard, start []byte) (page []AccountID, next []byte, err error) {
	end := []byte{AccountPrefix + 1}
	err = st.View(ctx, s, func(r store.Reader) error {
		page, next = nil, start
		for next != nil && len(page) < accountPage {
			from := next
			next = nil
			err := r.Scan(from, end, func(k, _ []byte) (bool, error) {
				var id AccountID
				copy(id[:], k[1:])
				page = append(page, id)
				next = id.End()
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
