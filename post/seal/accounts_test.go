package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/store"
	"postern.email/store/pebble"
)

// TestEachAccount: every number once, in order, more than one portion of them in a shard.
func TestEachAccount(t *testing.T) {
	st, err := pebble.Open(t.Context(), pebble.Options{FS: crvfs.NewMem(), Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var want []AccountID
	for s := range 2 {
		err := st.Update(t.Context(), store.Shard(s), func(tx store.Tx) error {
			for i := range accountPage + 1 {
				id := AccountID{0, byte(s), byte(i >> 8), byte(i), 0xff, 0xff, 0xff, 0xff}
				want = append(want, id)
				for _, k := range []string{"", "a", "b"} {
					if err := tx.Set(append(id.Prefix(), k...), nil); err != nil {
						return err
					}
				}
			}
			return tx.Set([]byte{AccountPrefix + 1, 1}, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []AccountID
	err = EachAccount(t.Context(), st, func(s store.Shard, id AccountID) error {
		if id.Shard() != s {
			t.Errorf("%s in shard %d", id, s)
		}
		got = append(got, id)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d numbers, want %d; %v", len(got), len(want), err)
	}
	stop := errors.New("stop")
	n := 0
	if err := EachAccount(t.Context(), st, func(store.Shard, AccountID) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
}

// TestSeenMark: keyed, bound to the account and to where its parts begin, and never another
// for the same mail: marks of yesterday are compared with those of today.
func TestSeenMark(t *testing.T) {
	root, err := NewRoot(bytes.Repeat([]byte{0x11}, KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	id := AccountID{1, 2, 3, 4, 5, 6, 7, 8}
	m := root.SeenMark(id, []byte("ab"), []byte("c"))
	if got := hex.EncodeToString(m[:]); got != "5be581f4c76f0719e5568b1e2403fdfb" { // computed by another program
		t.Errorf("the mark has changed: %s", got)
	}
	other, err := NewRoot(bytes.Repeat([]byte{0x12}, KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string][16]byte{
		"another root":    other.SeenMark(id, []byte("ab"), []byte("c")),
		"another account": root.SeenMark(AccountID{1}, []byte("ab"), []byte("c")),
		"other parts":     root.SeenMark(id, []byte("a"), []byte("bc")),
		"one part":        root.SeenMark(id, []byte("abc")),
	} {
		if n == m {
			t.Errorf("%s: the same mark", name)
		}
	}
}
