package pebble

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/store"
)

// Purge implements store.Store. How the old bytes go away:
//
//  1. It waits for Views and Walks that began before, as what they may still read
//     cannot be dropped, and then for flushes and compactions that began while
//     those were there.
//  2. Into every table that overlaps a shard written since the last Purge it
//     writes a marker: the table's first key again, as it is now. Pebble rewrites
//     a table only where newer data lies above it; a version that was overwritten
//     while a reader held it can otherwise sit in a bottom table for ever.
//  3. It writes the newest records out of memory, which ends the old log, and
//     compacts those key ranges, which rewrites every marked table.
//  4. It waits until the old files have left the directory.
//
// The cost, beside the newest records: on each level the tables that hold shards
// written since the last Purge, and about ten tables on the level below for each
// (a table is half of MemTableBytes). Keys may outlive their records as borders of
// tables in the MANIFEST, until that is begun anew (manifestBytes). What the file
// system does with freed blocks is beyond it.
func (d *DB) Purge(ctx context.Context) error {
	const op = "store/pebble.Purge"
	ctx, end, err := d.begin(ctx, d.guard.tripped)
	if err != nil {
		return err
	}
	defer end()
	select {
	case d.purging <- struct{}{}:
	case <-ctx.Done():
		return d.stopReason(op, ctx.Err())
	}
	defer func() { <-d.purging }()

	d.dirty.begin()
	if err := d.purge(ctx); err != nil {
		d.dirty.failed()
		if ctx.Err() != nil {
			return d.stopReason(op, err)
		}
		return errs.Wrap(op, err)
	}
	d.dirty.done()
	return nil
}

// stopReason says why the context that begin gave has ended.
func (d *DB) stopReason(op string, err error) error {
	if h := d.Health(); h != nil {
		return h
	}
	select {
	case <-d.closing:
		return errs.E(op, errs.Unavailable, publicClosed, nil)
	default:
		return errs.E(op, errs.Canceled, "", err)
	}
}

func (d *DB) purge(ctx context.Context) error {
	if err := d.snaps.waitOlder(ctx, d.guard.tripped); err != nil {
		return err
	}
	if err := d.jobs.waitRunning(ctx); err != nil {
		return err
	}
	if err := d.barrier(); err != nil {
		return err
	}
	tables, err := d.dirtyTables()
	if err != nil {
		return err
	}
	if err := d.writeMarkers(ctx, tables); err != nil {
		return err
	}
	old, err := d.files(".log") // those before the flush are not needed after it
	if err != nil {
		return err
	}
	flushed, err := d.flush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, s := range d.rangesToCompact(tables) {
		err := d.inside(func() error { return d.pdb.Compact(ctx, s.start, s.end, false) })
		if err != nil {
			return err
		}
	}
	if err := d.barrier(); err != nil {
		return err
	}
	now, err := d.files(".sst")
	if err != nil {
		return err
	}
	return d.waitRemoved(ctx, append(old, now...))
}

// flush begins to write the newest records into tables.
func (d *DB) flush() (flushed <-chan struct{}, err error) {
	result := make(chan (<-chan struct{}), 1)
	err = d.inside(func() error {
		c, err := d.pdb.AsyncFlush()
		result <- c
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

// table is what Purge needs to know of one.
type table struct {
	level       int
	first, last []byte // user keys; last is inclusive

}

// dirtyTables lists the tables that overlap the shards to purge.
func (d *DB) dirtyTables() ([]table, error) {
	levels, err := d.pdb.SSTables()
	if err != nil {
		return nil, readError("store/pebble.Purge", err)
	}
	var out []table
	for level, infos := range levels {
		for _, info := range infos {
			t := table{level: level, first: info.Smallest.UserKey, last: info.Largest.UserKey}
			if d.dirty.overlaps(t.first, t.last) {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// markersPerTx bounds how many markers one transaction writes.
const markersPerTx = 64

// writeMarkers writes the first key of each table again, through the committer, so
// that no other writer comes between reading and writing it.
func (d *DB) writeMarkers(ctx context.Context, tables []table) error {
	var keys [][]byte
	for _, t := range tables {
		keys = append(keys, t.first)
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	for chunk := range slices.Chunk(keys, markersPerTx) {
		err := d.Update(ctx, 0, func(t store.Tx) error { return mark(t.(*tx).c, chunk) })
		if err != nil {
			return err
		}
	}
	return nil
}

func mark(c *txCore, keys [][]byte) error {
	const op = "store/pebble.Purge"
	c.engine = true
	for _, k := range keys {
		v, err := c.get(k)
		switch {
		case errors.Is(err, errs.NotFound):
			err = c.put(op, k, nil, true)
		case err == nil:
			err = c.put(op, k, v, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rangesToCompact gives the key ranges of the shards to purge, each widened to the
// tables below that it touches, so that no table is rewritten twice.
func (d *DB) rangesToCompact(tables []table) []span {
	spans := d.dirty.spans()
	for _, t := range tables {
		if t.level > 0 {
			// The end of a span is exclusive; last ++ 0x00 is the next key.
			spans = append(spans, span{t.first, append(slices.Clone(t.last), 0)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.start, b.start) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && bytes.Compare(s.start, out[n-1].end) <= 0 {
			if bytes.Compare(out[n-1].end, s.end) < 0 {
				out[n-1].end = s.end
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// files lists the files in the directory whose names end in ext.
func (d *DB) files(ext string) (names []string, err error) {
	all, err := d.o.FS.List(d.o.Dir)
	if err != nil {
		return nil, errs.E("store/pebble.Purge", errs.Unavailable, "", err)
	}
	for _, n := range all {
		if strings.HasSuffix(n, ext) {
			names = append(names, n)
		}
	}
	return names, nil
}

// barrier waits until what Pebble's last event told of can be seen by all.
func (d *DB) barrier() error {
	// A snapshot takes the lock that events are told under.
	return d.inside(func() error { return d.pdb.NewSnapshot().Close() })
}

// waitRemoved waits until every file of old is gone or a table in use. A View that
// still reads an old file delays it.
func (d *DB) waitRemoved(ctx context.Context, old []string) error {
	for {
		changed := d.jobs.watch()
		used, err := d.inUse()
		if err != nil {
			return err
		}
		now, err := d.files("")
		if err != nil {
			return err
		}
		left := slices.ContainsFunc(old, func(n string) bool { return slices.Contains(now, n) && !used[n] })
		if !left {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inUse names the table files of the newest version.
func (d *DB) inUse() (map[string]bool, error) {
	levels, err := d.pdb.SSTables()
	if err != nil {
		return nil, readError("store/pebble.Purge", err)
	}
	used := make(map[string]bool)
	for _, infos := range levels {
		for _, info := range infos {
			used[info.BackingSSTNum.String()+".sst"] = true
		}
	}
	return used, nil
}

// begin moves what is dirty to the running Purge.
func (d *dirtyShards) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.purging = d.purging.union(&d.now)
	d.now = shardSet{}
}

// failed takes it back.
func (d *dirtyShards) failed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.union(&d.purging)
	d.purging = shardSet{}
}

// done forgets it. The record in the store keeps the old bits until the next shard
// gets dirty; a restart before that purges once too often, never too little.
func (d *dirtyShards) done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.purging = shardSet{}
}

// overlaps reports whether a key range (both ends inclusive) holds a shard of the
// running Purge.
func (d *dirtyShards) overlaps(first, last []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, _ := splitKey(first)
	b, _ := splitKey(last)
	for s := a; s <= min(b, store.Shards-1); s++ {
		if d.purging.has(s) {
			return true
		}
	}
	return false
}

// spans gives the key ranges of the shards of the running Purge, neighbours
// joined, and that of the engine's own records.
func (d *dirtyShards) spans() []span {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []span
	for s := store.Shard(0); s < store.Shards; s++ {
		if !d.purging.has(s) {
			continue
		}
		start, end := prefixOf(s), prefixOf(s+1)
		if n := len(out); n > 0 && bytes.Equal(out[n-1].end, start[:]) {
			out[n-1].end = end[:]
			continue
		}
		out = append(out, span{start[:], end[:]})
	}
	if out == nil {
		return nil
	}
	return append(out, span{metaPrefix[:], metaEnd})
}
