package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"postern.email/kit/errs"
	"postern.email/store"
)

func scans(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1", "b", "2", "b\x00", "3", "c", "4", "\xff\xff", "5")
	must(t, st.View(t.Context(), 1, func(r store.Reader) error {
		wantDump(t, r, "", "", false, "a=1 b=2 b\x00=3 c=4 \xff\xff=5")
		wantDump(t, r, "", "", true, "\xff\xff=5 c=4 b\x00=3 b=2 a=1")
		wantDump(t, r, "b", "c", false, "b=2 b\x00=3")
		wantDump(t, r, "b", "c", true, "b\x00=3 b=2")
		wantDump(t, r, "b\x00", "", true, "\xff\xff=5 c=4 b\x00=3")
		wantDump(t, r, "c", "b", false, "")
		wantDump(t, r, "c", "c", true, "")
		// An empty, not nil, end is before every key.
		n := 0
		must(t, r.Scan(nil, []byte{}, func(_, _ []byte) (bool, error) { n++; return true, nil }))
		if n != 0 {
			t.Errorf("%d records before an empty end", n)
		}
		return nil
	}))
}

func scanOwnWrites(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "b", "1", "d", "1", "f", "1", "h", "1", "j", "1")
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		for _, k := range []string{"a", "d", "e", "k"} {
			must(t, tx.Set([]byte(k), []byte("own")))
		}
		must(t, tx.Delete([]byte("f")))
		must(t, tx.Delete([]byte("g")))
		wantDump(t, tx, "", "", false, "a=own b=1 d=own e=own h=1 j=1 k=own")
		wantDump(t, tx, "", "", true, "k=own j=1 h=1 e=own d=own b=1 a=own")
		wantDump(t, tx, "b", "e", false, "b=1 d=own")
		wantDump(t, tx, "d", "k", true, "j=1 h=1 e=own d=own")
		must(t, tx.DeleteRange([]byte("d"), []byte("i")))
		wantDump(t, tx, "", "", false, "a=own b=1 j=1 k=own")
		must(t, tx.Set([]byte("h"), []byte("back")))
		wantDump(t, tx, "", "", false, "a=own b=1 h=back j=1 k=own")
		wantDump(t, tx, "", "", true, "k=own j=1 h=back b=1 a=own")
		// A scan may write; it must end, and give what it began with at least once.
		seen := 0
		must(t, tx.Scan(nil, nil, func(k, v []byte) (bool, error) {
			seen++
			if v2, err := tx.Get(k); err != nil || !bytes.Equal(v, v2) {
				t.Errorf("get inside a scan: %q, %v", v2, err)
			}
			return true, tx.Delete(slices.Clone(k))
		}))
		if seen != 5 {
			t.Errorf("a scan that deletes saw %d records, want 5", seen)
		}
		wantDump(t, tx, "", "", false, "")
		return tx.Set([]byte("z"), []byte("end"))
	}))
	wantShard(t, st, 1, "z=end")
}

func scanStops(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1", "b", "2", "c", "3")
	boom := errors.New("boom")
	check := func(r store.Reader) {
		for _, scan := range []func([]byte, []byte, func(_, _ []byte) (bool, error)) error{r.Scan, r.ScanReverse} {
			n := 0
			must(t, scan(nil, nil, func(_, _ []byte) (bool, error) { n++; return n < 2, nil }))
			if n != 2 {
				t.Errorf("stopped after %d records, want 2", n)
			}
			if err := scan(nil, nil, func(_, _ []byte) (bool, error) { return true, boom }); !errors.Is(err, boom) {
				t.Errorf("got %v, want the function's own error", err)
			}
		}
	}
	must(t, st.View(t.Context(), 1, func(r store.Reader) error { check(r); return nil }))
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		must(t, tx.Set([]byte("b"), []byte("own")))
		check(tx)
		return nil
	}))
}

// deleteRange uses few and many records, as engines may treat them differently.
func deleteRange(t *testing.T, _ Engine, st store.Store) {
	for _, n := range []int{3, 500} {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("r%04d", i), "x")
		}
		put(t, st, 1, append(pairs, "q", "before", "s", "after")...)
		must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
			must(t, tx.DeleteRange([]byte("r"), []byte("s")))
			_, err := tx.Get([]byte("r0001"))
			wantKind(t, err, errs.NotFound)
			return tx.DeleteRange([]byte("x"), []byte("q")) // empty: nothing happens
		}))
		wantShard(t, st, 1, "q=before s=after")
	}
	put(t, st, 2, "other", "shard")
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error { return tx.DeleteRange(nil, nil) }))
	wantShard(t, st, 1, "")
	wantShard(t, st, 2, "other=shard")
	// Overlapping ranges, with records written between them.
	put(t, st, 1, "a", "1", "b", "1", "c", "1", "d", "1", "e", "1")
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		return errors.Join(
			tx.DeleteRange([]byte("a"), []byte("c")),
			tx.Set([]byte("b"), []byte("2")),
			tx.DeleteRange([]byte("d"), []byte("e")),
			tx.DeleteRange([]byte("bb"), []byte("dd")),
			tx.Set([]byte("c"), []byte("2")),
		)
	}))
	wantShard(t, st, 1, "b=2 c=2 e=1")
}
