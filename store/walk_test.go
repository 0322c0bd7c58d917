package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/store"
	"postern.email/store/pebble"
)

// TestWalk: each record of the range comes once and in order, over many portions by number and by bytes, while
// what has come is deleted; it ends where it is told to, and with the error it is given.
func TestWalk(t *testing.T) {
	st, err := pebble.Open(t.Context(), pebble.Options{FS: vfs.NewCrashDisk(), Dir: "/store"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const in, many = store.Shard(7), 2*store.WalkRecords + 3
	key := func(i int) []byte { return binary.BigEndian.AppendUint16([]byte{'k'}, uint16(i)) }
	large := bytes.Repeat([]byte{9}, store.MaxValue)
	err = st.Update(t.Context(), in, func(tx store.Tx) error {
		for i := range many {
			v := key(i)
			if i > many-4 {
				v = large
			}
			if err := tx.Set(key(i), v); err != nil {
				return err
			}
		}
		return errors.Join(tx.Set([]byte("j"), nil), tx.Set([]byte("l"), []byte("last")))
	})
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	err = store.Walk(t.Context(), st, in, []byte("k"), []byte("l"), func(k, v []byte) (bool, error) {
		if !bytes.Equal(k, key(got)) || len(v) != 3 && !bytes.Equal(v, large) {
			t.Errorf("record %d is %x, %d bytes", got, k, len(v))
		}
		got++
		k[0], v[0] = 'x', 'x' // they are ours
		return true, st.Update(t.Context(), in, func(tx store.Tx) error { return tx.Delete(key(got - 1)) })
	})
	if got != many || err != nil {
		t.Errorf("%d of %d records, %v", got, many, err)
	}
	var rest []string
	all := func(k, _ []byte) (bool, error) { rest = append(rest, string(k)); return true, nil }
	if err := store.Walk(t.Context(), st, in, []byte{0}, nil, all); err != nil || !slices.Equal(rest, []string{"j", "l"}) {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	stop, calls := errors.New("stop"), 0
	for _, want := range []error{nil, stop} {
		err := store.Walk(t.Context(), st, in, []byte{0}, nil, func(_, _ []byte) (bool, error) { calls++; return false, want })
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if calls != 2 {
		t.Errorf("%d calls, want one a walk", calls)
	}
}
