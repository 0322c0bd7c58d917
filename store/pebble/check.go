package pebble

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// Finding is one thing that Check found wrong.
type Finding struct {
	What string // in plain words, without keys or values
	Err  error  // the engine's own words, for the operator
}

// Check reads every block of every table from the disk and compares its checksum,
// then reads all records in order and looks at their versions and keys. It lists
// what is wrong; the error is for a check that could not be done. The store stays
// in use meanwhile. A store that has stopped, perhaps because its own work met the
// damage first, is checked all the same: reading goes on.
func (d *DB) Check(ctx context.Context) ([]Finding, error) {
	ctx, end, err := d.begin(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer end()
	var found []Finding
	tables, err := d.inUse()
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Sorted(maps.Keys(tables)) {
		if err := ctx.Err(); err != nil {
			return found, d.stopReason("store/pebble.Check", err)
		}
		if err := d.checkTable(ctx, n); err != nil {
			found = append(found, Finding{"table file " + n + " is damaged", err})
		}
	}
	if err := d.inside(func() error { return d.pdb.CheckLevels(nil) }); err != nil {
		found = append(found, Finding{"the tables contradict each other or cannot be read", err})
	}
	more, err := d.checkRecords(ctx)
	return append(found, more...), err
}

// checkTable compares the checksums of one table. A table that was deleted
// meanwhile is no finding.
func (d *DB) checkTable(ctx context.Context, name string) error {
	f, err := d.o.FS.Open(d.o.FS.PathJoin(d.o.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	var opts pebble.Options
	opts.EnsureDefaults()
	r, err := sstable.NewReader(ctx, readable, opts.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// checkRecords reads all records of the newest durable state.
func (d *DB) checkRecords(ctx context.Context) ([]Finding, error) {
	h, err := d.snaps.acquire()
	if err != nil {
		return nil, err
	}
	defer d.snaps.release(h)
	r := &reader{ctx: ctx, stop: d.closing, src: h.snap}
	defer r.end()
	var strange, large int
	err = r.scan(nil, []byte{0xff, 0xff, 0xff, 0xff}, false, func(key, value []byte) (bool, error) {
		switch {
		case len(key) < 2:
			strange++
		case key[0] == metaPrefix[0] && key[1] == metaPrefix[1]:
		default:
			if s, k := splitKey(key); s >= store.Shards {
				strange++
			} else if len(k) > store.MaxKey || len(value) > store.MaxValue {
				large++
			}
		}
		return true, nil
	})
	var found []Finding
	if strange > 0 {
		found = append(found, Finding{"there are records outside of all shards", nil})
	}
	if large > 0 {
		found = append(found, Finding{"there are records larger than the limits", nil})
	}
	switch {
	case errors.Is(err, errs.Canceled):
		return found, err
	case err != nil:
		found = append(found, Finding{"the records cannot all be read", err})
	}
	return found, nil
}
