package packetbox

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/disktest"
	"postern.email/post/seal"
	"postern.email/store"
)

// search counts the files of the store that hold one of pieces.
func search(tb testing.TB, w *world, pieces ...[]byte) int {
	tb.Helper()
	return len(disktest.Holding(tb, w.fs, w.fs.PathJoin(w.dir, "store"), pieces...))
}

// TestNothingInTheClear: no payload, mark, name of a packet, link key or mailbox is in any
// file, and records of all packets and of any number of clients have one length.
func TestNothingInTheClear(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	for n := range byte(MaxKeys) {
		w.register(ben, n+10)
	}
	w.put(anna, 0x01020304, 0x01020305)
	w.put(ben, 0x01020306)
	lengths := map[string]map[int]bool{}
	err := w.st.Walk(ctx, func(_ store.Shard, k, v []byte) (bool, error) {
		kind := string(k[:1])
		if kind == "a" {
			kind = string(k[9:11])
		}
		if lengths[kind] == nil {
			lengths[kind] = map[int]bool{}
		}
		lengths[kind][len(v)] = true
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind, l := range lengths {
		if len(l) != 1 {
			t.Errorf("records %q have %d lengths", kind, len(l))
		}
	}
	if len(lengths) != 5 {
		t.Errorf("%d kinds of records", len(lengths))
	}
	name, mailbox, key := w.packet(anna, 0x01020304).Name, w.b.Mailbox(anna), linkKey(1)
	w.close() // so that all is in the files
	if n := search(t, w, []byte("canary"), name[:], mailbox[:], key[:], mailbox[:20], key[:20]); n != 0 {
		t.Errorf("in the clear in %d places", n)
	}
	if n := search(t, w, packetKey(anna, 1)); n == 0 {
		t.Error("the records are not where the search looks")
	}
}

// TestRemovedBytesLeave: the bytes of a packet that was handed over are in no file after the
// next purge.
func TestRemovedBytesLeave(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.put(anna, 1, 2)
	var pieces [][]byte
	err := w.st.View(ctx, anna.Shard(), func(r store.Reader) error {
		v, err := r.Get(packetKey(anna, 1))
		if err == nil {
			pieces = [][]byte{bytes.Clone(v[len(v)-40:])}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := search(t, w, pieces...); n == 0 {
		t.Fatal("the search is blind")
	}
	if err := w.b.Remove(ctx, anna, []uint64{1}); err != nil || w.deleted.Load() != 1 {
		t.Fatal(w.deleted.Load(), err)
	}
	if err := w.st.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if n := search(t, w, pieces...); n != 0 {
		t.Errorf("%d places hold bytes of it", n)
	}
}

// TestReveal: what the node key opens is exactly what the threat model says, and damage is
// told, not hidden.
func TestReveal(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.register(anna, 2)
	w.put(anna, 7, 8)
	reveal := func() (lines []string) {
		t.Helper()
		if err := w.b.Reveal(ctx, func(kind, text string) { lines = append(lines, kind+": "+text) }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(lines)
		return lines
	}
	mark := w.packet(anna, 8).Mark
	want := []string{
		fmt.Sprintf("mix-client: account %s: clients: 2", anna),
		fmt.Sprintf("mix-client: account %s: link key %x since 2026-11-20", anna, linkKey(1)),
		fmt.Sprintf("mix-client: account %s: link key %x since 2026-11-20", anna, linkKey(2)),
		fmt.Sprintf("mix-name: a link key is account %s's", anna),
		fmt.Sprintf("mix-name: a link key is account %s's", anna),
		fmt.Sprintf("mix-name: a mailbox is account %s's", anna),
		fmt.Sprintf("mix-packet: account %s packet 1: a message, came on 2026-11-20, 26592 bytes sealed end to end", anna),
		fmt.Sprintf("mix-packet: account %s packet 2: an answer by the reply block %x, came on 2026-11-20, 26592 bytes sealed end to end", anna, mark),
	}
	if got := reveal(); !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	kinds := map[string]bool{}
	for _, p := range seal.Purposes() {
		kinds[p.Name] = true
	}
	for _, l := range want {
		if kind, _, _ := strings.Cut(l, ":"); !kinds[kind] {
			t.Errorf("%s is not in the table", kind)
		}
	}
	w.raw(anna.Shard(), flip(packetKey(anna, 1)))
	w.raw(anna.Shard(), flip(clientsKey(anna)))
	place, shard := w.root.MixPlace(nameMailbox, w.b.Mailbox(anna))
	w.raw(shard, flip(nameKey(nameMailbox, place)))
	shut := 0
	for _, l := range reveal() {
		if strings.HasSuffix(l, "cannot be opened") {
			shut++
		}
	}
	if shut != 3 {
		t.Errorf("%d of 3 are told of: %s", shut, strings.Join(reveal(), "\n"))
	}
	// Another node's key opens nothing.
	other, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.b.o.Root = other
	for _, l := range reveal() {
		if !strings.HasSuffix(l, "cannot be opened") {
			t.Error(l)
		}
	}
}

// flip changes a bit at the end of a record.
func flip(key []byte) func(store.Tx) error {
	return func(tx store.Tx) error {
		v, err := tx.Get(key)
		if err != nil {
			return err
		}
		v[len(v)-1] ^= 1
		return tx.Set(key, v)
	}
}

// TestCheck: every kind of damage is named, with the account where it is known, and a sound
// store gives nothing.
func TestCheck(t *testing.T) {
	client := func(w *world, n byte) (store.Shard, []byte) {
		place, shard := w.root.MixPlace(nameClient, linkKey(n))
		return shard, nameKey(nameClient, place)
	}
	for _, c := range []struct {
		name string
		hurt func(w *world)
		want string
	}{
		{"clients", func(w *world) { w.raw(anna.Shard(), flip(clientsKey(anna))) }, foundClients},
		{"name", func(w *world) { s, k := client(w, 1); w.raw(s, flip(k)) }, foundName + "|" + foundNameless},
		{"name's key", func(w *world) {
			w.raw(7, func(tx store.Tx) error { return tx.Set([]byte{letterName, nameClient, 1}, []byte{1}) })
		}, foundName},
		{"no name", func(w *world) { s, k := client(w, 1); w.raw(s, func(tx store.Tx) error { return tx.Delete(k) }) }, foundNameless},
		{"left name", func(w *world) {
			place, shard := w.root.MixPlace(nameClient, linkKey(99))
			v, err := w.b.sealName(nameClient, place, anna)
			if err != nil {
				w.tb.Fatal(err)
			}
			w.raw(shard, func(tx store.Tx) error { return tx.Set(nameKey(nameClient, place), v) })
		}, foundLeftover},
		{"state", func(w *world) {
			w.raw(anna.Shard(), func(tx store.Tx) error { return tx.Set(stateKey(anna), []byte{9}) })
		}, foundState},
		{"count", func(w *world) {
			w.raw(anna.Shard(), func(tx store.Tx) error { return tx.Set(stateKey(anna), state{9, 5}.encode()) })
		}, foundCount},
		{"number", func(w *world) {
			w.raw(anna.Shard(), func(tx store.Tx) error { return tx.Set(stateKey(anna), state{3, 2}.encode()) })
			w.raw(anna.Shard(), func(tx store.Tx) error {
				v, err := tx.Get(packetKey(anna, 1))
				if err != nil {
					return err
				}
				if err := tx.Delete(packetKey(anna, 1)); err != nil {
					return err
				}
				return tx.Set(packetKey(anna, 50), v)
			})
		}, foundCount},
		{"packet", func(w *world) { w.raw(anna.Shard(), flip(packetKey(anna, 1))) }, foundPacket},
		{"packet's version", func(w *world) {
			w.raw(anna.Shard(), func(tx store.Tx) error { return tx.Set(packetKey(anna, 1), nil) })
		}, foundPacket},
		{"mark", func(w *world) {
			m := w.root.PacketMark(anna, w.packet(anna, 1).Name)
			w.raw(anna.Shard(), func(tx store.Tx) error { return tx.Set(markKey(anna, m), []byte{8}) })
		}, foundMark},
		{"no mailbox", func(w *world) {
			w.raw(ben.Shard(), func(tx store.Tx) error {
				return tx.Set(markKey(ben, [markLen]byte{}), encodeMark(1))
			})
		}, foundStranger},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.register(anna, 1)
			w.put(anna, 1, 2)
			w.sound()
			c.hurt(w)
			var got []string
			err := w.b.Check(ctx, func(f Finding) {
				got = append(got, f.What)
				if f.Leftover != (f.What == foundLeftover || f.What == foundStranger) {
					t.Errorf("%+v", f)
				}
				if want := map[bool]string{true: "", false: anna.String()}[f.What == foundName]; f.Account != want && f.What != foundStranger {
					t.Errorf("%+v", f)
				}
			})
			if strings.Join(got, "|") != c.want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestDamage: a packet that cannot be read keeps none of the others back, and a damaged list of
// clients can be dropped.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.put(anna, 1, 2, 3)
	w.raw(anna.Shard(), flip(packetKey(anna, 2)))
	if got := w.next(anna); !slices.Equal(got, []uint32{1, 3}) {
		t.Error(got)
	}
	w.raw(anna.Shard(), flip(clientsKey(anna)))
	if _, err := w.b.Client(ctx, linkKey(1)); kindOf(err) != "corrupt" {
		t.Error(err)
	}
	if err := w.b.Drop(ctx, anna); err != nil {
		t.Error(err)
	}
	if got := w.next(anna); len(got) != 0 {
		t.Error(got)
	}
}
