package seal

import (
	"math/bits"

	"postern.email/kit/errs"
)

// PaddedLen gives the length that n bytes are padded to: Padmé (Nikitin et al.,
// "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
// PETS 2019, §4), which leaks O(log log n) bits and adds at most 12 %. One byte
// is always added for the end mark, so PaddedLen(n) > n.
func PaddedLen(n int) int {
	if n < 0 {
		return 0
	}
	return padme(n + 1)
}

func padme(l int) int {
	if l < 2 {
		return l
	}
	e := bits.Len(uint(l)) - 1 // floor(log2 l)
	s := bits.Len(uint(e))     // floor(log2 e) + 1
	last := e - s              // bits that become zero
	mask := (1 << max(last, 0)) - 1
	return (l + mask) &^ mask
}

// Pad gives a fresh slice: plain, the end mark 0x80, and zeros up to
// PaddedLen(len(plain)).
func Pad(plain []byte) []byte {
	return appendPadded(nil, plain, 0, 0)
}

// appendPadded pads plain to at least floor bytes behind dst, with room for
// extra more bytes behind it.
func appendPadded(dst, plain []byte, floor, extra int) []byte {
	n := max(PaddedLen(len(plain)), floor)
	out := make([]byte, len(dst)+n, len(dst)+n+extra)
	copy(out, dst)
	copy(out[len(dst):], plain)
	out[len(dst)+len(plain)] = 0x80
	return out
}

// Unpad gives the part of padded before the end mark, without copying.
func Unpad(padded []byte) ([]byte, error) {
	for i := len(padded) - 1; i >= 0; i-- {
		switch padded[i] {
		case 0:
		case 0x80:
			return padded[:i:i], nil
		default:
			return nil, errs.E("seal.Unpad", errs.Corrupt, "", nil)
		}
	}
	return nil, errs.E("seal.Unpad", errs.Corrupt, "", nil)
}
