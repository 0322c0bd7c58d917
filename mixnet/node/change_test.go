package node

import (
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
)

// TestConsensusMovesMix: a mix that gets another layer serves it as soon as the next consensus
// is known, and the old one for an epoch more; packets that were under way arrive.
func TestConsensusMovesMix(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		// Two mixes share a layer; one that is alone in another goes.
		size := map[int][]*member{}
		for i := range w.last.Nodes {
			if e := &w.last.Nodes[i]; e.Layer > 0 {
				size[e.Layer] = append(size[e.Layer], w.members[e.Nickname])
			}
		}
		var from, to int
		for l, ms := range size {
			if len(ms) == 2 {
				from = l
			} else {
				to = l
			}
		}
		gone := size[to][0]
		pick := func(l int) *member {
			for i := range w.last.Nodes {
				if e := &w.last.Nodes[i]; e.Layer == l {
					return w.members[e.Nickname]
				}
			}
			return nil
		}
		route := func(middle ...*member) packet.Route {
			r := packet.Route{Hops: []packet.Hop{relay0.hop(time.Second)}}
			for _, m := range middle {
				r.Hops = append(r.Hops, m.hop(time.Second))
			}
			r.Hops = append(r.Hops, relay1.hop(0))
			return r
		}
		letter := func(text string, r packet.Route) []byte {
			return w.build(r, packet.Dest{Command: packet.Deliver}, packet.Content{Kind: content.Plain, Body: []byte(text)})
		}
		// One packet over each of the two, which will be on its way when the epoch changes.
		for i, m := range size[from] {
			middle := []*member{pick(1), pick(2), pick(3)}
			middle[from-1] = m
			r := route(middle...)
			for h := range 4 {
				r.Hops[h].Delay = 15 * time.Minute
			}
			alice.send(t, letter([]string{"a", "b"}[i], r))
		}
		epoch := w.net.Epoch(time.Now())
		wait(time.Until(w.net.Published(epoch + 1).Add(time.Minute)))
		var rest []string
		for _, name := range w.names {
			if name != gone.name {
				rest = append(rest, name)
			}
		}
		old := w.last
		w.agree(epoch+1, rest...)
		w.give()
		wait(5 * time.Minute) // every node looks by itself
		var moved *member
		for _, m := range size[from] {
			if m.entry().Layer == to {
				moved = m
			}
		}
		if moved == nil {
			t.Error("nobody moved")
			return
		}
		serves := func(when string, layers ...int) {
			t.Helper()
			got := moved.Status().Layers
			if len(got) != len(layers) {
				t.Errorf("%s it serves %v", when, got)
				return
			}
			for _, l := range layers {
				if !moved.view.Load().own.has(l) {
					t.Errorf("%s it serves %v", when, got)
				}
			}
		}
		serves("when the next consensus is known", from, to)
		wait(time.Until(w.net.Begin(epoch + 1).Add(time.Minute)))
		serves("in the new epoch", from, to)
		alice.send(t, letter("new", route(pick(1), pick(2), pick(3))))
		wait(40 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["a"] != 1 || got["b"] != 1 || got["new"] != 1 {
			t.Errorf("%v", got)
		}
		wait(time.Until(w.net.Begin(epoch + 2).Add(-10 * time.Minute)))
		w.agree(epoch+2, rest...)
		w.give()
		wait(time.Until(w.net.Begin(epoch + 2).Add(time.Minute)))
		serves("an epoch later", to)
		// A packet for the old layer is dropped now.
		before := moved.stats.get("Dropped layer")
		e := old.Find(moved.ID())
		u := w.build(packet.Route{First: from, Hops: []packet.Hop{{Node: e.ID, Key: moved.hop(0).Key}}}, packet.Dest{Command: packet.Drop}, packet.Content{})
		if why := moved.judge(u, relay0.view.Load().nodes[moved.ID()].peer, new(outcome)); why != whyLayer {
			t.Errorf("%q, %d", why, before)
		}
		// The node that is gone has no line any more.
		for _, p := range relay0.Status().Peers {
			if p.ID == gone.ID() {
				t.Errorf("%+v", p)
			}
		}
	}, func(w *world) { w.add("mix3", directory.Mix) })
}

// TestEpochWithoutConsensus: where an epoch had no consensus, the one before it counts as the
// previous one while it is still valid.
func TestEpochWithoutConsensus(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *client) {
		relay := w.members["relay0"]
		first := w.last.Epoch
		for i, tc := range []struct{ skip, previous uint64 }{{2, 2}, {1, 1}, {3, 0}} {
			epoch := w.last.Epoch + tc.skip
			wait(time.Until(w.net.Begin(epoch).Add(-time.Minute)))
			w.agree(epoch)
			w.give()
			wait(5 * time.Minute)
			v := relay.view.Load()
			got := uint64(0)
			if v.previous != nil {
				got = v.current.Epoch - v.previous.Epoch
			}
			if v.current.Epoch != epoch || got != tc.previous {
				t.Errorf("%d: epoch %d, %d behind it", i, v.current.Epoch-first, got)
			}
		}
	})
}

// sixHours is a short schedule.
func sixHours(t testing.TB) retry.Schedule {
	t.Helper()
	s, err := retry.Parse("every 1 h for 6 h")
	must(t, err)
	return s
}

// TestPeerComesBack: packets for a node that cannot be reached wait, and leave together when
// it can be; what waits takes no memory.
func TestPeerComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		mix := w.layer(1)
		mix.crash(0, 1)
		for _, text := range []string{"a", "b", "c"} {
			alice.send(t, w.letter(relay0, relay1, packet.ID{}, text))
			wait(10 * time.Minute)
		}
		if p := peer(relay0, mix); p.Connected || p.Waiting != 3 || p.Err == nil {
			t.Errorf("%+v", p)
		}
		if s := relay0.Status().Pool; s.Memory != 0 || s.Leaving != 3 {
			t.Errorf("%+v", s)
		}
		mix.start()
		wait(20 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["a"] != 1 || got["b"] != 1 || got["c"] != 1 {
			t.Errorf("%v", got)
		}
		if at := relay1.boxes.times(); at[2].Sub(at[0]) > 5*time.Second {
			t.Errorf("they came within %v", at[2].Sub(at[0]))
		}
		if s := relay0.Status(); s.Log.Waiting != 0 || !peer(relay0, mix).Connected || peer(relay0, mix).Waiting != 0 {
			t.Errorf("%+v", s)
		}
		if relay0.stats.get("FailedConnect "+mix.name) == 0 || relay0.stats.get("SuccessfulConnect "+mix.name) < 2 {
			t.Errorf("%v", relay0.stats.m)
		}
	}, func(w *world) { w.members["relay0"].tune = func(o *Options) { o.Retry = sixHours(w.t) } })
}

func peer(m, other *member) Peer {
	for _, p := range m.Status().Peers {
		if p.ID == other.keys.Identity().Public().ID() {
			return p
		}
	}
	return Peer{}
}

// TestPeerGone: packets for a node that has left the network wait until the schedule is over,
// and are dropped and counted then, each by its own time of waiting.
func TestPeerGone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		mix := w.layer(1)
		gone := mix.ID()
		mix.crash(0, 1)
		alice.send(t, w.letter(relay0, relay1, packet.ID{}, "a"))
		epoch := w.net.Epoch(time.Now())
		var rest []string
		for _, name := range w.names {
			if name != mix.name {
				rest = append(rest, name)
			}
		}
		late := w.letter(relay0, relay1, packet.ID{}, "b") // by the old directory
		for i := range uint64(9) {
			if i == 1 {
				alice.send(t, late) // it was in the one before
			}
			wait(time.Until(w.net.Begin(epoch + i + 1).Add(time.Minute)))
			w.agree(epoch+i+1, rest...)
			w.give()
			hours := int(i) + 1
			left := 2
			switch n := relay0.Status().Log.Waiting; {
			case hours == 1:
				left = 1
			case hours >= 7:
				left = -1
			case hours == 6:
				left = n // the first one's six hours end about now
			}
			if n := relay0.Status().Log.Waiting; left >= 0 && n != left {
				t.Errorf("after %d hours %d packets wait", hours, n)
			}
		}
		wait(time.Hour)
		if s := relay0.Status(); s.Log.Waiting != 0 || s.Pool.Dropped != 2 || relay0.stats.get("UnretriableRelay (unlisted)") != 2 {
			t.Errorf("%+v, %v", s, relay0.stats.m)
		}
		wait(time.Hour)
		for _, p := range relay0.Status().Peers {
			if p.ID == gone {
				t.Errorf("it is still there: %+v", p)
			}
		}
	}, func(w *world) { w.members["relay0"].tune = func(o *Options) { o.Retry = sixHours(w.t) } })
}

// TestReload: another rule of the pool, another schedule and other bounds take effect without
// a connection being lost or a packet; what cannot be is refused and changes nothing.
func TestReload(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		mix := w.layer(2)
		r := w.route(relay0, relay1, time.Second)
		r.Hops[2].Delay = 50 * time.Minute
		alice.send(t, w.build(r, packet.Dest{Command: packet.Deliver}, packet.Content{Kind: content.Plain, Body: []byte("x")}))
		wait(time.Minute)
		since := peer(mix, w.layer(3)).Since
		s := *mix.settings()
		s.Mixing = pool.Config{Algorithm: pool.Timed, Interval: 10 * time.Minute}
		s.Retry = sixHours(t)
		s.Bandwidth, s.Conns = Bandwidth{Rate: 1 << 20}, 1
		must(t, mix.Reload(s))
		late := w.neighbourOf(w.members["relay1"], mix)
		wait(5 * time.Second)
		if late.line.Status().Connected {
			t.Error("more connections than are allowed")
		}
		s.Conns = 0
		must(t, mix.Reload(s))
		wait(time.Minute)
		if !late.line.Status().Connected {
			t.Errorf("%+v", late.line.Status())
		}
		late.end()
		if mix.Status().Pool.Held != 1 {
			t.Errorf("%+v", mix.Status().Pool)
		}
		wait(11 * time.Minute)
		if got := texts(t, relay1.boxes.list()); got["x"] != 1 {
			t.Errorf("a round has let out %v", got)
		}
		if p := peer(mix, w.layer(3)); !p.Connected || p.Since != since {
			t.Errorf("%+v", p)
		}
		if d := mix.Descriptor(); d.Mixing != directory.Timed || d.Residence != 5*time.Minute {
			t.Errorf("the descriptor says %s, %v", d.Mixing, d.Residence)
		}
		bad := s
		bad.Mixing.Interval = -1
		wantKind(t, "a wrong interval", mix.Reload(bad), errs.Invalid)
		bad = s
		bad.About.Mode = directory.Relay
		wantKind(t, "another mode", mix.Reload(bad), errs.Invalid)
		bad = *relay0.settings()
		bad.Mixing = s.Mixing
		wantKind(t, "a relay with rounds", relay0.Reload(bad), errs.Invalid)
		if mix.settings().Mixing != s.Mixing || relay0.settings().Mixing.Algorithm != pool.Poisson {
			t.Error("something was changed")
		}
		s.About.Addresses = []string{"elsewhere:2"}
		must(t, mix.Reload(s))
		synctest.Wait()
		if d := mix.Descriptor(); d.Addresses[0] != "elsewhere:2" {
			t.Errorf("the descriptor says %v", d.Addresses)
		}
	})
}

// TestMixingInDescriptor: what senders reckon with is the mean time in the pool.
func TestMixingInDescriptor(t *testing.T) {
	for _, tc := range []struct {
		c    pool.Config
		name directory.Mixing
		stay time.Duration
	}{
		{pool.Default(pool.Poisson), directory.Poisson, 0},
		{pool.Default(pool.Timed), directory.Timed, 15 * time.Minute},
		{pool.Default(pool.DynamicPool), directory.DynamicPool, 35 * time.Minute},
		{pool.Config{Algorithm: pool.BinomialDynamicPool, Interval: time.Hour, Rate: 5000}, directory.BinomialDynamic, 90 * time.Minute},
		{pool.Config{Algorithm: pool.DynamicPool, Interval: 24 * time.Hour, Rate: 1}, directory.DynamicPool, directory.MaxResidence},
		{pool.Config{Algorithm: pool.Timed, Interval: time.Nanosecond}, directory.Timed, time.Millisecond},
	} {
		if name, stay := mixing(tc.c); name != tc.name || stay != tc.stay {
			t.Errorf("%+v: %s, %v", tc.c, name, stay)
		}
	}
}

// TestFromDisk: a node that has no room for packets in memory reads them back when they leave.
func TestFromDisk(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		for i := range 20 {
			must(t, alice.line.Post(w.letter(relay0, relay1, packet.ID{}, string(rune('a'+i))), func(error) {}))
		}
		wait(30 * time.Minute)
		if got := texts(t, relay1.boxes.list()); len(got) != 20 {
			t.Errorf("%v", got)
		}
		if s := w.layer(2).Status(); s.Pool.Reread != 20 || s.Pool.Memory != 0 || s.Log.Waiting != 0 || w.layer(2).reread.Used() != 0 {
			t.Errorf("%+v", s)
		}
	}, func(w *world) {
		for _, m := range w.members {
			m.tune = func(o *Options) { o.Pool.Memory = 1 }
		}
	})
}
