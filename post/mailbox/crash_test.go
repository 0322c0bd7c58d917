package mailbox

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/post/seal"
)

// script is a session in steps; each step is acknowledged when it returns.
func script(w *world, k, l *seal.Opened) []func() error {
	ctx := context.Background()
	a := func() *Account { return w.boxes.Account(k, 0) }
	deliver := func(n, size int, keys ...*seal.Opened) func() error {
		return func() error { _, err := w.tryDeliver(mailOf(n, size), keys...); return err }
	}
	flags := func(f Flags, words []string, uids ...uint32) func() error {
		return func() error {
			_, err := a().SetFlags(ctx, Inbox, SetFlags{UIDs: uids, Op: FlagsAdd, Flags: f, Keywords: words})
			return err
		}
	}
	return []func() error{
		deliver(1, 1000, k),
		deliver(2, 70_000, k, l),
		deliver(3, 1000, k, l),
		flags(Seen, nil, 1, 2, 3),
		flags(0, []string{"$Junk"}, 2),
		func() error { _, err := a().CreateFolder(ctx, "x/y", ""); return err },
		func() error { _, err := a().Copy(ctx, Inbox, []uint32{1, 2}, 2); return err },
		flags(Deleted, nil, 2),
		func() error { _, _, err := a().Expunge(ctx, Inbox, nil); return err },
		func() error { _, err := a().Move(ctx, 2, []uint32{2}, Inbox); return err },
		deliver(4, 200_000, l, k),
		func() error { return a().RenameFolder(ctx, "INBOX", "x/y/old") },
		deliver(5, 100_000, k),
		func() error { return a().DeleteFolder(ctx, "x/y/old") },
		flags(Deleted, nil, 5),
		func() error { _, _, err := a().Expunge(ctx, Inbox, nil); return err },
	}
}

// picture is all that a client of both accounts can see.
func picture(tb testing.TB, w *world, keys ...*seal.Opened) string {
	tb.Helper()
	ctx := context.Background()
	var out strings.Builder
	for _, k := range keys {
		a := w.boxes.Account(k, 0)
		list, err := a.Folders(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		for _, f := range list {
			fmt.Fprintf(&out, "%s %v\n", f.Name, f.NoSelect)
			if f.NoSelect {
				continue
			}
			v := mustView(tb, a, f.Box)
			for _, e := range v.Range(0, v.Len()) {
				words, err := a.Keywords(ctx, f.Box, &e)
				if err != nil {
					tb.Fatal(err)
				}
				fmt.Fprintf(&out, " %d %x %v %x\n", e.UID, e.Flags, words, sha256.Sum256(readBody(tb, a, f.Box, e)))
			}
		}
	}
	return out.String()
}

// TestCrash cuts the script before and after every sync, in every way a disk can forget
// what was not synced. What was acknowledged must be there, a step is there as a whole
// or not at all, and no invariant may be broken.
func TestCrash(t *testing.T) {
	u := vfs.Dropped
	cuts := 0
	for n := int64(1); ; n++ {
		done := false
		for _, after := range []bool{false, true} {
			u = (u + 1) % 3
			if !crashAt(t, n, after, u) {
				done = true
			} else {
				cuts++
			}
		}
		if done {
			break
		}
	}
	if cuts < 30 {
		t.Fatalf("only %d cuts: the script did not reach the disk", cuts)
	}
}

func crashAt(t *testing.T, n int64, after bool, u vfs.Unsynced) bool {
	disk := vfs.NewCrashDisk()
	var acked atomic.Int64
	at := int64(-1)
	cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = acked.Load() })
	w := newWorld(t, withFS(cut.FS))
	defer w.close()
	k, l := w.user(), w.user()
	ready := cut.Disk() == nil // else the cut came before there were accounts
	pictures := []string{picture(t, w, k, l)}
	for _, step := range script(w, k, l) {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		acked.Add(1)
		pictures = append(pictures, picture(t, w, k, l))
	}
	w.check()
	crashed := cut.Disk()
	if crashed == nil {
		return false
	}
	if !ready {
		return true
	}
	next := newWorld(t, withFS(crashed))
	defer next.close()
	got := picture(t, next, k, l)
	// Steps of several transactions end in the picture of their first one.
	if got != pictures[at] && (at+1 >= int64(len(pictures)) || got != pictures[at+1]) {
		t.Fatalf("cut %d (after %v, %v): %d steps were acknowledged, and the disk shows\n%s\nwant\n%s", n, after, u, at, got, pictures[at])
	}
	ctx := context.Background()
	if err := next.boxes.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if err := next.boxes.expireAll(ctx); err != nil {
		t.Fatal(err)
	}
	next.check()
	next.deliver(mailOf(9, 1000), k, l)
	if t.Failed() {
		t.Fatalf("after cut %d (after %v, %v)", n, after, u)
	}
	return true
}
