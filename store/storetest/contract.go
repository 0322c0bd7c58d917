package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
)

// contract checks the sentences of the contract one by one.
func contract(t *testing.T, e Engine) {
	cases := []struct {
		name string
		fn   func(*testing.T, Engine, store.Store)
	}{
		{"GetSetDelete", getSetDelete},
		{"GetMany", getMany},
		{"OwnWrites", ownWrites},
		{"Scan", scans},
		{"ScanOwnWrites", scanOwnWrites},
		{"ScanStops", scanStops},
		{"DeleteRange", deleteRange},
		{"ErrorRollsBack", errorRollsBack},
		{"PanicIsAnError", panicIsAnError},
		{"GoexitHarmsNobody", goexitHarmsNobody},
		{"Limits", limits},
		{"BadShard", badShard},
		{"ShardsAreApart", shardsAreApart},
		{"Other", other},
		{"CallerKeepsItsBytes", callerKeepsItsBytes},
		{"LateUse", lateUse},
		{"Canceled", canceled},
		{"CanceledWhileWaiting", canceledWhileWaiting},
		{"ViewIsOneState", viewIsOneState},
		{"ViewSeesEarlierUpdates", viewSeesEarlierUpdates},
		{"Watch", watch},
		{"Intend", intend},
		{"Walk", walk},
		{"Occupied", occupied},
		{"Healthy", healthy},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.fn(t, e, open(t, e, vfs.NewCrashDisk())) })
	}
	t.Run("Reopen", func(t *testing.T) { reopen(t, e) })
	t.Run("Closed", func(t *testing.T) { closed(t, e) })
	t.Run("InUse", func(t *testing.T) { inUse(t, e) })
}

func wantKind(t *testing.T, err error, want errs.Kind) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want an error of kind %q", err, want)
	}
}

// put writes key=value pairs in one transaction.
func put(t *testing.T, st store.Store, s store.Shard, pairs ...string) {
	t.Helper()
	must(t, st.Update(t.Context(), s, func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Set([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}))
}

// dump lists a range as "k=v k=v".
func dump(r store.Reader, start, end string, reverse bool) (string, error) {
	var b bytes.Buffer
	fn := func(k, v []byte) (bool, error) {
		fmt.Fprintf(&b, "%s=%s ", k, v)
		return true, nil
	}
	var from, to []byte
	if start != "" {
		from = []byte(start)
	}
	if end != "" {
		to = []byte(end)
	}
	scan := r.Scan
	if reverse {
		scan = r.ScanReverse
	}
	err := scan(from, to, fn)
	return string(bytes.TrimSpace(b.Bytes())), err
}

func wantDump(t *testing.T, r store.Reader, start, end string, reverse bool, want string) {
	t.Helper()
	got, err := dump(r, start, end, reverse)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("[%s, %s) reverse=%v: %q, want %q", start, end, reverse, got, want)
	}
}

func wantShard(t *testing.T, st store.Store, s store.Shard, want string) {
	t.Helper()
	must(t, st.View(t.Context(), s, func(r store.Reader) error {
		wantDump(t, r, "", "", false, want)
		return nil
	}))
}

func getSetDelete(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "k", "v", "empty", "")
	must(t, st.View(t.Context(), 1, func(r store.Reader) error {
		if v, err := r.Get([]byte("k")); err != nil || string(v) != "v" {
			t.Errorf("k: %q, %v", v, err)
		}
		if v, err := r.Get([]byte("empty")); err != nil || len(v) != 0 {
			t.Errorf("empty: %q, %v", v, err)
		}
		_, err := r.Get([]byte("missing"))
		wantKind(t, err, errs.NotFound)
		return nil
	}))
	put(t, st, 1, "k", "new")
	wantShard(t, st, 1, "empty= k=new")
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		return errors.Join(tx.Delete([]byte("k")), tx.Delete([]byte("never there")))
	}))
	wantShard(t, st, 1, "empty=")
}

// many gives what GetMany finds as "place=value" and so on.
func many(r store.Reader, keys ...string) (string, error) {
	in, out := make([][]byte, len(keys)), []string{}
	for i, k := range keys {
		in[i] = []byte(k)
	}
	err := r.GetMany(in, func(i int, v []byte) (bool, error) {
		out = append(out, fmt.Sprintf("%d=%s", i, v))
		return true, nil
	})
	return strings.Join(out, " "), err
}

func getMany(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1", "b", "", "b\x00", "3", "d", "4", "\xff\xff", "5")
	put(t, st, 2, "c", "of another shard")
	check := func(r store.Reader, want string, keys ...string) {
		t.Helper()
		if got, err := many(r, keys...); err != nil || got != want {
			t.Errorf("keys %q: %q, %v, want %q", keys, got, err, want)
		}
	}
	boom := errors.New("boom")
	both := func(r store.Reader) {
		t.Helper()
		check(r, "")
		check(r, "", "c")
		check(r, "0=1", "a")
		check(r, "0=1 1= 2=3 4=4 5=5", "a", "b", "b\x00", "c", "d", "\xff\xff")
		check(r, "1= 2=4", "A", "b", "d", "e", "\xff\xff\xff")
		for _, keys := range [][]string{{"b", "a"}, {"a", "a"}, {"a", "d", "c"}} {
			got, err := many(r, keys...)
			if wantKind(t, err, errs.Invalid); got != "" {
				t.Errorf("keys %q: %q was read before the refusal", keys, got)
			}
		}
		n := 0
		must(t, r.GetMany([][]byte{[]byte("a"), []byte("b"), []byte("d")}, func(_ int, _ []byte) (bool, error) { n++; return n < 2, nil }))
		if n != 2 {
			t.Errorf("stopped after %d records, want 2", n)
		}
		if err := r.GetMany([][]byte{[]byte("a")}, func(int, []byte) (bool, error) { return true, boom }); !errors.Is(err, boom) {
			t.Errorf("got %v, want the function's own error", err)
		}
		must(t, r.GetMany([][]byte{[]byte("a"), []byte("d")}, func(i int, v []byte) (bool, error) {
			if other, err := r.Get([]byte("b\x00")); err != nil || string(other) != "3" {
				t.Errorf("get inside: %q, %v", other, err)
			}
			if want := []string{"1", "4"}[i]; string(v) != want {
				t.Errorf("a get inside changed the value to %q, want %q", v, want)
			}
			return true, nil
		}))
	}
	must(t, st.View(t.Context(), 1, func(r store.Reader) error { both(r); return nil }))
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		must(t, errors.Join(tx.Set([]byte("a"), []byte("1")), tx.Set([]byte("c"), nil), tx.Delete([]byte("c")), tx.DeleteRange([]byte("e"), []byte("f"))))
		both(tx)
		must(t, errors.Join(tx.Delete([]byte("a")), tx.Set([]byte("c"), []byte("own")), tx.DeleteRange([]byte("d"), []byte("e"))))
		check(tx, "1= 3=own 5=5", "a", "b", "b\x00\x00", "c", "d", "\xff\xff")
		return nil
	}))
	// Many keys, as every engine has its own way to walk over what lies between.
	var pairs, keys []string
	var want []string
	for i := range 1000 {
		k := fmt.Sprintf("k%04d", i)
		if i%3 != 0 {
			pairs = append(pairs, k, k)
		}
		if i%7 == 0 {
			if keys = append(keys, k); i%3 != 0 {
				want = append(want, fmt.Sprintf("%d=%s", len(keys)-1, k))
			}
		}
	}
	put(t, st, 3, pairs...)
	must(t, st.View(t.Context(), 3, func(r store.Reader) error { check(r, strings.Join(want, " "), keys...); return nil }))
}

func ownWrites(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "old", "b", "old")
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		must(t, tx.Set([]byte("a"), []byte("new")))
		must(t, tx.Delete([]byte("b")))
		must(t, tx.Set([]byte("c"), []byte("1")))
		must(t, tx.Set([]byte("c"), []byte("2")))
		for k, want := range map[string]string{"a": "new", "c": "2"} {
			if v, err := tx.Get([]byte(k)); err != nil || string(v) != want {
				t.Errorf("%s: %q, %v, want %q", k, v, err, want)
			}
		}
		_, err := tx.Get([]byte("b"))
		wantKind(t, err, errs.NotFound)
		must(t, tx.Set([]byte("b"), []byte("again")))
		must(t, tx.Delete([]byte("c")))
		return nil
	}))
	wantShard(t, st, 1, "a=new b=again")
}

func errorRollsBack(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1")
	boom := errors.New("boom")
	err := st.Update(t.Context(), 1, func(tx store.Tx) error {
		must(t, tx.Set([]byte("a"), []byte("2")))
		must(t, tx.DeleteRange(nil, nil))
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want the function's own error", err)
	}
	wantShard(t, st, 1, "a=1")
}

func panicIsAnError(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "a", "1")
	err := st.Update(t.Context(), 1, func(tx store.Tx) error {
		must(t, tx.Set([]byte("a"), []byte("2")))
		panic("private words")
	})
	wantKind(t, err, errs.Internal)
	if got := errs.Public(err); got != errs.Internal.Error() {
		t.Errorf("the public text is %q", got)
	}
	wantShard(t, st, 1, "a=1")
	put(t, st, 1, "a", "3") // others go on
	wantShard(t, st, 1, "a=3")
}

// goexitHarmsNobody: t.Fatal inside a transaction must fail a test, not hang it.
func goexitHarmsNobody(t *testing.T, _ Engine, st store.Store) {
	var wg sync.WaitGroup
	wg.Go(func() {
		err := st.Update(t.Context(), 1, func(tx store.Tx) error {
			_ = tx.Set([]byte("a"), []byte("1"))
			goexit()
			return nil
		})
		if !errors.Is(err, errs.Internal) {
			t.Errorf("got %v, want an internal error", err)
		}
	})
	wg.Wait()
	wantShard(t, st, 1, "")
	put(t, st, 1, "b", "2")
	wantShard(t, st, 1, "b=2")
}

func limits(t *testing.T, _ Engine, st store.Store) {
	put(t, st, 1, "keep", "me")
	key := bytes.Repeat([]byte("k"), store.MaxKey)
	value := bytes.Repeat([]byte("v"), store.MaxValue)
	must(t, st.Update(t.Context(), 2, func(tx store.Tx) error { return tx.Set(key, value) }))
	must(t, st.View(t.Context(), 2, func(r store.Reader) error {
		v, err := r.Get(key)
		if !bytes.Equal(v, value) {
			t.Errorf("the largest record came back with %d bytes", len(v))
		}
		return err
	}))
	long := append(slices.Clone(key), 'k')
	for name, fn := range map[string]func(store.Tx) error{
		"key":    func(tx store.Tx) error { return tx.Set(long, nil) },
		"delete": func(tx store.Tx) error { return tx.Delete(long) },
		"range":  func(tx store.Tx) error { return tx.DeleteRange(nil, long) },
		"value":  func(tx store.Tx) error { return tx.Set(key, append(slices.Clone(value), 'v')) },
		"transaction": func(tx store.Tx) error {
			for i := range store.MaxTx/store.MaxValue + 1 {
				if err := tx.Set(fmt.Appendf(nil, "%d", i), value); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		err := st.Update(t.Context(), 1, func(tx store.Tx) error {
			must(t, tx.Set([]byte("beside"), []byte("x")))
			return fn(tx)
		})
		if !errors.Is(err, errs.TooLarge) {
			t.Errorf("%s: got %v, want too large", name, err)
		}
		// Ignoring the error must not commit the rest.
		err = st.Update(t.Context(), 1, func(tx store.Tx) error {
			must(t, tx.Set([]byte("beside"), []byte("x")))
			_ = fn(tx)
			return nil
		})
		if !errors.Is(err, errs.TooLarge) {
			t.Errorf("%s, error ignored: got %v, want too large", name, err)
		}
	}
	wantShard(t, st, 1, "keep=me")
	// Half of the largest transaction fits, and is there as a whole.
	must(t, st.Update(t.Context(), 3, func(tx store.Tx) error {
		for i := range store.MaxTx / store.MaxValue / 2 {
			if err := tx.Set(fmt.Appendf(nil, "%04d", i), value); err != nil {
				return err
			}
		}
		return nil
	}))
	n := 0
	must(t, st.View(t.Context(), 3, func(r store.Reader) error {
		return r.Scan(nil, nil, func(_, v []byte) (bool, error) {
			n += len(v)
			return true, nil
		})
	}))
	if n != store.MaxTx/2 {
		t.Errorf("a large transaction came back with %d bytes", n)
	}
}

func badShard(t *testing.T, _ Engine, st store.Store) {
	err := st.Update(t.Context(), store.Shards, func(store.Tx) error { return nil })
	wantKind(t, err, errs.Invalid)
	err = st.View(t.Context(), store.Shards, func(store.Reader) error { return nil })
	wantKind(t, err, errs.Invalid)
}

func shardsAreApart(t *testing.T, _ Engine, st store.Store) {
	for _, s := range []store.Shard{0, 1, 255, 256, store.Shards - 1} {
		put(t, st, s, "", fmt.Sprint(s), "k", fmt.Sprint(s), "\xff\xff\xff", "end")
	}
	for _, s := range []store.Shard{0, 1, 255, 256, store.Shards - 1} {
		wantShard(t, st, s, fmt.Sprintf("=%d k=%d \xff\xff\xff=end", s, s))
	}
	wantShard(t, st, 2, "")
}

func other(t *testing.T, e Engine, st store.Store) {
	if !e.OneLog {
		err := st.Update(t.Context(), 1, func(tx store.Tx) error {
			_, err := tx.Other(2)
			return err
		})
		wantKind(t, err, errs.Unsupported)
		return
	}
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		o, err := tx.Other(2)
		must(t, err)
		must(t, tx.Set([]byte("k"), []byte("one")))
		must(t, o.Set([]byte("k"), []byte("two")))
		back, err := o.Other(1)
		must(t, err)
		wantDump(t, back, "", "", false, "k=one")
		wantDump(t, o, "", "", false, "k=two")
		_, err = tx.Other(store.Shards)
		wantKind(t, err, errs.Invalid)
		return nil
	}))
	wantShard(t, st, 1, "k=one")
	wantShard(t, st, 2, "k=two")
	boom := errors.New("boom")
	err := st.Update(t.Context(), 1, func(tx store.Tx) error {
		o, err := tx.Other(2)
		must(t, err)
		must(t, o.DeleteRange(nil, nil))
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	wantShard(t, st, 2, "k=two")
}

func callerKeepsItsBytes(t *testing.T, _ Engine, st store.Store) {
	k, v := []byte("key"), []byte("value")
	must(t, st.Update(t.Context(), 1, func(tx store.Tx) error {
		must(t, tx.Set(k, v))
		copy(k, "xxx")
		copy(v, "xxxxx")
		got, err := tx.Get([]byte("key"))
		must(t, err)
		copy(got, "yyyyy") // what Get gave is the caller's to spoil
		return nil
	}))
	wantShard(t, st, 1, "key=value")
	shared := []byte("a shared value")
	must(t, st.Update(t.Context(), 2, func(tx store.Tx) error {
		k := []byte("key")
		must(t, tx.SetShared(k, shared))
		copy(k, "xxx")
		got, err := tx.Get([]byte("key"))
		must(t, err)
		copy(got, "yyyyy")
		return nil
	}))
	copy(shared, "zzzzz") // Update has returned: it is the caller's again
	wantShard(t, st, 2, "key=a shared value")
	must(t, st.View(t.Context(), 1, func(r store.Reader) error {
		got, err := r.Get([]byte("key"))
		must(t, err)
		copy(got, "yyyyy")
		again, err := r.Get([]byte("key"))
		if string(again) != "value" {
			t.Errorf("a reader changed the store: %q", again)
		}
		return err
	}))
}

func lateUse(t *testing.T, _ Engine, st store.Store) {
	var tx store.Tx
	var r store.Reader
	must(t, st.Update(t.Context(), 1, func(x store.Tx) error { tx = x; return nil }))
	must(t, st.View(t.Context(), 1, func(x store.Reader) error { r = x; return nil }))
	wantKind(t, tx.Set([]byte("k"), nil), errs.Internal)
	_, err := r.Get([]byte("k"))
	wantKind(t, err, errs.Internal)
	wantKind(t, r.Scan(nil, nil, func(_, _ []byte) (bool, error) { return true, nil }), errs.Internal)
	wantShard(t, st, 1, "")
}
