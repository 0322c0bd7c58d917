package mailbox

import (
	"context"
	"slices"
	"sync"
	"testing"

	"postern.email/kit/errs"
	"postern.email/store"
	"postern.email/store/storetest"
)

// TestConcurrent: deliveries, flag changes, moves, expunges and readers at once. Every
// mail is delivered once, no view goes backwards, and in the end nothing is broken.
func TestConcurrent(t *testing.T) {
	const mails, writers = 60, 3
	ctx := context.Background()
	w := newWorld(t)
	k, other := w.user(), w.user()
	var work, readers sync.WaitGroup
	stop := make(chan struct{})
	for n := range writers {
		work.Go(func() {
			for i := range mails {
				size := 300
				if i%20 == 0 {
					size = 70_000
				}
				if _, err := w.tryDeliver(mailOf(n*mails+i, size), k, other); err != nil {
					t.Error(err)
				}
			}
		})
	}
	change := func(fn func(a *Account, uids []uint32) error) {
		readers.Go(func() {
			a := w.boxes.Account(k, 0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				v, err := a.View(ctx, Inbox)
				if err == nil && v.Len() > 0 {
					err = fn(a, uidsOf(v))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	change(func(a *Account, uids []uint32) error {
		_, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: uids[:1], Op: FlagsAdd, Flags: Seen})
		return err
	})
	change(func(a *Account, uids []uint32) error {
		_, err := a.Move(ctx, Inbox, uids[len(uids)/2:len(uids)/2+1], 2)
		return err
	})
	var last uint64
	change(func(a *Account, uids []uint32) error {
		v, err := a.View(ctx, Inbox)
		if err != nil {
			return err
		}
		if v.HighestModSeq < last || !slices.IsSorted(uids) {
			t.Errorf("modseq fell from %d to %d", last, v.HighestModSeq)
		}
		last = v.HighestModSeq
		body, err := a.Body(ctx, Inbox, v.At(v.Len()-1))
		if err != nil {
			if errs.KindOf(err) == errs.NotFound {
				return nil
			}
			return err
		}
		return body.Close()
	})
	work.Wait()
	close(stop)
	readers.Wait()
	a := w.boxes.Account(k, 0)
	if n := mustView(t, a, Inbox).Len() + mustView(t, a, 2).Len(); n != mails*writers {
		t.Errorf("%d mails of %d", n, mails*writers)
	}
	if n := mustView(t, w.boxes.Account(other, 0), Inbox).Len(); n != mails*writers {
		t.Errorf("%d mails of %d for the other", n, mails*writers)
	}
	w.check()
}

// TestSplitLogs: an engine with one log a shard needs one transaction per recipient and
// nothing else.
func TestSplitLogs(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, withStore(storetest.SplitLogs))
	k, l := w.user(), w.user()
	raw := mailOf(1, 100_000)
	d, err := w.boxes.Prepare(ctx, Message{Raw: raw}, []Target{{ID: k.ID(), Public: k.Public(), Box: Inbox}, {ID: l.ID(), Public: l.Public(), Box: Inbox}})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []store.Shard{k.ID().Shard(), l.ID().Shard()} {
		if err := w.st.Update(ctx, id, func(tx store.Tx) error { _, err := d.Put(tx, i); return err }); err != nil {
			t.Fatal(err)
		}
	}
	d.Discard()
	readOnly(t, w, k, raw)
	readOnly(t, w, l, raw)
	expungeAll(t, w, k, 1)
	readOnly(t, w, l, raw)
}
