package authority

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

var everySync = flag.Bool("everysync", false, "TestKilledAtEverySync cuts at each sync, not at each fourth")

// signed remembers signatures, which are the same each time and cost more than all else here.
type signed struct {
	*directory.PrivateKey
	all map[[32]byte]directory.Signature
}

func (k *signed) Sign(body []byte) (directory.Signature, error) {
	sum := sha256.Sum256(body)
	if s, ok := k.all[sum]; ok {
		return s, nil
	}
	s, err := k.PrivateKey.Sign(body)
	k.all[sum] = s
	return s, err
}

// script is a scripted life of one of three authorities through two epochs. The two others are
// machines that the test plays, and that remember all that they were told: whoever says two
// things is proven to have done so.
type script struct {
	t      testing.TB
	net    *directory.Network
	keys   []directory.Signer
	texts  map[string]*directory.Descriptor
	clock  *clocktest.Clock
	others map[uint64][]*directory.Machine
	nodes  []*someNode
	epoch  uint64 // the first that is agreed on from its begin

	// What the outside has seen or was promised.
	given    map[directory.Hash]string // own documents: their kinds
	approved []packet.ID
	counted  bool // the statistics of the first mix were accepted
	done     []uint64
}

func newScript(t testing.TB, keys []directory.Signer, texts map[string]*directory.Descriptor) *script {
	t.Helper()
	s := &script{t: t, keys: keys, texts: texts, others: map[uint64][]*directory.Machine{}, nodes: someNodes(t, 3), given: map[directory.Hash]string{}}
	var public []*directory.PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	var err error
	s.net, err = directory.NewNetwork("test.net", time.Hour, public)
	must(t, err)
	s.epoch = 500_000
	s.clock = clocktest.New(s.net.Begin(s.epoch - 1))
	return s
}

// descriptor is what a node said at the begin.
func (s *script) descriptor(n *someNode) *directory.Descriptor {
	if s.texts[n.name] == nil {
		s.texts[n.name] = n.descriptor(s.t, s.net.Begin(s.epoch-1))
	}
	return s.texts[n.name]
}

// open opens the authority on a disk.
func (s *script) open(fs vfs.FS) *core {
	s.t.Helper()
	c, err := openCore(coreOptions{disk: disk{fs, "/data"}, net: s.net, signer: s.keys[0], secret: [32]byte{7}, params: directory.ProfileLow(), keep: 3,
		give: func(*directory.Consensus) {}, now: s.clock.Now, log: slog.New(slog.DiscardHandler)})
	must(s.t, err)
	return c
}

// steps are the script. Each may be done again.
func (s *script) steps() (out []func(*core) error) {
	at := func(epoch uint64, eighths float64) {
		if d := s.net.Begin(epoch - 1).Add(time.Duration(eighths * float64(time.Hour) / 8)).Sub(s.clock.Now()); d > 0 {
			s.clock.Add(d)
		}
	}
	for _, n := range s.nodes {
		out = append(out, func(c *core) error {
			d := s.descriptor(n)
			_, err := c.publish(n.linkKey(s.t), d.Bytes())
			return err
		}, func(c *core) error {
			d := s.descriptor(n)
			if slices.ContainsFunc(c.nodes(), func(x Node) bool { return x.ID == idText(d.ID()) && x.State == StateApproved }) {
				return nil // before the crash
			}
			if err := c.approve(d.ID(), d.Hash()); err != nil {
				return err
			}
			s.approved = append(s.approved, d.ID())
			return nil
		})
	}
	for _, epoch := range []uint64{s.epoch, s.epoch + 1} {
		out = append(out, func(c *core) error { at(epoch, 0.1); s.meet(c, epoch); return nil })
		for _, phase := range []float64{1, 2, 3, 5} {
			out = append(out,
				func(c *core) error { at(epoch, phase+0.1); c.tick(); s.look(c); return nil },
				func(c *core) error { s.exchange(c, epoch); s.look(c); return nil },
			)
		}
		out = append(out, func(c *core) error {
			at(epoch, 8.1)
			v := directory.Stats{Network: "test.net", Epoch: epoch - 1, Loops: []directory.Loops{{Through: s.nodes[1].id.Public().ID(), Sent: 20, Returned: 20}}}
			st, err := directory.SignStats(v, s.nodes[0].id)
			must(s.t, err)
			if err := c.stats(st.Bytes()); err != nil && !strings.Contains(err.Error(), "are here") {
				return err
			}
			s.counted = true
			return nil
		})
	}
	return out
}

// meet makes the others' part in an agreement.
func (s *script) meet(c *core, epoch uint64) {
	if s.others[epoch] != nil {
		return
	}
	for i := 1; i < 3; i++ {
		m, err := directory.NewMachine(s.net, epoch, s.keys[i], &[32]byte{byte(i)})
		must(s.t, err)
		v := directory.View{Parameters: directory.ProfileLow(), Previous: c.before(epoch)}
		for _, n := range s.nodes {
			v.Nodes = append(v.Nodes, directory.Rated{Descriptor: s.descriptor(n), Score: 500})
		}
		must(s.t, m.SetView(v))
		s.others[epoch] = append(s.others[epoch], m)
	}
}

// exchange lets everybody have everybody's documents.
func (s *script) exchange(c *core, epoch uint64) {
	for range 2 {
		for _, m := range s.others[epoch] {
			_, _ = m.Advance(s.clock.Now())
			for _, d := range m.Offers() {
				_ = c.take(epoch, directory.HashOf(d), d)
			}
			for _, h := range c.wants(epoch) {
				if d := m.Document(h); d != nil {
					_ = c.take(epoch, h, d)
				}
			}
			for _, d := range c.documents(epoch) {
				_ = m.Add(d)
			}
			for _, h := range m.Wants() {
				if d := c.find(h); d != nil {
					_ = m.Add(d)
				}
			}
			for _, o := range s.others[epoch] {
				for _, d := range m.Offers() {
					_ = o.Add(d)
				}
			}
		}
	}
}

// look notes what the authority gives out.
func (s *script) look(c *core) {
	for _, epoch := range c.open() {
		for _, d := range c.documents(epoch) {
			if id, ok := authorityOf(d); ok && id == s.keys[0].Public().ID() && kindOf(d) != kindConsensus {
				s.given[directory.HashOf(d)] = fmt.Sprintf("%s of epoch %d", kindOf(d), epoch)
			}
		}
	}
	if n := c.newest.Load(); n != nil && !slices.Contains(s.done, n.Epoch) {
		s.done = append(s.done, n.Epoch)
	}
}

// life runs the script, and gives how many syncs it took. crash is the step after which
// another core takes over, on what it gives; nil: never.
func (s *script) life(c *core, crashed func() vfs.FS) {
	for i, step := range s.steps() {
		before := *s // what was known before the step in which the crash comes
		before.given, before.approved, before.done = maps.Clone(s.given), slices.Clone(s.approved), slices.Clone(s.done)
		if err := step(c); err != nil {
			s.t.Fatalf("step %d: %v", i, err)
		}
		if fs := crashed(); fs != nil {
			s.given, s.approved, s.counted, s.done = before.given, before.approved, before.counted, before.done
			c = s.open(fs)
			c.tick()
			s.survived(c)
			if err := step(c); err != nil { // what was under way, which nobody was told of
				s.t.Fatalf("step %d after a crash: %v", i, err)
			}
		}
	}
	for _, epoch := range []uint64{s.epoch, s.epoch + 1} {
		for i, m := range s.others[epoch] {
			if p := m.Proofs(); len(p) > 0 {
				s.t.Fatalf("authority %d can prove %s", i+1, p[0].Kind)
			}
			if p := m.Consensus(); p == nil || len(p.Signatures) != 3 {
				s.t.Fatalf("epoch %d: no consensus with all signatures: %v", epoch, p != nil)
			}
		}
	}
	if p := c.proofList(); len(p) > 0 {
		s.t.Fatalf("it proves %s", p[0].Kind)
	}
	if n := c.newest.Load(); n == nil || n.Epoch != s.epoch+1 || len(n.Nodes) != 4 {
		s.t.Fatal("the newest consensus is another one")
	}
}

// survived checks that all is there that the outside knows of.
func (s *script) survived(c *core) {
	s.t.Helper()
	for h, what := range s.given {
		var epoch uint64
		_, err := fmt.Sscanf(what[strings.Index(what, "epoch "):], "epoch %d", &epoch)
		must(s.t, err)
		if slices.Contains(c.open(), epoch) && c.find(h) == nil {
			s.t.Fatalf("a %s that was given out is not there after a crash", what)
		}
	}
	nodes := c.nodes()
	for _, id := range s.approved {
		if !slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == idText(id) && n.State == StateApproved }) {
			s.t.Fatal("a node that was approved is not after a crash")
		}
	}
	if s.counted && c.history.Report(s.nodes[0].id.Public().ID()) == nil {
		s.t.Fatal("statistics that were accepted are gone after a crash")
	}
	for _, e := range s.done {
		if n := c.newest.Load(); n == nil || n.Epoch < e {
			s.t.Fatalf("the consensus of epoch %d is gone after a crash", e)
		}
	}
}

// An authority that is killed at any sync of two epochs (at each fourth, unless -everysync), with what was not synced lost, kept
// or torn, finds what it had given out, and says nothing twice in another way: the others,
// who have all that it ever said, cannot prove anything.
func TestKilledAtEverySync(t *testing.T) {
	var keys []directory.Signer
	for i := range 3 {
		keys = append(keys, &signed{newNode(t, fmt.Sprintf("authority%d", i), directory.Mix).id, map[[32]byte]directory.Signature{}})
	}
	texts := map[string]*directory.Descriptor{}
	disk := vfs.NewCrashDisk()
	must(t, vfs.MkdirAll(disk, "/data", 0o700))
	points := vfs.NewSyncPoints(disk, nil)
	s := newScript(t, keys, texts)
	s.life(s.open(points), func() vfs.FS { return nil })
	total := points.Count()
	if total < 40 {
		t.Fatalf("only %d syncs", total)
	}
	stride := int64(4)
	switch {
	case *everySync:
		stride = 1
	case testing.Short() || racetest.Enabled:
		stride = 37
	}
	for n := int64(1); n <= total; n += stride {
		for _, after := range []bool{false, true} {
			u := vfs.Unsynced(n % 3)
			disk := vfs.NewCrashDisk()
			must(t, vfs.MkdirAll(disk, "/data", 0o700))
			cut := vfs.CutAt(disk, n, after, u, uint64(n), nil)
			s := newScript(t, keys, texts)
			c := s.open(cut.FS)
			over := false
			t.Run(fmt.Sprintf("%d %v %v", n, after, u), func(t *testing.T) {
				s.t = t
				s.life(c, func() vfs.FS {
					if d := cut.Disk(); d != nil && !over {
						over = true
						return d
					}
					return nil
				})
			})
		}
	}
	t.Logf("%d syncs", total)
}
