package mailbox

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

// prepareFor seals a mail for one account.
func (w *world) prepareFor(k *seal.Opened, raw []byte) *Delivery {
	w.tb.Helper()
	d, err := w.boxes.Prepare(context.Background(), Message{Raw: raw}, []Target{{ID: k.ID(), Public: k.Public(), Box: Inbox}})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(d.Discard)
	return d
}

var errPower = errors.New("no")

// commit puts a delivery, and fails it behind Put if it should fail.
func (w *world) commit(k *seal.Opened, d *Delivery, fail bool) {
	w.tb.Helper()
	err := w.st.Update(context.Background(), k.ID().Shard(), func(tx store.Tx) error {
		if _, err := d.Put(tx, 0); err != nil {
			return err
		}
		if fail {
			return errPower
		}
		return nil
	})
	if fail && !errors.Is(err, errPower) || !fail && err != nil {
		w.tb.Fatal(err)
	}
}

// sameChain demands that both deliveries stand on one encapsulation with different keys.
func sameChain(t *testing.T, a, b *Delivery) {
	t.Helper()
	x, y := a.to[0].slot, b.to[0].slot
	if x.Chain != y.Chain || x.Index == y.Index {
		t.Fatalf("chains %x/%d and %x/%d", x.Chain, x.Index, y.Chain, y.Index)
	}
}

func encaps(t *testing.T, w *world, k *seal.Opened) (n int) {
	t.Helper()
	err := w.st.View(context.Background(), k.ID().Shard(), func(r store.Reader) error {
		start := key(k.ID(), kindEncap)
		return r.Scan(start, after(start), func(_, _ []byte) (bool, error) { n++; return true, nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readOnly(t *testing.T, w *world, k *seal.Opened, want ...[]byte) {
	t.Helper()
	a := w.boxes.Account(k, 0)
	v := mustView(t, a, Inbox)
	if v.Len() != len(want) {
		t.Fatalf("%d mails, want %d", v.Len(), len(want))
	}
	for i := range want {
		if !bytes.Equal(readBody(t, a, Inbox, v.At(i)), want[i]) {
			t.Fatalf("mail %d is not what it was", i)
		}
		if _, err := a.Summary(context.Background(), Inbox, v.At(i)); err != nil {
			t.Fatal(err)
		}
	}
	w.check()
}

func TestChainFirstCommitFails(t *testing.T) {
	w := newWorld(t)
	k := w.user()
	one, two := mailOf(1, 500), mailOf(2, 500)
	d1, d2 := w.prepareFor(k, one), w.prepareFor(k, two)
	sameChain(t, d1, d2)
	w.commit(k, d1, true)
	w.commit(k, d2, false)
	readOnly(t, w, k, two)
	w.commit(k, d1, false) // the same mail is tried again, with its old index
	readOnly(t, w, k, two, one)
}

func TestChainFirstMailExpunged(t *testing.T) {
	w := newWorld(t)
	k := w.user()
	one, two := mailOf(1, 500), mailOf(2, 500)
	d1, d2 := w.prepareFor(k, one), w.prepareFor(k, two)
	d3 := w.prepareFor(k, one)
	sameChain(t, d1, d2)
	w.commit(k, d1, false)
	w.commit(k, d2, false)
	expungeAll(t, w, k, 1)
	readOnly(t, w, k, two)
	if n := encaps(t, w, k); n != 1 {
		t.Fatalf("%d encapsulations, want 1", n)
	}
	expungeAll(t, w, k, 2)
	readOnly(t, w, k)
	if n := encaps(t, w, k); n != 0 {
		t.Fatalf("%d encapsulations are kept that no mail needs", n)
	}
	w.commit(k, d3, false) // the chain goes on after its encapsulation was removed
	readOnly(t, w, k, one)
}

func expungeAll(t *testing.T, w *world, k *seal.Opened, uids ...uint32) {
	t.Helper()
	a := w.boxes.Account(k, 0)
	if _, err := a.SetFlags(context.Background(), Inbox, SetFlags{UIDs: uids, Op: FlagsAdd, Flags: Deleted}); err != nil {
		t.Fatal(err)
	}
	if gone, _, err := a.Expunge(context.Background(), Inbox, uids); err != nil || len(gone) != len(uids) {
		t.Fatal(gone, err)
	}
}

// TestChainCrashBetween kills the process between two mails of one chain, in every way
// a disk can forget what was not synced.
func TestChainCrashBetween(t *testing.T) {
	for _, u := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
		t.Run(u.String(), func(t *testing.T) {
			disk := vfs.NewCrashDisk()
			w := newWorld(t, withFS(disk))
			k := w.user()
			one, two, three := mailOf(1, 500), mailOf(2, 90_000), mailOf(3, 500)
			d1, d2 := w.prepareFor(k, one), w.prepareFor(k, two)
			sameChain(t, d1, d2)
			w.commit(k, d1, false)
			next := newWorld(t, withFS(disk.Clone(u, 1)))
			readOnlyAfterSweep(t, next, k, one)
			d3 := next.prepareFor(k, three)
			if d3.to[0].slot.Chain == d1.to[0].slot.Chain {
				t.Fatal("a new process continues the chain of the one before")
			}
			next.commit(k, d3, false)
			readOnly(t, next, k, one, three)
		})
	}
}

// readOnlyAfterSweep also lets the sweep remove the files that the crash left.
func readOnlyAfterSweep(t *testing.T, w *world, k *seal.Opened, want ...[]byte) {
	t.Helper()
	if err := w.boxes.sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	readOnly(t, w, k, want...)
}

func TestPutRunTwice(t *testing.T) {
	w := newWorld(t, withStore(storetest.Twice))
	k, l := w.user(), w.user()
	one, two := mailOf(1, 500), mailOf(2, 100_000)
	w.deliver(one, k, l)
	w.deliver(two, k, l)
	for _, key := range []*seal.Opened{k, l} {
		readOnly(t, w, key, one, two)
	}
}
