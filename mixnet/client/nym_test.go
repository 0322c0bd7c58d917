package client

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
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
