package seal

import (
	"bytes"
	"testing"
)

// TestForwardKey: it is always the same one of a root key, another of another, and no other hash under
// the key for aliases.
func TestForwardKey(t *testing.T) {
	one, err := NewRoot(bytes.Repeat([]byte{1}, KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewRoot(bytes.Repeat([]byte{2}, KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	again := one.ForwardKey()
	if one.ForwardKey() != again || one.ForwardKey() == two.ForwardKey() || one.ForwardKey() == one.aliasSum(aliasToken) || one.ForwardKey() == one.aliasSum(aliasPlace) {
		t.Error("the key is not its own")
	}
}
