package lru

import (
	"maps"
	"slices"
	"testing"
)

// TestBounds: the number of entries and the sum of sizes stay within the bounds, and
// the one unused for longest goes first.
func TestBounds(t *testing.T) {
	m := New[string, int](3, 100)
	holds := func(keys ...string) {
		t.Helper()
		var got []string
		for k := range m.All() {
			got = append(got, k)
		}
		if !slices.Equal(got, keys) || m.Len() != len(keys) {
			t.Errorf("holds %v (%d), want %v", got, m.Len(), keys)
		}
	}
	m.Put("a", 1, 10)
	m.Put("b", 2, 10)
	m.Put("c", 3, 10)
	if v, ok := m.Get("a"); v != 1 || !ok {
		t.Errorf("a is %d, %v", v, ok)
	}
	m.Put("d", 4, 10) // too many: b goes, since a was used
	holds("d", "a", "c")
	m.Put("e", 5, 85) // too many bytes: c and a go
	holds("e", "d")
	m.Put("d", 6, 15)
	holds("d", "e")
	if m.Bytes() != 100 {
		t.Errorf("%d bytes", m.Bytes())
	}
	m.Put("e", 7, 101) // never fits, and the old value is not what was put
	holds("d")
	m.Delete("d")
	m.Delete("d")
	if _, ok := m.Get("d"); ok || m.Len() != 0 || m.Bytes() != 0 {
		t.Errorf("%d entries, %d bytes after everything was deleted", m.Len(), m.Bytes())
	}
	for range m.All() {
		t.Error("an entry of an empty map")
	}
	New[string, int](0, 100).Put("a", 1, 1)
}

// TestAll: entries may be deleted while they are listed, and the list can be left.
func TestAll(t *testing.T) {
	m := New[int, int](10, 100)
	for i := range 5 {
		m.Put(i, i, 1)
	}
	for k := range m.All() {
		m.Delete(k)
		if k == 2 {
			break
		}
	}
	if got := slices.Sorted(maps.Keys(maps.Collect(m.All()))); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("left: %v", got)
	}
}

// TestUncounted: without sizes only the number of entries is bounded.
func TestUncounted(t *testing.T) {
	m := New[int, int](3, 0)
	for i := range 5 {
		m.Put(i, i, 0)
	}
	m.Put(3, 30, 0)
	if got := maps.Collect(m.All()); !maps.Equal(got, map[int]int{2: 2, 3: 30, 4: 4}) {
		t.Errorf("holds %v", got)
	}
}
