// Package lru is a map that is bounded in entries and in bytes: what was unused for
// longest goes when something new does not fit.
package lru

import (
	"container/list"
	"iter"
)

// Map is such a map. It has no lock of its own.
type Map[K comparable, V any] struct {
	entries int
	bytes   int64
	used    int64
	items   map[K]*list.Element // of *item[K, V]
	order   list.List           // front: used last
}

type item[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

// New makes a Map for at most so many entries whose sizes are at most bytes in all. Where only
// their number counts, bytes and the sizes are 0.
func New[K comparable, V any](entries int, bytes int64) *Map[K, V] {
	return &Map[K, V]{entries: entries, bytes: bytes, items: make(map[K]*list.Element)}
}

// Get gives the value of k and makes it the one used last.
func (m *Map[K, V]) Get(k K) (v V, ok bool) {
	e := m.items[k]
	if e == nil {
		return v, false
	}
	m.order.MoveToFront(e)
	return e.Value.(*item[K, V]).value, true
}

// Put sets the value of k, which counts size bytes; the caller counts in what an
// entry costs beside its value. A value that is larger than the whole Map is not
// kept, and neither is what k had before.
func (m *Map[K, V]) Put(k K, v V, size int64) {
	m.Delete(k)
	if size > m.bytes || m.entries < 1 {
		return
	}
	for len(m.items) >= m.entries || m.used+size > m.bytes {
		m.drop(m.order.Back())
	}
	m.items[k] = m.order.PushFront(&item[K, V]{k, v, size})
	m.used += size
}

// Delete forgets k.
func (m *Map[K, V]) Delete(k K) {
	if e := m.items[k]; e != nil {
		m.drop(e)
	}
}

func (m *Map[K, V]) drop(e *list.Element) {
	i := m.order.Remove(e).(*item[K, V])
	delete(m.items, i.key)
	m.used -= i.size
}

// Len is the number of entries, Bytes the sum of their sizes.
func (m *Map[K, V]) Len() int     { return len(m.items) }
func (m *Map[K, V]) Bytes() int64 { return m.used }

// All gives every entry, the one used last first, and changes no order.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for e := m.order.Front(); e != nil; {
			next, i := e.Next(), e.Value.(*item[K, V])
			if !yield(i.key, i.value) {
				return
			}
			e = next
		}
	}
}
