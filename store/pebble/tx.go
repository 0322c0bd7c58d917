package pebble

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
)

var errLate = errors.New("a Reader or Tx was used after its function returned")

const (
	// recordOverhead is what a buffered record costs beside its bytes. It counts
	// towards store.MaxTx, so that many tiny records are bounded too.
	recordOverhead = 64

	// smallRange is up to how many records a DeleteRange becomes single deletes:
	// cheaper for every later read than a range tombstone.
	smallRange = 64
)

// txCore is the write buffer of one transaction: full keys over the group's batch.
type txCore struct {
	ctx    context.Context
	base   source // the group's batch over the store
	points map[string]*entry
	sorted []*entry // points in key order, without fresh; never changed in place
	fresh  []*entry // points added since sorted was made
	ranges []span   // deleted before any of points was set; disjoint, in order
	bytes  int
	broken error // a write was refused; the transaction must not commit
	ended  bool
	engine bool // the engine's own (Purge): makes no shard dirty, wakes nobody
}

// entry is a buffered write of one key; value is nil for a delete.
type entry struct {
	key   []byte
	value []byte
	del   bool
}

// span is [start, end) in full keys.
type span struct{ start, end []byte }

func (s span) holds(key []byte) bool {
	return bytes.Compare(s.start, key) <= 0 && bytes.Compare(key, s.end) < 0
}

func (c *txCore) usable() error {
	if c.ended {
		return errs.E("store/pebble", errs.Internal, "", errLate)
	}
	return nil
}

func (c *txCore) empty() bool { return len(c.points) == 0 && len(c.ranges) == 0 }

// refuse notes that the transaction broke a limit, so that it cannot commit even
// if its function ignores the error.
func (c *txCore) refuse(op, public string) error {
	c.broken = errs.E(op, errs.TooLarge, public, nil)
	return c.broken
}

// deleted reports whether a DeleteRange of this transaction covers key.
func deleted(ranges []span, key []byte) bool {
	i, _ := slices.BinarySearchFunc(ranges, key, func(s span, k []byte) int {
		if bytes.Compare(s.end, k) <= 0 {
			return -1
		}
		return 1
	})
	return i < len(ranges) && ranges[i].holds(key)
}

func (c *txCore) get(full []byte) ([]byte, error) {
	if e := c.points[string(full)]; e != nil {
		if e.del {
			return nil, errs.E("store/pebble.Get", errs.NotFound, "", nil)
		}
		return slices.Clone(e.value), nil
	}
	if deleted(c.ranges, full) {
		return nil, errs.E("store/pebble.Get", errs.NotFound, "", nil)
	}
	return getCopy(c.base, full)
}

// put buffers a write. It keeps key and value; nobody may change them afterwards.
func (c *txCore) put(op string, full, value []byte, del bool) error {
	old := c.points[string(full)]
	grow := len(value)
	if old == nil {
		grow += len(full) - 2 + recordOverhead
	} else {
		grow -= len(old.value)
	}
	if c.bytes+grow > store.MaxTx {
		return c.refuse(op, "the transaction is too large")
	}
	c.bytes += grow
	if old != nil {
		old.value, old.del = value, del
		return nil
	}
	e := &entry{key: full, value: value, del: del}
	if c.points == nil {
		c.points = make(map[string]*entry)
	}
	c.points[string(full)] = e
	c.fresh = append(c.fresh, e)
	return nil
}

func byKey(a, b *entry) int { return bytes.Compare(a.key, b.key) }

// inOrder gives all buffered points in key order. The slice never changes
// afterwards, so a scan may go on over it while the transaction writes.
func (c *txCore) inOrder() []*entry {
	if len(c.fresh) == 0 {
		return c.sorted
	}
	slices.SortFunc(c.fresh, byKey)
	if len(c.sorted) == 0 {
		c.sorted, c.fresh = c.fresh, nil
		return c.sorted
	}
	merged := make([]*entry, 0, len(c.sorted)+len(c.fresh))
	a, b := c.sorted, c.fresh
	for len(a) > 0 && len(b) > 0 {
		if byKey(a[0], b[0]) < 0 {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	c.sorted, c.fresh = append(append(merged, a...), b...), nil
	return c.sorted
}

// within cuts the part of entries that lies in [lower, upper).
func within(entries []*entry, lower, upper []byte) []*entry {
	at := func(k []byte) int {
		i, _ := slices.BinarySearchFunc(entries, k, func(e *entry, k []byte) int { return bytes.Compare(e.key, k) })
		return i
	}
	return entries[at(lower):at(upper)]
}

func (c *txCore) deleteRange(op string, s span) error {
	if bytes.Compare(s.start, s.end) >= 0 {
		return nil
	}
	grow := len(s.start) + len(s.end) - 4 + recordOverhead
	if c.bytes+grow > store.MaxTx {
		return c.refuse(op, "the transaction is too large")
	}
	c.bytes += grow
	all := c.inOrder()
	if drop := within(all, s.start, s.end); len(drop) > 0 {
		for _, e := range drop {
			delete(c.points, string(e.key))
			c.bytes -= len(e.key) - 2 + len(e.value) + recordOverhead
		}
		c.sorted = slices.DeleteFunc(slices.Clone(all), func(e *entry) bool { return s.holds(e.key) })
	}
	// Keep ranges disjoint: swallow those that touch the new one.
	kept := make([]span, 0, len(c.ranges)+1)
	for _, r := range c.ranges {
		switch {
		case bytes.Compare(r.end, s.start) < 0 || bytes.Compare(s.end, r.start) < 0:
			kept = append(kept, r)
		default:
			if bytes.Compare(r.start, s.start) < 0 {
				s.start = r.start
			}
			if bytes.Compare(s.end, r.end) < 0 {
				s.end = r.end
			}
		}
	}
	kept = append(kept, s)
	slices.SortFunc(kept, func(a, b span) int { return bytes.Compare(a.start, b.start) })
	c.ranges = kept
	return nil
}

// mergeInto writes the buffer to the group's batch: ranges first, as every point
// is newer than the ranges that cover it.
func (c *txCore) mergeInto(b *pebble.Batch) error {
	for _, r := range c.ranges {
		if err := mergeRange(b, r); err != nil {
			return err
		}
	}
	for _, e := range c.inOrder() {
		var err error
		if e.del {
			err = b.Delete(e.key, nil)
		} else {
			err = b.Set(e.key, e.value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func mergeRange(b *pebble.Batch, r span) error {
	it, err := b.NewIter(&pebble.IterOptions{LowerBound: r.start, UpperBound: r.end})
	if err != nil {
		return err
	}
	var keys [][]byte
	for ok := it.First(); ok && len(keys) <= smallRange; ok = it.Next() {
		keys = append(keys, slices.Clone(it.Key()))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	if len(keys) > smallRange {
		return b.DeleteRange(r.start, r.end, nil)
	}
	for _, k := range keys {
		if err := b.Delete(k, nil); err != nil {
			return err
		}
	}
	return nil
}

// tx is the store.Tx of one shard over the buffer of its transaction.
type tx struct {
	c      *txCore
	prefix [2]byte
}

func (t *tx) Get(key []byte) ([]byte, error) {
	if err := t.c.usable(); err != nil {
		return nil, err
	}
	return t.c.get(fullKey(t.prefix, key))
}

func (t *tx) GetMany(keys [][]byte, fn func(i int, value []byte) (bool, error)) error {
	const op = "store/pebble.GetMany"
	if err := t.c.usable(); err != nil {
		return err
	}
	if !ascending(keys) {
		return errs.E(op, errs.Invalid, "", errOrder)
	}
	for i, key := range keys {
		value, err := t.c.get(fullKey(t.prefix, key))
		if errs.KindOf(err) == errs.NotFound && err != nil {
			continue
		}
		if err != nil {
			return err
		}
		if more, err := fn(i, value); err != nil || !more {
			return err
		}
	}
	return nil
}

func (t *tx) Set(key, value []byte) error { return t.set("store/pebble.Set", key, value, false) }

func (t *tx) SetShared(key, value []byte) error {
	return t.set("store/pebble.SetShared", key, value, true)
}

func (t *tx) set(op string, key, value []byte, shared bool) error {
	if err := t.c.usable(); err != nil {
		return err
	}
	if len(key) > store.MaxKey {
		return t.c.refuse(op, "the key is too long")
	}
	if len(value) > store.MaxValue {
		return t.c.refuse(op, "the record is too large")
	}
	if !shared {
		value = append(make([]byte, 0, len(value)), value...)
	}
	return t.c.put(op, fullKey(t.prefix, key), value, false)
}

func (t *tx) Delete(key []byte) error {
	const op = "store/pebble.Delete"
	if err := t.c.usable(); err != nil {
		return err
	}
	if len(key) > store.MaxKey {
		return t.c.refuse(op, "the key is too long")
	}
	return t.c.put(op, fullKey(t.prefix, key), nil, true)
}

func (t *tx) DeleteRange(start, end []byte) error {
	const op = "store/pebble.DeleteRange"
	if err := t.c.usable(); err != nil {
		return err
	}
	if len(start) > store.MaxKey || len(end) > store.MaxKey {
		return t.c.refuse(op, "the key is too long")
	}
	lower, upper := bounds(t.prefix, start, end)
	return t.c.deleteRange(op, span{lower, upper})
}

func (t *tx) Other(s store.Shard) (store.Tx, error) {
	if err := t.c.usable(); err != nil {
		return nil, err
	}
	if err := checkShard("store/pebble.Other", s); err != nil {
		return nil, err
	}
	return &tx{c: t.c, prefix: prefixOf(s)}, nil
}

func (t *tx) Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return t.scan(start, end, false, fn)
}

func (t *tx) ScanReverse(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return t.scan(start, end, true, fn)
}

// scan merges the buffer with what lies below it, as both were when it began.
func (t *tx) scan(start, end []byte, reverse bool, fn func(key, value []byte) (bool, error)) error {
	const op = "store/pebble.Scan"
	if err := t.c.usable(); err != nil {
		return err
	}
	lower, upper := bounds(t.prefix, start, end)
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	it, err := t.c.base.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(op, err)
	}
	m := merge{
		it:      it,
		reverse: reverse,
		own:     within(t.c.inOrder(), lower, upper),
		ranges:  t.c.ranges,
	}
	err = m.run(func(key, value []byte) (bool, error) { return fn(key[2:], value) })
	if cerr := it.Close(); err == nil && cerr != nil {
		return readError(op, cerr)
	}
	return err
}

// merge walks the union of an iterator and buffered entries in one direction.
type merge struct {
	it      *pebble.Iterator
	reverse bool
	own     []*entry
	ranges  []span
}

// nextOwn is the next buffered entry, or nil.
func (m *merge) nextOwn() *entry {
	switch {
	case len(m.own) == 0:
		return nil
	case m.reverse:
		return m.own[len(m.own)-1]
	}
	return m.own[0]
}

func (m *merge) dropOwn() {
	if m.reverse {
		m.own = m.own[:len(m.own)-1]
	} else {
		m.own = m.own[1:]
	}
}

func (m *merge) run(fn func(key, value []byte) (bool, error)) error {
	below, step := m.it.First, m.it.Next
	if m.reverse {
		below, step = m.it.Last, m.it.Prev
	}
	ok := below()
	for {
		e := m.nextOwn()
		if !ok && e == nil {
			return readError("store/pebble.Scan", m.it.Error())
		}
		// order < 0: the buffered entry comes first; 0: it replaces the one below.
		order := 0
		switch {
		case !ok:
			order = -1
		case e == nil:
			order = 1
		default:
			order = bytes.Compare(e.key, m.it.Key())
			if m.reverse {
				order = -order
			}
		}
		if order <= 0 {
			if order == 0 {
				ok = step()
			}
			m.dropOwn()
			if e.del {
				continue
			}
			if more, err := fn(e.key, e.value); err != nil || !more {
				return err
			}
			continue
		}
		if !deleted(m.ranges, m.it.Key()) {
			value, err := m.it.ValueAndErr()
			if err != nil {
				return readError("store/pebble.Scan", err)
			}
			if more, err := fn(m.it.Key(), value); err != nil || !more {
				return err
			}
		}
		ok = step()
	}
}
