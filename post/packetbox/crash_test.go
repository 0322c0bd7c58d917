package packetbox

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"postern.email/kit/disktest"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
)

// script is a session in steps; each is acknowledged when it returns.
func script(w *world) []func() error {
	put := func(to seal.AccountID, ns ...uint32) func() error {
		return func() error { w.put(to, ns...); return nil }
	}
	register := func(id seal.AccountID, n byte) func() error {
		return func() error { _, err := w.b.Register(ctx, id, linkKey(n)); return err }
	}
	return []func() error{
		register(anna, 1),
		put(anna, 1),
		register(ben, 2),
		put(anna, 2, 3, 4),
		put(ben, 5),
		func() error { return w.b.Remove(ctx, anna, []uint64{1, 3}) },
		put(anna, 1, 6),
		register(anna, 3),
		func() error { _, err := w.b.RegisterProxy(ctx, anna, linkKey(3), identity(1, true)); return err },
		func() error { _, err := w.b.RegisterProxy(ctx, anna, linkKey(3), identity(4, false)); return err },
		func() error { return w.b.Unregister(ctx, anna, linkKey(1)) },
		func() error { return w.b.Drop(ctx, ben) },
		register(ben, 2),
		put(ben, 5, 7),
		func() error { return w.st.Purge(ctx) },
	}
}

// picture is all that clients can see.
func picture(w *world) string {
	var out strings.Builder
	for _, id := range []seal.AccountID{anna, ben} {
		list, err := w.b.Clients(ctx, id)
		fmt.Fprintf(&out, "%s: %d clients (%s):", id, len(list), kindOf(err))
		for _, c := range list {
			owner, err := w.b.Client(ctx, c.Key)
			fmt.Fprintf(&out, " %x %v %s", c.Key[:1], owner == id, kindOf(err))
		}
		ident, err := w.b.Identity(ctx, id)
		fmt.Fprintf(&out, "; keys number %d, %x, %v (%s)", ident.Serial, ident.Letter[:1], ident.Publish, kindOf(err))
		fmt.Fprintf(&out, "; packets %v\n", w.next(id))
	}
	return out.String()
}

// TestCrash cuts the script before and after every sync, in every way a disk can forget what
// was not synced. What was acknowledged is there, nothing is there twice, a step is there as a
// whole or not at all, and what is put again afterwards changes nothing.
func TestCrash(t *testing.T) {
	every := int64(1)
	if racetest.Enabled {
		every = 29
	}
	cuts := disktest.Cuts(every, func(n int64, after bool, u vfs.Unsynced) bool { return crashAt(t, n, after, u) })
	if cuts < 24 {
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
	pictures := []string{picture(w)}
	for i, step := range script(w) {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		acked.Add(1)
		pictures = append(pictures, picture(w))
	}
	w.sound()
	crashed := cut.Disk()
	if crashed == nil {
		return false
	}
	next := newWorld(t, withFS(crashed))
	defer next.close()
	got := picture(next)
	if got != pictures[at] && (at+1 >= int64(len(pictures)) || got != pictures[at+1]) {
		t.Fatalf("cut %d (after %v, %v): %d steps were acknowledged, and the disk shows\n%s\nwant\n%s", n, after, u, at, got, pictures[at])
	}
	next.sound()
	// The node's log still holds what was put last: it is put again.
	had := next.next(anna)
	for _, p := range had {
		next.put(anna, p)
	}
	if again := next.next(anna); !slices.Equal(again, had) {
		t.Fatalf("cut %d: doubled: %v, had %v", n, again, had)
	}
	next.register(anna, 1)
	next.put(anna, 100)
	next.sound()
	if t.Failed() {
		t.Fatalf("after cut %d (after %v, %v)", n, after, u)
	}
	return true
}
