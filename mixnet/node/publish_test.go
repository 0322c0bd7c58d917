package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
)

// authorityHost plays the authority of a world: it keeps what it is told.
type authorityHost struct {
	mu          sync.Mutex
	descriptors []*directory.Descriptor
	stats       []*directory.Stats
	refuse      error // the verdict; nil: accepted
	held        bool
	bad         []error
	w           *world
	end         func()
}

func (a *authorityHost) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Later() }

func (a *authorityHost) documents(_ context.Context, _ link.Peer, request []byte) ([]byte, error) {
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.Kind {
	case directory.RequestPublish:
		d, err := directory.ParseDescriptor(r.Document)
		if err == nil {
			err = d.Fresh(a.w.net, time.Now())
		}
		if err != nil {
			a.bad = append(a.bad, err)
			return directory.FormatVerdict(false, err), nil
		}
		if a.refuse == nil {
			a.descriptors = append(a.descriptors, d)
		}
		return directory.FormatVerdict(a.held, a.refuse), nil
	case directory.RequestStats:
		s, err := directory.ParseStats(a.w.net.Name(), a.identity, r.Document)
		if err != nil {
			a.bad = append(a.bad, err)
			return directory.FormatVerdict(false, err), nil
		}
		a.stats = append(a.stats, s)
		return directory.FormatVerdict(false, nil), nil
	}
	return nil, errs.NotFound
}

func (a *authorityHost) identity(id packet.ID) *directory.PublicKey {
	for _, m := range a.w.members {
		if k := m.keys.Identity().Public(); k.ID() == id {
			return k
		}
	}
	return nil
}

// authority starts the authority's end of the links.
func (w *world) authority() *authorityHost {
	w.t.Helper()
	a := &authorityHost{w: w}
	l, err := link.New(link.Options{Key: linkKey("authority"), Handler: a, Documents: a.documents,
		Who: func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Mix}, true }})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ln := w.wires.listen("authority")
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, ln) }()
	a.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return a
}

func (a *authorityHost) of(m *member) (list []*directory.Descriptor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := m.keys.Identity().Public().ID()
	for _, d := range a.descriptors {
		if d.ID() == id {
			list = append(list, d)
		}
	}
	return list
}

func (a *authorityHost) say(held bool, refuse error) {
	a.mu.Lock()
	a.held, a.refuse = held, refuse
	a.mu.Unlock()
}

func publishing(o *Options) { o.Publish = true }

// TestPublish: a node gives its descriptor to the authorities at the start, again long before it
// is too old, when its keys or its addresses change, and when it is told to; and it says what
// they answered.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour)
		m := w.add("mix0", directory.Mix, publishing)
		quiet := w.add("mix1", directory.Mix)
		w.add("mix2", directory.Mix)
		a := w.authority()
		a.say(true, nil)
		w.startAll()
		if got := a.of(m); len(got) != 1 || len(got[0].Keys) == 0 || got[0].Nickname != "mix0" || got[0].LinkKey != directory.Hash(m.Link().Key()) {
			t.Fatalf("%d descriptors", len(got))
		}
		if v := m.Status().Verdicts; len(v) != 1 || !v[0].Held || v[0].Err != nil || v[0].At.IsZero() {
			t.Errorf("%+v", v)
		}
		a.say(false, nil)
		must(t, m.Republish(t.Context()))
		if v := m.Status().Verdicts; len(a.of(m)) != 2 || len(v) != 1 || v[0].Held || v[0].Err != nil {
			t.Errorf("%+v", v)
		}
		// Three days, in which new keys begin.
		for range 3 * 24 {
			wait(time.Hour)
			got := a.of(m)
			last := got[len(got)-1]
			if age := time.Since(last.Published); age > w.net.MaxAge()/2+time.Minute {
				t.Errorf("the newest descriptor is %v old", age)
			}
			if last.Key(time.Now()) == nil || last.Key(time.Now().Add(20*time.Hour)) == nil {
				t.Error("the newest descriptor has no key for today or tomorrow")
			}
			for i := 1; i < len(got); i++ {
				if !got[i].Published.After(got[i-1].Published) {
					t.Error("a descriptor is not newer than the one before")
				}
			}
		}
		before := len(a.of(m))
		s := *m.settings()
		s.About.Addresses = []string{"mix0:2"}
		must(t, m.Reload(s))
		wait(time.Minute)
		if got := a.of(m); len(got) != before+1 || got[before].Addresses[0] != "mix0:2" {
			t.Errorf("after another address: %d descriptors", len(got))
		}
		must(t, m.Reload(s))
		wait(time.Minute)
		if got := a.of(m); len(got) != before+1 {
			t.Error("a reload that changes nothing was published")
		}
		// A refusal is not asked about again; an authority that is away is.
		a.say(false, errs.E("test", errs.Denied, "nickname is taken", nil))
		must(t, m.Republish(t.Context()))
		if v := m.Status().Verdicts; errs.KindOf(v[0].Err) != errs.Denied {
			t.Errorf("%+v", v)
		}
		w.wires.sever("authority")
		a.end()
		must(t, m.Republish(t.Context()))
		if v := m.Status().Verdicts; v[0].Err == nil || errs.KindOf(v[0].Err) == errs.Denied {
			t.Errorf("%+v", v)
		}
		w.wires.join("authority")
		a = w.authority()
		wait(3 * time.Hour)
		if len(a.of(m)) == 0 {
			t.Error("the authority was not asked again")
		}
		// Without Publish there is only the file.
		if got := a.of(quiet); len(got) != 0 {
			t.Errorf("%d descriptors of a node that does not publish", len(got))
		}
		if s := quiet.Status(); s.Descriptor == nil || s.Path == "" || s.Verdicts[0] != (Verdict{Authority: w.signer.Public().ID()}) {
			t.Errorf("%+v", s)
		}
		if len(a.bad) > 0 {
			t.Error(a.bad)
		}
		a.end()
		w.stop()
	})
}

// counting counts what is written.
type counting struct{ n atomic.Int64 }

func (c *counting) Write(b []byte) (int, error) { c.n.Add(1); return len(b), nil }

// TestDescriptorOnFullDisk: a descriptor that cannot be written is tried again after pauses that
// grow, and published when there is room.
func TestDescriptorOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour)
		var log counting
		m := w.add("mix0", directory.Mix, publishing, func(o *Options) {
			o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		})
		faults := vfs.NewFaults(m.disk)
		m.fs = faults
		w.add("mix1", directory.Mix)
		w.add("mix2", directory.Mix)
		a := w.authority()
		w.startAll()
		before, said := len(a.of(m)), log.n.Load()
		faults.SetSpace(0)
		wait(12 * time.Hour)
		if n := log.n.Load() - said; n == 0 || n > 40 {
			t.Errorf("%d lines in the log in twelve hours", n)
		}
		faults.SetSpace(-1)
		wait(2 * time.Hour)
		if len(a.of(m)) == before {
			t.Error("no descriptor was published afterwards")
		}
		a.end()
		w.stop()
	})
}

// TestLoops: mixes and relays measure the nodes that their loops pass, and tell the authorities
// after each epoch; a node that drops everything shows.
func TestLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Hour, func(p directory.Parameters) {
			every := uint64(100_000)
			if racetest.Enabled {
				every = 150_000
			}
			setParameter(p, directory.MixLoopInterval, every)
			setParameter(p, directory.Delay, 1_000)
		})
		loud := func(o *Options) { o.Publish, o.noLoops = true, false }
		for _, name := range []string{"mix0", "mix1", "mix2", "mix3"} {
			w.add(name, directory.Mix, loud)
		}
		w.add("relay0", directory.Relay|directory.Mailbox, loud)
		w.add("relay1", directory.Relay|directory.Mailbox, loud)
		a := w.authority()
		w.startAll()
		epoch := w.net.Epoch(time.Now())
		next := func() {
			wait(time.Until(w.net.Begin(w.last.Epoch + 1).Add(-time.Minute)))
			w.agree(w.last.Epoch + 1)
			w.give()
		}
		next() // a whole epoch with all of them
		wait(2 * time.Minute)
		// One of the layer with two of them takes packets and loses them from now on.
		size := map[int][]*member{}
		for i := range w.last.Nodes {
			if e := &w.last.Nodes[i]; e.Layer > 0 {
				size[e.Layer] = append(size[e.Layer], w.members[e.Nickname])
			}
		}
		var lossy *member
		for _, ms := range size {
			if len(ms) == 2 {
				lossy = ms[0]
			}
		}
		id := lossy.ID()
		sentBefore := w.members["relay0"].Status().LoopsSent
		s := *lossy.settings()
		s.Mixing = pool.Config{Algorithm: pool.Timed, Interval: 1000 * time.Hour}
		must(t, lossy.Reload(s))
		next()
		next()
		wait(time.Minute)
		a.mu.Lock()
		defer func() {
			a.mu.Unlock()
			a.end()
			w.stop()
		}()
		if len(a.bad) > 0 {
			t.Error(a.bad)
		}
		type sums struct{ sent, returned uint64 }
		total := map[uint64]map[packet.ID]sums{epoch: {}, epoch + 1: {}}
		reports := map[uint64]int{}
		for _, s := range a.stats {
			reports[s.Epoch]++
			for _, l := range s.Loops {
				if total[s.Epoch] == nil || l.Through == s.Node {
					t.Errorf("epoch %d, %x", s.Epoch, l.Through[:4])
					continue
				}
				x := total[s.Epoch][l.Through]
				total[s.Epoch][l.Through] = sums{x.sent + l.Sent, x.returned + l.Returned}
			}
		}
		// Layer 1 has nobody before it but relays, so all six report.
		if reports[epoch] != 6 || reports[epoch+1] < 5 {
			t.Errorf("reports by epoch: %v", reports)
		}
		for id, x := range total[epoch] {
			if x.sent < 20 || x.returned*100 < x.sent*95 {
				t.Errorf("%x: %d of %d loops came back", id[:4], x.returned, x.sent)
			}
		}
		if len(total[epoch]) != 6 && lossy.entry().Layer != 3 {
			t.Logf("%d nodes were measured", len(total[epoch]))
		}
		if x := total[epoch+1][id]; x.sent < 20 || x.returned*10 > x.sent {
			t.Errorf("of the node that loses all, %d of %d came back", x.returned, x.sent)
		}
		if sentBefore == 0 {
			t.Error("Status does not count loops")
		}
	})
}

// TestDeleteKeys: an operator who destroys all packet keys has new ones at once, published, and
// packets for the old ones are refused.
func TestDeleteKeys(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, alice *client) {
		relay0, relay1 := w.members["relay0"], w.members["relay1"]
		old := relay0.entry().Key(time.Now())
		alice.send(t, w.letter(relay0, relay1, packet.ID{}, "before"))
		wait(time.Minute)
		u := w.letter(relay0, relay1, packet.ID{}, "after")
		must(t, relay0.DeleteKeys(t.Context()))
		wait(time.Minute)
		if _, ok := relay0.keys.Find(old.ID()); ok {
			t.Error("the old key is there")
		}
		d := relay0.Descriptor()
		if k := d.Key(time.Now()); k == nil || k.ID() == old.ID() {
			t.Error("the descriptor has no new key")
		}
		if s := relay0.Status().Log; s.Tags != 0 {
			t.Errorf("%d tags are remembered", s.Tags)
		}
		alice.send(t, u)
		wait(time.Minute)
		if got := texts(t, relay1.boxes.list()); got["before"] != 1 || len(got) != 1 || relay0.stats.get("Dropped key") != 1 {
			t.Errorf("%v, %v", got, relay0.stats.get("Dropped key"))
		}
		next := w.last.Epoch + 1
		wait(time.Until(w.net.Begin(next).Add(-10 * time.Minute)))
		w.agree(next)
		w.give()
		wait(time.Until(w.net.Begin(next).Add(time.Minute)))
		alice.send(t, w.letter(relay0, relay1, packet.ID{}, "new"))
		wait(time.Minute)
		if got := texts(t, relay1.boxes.list()); got["new"] != 1 {
			t.Errorf("%v", got)
		}
	})
}
