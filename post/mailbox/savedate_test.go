package mailbox

import (
	"context"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

func mustSaved(t *testing.T, a *Account, box, uid uint32) time.Time {
	t.Helper()
	v := mustView(t, a, box)
	i, ok := v.Find(uid)
	if !ok {
		t.Fatalf("no UID %d", uid)
	}
	at, err := a.SaveDate(t.Context(), box, v.At(i))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestSaveDate: delivery, APPEND, COPY and MOVE each give a mail the date at which it
// came into its mailbox, whatever its internal date; flags and other copies change nothing.
func TestSaveDate(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	start := w.clock.Now()
	want := func(what string, box, uid uint32, d time.Duration) {
		t.Helper()
		if at := mustSaved(t, a, box, uid); !at.Equal(start.Add(d)) {
			t.Errorf("%s: saved at %v, want %v", what, at, start.Add(d))
		}
	}
	w.deliver(mailOf(1, 300), k)
	w.clock.Add(time.Second)
	old := Message{Raw: mailOf(2, 70_000), Date: start.AddDate(-10, 0, 0)}
	if _, _, err := a.Append(ctx, Inbox, old); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(time.Second)
	if _, err := a.Copy(ctx, Inbox, []uint32{1, 2}, 2); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(time.Second)
	if _, err := a.Move(ctx, 2, []uint32{2}, 3); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(time.Second)
	if _, err := a.Copy(ctx, Inbox, []uint32{1}, Inbox); err != nil { // within one mailbox
		t.Fatal(err)
	}
	for _, op := range []FlagsOp{FlagsSet, FlagsAdd, FlagsRemove, FlagsSet} {
		if _, err := a.SetFlags(ctx, 3, SetFlags{UIDs: []uint32{1}, Op: op, Flags: Seen, Keywords: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
	}
	w.reopen()
	a = w.boxes.Account(k, 0)
	want("delivery", Inbox, 1, 0)
	want("APPEND", Inbox, 2, time.Second)
	want("COPY", 2, 1, 2*time.Second)
	want("MOVE", 3, 1, 3*time.Second)
	want("COPY within a mailbox", Inbox, 3, 4*time.Second)
	w.check()
	e := mustView(t, a, 3).At(0)
	if _, err := a.SetFlags(ctx, 3, SetFlags{UIDs: []uint32{1}, Op: FlagsAdd, Flags: Deleted}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Expunge(ctx, 3, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SaveDate(ctx, 3, e); errs.KindOf(err) != errs.NotFound {
		t.Errorf("save date of an expunged mail: %v", err)
	}
	w.check()
}

// TestSaveDateSealed: the record cannot be read without the account's key, and is of
// no use under a mail that did not come with it.
func TestSaveDateSealed(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	w.deliver(mailOf(1, 300), k)
	for range 2 {
		if _, err := a.Copy(ctx, Inbox, []uint32{1}, 2); err != nil {
			t.Fatal(err)
		}
	}
	other, err := seal.Generate(k.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = w.st.Update(ctx, k.ID().Shard(), func(tx store.Tx) error {
		b, err := tx.Get(savedKey(k.ID(), 2, 1))
		if err != nil {
			return err
		}
		if _, err := other.OpenRecord(purposeSaved, savedAAD(k.ID(), 2), b); err == nil {
			t.Error("another key opens the record")
		}
		return tx.Set(savedKey(k.ID(), 2, 2), b)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.SaveDate(ctx, 2, mustView(t, a, 2).At(1)); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("the record of another mail gives %v", err)
	}
}

// TestSaveDateUnknown: a mail of a version without save dates has none, until it is copied.
func TestSaveDateUnknown(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	m := Message{Raw: mailOf(1, 300)}
	s, err := summarize(&m, w.clock.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	d := &Delivery{b: w.boxes, entry: Entry{Hour: hour(w.clock.Now())}, to: make([]sealedCopy, 1)}
	if err := d.sealFor(0, Target{ID: k.ID(), Public: k.Public(), Box: Inbox}, s.encode(), m.Raw, false, 0); err != nil {
		t.Fatal(err)
	}
	err = w.st.Update(ctx, k.ID().Shard(), func(tx store.Tx) error {
		_, err := d.Put(tx, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if at := mustSaved(t, a, Inbox, 1); !at.IsZero() {
		t.Errorf("saved at %v", at)
	}
	if _, err := a.Copy(ctx, Inbox, []uint32{1}, 2); err != nil {
		t.Fatal(err)
	}
	if at := mustSaved(t, a, 2, 1); !at.Equal(w.clock.Now()) {
		t.Errorf("the copy was saved at %v", at)
	}
}
