package account

import "container/list"

// lru is a map that holds at most max entries and forgets the one unused for
// longest. It has no lock of its own.
type lru[K comparable, V any] struct {
	max   int
	items map[K]*list.Element // of *lruItem[K, V]
	order list.List           // front: used last
}

type lruItem[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](max int) *lru[K, V] {
	return &lru[K, V]{max: max, items: make(map[K]*list.Element)}
}

func (l *lru[K, V]) get(k K) (v V, ok bool) {
	e := l.items[k]
	if e == nil {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruItem[K, V]).value, true
}

func (l *lru[K, V]) put(k K, v V) {
	if e := l.items[k]; e != nil {
		e.Value.(*lruItem[K, V]).value = v
		l.order.MoveToFront(e)
		return
	}
	for len(l.items) >= l.max && l.order.Len() > 0 {
		l.delete(l.order.Back().Value.(*lruItem[K, V]).key)
	}
	l.items[k] = l.order.PushFront(&lruItem[K, V]{k, v})
}

func (l *lru[K, V]) delete(k K) {
	if e := l.items[k]; e != nil {
		l.order.Remove(e)
		delete(l.items, k)
	}
}

func (l *lru[K, V]) len() int { return len(l.items) }
