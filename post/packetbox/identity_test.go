package packetbox

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// identity is one whose keys are made of n.
func identity(n byte, publish bool) Identity {
	return Identity{Letter: [LetterLen]byte(bytes.Repeat([]byte{n}, LetterLen)), Ed25519: [Ed25519Len]byte(bytes.Repeat([]byte{n + 1}, Ed25519Len)),
		MLDSA: [MLDSALen]byte(bytes.Repeat([]byte{n + 2}, MLDSALen)), Publish: publish}
}

// TestIdentity: keys are kept sealed beside the clients, have a serial that grows with other keys
// and only with them, and go with the last client and with the account.
func TestIdentity(t *testing.T) {
	for name, opts := range map[string][]func(*world){"one log": nil, "run twice": {runTwice}, "two logs": {twoLogs}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, opts...)
			if _, err := w.b.Identity(ctx, anna); errs.KindOf(err) != errs.NotFound {
				t.Fatal(err)
			}
			set := func(key byte, i Identity) {
				t.Helper()
				if m, err := w.b.RegisterProxy(ctx, anna, linkKey(key), i); err != nil || m != w.b.Mailbox(anna) {
					t.Fatal(err)
				}
			}
			want := func(i Identity, serial uint64) {
				t.Helper()
				got, err := w.b.Identity(ctx, anna)
				if err != nil || !got.sameKeys(&i) || got.Publish != i.Publish || got.Serial != serial {
					t.Errorf("serial %d, publish %v, %v; want %d, %v", got.Serial, got.Publish, err, serial, i.Publish)
				}
			}
			set(1, identity(1, false))
			want(identity(1, false), 1)
			w.clock.Add(24 * time.Hour)
			set(1, identity(1, true)) // published now
			want(identity(1, true), 1)
			set(2, identity(1, true)) // another client with the same keys
			want(identity(1, true), 1)
			if got, _ := w.b.Identity(ctx, anna); got.Since() != start.Truncate(24*time.Hour) {
				t.Error("the day of the same keys changed:", got.Since())
			}
			set(2, identity(5, true))
			want(identity(5, true), 2)
			w.register(anna, 3) // a client that is no proxy changes nothing
			want(identity(5, true), 2)
			w.reopen()
			want(identity(5, true), 2)
			for n := byte(1); n <= 3; n++ {
				if _, err := w.b.Identity(ctx, anna); err != nil {
					t.Fatal("the identity went before the last client")
				}
				if err := w.b.Unregister(ctx, anna, linkKey(n)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.b.Identity(ctx, anna); errs.KindOf(err) != errs.NotFound {
				t.Error("the identity stayed without clients:", err)
			}
			set(1, identity(1, false))
			if err := w.b.Drop(ctx, anna); err != nil {
				t.Fatal(err)
			}
			if _, err := w.b.Identity(ctx, anna); errs.KindOf(err) != errs.NotFound {
				t.Error(err)
			}
			w.sound()
		})
	}
}

// TestIdentityOfAFullList: a client beyond the fourth changes nothing, neither the list nor the keys.
func TestIdentityOfAFullList(t *testing.T) {
	w := newWorld(t)
	for n := range byte(MaxKeys) {
		w.register(anna, n+1)
	}
	if _, err := w.b.RegisterProxy(ctx, anna, linkKey(9), identity(1, false)); errs.KindOf(err) != errs.Full {
		t.Fatal(err)
	}
	if _, err := w.b.Identity(ctx, anna); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}

// TestIdentityIsSealed: what lies on the disk opens under the node key, in its own place only, is named by
// Reveal, and Check finds a damaged one, which is written anew by the next registration.
func TestIdentityIsSealed(t *testing.T) {
	w := newWorld(t)
	for i, id := range []seal.AccountID{anna, ben} {
		if _, err := w.b.RegisterProxy(ctx, id, linkKey(byte(i+1)), identity(byte(0x41+i), i == 0)); err != nil {
			t.Fatal(err)
		}
	}
	var said []string
	reveal := func() string {
		said = nil
		if err := w.b.Reveal(ctx, func(kind, text string) { said = append(said, kind+": "+text) }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(said, "\n")
	}
	for _, want := range []string{"mix-identity: account " + anna.String() + ": keys number 1 of its mail proxy, published, since 2026-11-20",
		"mix-identity: account " + ben.String() + ": keys number 1 of its mail proxy, not published"} {
		if got := reveal(); !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	var raw []byte
	w.raw(anna.Shard(), func(tx store.Tx) (err error) {
		raw, err = tx.Get(identityKey(anna))
		raw = bytes.Clone(raw)
		return err
	})
	if bytes.Contains(raw, bytes.Repeat([]byte{0x41}, 16)) {
		t.Error("the keys lie there unsealed")
	}
	w.raw(ben.Shard(), func(tx store.Tx) error { return tx.Set(identityKey(ben), raw) })
	if _, err := w.b.Identity(ctx, ben); errs.KindOf(err) != errs.Corrupt {
		t.Error("one account's record was taken for another's:", err)
	}
	var found []Finding
	if err := w.b.Check(ctx, func(f Finding) { found = append(found, f) }); err != nil || len(found) != 1 || found[0].What != foundIdentity || found[0].Account != ben.String() {
		t.Error(found, err)
	}
	if got := reveal(); !strings.Contains(got, "mix-identity: account "+ben.String()+" cannot be opened") {
		t.Error(got)
	}
	if _, err := w.b.RegisterProxy(ctx, ben, linkKey(2), identity(7, false)); err != nil {
		t.Fatal(err)
	}
	w.sound()
}

// FuzzIdentity: a record is read as it was written, or not at all.
func FuzzIdentity(f *testing.F) {
	i := identity(1, true)
	f.Add(i.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeIdentity(b)
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(i.encode(), b) {
			t.Error("another record has the same meaning")
		}
	})
}

// TestPrepared: packets are put by somebody else's transaction, all or none, once by their names,
// and counted when it is durable.
func TestPrepared(t *testing.T) {
	w := newWorld(t, withOptions(func(o *Options) { o.MaxPackets = 4 }))
	w.register(anna, 1)
	prepare := func(ns ...uint32) *Prepared {
		t.Helper()
		var list []Packet
		for _, n := range ns {
			list = append(list, w.packet(anna, n))
		}
		p, err := w.b.Prepare(anna, list)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	put := func(p *Prepared) error {
		err := w.st.Update(ctx, anna.Shard(), p.Put)
		if err == nil {
			p.Committed()
		}
		return err
	}
	if err := put(prepare(1, 2)); err != nil {
		t.Fatal(err)
	}
	if err := put(prepare(2, 3)); err != nil { // 2 is there
		t.Fatal(err)
	}
	if err := put(prepare(4, 5)); errs.KindOf(err) != errs.Full {
		t.Error(err)
	}
	if got := w.next(anna); len(got) != 3 {
		t.Error(got)
	}
	for n, want := range map[int]errs.Kind{0: 0, 1: 0, 2: errs.Full} {
		if err := w.b.Room(ctx, anna, n); (err == nil) != (want == 0) || err != nil && errs.KindOf(err) != want {
			t.Errorf("room for %d: %v", n, err)
		}
	}
	if err := w.b.Room(ctx, ben, 1); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
	p := prepare(9)
	if err := w.b.Drop(ctx, anna); err != nil {
		t.Fatal(err)
	}
	if err := put(p); errs.KindOf(err) != errs.NotFound {
		t.Error("packets were put into a mailbox that is gone:", err)
	}
	if _, err := w.b.Prepare(anna, []Packet{{Payload: []byte("short")}}); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	w.sound()
}
