package node

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// member is a node of a world.
type member struct {
	w     *world
	name  string
	mode  directory.Mode
	fs    vfs.FS
	disk  *vfs.CrashDisk
	boxes *boxes
	exits *exits
	stats *counter
	tune  func(*Options)
	rand  *seeded
	root  string               // of all files
	more  directory.Parameters // that its descriptor says

	keys  *keys.Keys
	cache *dircache.Cache
	*Node
	end func() error // ends Run and gives its error
}

// world is a network in a bubble of synctest.
type world struct {
	t       testing.TB
	net     *directory.Network
	signer  *directory.PrivateKey
	params  directory.Parameters
	wires   *wires
	members map[string]*member
	names   []string
	last    *directory.Consensus
	clients map[link.Key][8]byte
}

// identities are costly, so each is made once.
var identities sync.Map

func identity(t testing.TB, name string) *directory.PrivateKey {
	t.Helper()
	if k, ok := identities.Load(name); ok {
		return k.(*directory.PrivateKey)
	}
	a, b := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	k, err := directory.NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	identities.Store(name, k)
	return k
}

func linkKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("link " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func nameOf(t testing.TB, k ed25519.PrivateKey) link.Key {
	t.Helper()
	name, err := link.KeyOf(k.Public().(ed25519.PublicKey))
	must(t, err)
	return name
}

// newWorld makes a network with one authority and no members.
func newWorld(t testing.TB, period time.Duration, change ...func(directory.Parameters)) *world {
	t.Helper()
	signer := identity(t, "authority")
	file, err := directory.FormatNetwork("test.net", period, []directory.Contact{{Key: signer.Public(),
		LinkKey: directory.Hash(nameOf(t, linkKey("authority"))), Addresses: []string{"authority:1"}}})
	must(t, err)
	network, err := directory.ParseNetwork(file)
	must(t, err)
	w := &world{t: t, net: network, signer: signer, params: directory.ProfileLow(), wires: newWires(),
		members: map[string]*member{}, clients: map[link.Key][8]byte{}}
	w.set(directory.LayerMinimum, 1)
	w.set(directory.MixLoopInterval, 86_400_000)
	w.set(directory.LinkInterval, 86_400_000)
	for _, f := range change {
		f(w.params)
	}
	return w
}

func (w *world) set(name string, v uint64) { setParameter(w.params, name, v) }

func setParameter(p directory.Parameters, name string, v uint64) {
	for i := range p {
		if p[i].Name == name {
			p[i].Value = v
			return
		}
	}
	panic("no parameter " + name)
}

// add makes a member with a disk of its own; it does not run yet.
func (w *world) add(name string, mode directory.Mode, tune ...func(*Options)) *member {
	w.t.Helper()
	m := &member{w: w, name: name, mode: mode, disk: vfs.NewCrashDisk(), boxes: newBoxes(), exits: &exits{}, stats: &counter{m: map[string]int{}},
		rand: newSeeded("member " + name), root: "/data"}
	m.fs = m.disk
	for _, f := range tune {
		old := m.tune
		m.tune = func(o *Options) {
			if old != nil {
				old(o)
			}
			f(o)
		}
	}
	w.members[name] = m
	w.names = append(w.names, name)
	// Keys take time to make, so each member's are made once for all tests that begin at the
	// same (virtual) time.
	id := fmt.Sprint(name, time.Now().UnixNano())
	if disk, ok := made.Load(id); ok {
		m.disk = disk.(*vfs.CrashDisk).Clone(vfs.Kept, 0)
		m.fs = m.disk
		var err error
		m.keys, err = keys.Open(m.keyOptions())
		must(w.t, err)
		return m
	}
	k, err := keys.Create(m.keyOptions())
	must(w.t, err)
	_, err = k.Rotate(w.t.Context(), time.Now(), nil)
	must(w.t, err)
	m.keys = k
	made.Store(id, m.disk.Clone(vfs.Kept, 0))
	return m
}

// made are disks with keys.
var made sync.Map

func (m *member) keyOptions() keys.Options {
	return keys.Options{FS: m.fs, Dir: m.root + "/keys", Rand: m.rand, Now: time.Now}
}

// onDisk moves a member that has not run yet to a real disk, with new keys.
func (m *member) onDisk(dir string) {
	t := m.w.t
	t.Helper()
	m.fs, m.root = vfs.OS(), dir
	k, err := keys.Create(m.keyOptions())
	must(t, err)
	_, err = k.Rotate(t.Context(), time.Now(), nil)
	must(t, err)
	m.keys = k
}

func (m *member) about() directory.Node {
	d := directory.Node{Nickname: m.name, Mode: m.mode, Addresses: []string{m.name + ":1"}, Version: "postern-test", Parameters: m.more}
	if !m.mode.Has(directory.Mix) {
		d.NameKey = identity(m.w.t, "names of "+m.name).Public()
	}
	return d
}

// open opens the node over what is on its disk.
func (m *member) open() {
	t := m.w.t
	t.Helper()
	var err error
	m.keys, err = keys.Open(m.keyOptions())
	must(t, err)
	m.cache, err = dircache.Open(dircache.Options{FS: m.fs, Dir: m.root + "/dir", Network: m.w.net, Now: time.Now,
		Changed: func(*directory.Consensus) {
			if m.Node != nil {
				m.Renew()
			}
		}})
	must(t, err)
	o := Options{FS: m.fs, Dir: m.root + "/log", Keys: m.keys, Network: m.w.net, Cache: m.cache, Stats: m.stats,
		Settings: Settings{About: m.about()}, Rand: m.rand, noLoops: true, Chance: newSeeded("chance " + m.name).float,
		Dial: m.w.wires.dialer(m.name), Workers: 2}
	o.Log.MinFree = 1
	if os.Getenv("NODE_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", m.name)
	}
	if m.mode.Has(directory.Mailbox) {
		o.Boxes = m.boxes
	}
	if m.mode.Has(directory.Exit) {
		o.Exits = m.exits
	}
	if m.mode.Has(directory.Relay) {
		o.Clients = func(k link.Key) ([8]byte, bool) { a, ok := m.w.clients[k]; return a, ok }
	}
	if m.tune != nil {
		m.tune(&o)
	}
	m.Node, err = New(o)
	must(t, err)
}

// start runs the node.
func (m *member) start() {
	m.w.t.Helper()
	m.open()
	if m.w.last != nil {
		must(m.w.t, m.cache.Put(m.w.last.Bytes()))
	}
	m.run()
}

func (m *member) run() {
	m.w.wires.join(m.name)
	m.boxes.setDead(false)
	ln := m.w.wires.listen(m.name)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	n := m.Node
	go func() { ended <- n.Run(ctx, ln) }()
	m.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// stop ends the node in order.
func (m *member) stop() {
	m.w.t.Helper()
	if m.end == nil {
		return
	}
	if err := m.end(); err != nil {
		m.w.t.Errorf("%s: Run: %v", m.name, err)
	}
	m.end = nil
}

// cut is the moment of a crash: nothing that the node does from now on is seen by anybody.
func (m *member) cut() {
	m.w.wires.sever(m.name)
	m.boxes.setDead(true)
}

// crash cuts the node off and ends it; the disk is as the crash leaves it.
func (m *member) crash(u vfs.Unsynced, seed uint64) {
	m.w.t.Helper()
	m.cut()
	m.bury(m.disk.Clone(u, seed))
}

// bury ends a node that was cut off, and gives its member the disk that is left.
func (m *member) bury(disk *vfs.CrashDisk) {
	if m.end != nil {
		_ = m.end()
	}
	m.end = nil
	m.disk, m.fs = disk, disk
}

// stop ends all.
func (w *world) stop() {
	for _, name := range w.names {
		w.members[name].stop()
	}
}

// agree makes the consensus of an epoch from the members of those names, and gives it to all
// that run.
func (w *world) agree(epoch uint64, names ...string) *directory.Consensus {
	w.t.Helper()
	if len(names) == 0 {
		names = w.names
	}
	secret := sha256.Sum256([]byte("secret"))
	m, err := directory.NewMachine(w.net, epoch, w.signer, &secret)
	must(w.t, err)
	begin := w.net.Begin(epoch - 1)
	var rated []directory.Rated
	for _, name := range names {
		rated = append(rated, directory.Rated{Descriptor: w.members[name].describe(begin), Score: 500})
	}
	must(w.t, m.SetView(directory.View{Parameters: w.params, Nodes: rated, Previous: w.last}))
	for _, p := range []directory.Phase{directory.Voting, directory.Reveals, directory.Endorse, directory.Publish} {
		_, err := m.Advance(begin.Add(w.net.Period() * time.Duration(p) / 8))
		must(w.t, err)
	}
	if w.last = m.Consensus(); w.last == nil {
		w.t.Fatal("no consensus")
	}
	if len(w.last.Nodes) != len(names) {
		w.t.Fatalf("%d nodes in the consensus, want %d", len(w.last.Nodes), len(names))
	}
	return w.last
}

// give gives the last consensus to all that run.
func (w *world) give() {
	w.t.Helper()
	for _, name := range w.names {
		if m := w.members[name]; m.end != nil {
			must(w.t, m.cache.Put(w.last.Bytes()))
		}
	}
}

// describe makes a descriptor as the node itself does.
func (m *member) describe(at time.Time) *directory.Descriptor {
	d := directory.Descriptor{Network: m.w.net.Name(), Published: at.Truncate(time.Second).UTC(), Node: m.about()}
	key, err := link.KeyOf(m.keys.Link().Public().(ed25519.PublicKey))
	must(m.w.t, err)
	d.LinkKey, d.Keys = directory.Hash(key), m.keys.Public(at)
	if d.Mode.Has(directory.Mix) {
		s, err := Settings{About: d.Node}.complete("test")
		must(m.w.t, err)
		o := Options{Settings: s}
		if m.tune != nil {
			m.tune(&o)
		}
		d.Mixing, d.Residence = mixing(o.Mixing)
	}
	out, err := directory.SignDescriptor(d, m.keys.Identity())
	must(m.w.t, err)
	return out
}

// startAll makes a consensus of all members for the epoch of now, and runs them.
func (w *world) startAll() {
	w.t.Helper()
	w.agree(w.net.Epoch(time.Now()))
	for _, name := range w.names {
		w.members[name].start()
	}
	time.Sleep(10 * time.Second) // lines connect
}

// layer gives the mix of a layer.
func (w *world) layer(l int) *member {
	w.t.Helper()
	for i := range w.last.Nodes {
		if e := &w.last.Nodes[i]; e.Layer == l {
			return w.members[e.Nickname]
		}
	}
	w.t.Fatalf("no mix in layer %d", l)
	return nil
}

// small makes a world of three mixes and two relays, which run.
func small(t testing.TB, change ...func(*world)) *world {
	t.Helper()
	w := newWorld(t, time.Hour)
	for i := range 3 {
		w.add(fmt.Sprintf("mix%d", i), directory.Mix)
	}
	w.add("relay0", directory.Relay|directory.Mailbox)
	w.add("relay1", directory.Relay|directory.Mailbox|directory.Exit)
	for _, f := range change {
		f(w)
	}
	w.startAll()
	return w
}

func (m *member) entry() *directory.Entry {
	m.w.t.Helper()
	e := m.w.last.Find(m.keys.Identity().Public().ID())
	if e == nil {
		m.w.t.Fatalf("%s is not in the consensus", m.name)
	}
	return e
}

func (m *member) hop(delay time.Duration) packet.Hop {
	e := m.entry()
	return packet.Hop{Node: e.ID, Key: e.Key(time.Now()), Delay: delay}
}

// route leads from a relay through the mixes to another, with the same delay everywhere.
func (w *world) route(from, to *member, delay time.Duration) packet.Route {
	return packet.Route{Hops: []packet.Hop{from.hop(delay), w.layer(1).hop(delay), w.layer(2).hop(delay), w.layer(3).hop(delay), to.hop(0)}}
}

// build makes the unit of a packet.
func (w *world) build(r packet.Route, d packet.Dest, c packet.Content) []byte {
	w.t.Helper()
	b, err := packet.Build(make([]byte, 0, packet.Size), r, d, c, rnd)
	must(w.t, err)
	u, err := packet.Fill(b, rnd)
	must(w.t, err)
	return u
}

var rnd = newSeeded("packets")

// letter makes the unit of a packet with a text for a mailbox.
func (w *world) letter(from, to *member, mailbox packet.ID, text string) []byte {
	return w.build(w.route(from, to, time.Second), packet.Dest{Command: packet.Deliver, Mailbox: mailbox}, packet.Content{Kind: content.Plain, Body: []byte(text)})
}

// bubble runs fn in virtual time, in a small world that is stopped afterwards.
func bubble(t *testing.T, fn func(t *testing.T, w *world, alice *client), change ...func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := small(t, append([]func(*world){func(w *world) { w.know("alice") }}, change...)...)
		alice := w.client("alice", w.members["relay0"])
		fn(t, w, alice)
		alice.end()
		w.stop()
	})
}

// texts are the bodies of what is in a box, and how often.
func texts(t testing.TB, list []Arrival) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, a := range list {
		if a.Reply {
			out["reply"]++
			continue
		}
		c, err := packet.OpenContent(append([]byte(nil), a.Payload...))
		if err != nil {
			out["broken"]++
			continue
		}
		out[string(c.Body)]++
	}
	return out
}

func wantKind(t testing.TB, what string, err error, k errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != k {
		t.Errorf("%s: %v, want %v", what, err, k)
	}
}

// poolOf sets the rule of a member's pool.
func poolOf(c pool.Config) func(*Options) { return func(o *Options) { o.Mixing = c } }
