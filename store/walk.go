package store

import "context"

// Walk bounds: records, and bytes of them, that are read under one snapshot. The record that
// reaches the second bound is the last of its portion.
const (
	WalkRecords = 256
	walkBytes   = 1 << 20
)

// Walk calls fn for each record of the shard in from start to end (nil: to its last) in ascending order,
// outside of any transaction, until fn returns false or an error, which Walk returns. Records are read in
// portions, so that neither memory nor a snapshot is held for long: one that is written meanwhile may be
// given or not. The slices are fn's own, and fn may write what it likes.
func Walk(ctx context.Context, s Store, in Shard, start, end []byte, fn func(key, value []byte) (bool, error)) error {
	type record struct{ k, v []byte }
	for start != nil {
		var portion []record
		var next []byte
		err := s.View(ctx, in, func(r Reader) error {
			portion, next = nil, nil
			size := 0
			return r.Scan(start, end, func(k, v []byte) (bool, error) {
				if len(portion) == WalkRecords || size >= walkBytes {
					next = append([]byte(nil), k...)
					return false, nil
				}
				portion = append(portion, record{append([]byte(nil), k...), append([]byte(nil), v...)})
				size += len(k) + len(v)
				return true, nil
			})
		})
		if err != nil {
			return err
		}
		for _, x := range portion {
			if more, err := fn(x.k, x.v); err != nil || !more {
				return err
			}
		}
		start = next
	}
	return nil
}
