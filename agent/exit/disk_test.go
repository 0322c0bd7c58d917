package exit

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// TestCrash cuts the disk before and after every sync: a token that was acknowledged stays spent for
// its mail and no other, and the mail is handed over at most once more.
func TestCrash(t *testing.T) {
	maker := begin(t)
	v := maker.anonymous("one", "bob@world.example")
	other := maker.anonymous("two", "bob@world.example")
	other.Mail.Token = v.Mail.Token
	third := maker.anonymous("three", "eve@world.example")
	try := func(n int64, after bool, u vfs.Unsynced) bool {
		disk := vfs.NewCrashDisk()
		w := begin(t, func(o *Options) { o.FS = disk })
		must(t, w.Close())
		acked, at, handed := false, false, false
		cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at, handed = acked, w.tos() != "" })
		w.o.FS = cut.FS
		w.open()
		must(t, w.Send(ctx, v))
		acked = true
		refused(t, w.Send(ctx, other), errs.Denied, "another mail")
		must(t, w.Send(ctx, third))
		d := cut.Disk()
		if d == nil {
			return false
		}
		w.o.FS, w.sent = d, nil
		w.open()
		if at {
			refused(t, w.Send(ctx, other), errs.Denied, "another mail")
			must(t, w.Send(ctx, v))
			if w.tos() != "" {
				t.Errorf("cut %d: sent again after the acknowledgement", n)
			}
			return true
		}
		if handed {
			refused(t, w.Send(ctx, other), errs.Denied, "another mail")
		}
		must(t, w.Send(ctx, v))
		refused(t, w.Send(ctx, other), errs.Denied, "another mail")
		if len(strings.Fields(w.tos())) > 1 {
			t.Errorf("cut %d: %s", n, w.tos())
		}
		return true
	}
	cuts := disktest.Cuts(1, func(n int64, after bool, _ vfs.Unsynced) bool {
		return try(n, after, vfs.Dropped) && try(n, after, vfs.Dropped+1) && try(n, after, vfs.Dropped+2)
	})
	if cuts < 8 {
		t.Errorf("only %d cuts", cuts)
	}
}

// TestSecrecy: the disk names no recipient, no sender and no token.
func TestSecrecy(t *testing.T) {
	w := begin(t)
	v := w.user("alice@exit.example", "canary-text", "canary@world.example")
	must(t, w.Send(ctx, v))
	link := w.last().text
	link = link[strings.Index(link, "/block/")+7:]
	link, _, _ = strings.Cut(link, ">")
	must(t, w.Block(link, true))
	if found := disktest.Holding(t, w.o.FS, "exit", []byte("canary"), []byte("world.example"), []byte("alice"), v.Mail.Token[37:69]); len(found) > 0 {
		t.Error(found)
	}
}

// TestDaysGo: what was remembered of days that are over is gone.
func TestDaysGo(t *testing.T) {
	w := begin(t)
	must(t, w.Send(ctx, w.anonymous("x", "bob@world.example")))
	w.clock.Add(8 * 24 * time.Hour)
	must(t, w.Tidy())
	names, err := w.o.FS.List("exit")
	must(t, err)
	slices.Sort(names)
	if !slices.Equal(names, []string{"blocked"}) {
		t.Error(names)
	}
}

// TestFullLedger: an exit that cannot remember more tokens sends nothing.
func TestFullLedger(t *testing.T) {
	w := begin(t, func(o *Options) { o.MaxSpent = 1 })
	must(t, w.Send(ctx, w.anonymous("x", "bob@world.example")))
	refused(t, w.Send(ctx, w.anonymous("y", "bob@world.example")), errs.Busy, "as much today")
	if w.tos() != "bob@world.example" {
		t.Error(w.tos())
	}
}

// TestBadDisk: without a durable mark nothing is handed over.
func TestBadDisk(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	w := begin(t, func(o *Options) { o.FS = faults })
	must(t, w.Send(ctx, w.anonymous("x", "bob@world.example")))
	faults.FailFrom(vfs.OpSync, 1, errors.New("no sync"))
	if err := w.Send(ctx, w.anonymous("y", "eve@world.example")); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	if w.tos() != "bob@world.example" {
		t.Error(w.tos())
	}
}
