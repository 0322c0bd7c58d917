package store

import (
	"bytes"
	"testing"
)

// TestBehind: the key that is given is no prefix's, every key of the prefix lies before it, and the prefix
// stays as it was.
func TestBehind(t *testing.T) {
	for _, c := range []struct{ prefix, want []byte }{
		{[]byte("ab"), []byte("ac")},
		{[]byte{1, 0xfe}, []byte{1, 0xff}},
		{[]byte{1, 0xff, 0xff}, []byte{2}},
		{[]byte{0xff, 0xff}, nil},
		{nil, nil},
	} {
		was := bytes.Clone(c.prefix)
		got := Behind(c.prefix)
		if !bytes.Equal(got, c.want) || (got == nil) != (c.want == nil) || !bytes.Equal(c.prefix, was) {
			t.Errorf("behind %x: %x", was, got)
		}
		if last := append(was, 0xff, 0xff, 0xff); got != nil && bytes.Compare(last, got) >= 0 {
			t.Errorf("%x lies behind %x", last, got)
		}
	}
}
