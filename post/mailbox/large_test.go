package mailbox

import (
	"context"
	"testing"
)

// TestManyPages: more pages change than the state record can list; a view from before
// still ends up right, and so does one that lags behind by a little.
func TestManyPages(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	_, a := filled(t, w, pageEntries*(maxDirty+6), 200)
	old := mustView(t, a, Inbox)
	// One mail of each page, each in a transaction of its own, unseen by any view.
	for uid := uint32(1); uid < old.UIDNext; uid += pageEntries {
		if _, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{uid}, Op: FlagsAdd, Flags: Flagged}); err != nil {
			t.Fatal(err)
		}
	}
	v := mustView(t, a, Inbox)
	for i, e := range v.Range(0, v.Len()) {
		if want := i%pageEntries == 0; (e.Flags&Flagged != 0) != want {
			t.Fatalf("mail %d: flagged %v", i, !want)
		}
	}
	if old.At(0).Flags&Flagged != 0 {
		t.Fatal("a view has changed")
	}
	w.check()
}

// TestTombstonesAreBounded: the oldest expunges are forgotten, and asking for them says so.
func TestTombstonesAreBounded(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	var first uint64
	for i := range uint32(maxTombstones/1000 + 2) {
		err := w.boxes.update(ctx, k.ID(), func(t *txn) error {
			x, err := t.open(Inbox)
			if err != nil {
				return err
			}
			var uids []uint32
			for u := range uint32(1000) {
				uids = append(uids, i*1000+u+1)
			}
			x.st.uidNext = i*1000 + 1001
			return x.bury(uids)
		})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = mustView(t, a, Inbox).HighestModSeq
		}
	}
	if _, complete, err := a.Expunged(ctx, Inbox, first); err != nil || complete {
		t.Fatalf("what was forgotten is said to be complete: %v", err)
	}
	uids, complete, err := a.Expunged(ctx, Inbox, first+1)
	if err != nil || !complete || len(uids) != maxTombstones || uids[0] != 2001 {
		t.Fatalf("%d UIDs, complete %v, %v", len(uids), complete, err)
	}
	w.check()
}
