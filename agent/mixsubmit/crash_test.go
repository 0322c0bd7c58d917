package mixsubmit

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/disktest"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/letter"
	"postern.email/wire/smtp"
)

// TestCrash cuts the disk at every sync from a mail's coming to its end. Once it was answered 250 its
// letter leaves, and it is one letter, however often the work is begun again; the recipient who
// cannot get it is reported once, and so is its delivery.
func TestCrash(t *testing.T) {
	base := vfs.NewCrashDisk()
	w := newWorld(t, base, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	must(t, w.Store.Purge(t.Context()))
	start := base.Clone(vfs.Kept, 0)

	type life struct {
		took bool
		ids  []letter.ID
	}
	carry := func(w *world, l *life) {
		u := w.user("bert@two.example")
		list, err := w.anna.Store.List()
		must(t, err)
		for _, p := range list {
			if p.Result != "" {
				continue
			}
			m, err := w.anna.Store.Message(p.Name)
			must(t, err)
			f, err := letter.Open(u.Identity.Letter, m.Bodies[0])
			must(t, err)
			l.ids = append(l.ids, f.ID) // it leaves now
		}
		w.net.Carry(w.sender(), u)
		w.run()
	}
	every := int64(1)
	if racetest.Enabled {
		every = 7
	}
	cuts := disktest.Cuts(every, func(n int64, after bool, u vfs.Unsynced) bool {
		var l, at life
		cut := vfs.CutAt(start.Clone(vfs.Kept, 0), n, after, u, uint64(n), func() { at = life{l.took, slices.Clone(l.ids)} })
		w := newWorld(t, cut.FS, nil)
		if got := w.sendWith(plain(), smtp.NotifySuccess|smtp.NotifyFailure, "bert@two.example", "x@two.example"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
		l.took = true
		w.run()
		carry(w, &l)
		disk := cut.Disk()
		if disk == nil {
			return false
		}
		next := newWorld(t, disk, nil)
		next.run()
		carry(next, &at)
		slices.SortFunc(at.ids, func(a, b letter.ID) int { return slices.Compare(a[:], b[:]) })
		ids := slices.Compact(at.ids)
		in := strings.Join(next.Inbox("anna"), "")
		failures, successes := strings.Count(in, "Action: failed"), strings.Count(in, "Action: delivered")
		want := 1
		if !at.took && len(ids) == 0 {
			want = 0
		}
		if len(ids) != want || failures != want || successes != want {
			t.Fatalf("cut %d (after %v, %v), taken %v: %d letters, %d failures, %d successes", n, after, u, at.took, len(ids), failures, successes)
		}
		if left, err := next.s.Waiting(); err != nil || len(left) != 0 {
			t.Fatalf("cut %d: %+v %v", n, left, err)
		}
		if names, err := disk.List("/data/anna/waiting"); err != nil || len(names) != 0 {
			t.Fatalf("cut %d: %v %v", n, names, err)
		}
		return true
	})
	if cuts < 30 {
		t.Errorf("only %d cuts", cuts)
	}
}

// TestSealed: nothing of a mail that waits can be read on the disk.
func TestSealed(t *testing.T) {
	w := discovering(t)
	w.noCert = true
	w.want("250 ", plain("X-Secret: canary-header"), "canary-rcpt@two.example")
	w.run()
	if found := disktest.Holding(t, w.fs, "/data/anna", []byte("canary"), []byte("Hello."), []byte("two.example")); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// TestDamagedSpool: a file that cannot be read stays, and their number is logged; all else goes on. A
// text without an entry goes.
func TestDamagedSpool(t *testing.T) {
	disk := vfs.NewCrashDisk()
	w := newWorld(t, disk, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.want("250 ", plain(), "bert@two.example")
	id := strings.Repeat("0f", 16)
	for _, n := range []string{id + ".state", strings.Repeat("1f", 16) + ".mail", "else.state"} {
		must(t, vfs.WriteFileAtomic(disk, "/data/anna/waiting/"+n, []byte("damaged"), 0o600))
	}
	var log bytes.Buffer
	next := newWorld(t, disk.Clone(vfs.Kept, 0), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	next.run()
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "some mails that wait cannot be read, and stay where they are\" files=1") {
		t.Errorf("%q", text)
	}
	if all := next.carry(next.user("bert@two.example")); len(all) != 1 {
		t.Errorf("%d letters", len(all))
	}
	names, err := next.fs.List("/data/anna/waiting")
	must(t, err)
	slices.Sort(names)
	if !slices.Equal(names, []string{id + ".state", "else.state"}) {
		t.Errorf("%v", names)
	}
	// A text that was damaged since: the sender hears of it.
	w.noCert = true
	w.want("250 ", plain(), "bert@two.example")
	for _, e := range w.s.spools[w.anna.Address].list() {
		must(t, vfs.WriteFileAtomic(disk, "/data/anna/waiting/"+e.ID+".mail", []byte("damaged"), 0o600))
	}
	w.noCert = false
	w.run()
	if in := w.Inbox("anna"); len(in) != 2 || !strings.Contains(in[0], "Status: 5.3.0") {
		t.Errorf("%q", in)
	}
}

// TestUnreadableSpool: where mails that wait cannot be read at all that is logged once, and mail is refused
// for now; when they can be read again, it goes on.
func TestUnreadableSpool(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, nil, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	w.know(w.user("bert@two.example"))
	must(t, vfs.WriteFileAtomic(w.fs, "/data/anna/waiting", []byte("no directory"), 0o600))
	for range 3 {
		w.run()
	}
	w.want("451 ", plain(), "bert@two.example")
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "mails that wait cannot be read") {
		t.Errorf("%q", text)
	}
	must(t, w.fs.Remove("/data/anna/waiting"))
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// TestFull: a spool has a bound, and says so for now.
func TestFull(t *testing.T) {
	w := newWorld(t, nil, func(o *Options) { o.MaxMails = 1 })
	w.know(w.user("bert@two.example"))
	w.want("250 ", plain(), "bert@two.example")
	w.want("452 4.3.1 too many mails wait", plain(), "bert@two.example")
	w = newWorld(t, nil, func(o *Options) { o.MaxBytes = 100 })
	w.know(w.user("bert@two.example"))
	w.want("452 4.3.1 too many mails wait", plain(), "bert@two.example")
}
