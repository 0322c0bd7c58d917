package imap

import (
	"math"
	"slices"
	"strconv"
)

// numRange is a range of message numbers or UIDs; 0 stands for "*".
type numRange struct{ lo, hi uint32 }

// numSet is a sequence set as it was written (RFC 9051 §9 sequence-set).
type numSet struct {
	ranges []numRange
	saved  bool // "$" (RFC 5182)
}

// resolve puts the value of "*" in and gives the ranges sorted and merged.
func (s numSet) resolve(star uint32) []numRange {
	out := make([]numRange, 0, len(s.ranges))
	for _, r := range s.ranges {
		if r.lo == 0 {
			r.lo = star
		}
		if r.hi == 0 {
			r.hi = star
		}
		if r.lo > r.hi {
			r.lo, r.hi = r.hi, r.lo
		}
		if r.hi == 0 { // "*" of an empty mailbox
			continue
		}
		out = append(out, numRange{max(r.lo, 1), r.hi})
	}
	return mergeRanges(out)
}

// mergeRanges sorts ranges and joins those that touch.
func mergeRanges(in []numRange) []numRange {
	slices.SortFunc(in, func(a, b numRange) int {
		switch {
		case a.lo < b.lo:
			return -1
		case a.lo > b.lo:
			return 1
		}
		return 0
	})
	out := in[:0]
	for _, r := range in {
		if n := len(out); n > 0 && (out[n-1].hi == math.MaxUint32 || r.lo <= out[n-1].hi+1) {
			out[n-1].hi = max(out[n-1].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// inRanges reports whether n is in sorted, merged ranges.
func inRanges(rs []numRange, n uint32) bool {
	_, ok := slices.BinarySearchFunc(rs, n, func(r numRange, n uint32) int {
		switch {
		case r.hi < n:
			return -1
		case r.lo > n:
			return 1
		}
		return 0
	})
	return ok
}

// rangesOf makes ranges of ascending numbers.
func rangesOf(nums []uint32) []numRange {
	var out []numRange
	for _, n := range nums {
		if k := len(out); k > 0 && out[k-1].hi+1 == n {
			out[k-1].hi = n
			continue
		}
		out = append(out, numRange{n, n})
	}
	return out
}

// ranges writes a sequence set.
func (w *writer) ranges(rs []numRange) *writer {
	for i, r := range rs {
		if i > 0 {
			w.s(",")
		}
		w.u32(r.lo)
		if r.hi != r.lo {
			w.s(":").u32(r.hi)
		}
	}
	return w
}

// uidList writes numbers in the order given, runs of ascending ones as ranges,
// so that two lists of a COPYUID response pair up (RFC 4315 §3).
func (w *writer) uidList(nums []uint32) *writer {
	return w.ranges(rangesOf(nums))
}

func parseNum32(b []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err == nil
}

func appendRange(b []byte, r numRange) []byte {
	b = strconv.AppendUint(b, uint64(r.lo), 10)
	if r.hi != r.lo {
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(r.hi), 10)
	}
	return b
}
