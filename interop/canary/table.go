package canary

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// table calls f with all keys and values of a Pebble table (.sst), overwritten
// and deleted ones included, whatever its blocks are compressed with. A file
// that is no whole table is left to the raw scan.
func table(data []byte, f func(how string, part []byte)) {
	var o pebble.Options
	o.EnsureDefaults()
	r, err := sstable.NewMemReader(data, o.MakeReaderOptions())
	if err != nil {
		return
	}
	defer r.Close()
	if it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles); err == nil {
		for kv := it.First(); kv != nil; kv = it.Next() {
			f("table key", append([]byte(nil), kv.K.UserKey...))
			if value, _, err := kv.Value(nil); err == nil {
				f("table value", value)
			}
		}
		it.Close()
	}
	ctx := context.Background()
	if it, err := r.NewRawRangeDelIter(ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv); err == nil && it != nil {
		for span, err := it.First(); span != nil && err == nil; span, err = it.Next() {
			f("table range", append(append([]byte(nil), span.Start...), span.End...))
		}
		it.Close()
	}
}
