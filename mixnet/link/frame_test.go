package link

import (
	"encoding/hex"
	"errors"
	"testing"
)

// TestHeadVectors: the heads of docs/link.md §3, byte by byte.
func TestHeadVectors(t *testing.T) {
	if FrameSize != 32832 {
		t.Fatalf("a frame is %d bytes", FrameSize)
	}
	zero := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	for _, v := range []struct {
		h    head
		want string
	}{
		{head{typ: typeHello, lowest: 1, highest: 2}, "01" + zero(44) + "0102" + zero(17)},
		{head{typ: typeSend, number: 0x0102030405060708}, "02" + zero(7) + "0102030405060708" + zero(48)},
		{head{typ: typeJunk, answers: answers{first: 5, taken: 3, later: 1 << 63}},
			"03" + zero(15) + "0000000000000005" + "0000000000000003" + "8000000000000000" + zero(24)},
		{head{typ: typeFetch, length: 0x8000, request: 7}, "04" + "00" + "8000" + "00000007" + zero(56)},
		{head{typ: typePiece, length: 9, request: 7, total: 9}, "05" + "00" + "0009" + "00000007" + zero(32) + "00000009" + zero(20)},
		{head{typ: typePiece, request: 7, code: pieceRefused}, "05" + zero(3) + "00000007" + zero(36) + "03" + zero(19)},
		{head{typ: typeGoAway, code: awayBroken}, "06" + zero(43) + "05" + zero(19)},
	} {
		var b [headLen]byte
		v.h.put(&b)
		if got := hex.EncodeToString(b[:]); got != v.want {
			t.Errorf("%+v:\n got %s\nwant %s", v.h, got, v.want)
		}
		back, err := parseHead(&b)
		if err != nil || back != v.h {
			t.Errorf("%+v comes back as %+v, %v", v.h, back, err)
		}
	}
}

// TestHeadRejected: whatever a type does not use must be zero, and fields must make sense.
func TestHeadRejected(t *testing.T) {
	for _, v := range []struct {
		name string
		h    head
		want error
	}{
		{"type 0", head{}, errFrameType},
		{"type 7", head{typ: 7}, errFrameType},
		{"length in SEND", head{typ: typeSend, number: 1, length: 1}, errReserved},
		{"request in JUNK", head{typ: typeJunk, request: 1}, errReserved},
		{"number in JUNK", head{typ: typeJunk, number: 1}, errReserved},
		{"number in FETCH", head{typ: typeFetch, request: 1, number: 1}, errReserved},
		{"answers in HELLO", head{typ: typeHello, lowest: 1, highest: 1, answers: answers{1, 1, 0}}, errReserved},
		{"total in FETCH", head{typ: typeFetch, request: 1, total: 1}, errReserved},
		{"code in SEND", head{typ: typeSend, number: 1, code: 1}, errReserved},
		{"version in SEND", head{typ: typeSend, number: 1, lowest: 1}, errReserved},
		{"version in GOAWAY", head{typ: typeGoAway, code: 1, highest: 1}, errReserved},
		{"both answers", head{typ: typeJunk, answers: answers{1, 3, 2}}, errAnswers},
		{"bit 0 is clear", head{typ: typeJunk, answers: answers{1, 2, 4}}, errAnswers},
		{"first 0", head{typ: typeJunk, answers: answers{0, 1, 0}}, errAnswers},
		{"first too high", head{typ: typeJunk, answers: answers{1<<63 + 1, 1, 0}}, errAnswers},
		{"first without answers", head{typ: typeJunk, answers: answers{1, 0, 0}}, errAnswers},
		{"HELLO of version 0", head{typ: typeHello, highest: 1}, errHeadFields},
		{"HELLO upside down", head{typ: typeHello, lowest: 2, highest: 1}, errHeadFields},
		{"SEND 0", head{typ: typeSend}, errHeadFields},
		{"FETCH 0", head{typ: typeFetch}, errHeadFields},
		{"long FETCH", head{typ: typeFetch, request: 1, length: 0x8001}, errHeadFields},
		{"PIECE 0", head{typ: typePiece}, errHeadFields},
		{"long PIECE", head{typ: typePiece, request: 1, length: 0x8001, total: 1 << 20}, errHeadFields},
		{"PIECE over the total", head{typ: typePiece, request: 1, length: 2, total: 1}, errHeadFields},
		{"PIECE with code and total", head{typ: typePiece, request: 1, code: 1, total: 1}, errHeadFields},
		{"PIECE of code 4", head{typ: typePiece, request: 1, code: 4}, errHeadFields},
		{"GOAWAY 0", head{typ: typeGoAway}, errHeadFields},
		{"GOAWAY 6", head{typ: typeGoAway, code: 6}, errHeadFields},
	} {
		var b [headLen]byte
		v.h.put(&b)
		if _, err := parseHead(&b); !errors.Is(err, v.want) {
			t.Errorf("%s: %v, want %v", v.name, err, v.want)
		}
	}
	for _, i := range []int{1, 47, 48, 63} {
		var b [headLen]byte
		(&head{typ: typeJunk}).put(&b)
		b[i] = 1
		if _, err := parseHead(&b); !errors.Is(err, errReserved) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// FuzzHead: no head breaks the parser, and one that is taken is written the same again.
func FuzzHead(f *testing.F) {
	for _, h := range []head{
		{typ: typeHello, lowest: 1, highest: 1}, {typ: typeSend, number: 1}, {typ: typeJunk, answers: answers{3, 5, 2}},
		{typ: typeFetch, request: 1, length: 3}, {typ: typePiece, request: 1, length: 3, total: 9}, {typ: typeGoAway, code: 2},
	} {
		var b [headLen]byte
		h.put(&b)
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var b, again [headLen]byte
		copy(b[:], in)
		h, err := parseHead(&b)
		if err != nil {
			return
		}
		if h.put(&again); again != b {
			t.Errorf("%x is written as %x", b, again)
		}
		if u := h.used(); u < 0 || u > bodyLen {
			t.Errorf("%d bytes of the body", u)
		}
	})
}
