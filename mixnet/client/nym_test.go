package client

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// stockist is a relay that takes reply blocks.
type stockist struct {
	t      *testing.T
	relay  packet.ID
	serial uint64
	got    []*content.Feed
	status uint8
	fail   error
}

func (k *stockist) ask(_ context.Context, relay packet.ID, service uint8, request []byte) (uint8, []byte, error) {
	if k.fail != nil || k.status != content.AnswerOK {
		return k.status, nil, k.fail
	}
	f, err := content.ParseFeed(k.relay, request)
	if err != nil || service != content.ServiceReply || relay != k.relay || f.Serial <= k.serial {
		k.t.Errorf("%v, service %d, serial %d", err, service, f.Serial)
	}
	k.serial = f.Serial
	k.got = append(k.got, f)
	n := 0
	for _, f := range k.got {
		n += len(f.Blocks)
	}
	return content.AnswerOK, content.AppendStock(nil, uint16(n), 1<<39), nil
}

// nyms are a user's, at a relay that takes blocks.
func nyms(t *testing.T) (*Nyms, *stockist, *time.Time) {
	t.Helper()
	c, now := usual(t, 1), begin
	home := Home{FindNode(c, "relay0"), packet.ID{5}}
	k := &stockist{t: t, relay: home.Relay.ID}
	s := openTest(t, crvfs.NewMem(), StoreLimits{}, func() time.Time { return now })
	return NewNyms(NymOptions{Store: s, Ask: k.ask, Consensus: func() (*directory.Consensus, error) { return c, nil },
		Home: func(*directory.Consensus) (Home, error) { return home, nil }, Choose: rng(1), Now: func() time.Time { return now }, Rand: rngReader{rng(2)}}), k, &now
}

// TestNymFeed: a feed is one set of a fixed number of blocks, whatever was used, under serials that
// rise; each block is known to the client, which can open an answer by it; the address lives as long as
// the blocks, whatever the relay says.
func TestNymFeed(t *testing.T) {
	y, k, _ := nyms(t)
	n, err := y.Get("fox")
	must(t, err)
	if n.Alive(begin) || len(n.Name()) != content.ReplyNameLen {
		t.Errorf("%+v", n)
	}
	for range 2 {
		k.got = nil
		n, err = y.Feed(t.Context(), "fox", nil)
		must(t, err)
		if n.Blocks != DailyBlocks || !n.Until.Equal(hour(begin).Add(BlockLife)) || !n.Alive(begin.Add(47*time.Hour)) || n.Alive(begin.Add(48*time.Hour)) || len(k.got) != DailyBlocks/content.MaxFeed {
			t.Errorf("%+v in %d questions", n, len(k.got))
		}
	}
	made, err := y.o.Store.Blocks()
	must(t, err)
	if len(made) != 2*DailyBlocks {
		t.Fatalf("%d blocks are known", len(made))
	}
	for _, f := range k.got {
		for _, b := range f.Blocks {
			name, found := b.Name(), false
			for _, m := range made {
				if bytes.Equal(m.Name, name[:]) {
					key, err := letter.ReplyKey((*packet.Seed)(m.Seed), f.Hint)
					must(t, err)
					found = m.Hint == f.Hint && bytes.Equal(key.Public().Bytes(), f.Key[:])
				}
			}
			if !found || content.ReplyName(f.Owner) != n.Name() {
				t.Fatal("a block that the client could not read an answer by")
			}
		}
	}
}

// TestNymClock: an address is fed at once, then once a day at a minute of its own; a day that was missed
// is made up for at once.
func TestNymClock(t *testing.T) {
	y, _, now := nyms(t)
	n, err := y.Get("fox")
	must(t, err)
	if again, err := y.Get("fox"); err != nil || again.Name() != n.Name() || again.Minute != n.Minute {
		t.Errorf("%+v %v", again, err)
	}
	other, err := y.Get("owl")
	must(t, err)
	if other.Name() == n.Name() || n.Minute < 0 || n.Minute >= 24*60 {
		t.Errorf("%+v", n)
	}
	due := func() string {
		t.Helper()
		list, err := y.List()
		must(t, err)
		var l []string
		for i := range list {
			if !now.Before(list[i].Next()) {
				l = append(l, list[i].Label)
			}
		}
		return strings.Join(l, " ")
	}
	if got := due(); got != "fox owl" {
		t.Error(got)
	}
	n, err = y.Feed(t.Context(), "fox", nil)
	must(t, err)
	at := n.Next()
	if u := at.Sub(*now); u <= 0 || u > 24*time.Hour || at.UTC().Hour()*60+at.UTC().Minute() != n.Minute {
		t.Errorf("next at %v", at)
	}
	for _, c := range []struct {
		at   time.Time
		want string
	}{{at.Add(-time.Second), "owl"}, {at, "fox owl"}, {at.Add(70 * time.Hour), "fox owl"}} {
		if *now = c.at; due() != c.want {
			t.Errorf("at %v: %s", c.at, due())
		}
	}
	n.Fed = *now // late
	if !n.Next().Equal(at.Add(72 * time.Hour)) {
		t.Errorf("%v, want the minute of every day", n.Next())
	}
}

// TestNymRefused: what stands in the way is said, and the address is as it was.
func TestNymRefused(t *testing.T) {
	y, k, _ := nyms(t)
	_, err := y.Feed(t.Context(), "fox", nil)
	wantKind(t, err, errs.NotFound, "")
	_, err = y.Get(strings.Repeat("f", maxLabel+1))
	wantKind(t, err, errs.Invalid, "")
	_, err = y.Get("fox")
	must(t, err)
	for status, want := range map[uint8]errs.Kind{content.AnswerLater: errs.Busy, content.AnswerRefused: errs.Unsupported, content.AnswerUnknown: errs.Unsupported} {
		k.status = status
		_, err = y.Feed(t.Context(), "fox", nil)
		wantKind(t, err, want, "")
	}
	k.status, k.fail = content.AnswerOK, errs.E("test", errs.Unavailable, "no answer", nil)
	_, err = y.Feed(t.Context(), "fox", nil)
	wantKind(t, err, errs.Unavailable, "")
	if list, err := y.List(); err != nil || len(list) != 1 || !list[0].Fed.IsZero() || list[0].Serial != 4*DailyBlocks/content.MaxFeed {
		t.Errorf("%+v %v", list, err)
	}
	for i := range MaxNyms - 1 {
		_, err := y.Get(string(rune('a' + i)))
		must(t, err)
	}
	_, err = y.Get("one more")
	wantKind(t, err, errs.Full, "")
}

// TestNymCrash cuts the disk at each sync of an address's life: an address that was told to anybody is
// there, no block that the relay has got is unknown, and the next feed has a serial that the relay takes.
func TestNymCrash(t *testing.T) {
	cons := usual(t, 1)
	home := Home{FindNode(cons, "relay0"), packet.ID{5}}
	open := func(fs vfs.FS, k *stockist) *Nyms {
		return NewNyms(NymOptions{Store: openTest(t, fs, StoreLimits{}, atBegin), Ask: k.ask, Consensus: func() (*directory.Consensus, error) { return cons, nil },
			Home: func(*directory.Consensus) (Home, error) { return home, nil }, Choose: rng(1), Now: atBegin, Rand: rngReader{rng(2)}})
	}
	try := func(n int64, after bool, u vfs.Unsynced) bool {
		k := &stockist{t: t, relay: home.Relay.ID}
		told, forgot, gotTold, gotForgot, got := "", false, "", false, 0
		cut := vfs.CutAt(vfs.NewCrashDisk(), n, after, u, uint64(n), func() { gotTold, gotForgot, got = told, forgot, len(k.got) })
		y := open(cut.FS, k)
		owl, err := y.Get("owl")
		must(t, err)
		a, err := y.Get("fox")
		must(t, err)
		told = a.Name()
		_, err = y.Feed(t.Context(), "fox", nil)
		must(t, err)
		must(t, y.Forget("owl"))
		forgot = true
		disk := cut.Disk()
		if disk == nil {
			return false
		}
		k.got = k.got[:got] // the rest never was
		k.serial = 0
		for _, f := range k.got {
			k.serial = max(k.serial, f.Serial)
		}
		next := open(disk, k)
		list, err := next.List()
		must(t, err)
		names := map[string]bool{}
		for i := range list {
			names[list[i].Name()] = true
		}
		if gotTold != "" && !names[gotTold] || gotForgot && names[owl.Name()] {
			t.Errorf("sync %d, after %v, %v: %+v", n, after, u, list)
		}
		made, err := next.o.Store.Blocks()
		must(t, err)
		known := map[string]bool{}
		for _, b := range made {
			known[string(b.Name)] = true
		}
		for _, f := range k.got {
			for _, b := range f.Blocks {
				if name := b.Name(); !known[string(name[:])] {
					t.Errorf("sync %d, after %v, %v: a block was given away that nobody could open an answer by", n, after, u)
				}
			}
		}
		if gotTold != "" { // the relay of the test refuses a serial that is not above the last
			fed, err := next.Feed(t.Context(), "fox", nil)
			must(t, err)
			left, err := next.Left()
			must(t, err)
			if n := left[fed.Name()]; n < DailyBlocks || n > fed.Blocks {
				t.Errorf("%d blocks are left of %d", n, fed.Blocks)
			}
		}
		return !t.Failed()
	}
	every := int64(5) // blocks are costly to make
	if racetest.Enabled {
		every = 29
	}
	if cuts := disktest.Cuts(every, try); cuts < 20 && !t.Failed() {
		t.Errorf("only %d moments", cuts)
	}
}

// TestNymThread: for which address a mail came is known by its Message-ID, for a time, and up to a bound.
func TestNymThread(t *testing.T) {
	y, _, now := nyms(t)
	of := func(id string) string {
		t.Helper()
		labels, err := y.Thread(id)
		must(t, err)
		return strings.Join(labels, " ")
	}
	must(t, y.Came("fox", ""))
	must(t, y.Came("fox", "<a@x>"))
	must(t, y.Came("fox", "<a@x>"))
	must(t, y.Came("owl", "<a@x>"))
	*now = now.Add(time.Hour)
	must(t, y.Came("owl", "<b@x>"))
	if of("<a@x>") != "fox owl" || of("<b@x>") != "owl" || of("<c@x>") != "" || of("") != "" {
		t.Error(of("<a@x>"), of("<b@x>"), of("<c@x>"))
	}
	*now = begin.Add(ThreadTime)
	if of("<a@x>") != "" || of("<b@x>") != "owl" {
		t.Error(of("<a@x>"), of("<b@x>"))
	}
	list := make([]nymThread, MaxThreads)
	for i := range list {
		list[i] = nymThread{[]byte{byte(i), byte(i >> 8)}, "fox", *now}
	}
	must(t, y.o.Store.saveJSON(threadsFile, list))
	must(t, y.Came("owl", "<d@x>"))
	if got, err := y.threads(); err != nil || len(got) != MaxThreads || of("<d@x>") != "owl" {
		t.Errorf("%d %v", len(got), err)
	}
}

// TestNymLeft: what the relay can still use is what it said it has, without what was answered since and what
// is in its last hour.
func TestNymLeft(t *testing.T) {
	y, _, now := nyms(t)
	n, err := y.Get("fox")
	must(t, err)
	left := func() int {
		t.Helper()
		m, err := y.Left()
		must(t, err)
		return m[n.Name()]
	}
	if left() != 0 {
		t.Error(left())
	}
	parts := 0
	n, err = y.Feed(t.Context(), "fox", func() {
		if parts++; left() != parts*content.MaxFeed {
			t.Errorf("%d blocks after %d questions", left(), parts)
		}
	})
	must(t, err)
	answer := func(k int) {
		t.Helper()
		made, err := y.o.Store.made()
		must(t, err)
		answered, err := y.o.Store.answered()
		must(t, err)
		for _, b := range made {
			if _, ok := answered[b.Mark]; !ok && k > 0 {
				answered[b.Mark] = b.Expires
				k--
			}
		}
		must(t, y.o.Store.saveAnswered(answered))
	}
	answer(3)
	if left() != DailyBlocks-3 {
		t.Error(left())
	}
	_, err = y.Feed(t.Context(), "fox", nil) // the relay of the test says 64, as if nothing had been used
	must(t, err)
	answer(2)
	if left() != 2*DailyBlocks-5 {
		t.Error(left())
	}
	*now = hour(begin).Add(BlockLife - leastLife - time.Second)
	if left() == 0 {
		t.Error("too early")
	}
	*now = now.Add(time.Second)
	if left() != 0 {
		t.Error(left())
	}
	must(t, y.Forget("fox"))
	if m, err := y.Left(); err != nil || len(m) != 0 {
		t.Errorf("%v %v", m, err)
	}
	wantKind(t, y.Forget("fox"), errs.NotFound, "there is no such reply address")
	if again, err := y.Get("fox"); err != nil || again.Name() == n.Name() {
		t.Errorf("a name that was given up has its old address: %v", err)
	}
}
