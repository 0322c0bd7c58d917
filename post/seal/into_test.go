package seal

import (
	"bytes"
	"testing"

	"postern.email/kit/errs"
)

// TestOpenPartInto opens into memory that is used again, with and without room.
func TestOpenPartInto(t *testing.T) {
	k, err := NewMailKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("a mail "), 300)
	sealed, err := k.SealPart(PartBody, 3, plain)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(sealed)
	memory := make([]byte, len(sealed)-SealedOverhead)
	for _, dst := range [][]byte{memory, memory[:0], memory[:0:10], nil} {
		got, err := k.OpenPartInto(dst, PartBody, 3, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("room for %d: %v", cap(dst), err)
		}
		if there := cap(dst) > 0 && &got[0] == &dst[:1][0]; there != (cap(dst) == len(memory)) {
			t.Errorf("room for %d: the result lies there: %v", cap(dst), there)
		}
	}
	if !bytes.Equal(sealed, kept) {
		t.Error("what was sealed was changed")
	}
	if _, err := k.OpenPartInto(memory, PartBody, 2, sealed); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("another chunk: %v", err)
	}
}
