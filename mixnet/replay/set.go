package replay

import "math/bits"

// set holds fingerprints: 64-bit numbers that look random, none of them zero. It answers
// exactly for them. It is open addressing with linear probing in 256 tables, which grow one
// at a time by a quarter, so that growing needs little memory of its own: 8 bytes over a
// load between 0.68 and 0.85 each.
type set struct {
	tables [256]table
	n      int
}

type table struct {
	slots []uint64 // 0: empty
	n     int
}

// maxLoad is the share of a table's slots that may be taken, in hundredths.
const maxLoad = 85

// minSlots is the size of a table with anything in it.
const minSlots = 16

// start is the slot where looking for f begins. The top byte of f chose the table.
func (t *table) start(f uint64) int {
	hi, _ := bits.Mul64(f<<8, uint64(len(t.slots)))
	return int(hi)
}

// find gives the slot of f, or the empty one where it belongs.
func (t *table) find(f uint64) (i int, ok bool) {
	for i = t.start(f); ; {
		switch t.slots[i] {
		case 0:
			return i, false
		case f:
			return i, true
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]uint64, max(minSlots, len(old)+len(old)/4))
	for _, f := range old {
		if f != 0 {
			i, _ := t.find(f)
			t.slots[i] = f
		}
	}
}

func (s *set) has(f uint64) bool {
	t := &s.tables[f>>56]
	if t.n == 0 {
		return false
	}
	_, ok := t.find(f)
	return ok
}

// add puts f in; false: it was there.
func (s *set) add(f uint64) bool {
	t := &s.tables[f>>56]
	if (t.n+1)*100 > len(t.slots)*maxLoad {
		t.grow()
	}
	i, ok := t.find(f)
	if ok {
		return false
	}
	t.slots[i] = f
	t.n++
	s.n++
	return true
}

// bytes is the memory of the tables.
func (s *set) bytes() int64 {
	var n int64
	for i := range s.tables {
		n += int64(8 * cap(s.tables[i].slots))
	}
	return n
}
