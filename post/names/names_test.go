package names

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/day"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

func open(t *testing.T) *Names {
	t.Helper()
	st, err := pebble.Open(t.Context(), pebble.Options{FS: crvfs.NewMem(), Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{0x11}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	return New(st, root)
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestGolden: the records that post/account wrote before aliases were there are read as what
// they were, from the same keys, and what is written has the same form.
func TestGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name                   string
		Kind                   Kind
		ID, Key, Plain, Sealed string
		Day                    day.Day
		Shard                  store.Shard
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	bytesOf := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	n := open(t)
	for _, g := range list {
		err := n.st.Update(t.Context(), g.Shard, func(tx store.Tx) error { return tx.Set(bytesOf(g.Key), bytesOf(g.Sealed)) })
		if err != nil {
			t.Fatal(err)
		}
		want := Record{Kind: g.Kind, ID: seal.AccountID(bytesOf(g.ID)), Day: g.Day}
		a := address(t, g.Name)
		if r, err := n.Lookup(t.Context(), a); err != nil || r != want {
			t.Errorf("%s: %+v %v", g.Name, r, err)
		}
		if n.Shard(a) != g.Shard || !bytes.Equal(want.encode(), bytesOf(g.Plain)) {
			t.Errorf("%s lies in shard %d as %x", g.Name, n.Shard(a), want.encode())
		}
		if err := n.st.Update(t.Context(), g.Shard, func(tx store.Tx) error { return n.Set(tx, a, want) }); err != nil {
			t.Fatal(err)
		}
		err = n.st.View(t.Context(), g.Shard, func(r store.Reader) error {
			v, err := r.Get(bytesOf(g.Key))
			if err == nil && (len(v) != len(bytesOf(g.Sealed)) || bytes.Equal(v, bytesOf(g.Sealed))) {
				return fmt.Errorf("a record of %d bytes, or one not sealed anew", len(v))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestClaim: a name that is in use is given to nobody, a tombstone only to whom its caller says,
// and a refusal writes nothing.
func TestClaim(t *testing.T) {
	n := open(t)
	a := address(t, "alice@example.org")
	claim := func(r Record, reusable func(Record) bool) error {
		return n.st.Update(context.Background(), n.Shard(a), func(tx store.Tx) error { return n.Claim(tx, a, r, reusable) })
	}
	yes := func(Record) bool { return true }
	no := func(Record) bool { return false }
	mine, other := Record{Kind: Account, ID: seal.AccountID{1}, Day: 5}, Record{Kind: Alias, ID: seal.AccountID{2}, Day: 6}
	if _, err := n.Lookup(t.Context(), a); err == nil || errs.KindOf(err) != errs.NotFound {
		t.Fatalf("a fresh name: %v", err)
	}
	if err := claim(mine, nil); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{Account, Gone, Alias, GoneAlias} {
		was := Record{Kind: k, ID: seal.AccountID{9}, Day: 7}
		if err := n.st.Update(t.Context(), n.Shard(a), func(tx store.Tx) error { return n.Set(tx, a, was) }); err != nil {
			t.Fatal(err)
		}
		kind, text := errs.Exists, textTaken
		if k == Gone || k == GoneAlias {
			kind, text = errs.Denied, textGone
		}
		for _, reusable := range []func(Record) bool{nil, no} {
			if err := claim(other, reusable); err == nil || errs.KindOf(err) != kind || errs.Public(err) != text {
				t.Errorf("kind %d: %v", k, err)
			}
		}
		if r, err := n.Lookup(t.Context(), a); err != nil || r != was {
			t.Errorf("kind %d: a refusal left %+v %v", k, r, err)
		}
		asked := Record{}
		if err := claim(other, func(r Record) bool { asked = r; return yes(r) }); err != nil || asked != was {
			t.Errorf("kind %d: %v, asked about %+v", k, err, asked)
		}
		if r, err := n.Lookup(t.Context(), address(t, "ALICE@Example.ORG")); err != nil || r != other {
			t.Errorf("kind %d: after a claim %+v %v", k, r, err)
		}
	}
}

// TestRace: of many who claim one name at once, one gets it.
func TestRace(t *testing.T) {
	n := open(t)
	a := address(t, "alice@example.org")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r := Record{Kind: Kind(i % 2 * 2), ID: seal.AccountID{byte(i + 1)}}
			err := n.st.Update(context.Background(), n.Shard(a), func(tx store.Tx) error { return n.Claim(tx, a, r, nil) })
			switch {
			case err == nil:
				won.Add(1)
			case errs.KindOf(err) != errs.Exists:
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d got the name", won.Load())
	}
}

// TestWalk: every record is seen once, also where a shard has more than a portion, damaged ones
// with their error; a walk goes on behind any of them.
func TestWalk(t *testing.T) {
	n := open(t)
	want := map[Place]bool{}
	for _, s := range []store.Shard{0, 5, 4095} {
		count := 3
		if s == 5 {
			count = 2*store.WalkRecords + 3
		}
		err := n.st.Update(t.Context(), s, func(tx store.Tx) error {
			for i := range count {
				p := Place{s, [20]byte{1, byte(i >> 8), byte(i)}}
				want[p] = true
				if err := n.SetAt(tx, p, Record{Kind: Kind(i % numKinds), Day: day.Day(i)}); err != nil {
					return err
				}
			}
			return errors.Join(tx.Set([]byte("m"), []byte("beside")), tx.Set([]byte("o"), []byte("beside")))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	damaged := Place{5, [20]byte{1, 0, 7}}
	err := n.st.Update(t.Context(), 5, func(tx store.Tx) error {
		return errors.Join(tx.Set(recordKey(damaged.Key), []byte("x")), tx.Set([]byte("nx"), []byte("x")))
	})
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	var order []Place
	walk := func(after Place, most int) (got []Place) {
		err := n.Walk(t.Context(), after, func(s Stored) (bool, error) {
			if s.Err != nil {
				bad++
			}
			got = append(got, s.Place)
			return len(got) < most, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	order = walk(Place{}, 1<<30)
	seen := map[Place]bool{}
	for _, p := range order {
		seen[p] = true
	}
	for p := range want {
		if !seen[p] {
			t.Errorf("%v was not seen", p)
		}
	}
	if len(order) != len(want)+1 || bad != 2 {
		t.Errorf("%d records of %d, %d bad", len(order), len(want), bad)
	}
	for _, i := range []int{0, 2, 3, store.WalkRecords, store.WalkRecords + 2, len(order) - 2} {
		if rest := walk(order[i], 1); len(rest) != 1 || rest[0] != order[i+1] {
			t.Errorf("behind record %d comes %v", i, rest)
		}
	}
	stop := errors.New("stop")
	if err := n.Walk(t.Context(), Place{}, func(Stored) (bool, error) { return true, stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	// A name that was removed may be given out.
	if err := n.st.Update(t.Context(), 5, func(tx store.Tx) error { return n.DeleteAt(tx, damaged) }); err != nil {
		t.Fatal(err)
	}
	if _, err := n.At(t.Context(), damaged); err == nil || errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
}

func FuzzRecord(f *testing.F) {
	for k := range Kind(numKinds + 1) {
		f.Add(Record{Kind: k, ID: seal.AccountID{1}, Day: 20000}.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err == nil && !bytes.Equal(r.encode(), b) || err != nil && errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%+v %v", r, err)
		}
	})
}
