package mailbox

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

func uidsOf(v *View) (uids []uint32) {
	for _, e := range v.Range(0, v.Len()) {
		uids = append(uids, e.UID)
	}
	return uids
}

func wantUIDs(t *testing.T, a *Account, box uint32, want ...uint32) {
	t.Helper()
	if got := uidsOf(mustView(t, a, box)); !slices.Equal(got, want) {
		t.Fatalf("UIDs %v, want %v", got, want)
	}
}

// TestBuckets: the border of large mails is exact.
func TestBuckets(t *testing.T) {
	for _, n := range []int64{0, 1, 2, 1000, 199_999, 200_000, 200_001, 31_457_280, 1 << 40} {
		e := Entry{Bucket: Bucket(n)}
		if e.Large() != (n > LargeSize) || BucketMax(e.Bucket) < n || e.Bucket > 0 && BucketMax(e.Bucket-1) >= n {
			t.Errorf("%d bytes are in bucket %d, up to %d", n, e.Bucket, BucketMax(e.Bucket))
		}
	}
}

func TestExpire(t *testing.T) {
	day := 24 * time.Hour
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	ctx := context.Background()
	w.deliver(mailOf(1, 1000), k)    // UID 1: small
	w.deliver(mailOf(2, 200_000), k) // UID 2: as large as a small one may be, seen
	w.deliver(mailOf(3, 200_001), k) // UID 3: large, seen
	w.deliver(mailOf(4, 200_001), k) // UID 4: large, not seen
	if _, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{2, 3}, Op: FlagsAdd, Flags: Seen}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Copy(ctx, Inbox, []uint32{1}, 4); err != nil {
		t.Fatal(err)
	}
	expire := func() {
		t.Helper()
		if err := w.boxes.expireAll(ctx); err != nil {
			t.Fatal(err)
		}
		w.check()
	}
	w.clock.Add(7 * day)
	expire()
	wantUIDs(t, a, Inbox, 1, 2, 3, 4)
	w.clock.Add(time.Hour)
	expire()
	wantUIDs(t, a, Inbox, 1, 2, 4)
	w.deliver(mailOf(5, 1000), k)
	w.clock.Add(13*day - time.Hour)
	expire()
	wantUIDs(t, a, Inbox, 1, 2, 4, 5)
	w.clock.Add(time.Hour)
	expire()
	wantUIDs(t, a, Inbox, 5)
	wantUIDs(t, a, 4)
	if used, _, err := a.Quota(ctx); err != nil || used > 4096 {
		t.Errorf("%d bytes are still counted: %v", used, err)
	}
}

func TestExpireNever(t *testing.T) {
	w := newWorld(t, withOptions(func(o *Options) { o.MailAge, o.LargeAge = -1, -1 }))
	k := w.user()
	w.deliver(mailOf(1, 300_000), k)
	w.clock.Add(20 * 365 * 24 * time.Hour)
	if err := w.boxes.expireAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantUIDs(t, w.boxes.Account(k, 0), Inbox, 1)
}

func TestQuotaAndTrim(t *testing.T) {
	const quota = 1_000_000
	ctx := context.Background()
	w := newWorld(t, withOptions(func(o *Options) { o.Quota = quota }))
	k := w.user()
	a := w.boxes.Account(k, 0)
	n := uint32(0)
	for {
		if _, err := w.tryDeliver(mailOf(int(n), 40_000), k); err != nil {
			if errs.KindOf(err) != errs.Full || errs.Public(err) != "mailbox is full" {
				t.Fatal(err)
			}
			break
		}
		n++
	}
	used, limit, err := a.Quota(ctx)
	if err != nil || limit != quota || used > quota || used < quota-50_000 {
		t.Fatalf("%d of %d bytes used: %v", used, limit, err)
	}
	if _, _, err := a.Append(ctx, Inbox, Message{Raw: mailOf(1, 40_000)}); errs.KindOf(err) != errs.Full {
		t.Fatalf("APPEND into a full account: %v", err)
	}
	if _, err := a.Copy(ctx, Inbox, []uint32{1}, 2); err != nil { // takes no room
		t.Fatal(err)
	}
	if err := w.boxes.Room(ctx, k.ID(), 0, 40_000); errs.KindOf(err) != errs.Full {
		t.Fatalf("Room in a full account: %v", err)
	}
	if err := w.boxes.Room(ctx, k.ID(), -1, 40_000); err != nil {
		t.Fatal(err)
	}
	if err := w.boxes.Room(ctx, k.ID(), 0, DefaultMaxMessage+1); errs.KindOf(err) != errs.TooLarge {
		t.Fatal(err)
	}
	// Nothing of the last day goes.
	if err := w.boxes.trim(ctx, k.ID(), 0); err != nil {
		t.Fatal(err)
	}
	if v := mustView(t, a, Inbox); v.Len() != int(n) {
		t.Fatalf("%d of %d mails left within a day", v.Len(), n)
	}
	w.clock.Add(25 * time.Hour)
	if f := <-w.boxes.full; f.id != k.ID() || f.limit != quota {
		t.Fatalf("Room noted %+v", f)
	}
	if err := w.boxes.trim(ctx, k.ID(), 0); err != nil {
		t.Fatal(err)
	}
	used, _, _ = a.Quota(ctx)
	if used > quota/100*trimTo || used < quota/100*trimTo-60_000 {
		t.Errorf("trimmed to %d of %d", used, quota)
	}
	left := uidsOf(mustView(t, a, Inbox))
	if left[0] == 1 || left[len(left)-1] != n || len(left) != int(n-left[0]+1) {
		t.Errorf("the oldest should go first; left: %v of %d", left, n)
	}
	w.check()
	w.deliver(mailOf(1, 40_000), k)
	if err := w.boxes.trim(ctx, k.ID(), 0); err != nil { // at 74 %: nothing to do
		t.Fatal(err)
	}
	if v := mustView(t, a, Inbox); v.Len() != len(left)+1 {
		t.Errorf("trimmed below 75 %%")
	}
}

// searchDisk counts the files below dir that hold any of the needles.
func searchDisk(t *testing.T, dir string, needles ...[]byte) (hits int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, n := range needles {
			if bytes.Contains(b, n) {
				hits++
				return nil
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// sealedBytes gives a piece of the sealed form of each mail of a mailbox: what must be gone from
// the disk after it was expunged.
func sealedBytes(t *testing.T, w *world, k *seal.Opened) (out [][]byte) {
	t.Helper()
	err := w.st.View(context.Background(), k.ID().Shard(), func(r store.Reader) error {
		for _, kind := range []byte{kindMessage, kindBody, kindEncap} {
			start := key(k.ID(), kind)
			err := r.Scan(start, after(start), func(_, v []byte) (bool, error) {
				out = append(out, bytes.Clone(v[len(v)-40:]))
				return true, nil
			})
			if err != nil {
				return err
			}
		}
		start := key(k.ID(), kindBlob)
		return r.Scan(start, after(start), func(key, _ []byte) (bool, error) {
			b, err := vfs.ReadFile(w.fs, w.blobPath(blob.Name(key[len(key)-16:])))
			out = append(out, b[100:140])
			return true, err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDeletedBytesLeave: what was expunged is in no file after the next purge.
func TestDeletedBytesLeave(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := newWorld(t, onDisk(), withOptions(func(o *Options) { o.PurgeEvery = 20 * time.Millisecond }))
	defer w.close()
	k := w.user()
	w.deliver(mailOf(1, 20_000), k)
	w.deliver(mailOf(2, 100_000), k)
	pieces := sealedBytes(t, w, k)
	if len(pieces) != 5 {
		t.Fatalf("%d sealed pieces", len(pieces))
	}
	if n := searchDisk(t, w.dir, pieces...); n < 2 {
		t.Fatalf("the sealed bytes are in %d files before: the search is blind", n)
	}
	if n := searchDisk(t, w.dir, []byte("Subject"), bytes.Repeat([]byte("b"), 20)); n != 0 {
		t.Fatalf("text in the clear in %d files", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := w.boxes.purgeOnce(ctx); err != nil { // the one of every start
		t.Fatal(err)
	}
	expungeAll(t, w, k, 1, 2)
	ran := make(chan error)
	go func() { ran <- w.boxes.Run(ctx) }()
	waitFor(t, func() bool { return searchDisk(t, w.dir, pieces...) == 0 })
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

// waitFor polls until ok, for a minute at most.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not happen within a minute")
		}
	}
}

func blobFiles(t *testing.T, w *world) int {
	t.Helper()
	list, err := w.fs.List(w.blobDir())
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestBlobFiles(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k, l := w.user(), w.user()
	raw := mailOf(1, 100_000)

	// Not committed: Discard removes the files.
	to := []Target{{ID: k.ID(), Public: k.Public(), Box: Inbox}, {ID: l.ID(), Public: l.Public(), Box: Inbox}}
	d, err := w.boxes.Prepare(ctx, Message{Raw: raw}, to)
	if err != nil {
		t.Fatal(err)
	}
	if n := blobFiles(t, w); n != 2 {
		t.Fatalf("%d files for two recipients", n)
	}
	if err := w.boxes.sweep(ctx); err != nil { // in flight: left alone
		t.Fatal(err)
	}
	if n := blobFiles(t, w); n != 2 {
		t.Fatal("the sweep took a file that is being delivered")
	}
	// Committed for one of two.
	err = w.st.Update(ctx, l.ID().Shard(), func(tx store.Tx) error { _, err := d.Put(tx, 1); return err })
	if err != nil {
		t.Fatal(err)
	}
	d.Discard()
	if n := blobFiles(t, w); n != 1 {
		t.Fatalf("%d files left after Discard, want the committed one", n)
	}
	w.check()
	// One recipient's deletion does not touch the other's.
	w.deliver(raw, k)
	expungeAll(t, w, k, 1)
	if n := blobFiles(t, w); n != 1 {
		t.Fatalf("%d files after the expunge", n)
	}
	a := w.boxes.Account(l, 0)
	if got := readBody(t, a, Inbox, mustView(t, a, Inbox).At(0)); !bytes.Equal(got, raw) {
		t.Fatal("the other recipient's mail is damaged")
	}
	// An orphan of a crash.
	if _, err := w.boxes.blobs.Write(mustKey(t), []blob.Name{{1}}, raw); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if n := blobFiles(t, w); n != 2 {
		t.Fatal("no orphan to sweep")
	}
	if err := w.boxes.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := blobFiles(t, w); n != 1 {
		t.Fatal("the orphan is still there")
	}
	w.check()
}

func mustKey(t *testing.T) *seal.MailKey {
	t.Helper()
	k, err := seal.NewMailKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRemoveAndInitAgain(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k, other := w.user(), w.user()
	w.deliver(mailOf(1, 100_000), k, other)
	a := w.boxes.Account(k, 0)
	before := mustView(t, a, Inbox)
	for range 2 {
		if err := w.boxes.Remove(ctx, k.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.View(ctx, Inbox); errs.KindOf(err) != errs.NotFound {
		t.Fatalf("View of a removed account: %v", err)
	}
	if n := blobFiles(t, w); n != 1 {
		t.Fatalf("%d files left, want the other account's", n)
	}
	w.check()
	if err := w.st.Update(ctx, k.ID().Shard(), func(tx store.Tx) error { return w.boxes.Init(tx, k) }); err != nil {
		t.Fatal(err)
	}
	if v := mustView(t, a, Inbox); v.UIDValidity <= before.UIDValidity || v.Len() != 0 {
		t.Fatalf("UIDVALIDITY %d after %d", v.UIDValidity, before.UIDValidity)
	}
	w.check()
}

// TestReapAfterCrash: a deleted folder whose mails were not taken apart yet.
func TestReapAfterCrash(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	f, err := a.CreateFolder(ctx, "big", "")
	if err != nil {
		t.Fatal(err)
	}
	m := make([]Message, 300)
	for i := range m {
		m[i] = Message{Raw: mailOf(i, 300), Keywords: []string{"$x"}}
	}
	if _, _, err := a.AppendMany(ctx, f.Box, m); err != nil {
		t.Fatal(err)
	}
	err = w.boxes.update(ctx, k.ID(), func(t *txn) error { // DeleteFolder up to its first commit
		if _, err := t.doom(f.Box); err != nil {
			return err
		}
		return t.dropRecord(f.Box)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.check()
	w.reopen()
	if err := w.boxes.expireAll(ctx); err != nil {
		t.Fatal(err)
	}
	w.check()
	if used, _, err := w.boxes.Account(k, 0).Quota(ctx); used != 0 || err != nil {
		t.Fatalf("%d bytes used, %v", used, err)
	}
	if n := encaps(t, w, k); n != 0 {
		t.Fatalf("%d encapsulations left", n)
	}
}
