package mbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// TestDelivery: a mail goes to whom the address file names, from the return address, once,
// however often its packet or its letter comes, and nothing of it is left.
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.one("fred", "Subject: Hello\n\nHello, Fred.\n")
		w.exit(p)
		if s := w.m.Status(); s.Waiting != 1 || s.Bytes == 0 {
			t.Errorf("%+v", s)
		}
		if meta, mails := w.files(mailDir, meta), w.files(mailDir, msg); len(meta) != 1 || len(mails) != 1 {
			t.Errorf("files: %v, %v", meta, mails)
		}
		w.run(0)
		if got := w.out.got("fred@fred.com"); !slices.Equal(got, []string{"Hello, Fred."}) {
			t.Errorf("fred has %q", got)
		}
		if f := w.out.taken[0].from.String(); f != "anon@mix.example" {
			t.Errorf("from %s", f)
		}
		w.empty()
		again := p
		again.name[0]++ // the sender sent it again: another packet with the same letter
		w.exit(p, again)
		w.run(0)
		w.restart()
		w.exit(p, again)
		w.run(0)
		if got := w.out.got("fred@fred.com"); len(got) != 1 {
			t.Errorf("fred has it %d times", len(got))
		}
		if w.c.Of("AttemptedDelivery", module) != 1 || w.c.Of("SuccessfulDelivery", module) != 1 || w.c.Of("FailedDelivery", module)+w.c.Of("UnretriableDelivery", module) != 0 {
			t.Errorf("counted: %v", w.c)
		}
	})
}

// TestRefused: what is not for this exit is refused with its kind, for good, and counted; nothing of it
// is kept.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.o.Config.MaxSize = 1 // raised to the least there is
	w.o.Config.Fragments.MaxSize = 50_000
	w.open()
	other := w.one("fred", "x")
	other.c.Kind = content.Mail
	w.refused(other, errs.Unsupported)
	broken := w.one("fred", "x")
	broken.c.Body = broken.c.Body[:5]
	w.refused(broken, errs.Invalid)
	later := w.one("fred", "x")
	later.c.Body[0] = 2
	w.refused(later, errs.Unsupported)
	garbled := w.one("fred", "x")
	garbled.c.Body = bytes.Clone(garbled.c.Body)
	garbled.c.Body[7] ^= 0xff // a byte that must be zero
	w.refused(garbled, errs.Invalid)
	w.refused(w.one("nobody", "x"), errs.NotFound)
	w.refused(w.one("FRED", "x"), errs.NotFound)
	two := w.parcels("fred", noise(40_000), packet.MaxBody-10, false)
	w.exit(two[0])
	w.refused(two[1], errs.TooLarge)
	w.refused(w.parcels("fred", noise(80_000), 2048, false)[0], errs.TooLarge)
	w.refused(w.one("fred", strings.Repeat(noise(3000), 12)), errs.TooLarge)
	w.o.Config.Fragments.Enabled = false
	w.open()
	w.refused(w.parcels("fred", noise(5000), 2048, false)[0], errs.Unsupported)
	if n := w.c.Of("UnretriableDelivery", module); n != 9 {
		t.Errorf("%d counted: %v", n, w.c)
	}
	w.empty()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	<-w.m.turn
	p := w.one("fred", "x")
	if err := w.m.Exit(ctx, p.name, p.c); errs.KindOf(err) != errs.Canceled {
		t.Errorf("the context has ended: %v", err)
	}
	w.m.turn <- struct{}{}
}

// TestFragments: a letter arrives from its fragments in any order, with a restart after each,
// with some missing where there is an erasure code, once; late fragments change nothing.
func TestFragments(t *testing.T) {
	for _, coded := range []bool{false, true} {
		t.Run(fmt.Sprint(coded), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				text := noise(60_000)
				list := w.parcels("fred", text, 4096, coded)
				rand.New(rand.NewPCG(1, 2)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				if coded {
					list = append(list[3:], list[:3]...) // three come when it is whole already
				}
				for i, p := range list {
					w.exit(p, p)
					if i%3 == 0 {
						w.restart()
					}
					w.run(0)
				}
				if got := w.out.got("fred@fred.com"); len(got) != 1 || strings.ReplaceAll(got[0], "\r\n", "\n") != strings.TrimSpace(text) {
					t.Fatalf("fred has %d mails", len(got))
				}
				w.empty()
				w.exit(list...)
				w.run(0)
				if len(w.out.got("fred@fred.com")) != 1 {
					t.Error("it came twice")
				}
				w.empty()
			})
		})
	}
}

// TestNotWhole: a letter that is not whole in time is given up to the second, and counted; one
// fragment less than needed is nothing.
func TestNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		list := w.parcels("fred", noise(20_000), 4096, false)
		w.exit(list[0])
		time.Sleep(24 * time.Hour)
		w.exit(list[1 : len(list)-1]...)
		w.restart()
		w.run(24*time.Hour - time.Second)
		if s := w.m.Status(); s.Fragments != len(list)-1 || s.Letters != 1 {
			t.Errorf("too early: %+v", s)
		}
		w.run(time.Second)
		w.empty()
		if w.c.Of("Dropped", "MBOX letter not whole") != 1 {
			t.Errorf("counted: %v", w.c)
		}
		w.exit(list[len(list)-1])
		w.run(0)
		if len(w.out.got("fred@fred.com")) != 0 {
			t.Error("it arrived all the same")
		}
	})
}

// TestTwoNames: fragments of one letter under two names are two letters, and a fragment that does not
// fit its letter is refused.
func TestTwoNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		list := w.parcels("fred", noise(9000), 4096, false)
		_, rest, err := content.ParseMbox(list[1].c.Body)
		if err != nil {
			t.Fatal(err)
		}
		toAnna, err := content.AppendMbox(nil, "anna", rest)
		if err != nil {
			t.Fatal(err)
		}
		w.exit(list[0], parcel{[16]byte{1}, packet.Content{Kind: content.Mbox, Body: toAnna}})
		if s := w.m.Status(); s.Letters != 2 {
			t.Errorf("%+v", s)
		}
		other := w.parcels("fred", noise(20_000), 4096, false)[1]
		body := bytes.Clone(other.c.Body)
		copy(body[2+4+4:], list[0].c.Body[2+4+4:][:16]) // the other letter's ID
		w.refused(parcel{[16]byte{2}, packet.Content{Kind: content.Mbox, Body: body}}, errs.Invalid)
		w.exit(list[1])
		w.run(0)
		if len(w.out.got("fred@fred.com")) != 1 || len(w.out.got("anna@anna.org")) != 0 {
			t.Errorf("%v", w.out.tries)
		}
	})
}

// TestRetry: a destination that does not take mail now is tried by the schedule, all of its mails at
// these times and none between, while others get theirs; when it takes one it gets all.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, err := retry.Parse("every 1 hour for 3 hours, 7 hours for 6 days")
		if err != nil {
			t.Fatal(err)
		}
		w.o.Config.Retry = s
		w.open()
		start := time.Now()
		busy := errs.E("test", errs.Busy, "", nil)
		var tries []time.Duration
		ready := false
		w.out.answer = func(to mail.Address, _ int) error {
			if to.Domain != "fred.com" || ready {
				return nil
			}
			tries = append(tries, time.Since(start))
			return busy
		}
		w.exit(w.one("fred", "first"), w.one("anna", "to anna"))
		w.run(30 * time.Minute)
		w.exit(w.one("fred", "second"))
		w.run(30*time.Minute - time.Second)
		if want := []time.Duration{0}; !slices.Equal(tries, want) || len(w.out.got("anna@anna.org")) != 1 {
			t.Errorf("tries at %v", tries)
		}
		w.run(17*time.Hour + time.Second)
		const h = time.Hour
		if want := []time.Duration{0, h, 2 * h, 3 * h, 10 * h, 17 * h}; !slices.Equal(tries, want) {
			t.Errorf("tries at %v, want %v", tries, want)
		}
		w.exit(w.one("fred", "third"))
		w.out.set(func() { ready = true })
		w.run(6*h - time.Second)
		if got := w.out.got("fred@fred.com"); len(got) != 0 {
			t.Errorf("sent between tries: %q", got)
		}
		w.run(time.Second)
		got := w.out.got("fred@fred.com")
		if slices.Sort(got); !slices.Equal(got, []string{"first", "second", "third"}) {
			t.Errorf("fred has %q", got)
		}
		if w.m.Status().Paused != 0 || w.c.Of("FailedDelivery", module) != 6 {
			t.Errorf("%+v, %v", w.m.Status(), w.c)
		}
		w.empty()
	})
}

// TestGivenUp: a mail that is older than the schedule is long is given up with the try that fails
// then; younger ones for the same destination are tried on.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.o.Config.Retry = retry.Every(time.Hour, 4*time.Hour)
		w.open()
		w.out.answer = func(mail.Address, int) error { return errs.E("test", errs.Busy, "", nil) }
		w.exit(w.one("fred", "old"))
		w.run(150 * time.Minute)
		w.exit(w.one("fred", "young"))
		w.run(89 * time.Minute)
		if n := w.m.Status().Waiting; n != 2 {
			t.Fatalf("%d wait", n)
		}
		w.run(2 * time.Minute)
		if n := w.m.Status().Waiting; n != 1 || w.c.Of("UnretriableDelivery", module) != 1 {
			t.Fatalf("%d wait, %v", n, w.c)
		}
		w.run(149 * time.Minute)
		if w.m.Status().Waiting != 1 {
			t.Error("the young one was given up too early")
		}
		w.run(time.Hour)
		w.empty()
		if len(w.out.taken) != 0 || w.c.Of("UnretriableDelivery", module) != 2 {
			t.Errorf("%v", w.c)
		}
		w.out.answer = func(mail.Address, int) error { return errs.E("test", errs.Denied, "", nil) }
		w.exit(w.one("fred", "refused"))
		w.run(0)
		w.empty()
	})
}

// TestWayDown: while the way out does not work one try is made after 1, 2, 4 … minutes, for all mails
// together, and everything goes when it works again.
func TestWayDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.o.Config.Retry = retry.Every(10*time.Minute, 24*time.Hour)
		w.open()
		w.out.down = errs.E("test", errs.Unavailable, "", nil)
		w.exit(w.one("fred", "one"), w.one("anna", "two"), w.one("fred", "three"))
		for _, c := range []struct {
			pass   time.Duration
			opened int
		}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}, {2 * time.Minute, 3}, {4 * time.Minute, 4}, {8 * time.Minute, 5}, {10 * time.Minute, 6}, {10 * time.Minute, 7}} {
			if w.run(c.pass); w.out.opened != c.opened {
				t.Errorf("after %v more: %d tries, want %d", c.pass, w.out.opened, c.opened)
			}
		}
		if !w.m.Status().Down || w.m.Status().Waiting != 3 {
			t.Errorf("%+v", w.m.Status())
		}
		w.out.down = nil
		w.run(10 * time.Minute)
		if len(w.out.taken) != 3 || w.m.Status().Down {
			t.Errorf("%d were sent, %+v", len(w.out.taken), w.m.Status())
		}
		// A session that breaks between two mails is replaced once, and no mail is lost.
		w.out.answer = func(_ mail.Address, n int) error {
			if n == 5 {
				return errs.E("test", errs.Unavailable, "", nil)
			}
			return nil
		}
		opened := w.out.opened
		w.exit(w.one("fred", "four"), w.one("fred", "five"))
		w.run(0)
		if len(w.out.taken) != 5 || w.out.opened != opened+2 {
			t.Errorf("%d were sent by %d sessions", len(w.out.taken), w.out.opened-opened)
		}
		w.empty()
	})
}

// TestPoison: a mail that breaks every connection keeps no other from being sent, whatever their
// order; it is its destination's failure and waits for the schedule.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var addresses strings.Builder
		for i := range 12 {
			fmt.Fprintf(&addresses, "box%d: box@host%02d.example\n", i, i)
		}
		var err error
		if w.o.Config.Addresses, err = ParseAddresses(strings.NewReader(addresses.String())); err != nil {
			t.Fatal(err)
		}
		w.o.Config.Retry = retry.Every(time.Hour, 24*time.Hour)
		w.open()
		w.out.answer = func(to mail.Address, _ int) error {
			if to.Domain < "host05.example" { // the first five in order
				return errs.E("test", errs.Unavailable, "", nil)
			}
			return nil
		}
		for i := range 12 {
			w.exit(w.one(fmt.Sprintf("box%d", i), "text"))
		}
		w.run(59 * time.Minute)
		if s := w.m.Status(); len(w.out.taken) != 7 || s.Waiting != 5 || s.Paused < 2 {
			t.Errorf("%d were sent, %+v", len(w.out.taken), s)
		}
		tries := len(w.out.tries)
		if tries > 12+20 {
			t.Errorf("%d tries in an hour", tries)
		}
		w.run(24 * time.Hour)
		w.empty()
		if a, n := w.c.Of("AttemptedDelivery", module), w.c.Of("SuccessfulDelivery", module)+w.c.Of("FailedDelivery", module); a != n {
			t.Errorf("%d attempts, %d ends: %v", a, n, w.c)
		}
	})
}

// TestCrashAtEverySync cuts the disk at each sync of a life of mails and fragments, before and
// after it, with what was not synced gone, there or torn, and starts again: what Exit took over arrives,
// whole; what was noted as sent is not sent again, also when the node puts everything again that it
// knows; only a mail that was being sent at that moment may arrive twice; nothing else does.
func TestCrashAtEverySync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		disk := w.disk()
		var all []parcel
		var acked []string            // bodies that must arrive
		possible := map[string]bool{} // bodies that may
		cuts, syncs := 0, int64(0)
		look := func(p vfs.SyncPoint) {
			syncs = p.N
			for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
				cuts++
				before := w.out.got("fred@fred.com")
				a := *w
				a.out, a.c = &outbox{}, &agenttest.Counter{}
				a.o.FS, a.o.Config.Sender = disk.Clone(mode, uint64(p.N)), a.out
				a.open()
				a.run(2 * time.Minute)
				a.exit(all...) // as the node does at its start with what it has
				a.run(2 * time.Minute)
				times := map[string]int{}
				for _, body := range append(before, a.out.got("fred@fred.com")...) {
					times[strings.ReplaceAll(body, "\r\n", "\n")]++
				}
				doubled := 0
				for body, n := range times {
					if !possible[body] {
						t.Errorf("sync %d %v %v: something else arrived: %.40q", p.N, p.After, mode, body)
					}
					doubled += n - 1
				}
				if doubled > 1 {
					t.Errorf("sync %d %v %v: %d mails arrived twice", p.N, p.After, mode, doubled)
				}
				for _, body := range acked {
					if times[body] == 0 {
						t.Errorf("sync %d %v %v: %.40q is lost", p.N, p.After, mode, body)
					}
				}
				if n := a.m.Status().Aside; n > 0 {
					t.Errorf("sync %d %v %v: %d files are aside", p.N, p.After, mode, n)
				}
				a.empty()
			}
		}
		w.o.FS = vfs.NewSyncPoints(disk, look)
		w.open()
		for i := range 3 {
			text := fmt.Sprintf("mail %d", i)
			p := w.one("fred", text)
			all, possible[text] = append(all, p), true
			w.exit(p)
			acked = append(acked, text)
			if i == 1 {
				w.run(20 * time.Hour) // the looks take their time
			}
		}
		text := strings.TrimSpace(noise(16_000))
		possible[text] = true
		list := w.parcels("fred", text, 4096, true)
		all = append(all, list...)
		w.exit(list...)
		acked = append(acked, text)
		w.run(20 * time.Hour)
		if syncs < 30 || len(w.out.taken) != 4 {
			t.Errorf("%d syncs, %d mails", syncs, len(w.out.taken))
		}
		t.Logf("%d cuts at %d syncs", cuts, syncs)
	})
}

// TestDamage: a mail, its metadata or a fragment that was changed on the disk is kept aside under its
// name and counted, also by the next start; the others arrive.
func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.exit(w.one("fred", "one"), w.one("fred", "two"), w.one("fred", "three"))
		frags := w.parcels("anna", noise(16_000), 4096, false)
		w.exit(frags[:2]...)
		flip := func(sub, name string) {
			t.Helper()
			b, err := vfs.ReadFile(w.o.FS, dir+"/"+sub+"/"+name)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := vfs.WriteFileAtomic(w.o.FS, dir+"/"+sub+"/"+name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		mails := w.files(mailDir, msg)
		flip(mailDir, mails[0])
		flip(mailDir, strings.Replace(mails[1], "msg", "meta", 1))
		flip(fragmentDir, w.files(fragmentDir, msg)[0])
		w.restart()
		w.run(0)
		if n := len(w.out.got("fred@fred.com")); n != 1 {
			t.Errorf("%d mails arrived", n)
		}
		if len(w.files(mailDir, crp)) != 2 || len(w.files(mailDir, crpm)) != 2 || len(w.files(fragmentDir, crp)) != 1 || w.m.Status().Aside != 3 {
			t.Errorf("aside: %v %v %v, %d", w.files(mailDir, crp), w.files(mailDir, crpm), w.files(fragmentDir, crp), w.m.Status().Aside)
		}
		w.restart()
		if n := w.m.Status().Aside; n != 5 {
			t.Errorf("after a restart %d files are aside", n)
		}
		// A fragment that is damaged while the exit runs: the letter waits for another copy.
		flip(fragmentDir, w.files(fragmentDir, msg)[0])
		w.exit(frags...)
		w.run(0)
		for i := range frags {
			frags[i].name[0]++
		}
		w.exit(frags...)
		w.run(0)
		if n := len(w.out.got("anna@anna.org")); n != 1 {
			t.Errorf("anna has %d mails", n)
		}
	})
}

// TestSecret: nothing that waits can be read on the disk, no text, name or address; under another
// secret nothing is opened, and nothing is harmed.
func TestSecret(t *testing.T) {
	w := newWorld(t)
	w.exit(w.one("fred", "Subject: CANARY-SUBJECT\n\nCANARY-BODY"))
	w.exit(w.parcels("fred", "CANARY-FRAGMENT "+noise(16_000), 4096, false)[0])
	for _, sub := range []string{mailDir, fragmentDir} {
		names, err := w.o.FS.List(dir + "/" + sub)
		if err != nil || len(names) < 2 {
			t.Fatalf("%v, %v", names, err)
		}
		for _, n := range names {
			b, err := vfs.ReadFile(w.o.FS, dir+"/"+sub+"/"+n)
			if err != nil {
				t.Fatal(err)
			}
			for _, canary := range []string{"CANARY", "fred", "mix.example"} {
				if bytes.Contains(b, []byte(canary)) || strings.Contains(n, canary) {
					t.Errorf("%s shows %q", n, canary)
				}
			}
		}
	}
	o := w.o
	o.Secret = bytes.Repeat([]byte{1}, 32)
	if _, err := Open(o); errs.KindOf(err) != errs.Denied {
		t.Errorf("another secret: %v", err)
	}
	w.open()
	if s := w.m.Status(); s.Waiting != 1 || s.Fragments != 1 || s.Aside != 0 {
		t.Errorf("after that: %+v", s)
	}
}

// TestBounds: beyond the bounds mail is put off, not lost; letters that are not whole make room for
// others, the one that waited longest first.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.o.MaxMails, w.o.MaxLetters = 2, 2
		w.open()
		w.exit(w.one("fred", "one"), w.one("fred", "two"))
		third := w.one("fred", "three")
		w.refused(third, errs.Busy)
		var letters [][]parcel
		for range 3 {
			list := w.parcels("anna", noise(16_000), 4096, false)
			letters = append(letters, list)
			w.exit(list[0])
			time.Sleep(time.Second)
			if len(letters) == 2 {
				w.exit(letters[0][1]) // the first one is the younger now
				time.Sleep(time.Second)
			}
		}
		if s := w.m.Status(); s.Letters != 2 || s.Fragments != 3 || w.c.Of("Dropped", "MBOX letter not whole") != 1 {
			t.Errorf("%+v, %v", s, w.c)
		}
		w.exit(letters[0][2:]...) // whole, and no room for the mail yet
		if s := w.m.Status(); s.Waiting != 2 || s.Letters != 2 {
			t.Errorf("%+v", s)
		}
		w.run(0)
		w.exit(third)
		w.run(2 * retryWhole)
		if len(w.out.got("fred@fred.com")) != 3 || len(w.out.got("anna@anna.org")) != 1 {
			t.Errorf("sent: %v", w.out.tries)
		}
		w.o.MaxBytes = 3000
		w.restart()
		w.refused(w.one("fred", noise(3000)), errs.Busy)
		w.refused(w.parcels("anna", noise(16_000), 4096, false)[0], errs.Busy)
	})
}

// TestNames: names of mails that are gone are kept for a day and longer, and, after a start, for an hour at
// least; no more than the bound.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.one("fred", "one")
		w.exit(p)
		w.run(71 * time.Hour)
		if n := len(w.files(mailDir, rmvm)); n != 1 || w.m.Status().Remembered != 1 {
			t.Errorf("%d names after 71 hours", n)
		}
		time.Sleep(1000 * time.Hour) // the node is down
		w.restart()
		w.run(0)
		w.exit(p)
		w.run(0)
		if len(w.out.taken) != 1 {
			t.Error("it was sent again after a long time")
		}
		w.run(72 * time.Hour)
		if n := len(w.files(mailDir, rmvm)); n != 0 || w.m.Status().Remembered != 0 {
			t.Errorf("%d names three days later", n)
		}
		w.o.MaxDone = 3
		w.restart()
		for i := range 10 {
			w.exit(w.one("fred", fmt.Sprint(i)))
			w.run(time.Second)
		}
		if n := len(w.files(mailDir, rmvm)); n != 3 {
			t.Errorf("%d names, the bound is 3", n)
		}
	})
}

// TestReload: what waits is sent by the new configuration; a wrong one changes nothing.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.out.down = errs.E("test", errs.Unavailable, "", nil)
		w.exit(w.one("fred", "one"))
		w.run(0)
		other := &outbox{}
		c := w.o.Config
		c.Sender = other
		a, err := ParseAddresses(strings.NewReader("new: new@new.org"))
		if err != nil {
			t.Fatal(err)
		}
		c.Addresses = a
		if err := w.m.Reload(Config{}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("no configuration: %v", err)
		}
		if err := w.m.Reload(c); err != nil {
			t.Fatal(err)
		}
		w.refused(w.one("fred", "two"), errs.NotFound)
		w.exit(w.one("new", "three"))
		w.run(time.Minute)
		if len(other.got("fred@fred.com")) != 1 || len(other.got("new@new.org")) != 1 {
			t.Errorf("sent: %v", other.tries)
		}
	})
}

// TestDisk: a full disk puts off; a mail that was sent and cannot be removed is removed later and not
// sent again.
func TestDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		faults := vfs.NewFaults(w.disk())
		w.o.FS = faults
		w.open()
		faults.SetSpace(0)
		w.refused(w.one("fred", "one"), errs.NoSpace)
		w.refused(w.parcels("fred", noise(16_000), 4096, false)[0], errs.NoSpace)
		faults.SetSpace(-1)
		w.exit(w.one("fred", "two"))
		faults.SetReadOnly(true)
		w.run(0)
		w.run(10 * time.Minute)
		if len(w.out.taken) != 1 {
			t.Fatalf("sent %d times", len(w.out.taken))
		}
		if n := len(w.files(mailDir, msg)); n != 1 {
			t.Errorf("%d files", n)
		}
		faults.SetReadOnly(false)
		w.run(2 * time.Minute)
		w.empty()
		if len(w.files(mailDir, rmvm)) != 1 || len(w.out.taken) != 1 {
			t.Error("the name is not kept")
		}
	})
}

// TestConfig: defaults, bounds, and what a descriptor says of them.
func TestConfig(t *testing.T) {
	w := newWorld(t)
	c := w.m.c.Load()
	if c.MaxSize != 100<<10 || c.Fragments.MaxSize != 100<<10 || c.Fragments.MaxInterval != 48*time.Hour || c.Retry.Attempts() != 21 || c.Retry.Shortest() != 7*time.Hour {
		t.Errorf("defaults: %+v", c)
	}
	if got := w.o.Config.Advertise(); !slices.Equal(got, []Parameter{{"fragmented-maximum-kb", 100}, {"mbox-from", 0}, {"mbox-maximum-kb", 100}}) {
		t.Errorf("advertised: %v", got)
	}
	up := w.o.Config
	up.MaxSize, up.Form.AllowFrom, up.Fragments.Enabled = 33<<10+1, true, false
	if got := up.Advertise(); !slices.Equal(got, []Parameter{{"mbox-from", 1}, {"mbox-maximum-kb", 34}}) || (Config{}).Advertise() != nil {
		t.Errorf("advertised: %v", got)
	}
	zero, err := retry.Parse("0 s")
	if err != nil {
		t.Fatal(err)
	}
	for text, change := range map[string]func(*Config){
		"invalid": func(c *Config) { c.Sender = nil },
		"a mail from the mix network has 33554432 bytes at most": func(c *Config) { c.MaxSize = letter.MaxContent + 1 },
		"size or time of fragmented mails is out of bounds":      func(c *Config) { c.Fragments.MaxInterval = -1 },
		"a retry schedule for mail pauses for a second at least": func(c *Config) { c.Retry = zero },
		"ReturnAddress is missing":                               func(c *Config) { c.Form.ReturnAddress = mail.Address{} },
	} {
		c := w.o.Config
		change(&c)
		if err := w.m.Reload(c); errs.KindOf(err) != errs.Invalid || errs.Public(err) != text {
			t.Errorf("%v, want %s", err, text)
		}
	}
	for _, o := range []Options{{}, {FS: w.o.FS, Dir: dir, Secret: make([]byte, 31)}} {
		if _, err := Open(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%v", err)
		}
	}
}

// FuzzMeta: what parses is written the same.
func FuzzMeta(f *testing.F) {
	f.Add(appendMeta(nil, began, fred))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		since, to, err := parseMeta(b)
		if err == nil && !bytes.Equal(appendMeta(nil, since, to), b) {
			t.Errorf("%x became %x", b, appendMeta(nil, since, to))
		}
	})
}

// FuzzExit: whatever comes in a packet is taken or refused for good, and never fatal.
func FuzzExit(f *testing.F) {
	w := newWorld(f)
	f.Add(w.one("fred", "Text").c.Body)
	for _, p := range w.parcels("fred", noise(3000), 2048, false) {
		f.Add(p.c.Body)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := newWorld(t)
		err := w.m.Exit(t.Context(), [16]byte{1}, packet.Content{Kind: content.Mbox, Body: body})
		if err != nil && errs.KindOf(err).Temporary() {
			t.Errorf("put off: %v", err)
		}
		if s := w.m.Status(); err != nil && (s.Waiting != 0 || s.Fragments != 0) {
			t.Errorf("%v, and kept: %+v", err, s)
		}
		if errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
