package codec

import (
	"bytes"
	"encoding/binary"
	"testing"

	"postern.email/kit/errs"
)

// record writes one field of each kind.
func record(c byte, n uint64, count int64, text string) []byte {
	b := binary.AppendUvarint([]byte{7, c}, n)
	b = binary.AppendUvarint(b, uint64(count))
	return Fill(AppendSized(b, text), 16)
}

func read(b []byte) (c byte, n uint64, count int64, text string, err error) {
	r := NewReader(b, 7)
	c, n, count, text = r.Byte(), r.Uvarint(), r.Int(1000), r.String(20)
	r.Filling(16)
	return c, n, count, text, r.End("test")
}

func TestFields(t *testing.T) {
	b := record(9, 1<<40, 1000, "some text")
	if len(b)%16 != 0 {
		t.Errorf("filled to %d bytes", len(b))
	}
	c, n, count, text, err := read(b)
	if err != nil || c != 9 || n != 1<<40 || count != 1000 || text != "some text" {
		t.Fatalf("%d %d %d %q %v", c, n, count, text, err)
	}
}

// What is malformed is errs.Corrupt, and gives zeros from there on.
func TestMalformed(t *testing.T) {
	good := record(9, 300, 5, "text")
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"another version":    append([]byte{8}, good[1:]...),
		"cut":                good[:5],
		"a longer number":    {7, 9, 0x85, 0x00, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a number too large": record(9, 300, 1001, "text"),
		"a text too long":    record(9, 300, 5, "twenty-one characters"),
		"filling not zero":   append(bytes.Clone(good[:len(good)-1]), 1),
		"filling too short":  good[:len(good)-1],
		"filling too long":   append(bytes.Clone(good), make([]byte, 16)...),
	} {
		if _, _, _, _, err := read(b); err == nil || errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := NewReader(good, 7)
	r.Fail()
	if r.Byte() != 0 || r.Uvarint() != 0 || r.Int(9) != 0 || r.Bytes(1) != nil || r.String(9) != "" || !r.Bad() {
		t.Error("a bad record goes on to be read")
	}
	r = NewReader([]byte{7, 1, 2}, 7)
	if r.Bytes(-1) != nil || !r.Bad() {
		t.Error("a negative length is read")
	}
	if r = Fields(binary.AppendUvarint(nil, 1<<32)); r.Uint32() != 0 || !r.Bad() {
		t.Error("33 bits are read as 32")
	}
	if r = NewReader([]byte{7, 1, 2}, 7); len(r.Rest()) != 2 || r.End("test") != nil {
		t.Error("the rest is not read")
	}
	if r = NewReader([]byte{7, 1, 2}, 7); r.End("test") == nil {
		t.Error("bytes are left and nobody says so")
	}
}

// Numbers with a sign and of 32 bits, in a record without a version.
func TestNumbers(t *testing.T) {
	var b []byte
	want := []int64{0, -1, 1, 1 << 40, -1 << 63, 1<<63 - 1}
	for _, n := range want {
		b = binary.AppendVarint(b, n)
	}
	r := Fields(binary.AppendUvarint(b, 1<<32-1))
	for _, n := range want {
		if got := r.Varint(); got != n {
			t.Errorf("%d, want %d", got, n)
		}
	}
	if n := r.Uint32(); n != 1<<32-1 || r.End("test") != nil {
		t.Errorf("%d", n)
	}
}

// FuzzFields: what is read encodes to the same bytes.
func FuzzFields(f *testing.F) {
	f.Add(record(1, 2, 3, "x"))
	f.Add(record(0, 1<<63, 1000, ""))
	f.Add([]byte{7})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, n, count, text, err := read(b)
		if err == nil && !bytes.Equal(record(c, n, count, text), b) {
			t.Errorf("%x encodes to %x", b, record(c, n, count, text))
		}
	})
}
