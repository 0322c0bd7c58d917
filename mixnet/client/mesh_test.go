package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// wire is a network in memory, for virtual time: it notes when how many bytes cross it.
type wire struct {
	conns chan net.Conn

	mu    sync.Mutex
	open  *listener // nil: nobody listens
	log   []string
	n     int
	ends  map[string][]net.Conn // of a client, by its name
	apart map[string]bool       // clients that cannot connect
}

// listener is what a relay listens at, from its start to its end.
type listener struct {
	w    *wire
	done chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.w.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.open == l {
		l.w.open = nil
	}
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }

func (w *wire) listen() *listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = &listener{w, make(chan struct{})}
	return w.open
}

// part ends all connections of a client, and lets it make no others, until join.
func (w *wire) part(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.apart == nil {
		w.apart = make(map[string]bool)
	}
	w.apart[name] = true
	for _, c := range w.ends[name] {
		c.Close()
	}
	delete(w.ends, name)
}

func (w *wire) join(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.apart, name)
}

// dial connects a client; name is what the log calls it.
func (w *wire) dial(name string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		a, b := net.Pipe()
		w.mu.Lock()
		w.n++
		n := w.n
		to := w.open
		if w.apart[name] {
			to = nil
		}
		if w.ends == nil {
			w.ends = make(map[string][]net.Conn)
		}
		w.ends[name] = append(w.ends[name], a)
		w.mu.Unlock()
		if to == nil {
			return nil, net.ErrClosed
		}
		select {
		case w.conns <- &noted{b, w, fmt.Sprintf("to %s %d", name, n)}:
			return &noted{a, w, fmt.Sprintf("of %s %d", name, n)}, nil
		case <-to.done:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type noted struct {
	net.Conn
	w    *wire
	name string
}

func (n *noted) Write(b []byte) (int, error) {
	n.w.mu.Lock()
	n.w.log = append(n.w.log, fmt.Sprintf("%s at %v: %d bytes", n.name, time.Now().UTC().Format("15:04:05.000000000"), len(b)))
	n.w.mu.Unlock()
	return n.Conn.Write(b)
}

func (w *wire) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := slices.Clone(w.log)
	slices.Sort(l)
	return l
}

// mesh is a whole network behind one relay: it takes all layers off a packet at once and
// waits for the sum of the delays. The relay has boxes, acknowledges and injects, as
// docs/content.md says.
type mesh struct {
	*wire
	t    *testing.T
	cons *directory.Consensus
	link *link.Link
	rng  *rand.Rand
	wg   sync.WaitGroup
	stop func()
	end  func()        // of the relay
	down time.Duration // between two frames to a client

	lose  func(packet.Result) bool // of packets at their end, under mu; nil: none
	serve func(service uint8, request []byte) (status uint8, answer []byte)

	mu    sync.Mutex
	seen  map[[32]byte]bool
	boxes map[packet.ID]*box
	peers map[link.Key]packet.ID
	over  bool
	count map[packet.Command]int

	windows map[[16]byte]*meshWindow
	mails   []packet.Content // for nodes
}

type box struct {
	item  uint64
	wait  map[uint64][]byte // units by item
	conn  *link.Conn
	order []uint64
}

// clock is the time in a bubble, moved to when the keys are valid.
func clock() func() time.Time {
	start := time.Now()
	return func() time.Time { return begin.Add(time.Since(start)) }
}

func newMesh(t *testing.T, down time.Duration) *mesh {
	m := &mesh{wire: &wire{conns: make(chan net.Conn)}, t: t, down: down, cons: usual(t, 2), rng: rng(99),
		seen: make(map[[32]byte]bool), boxes: make(map[packet.ID]*box), peers: make(map[link.Key]packet.ID), count: make(map[packet.Command]int), windows: make(map[[16]byte]*meshWindow)}
	m.pace(10*time.Second, time.Minute)
	m.begin()
	m.stop = func() {
		m.mu.Lock()
		m.over = true
		m.mu.Unlock()
		m.end()
		m.wg.Wait()
	}
	return m
}

// document is what the relay answers to every request.
var document = bytes.Repeat([]byte("document"), 40_000)

// begin lets the relay serve its clients until end.
func (m *mesh) begin() {
	seed := sha256.Sum256([]byte("relay's link"))
	var err error
	m.link, err = link.New(link.Options{Key: ed25519.NewKeyFromSeed(seed[:]), Handler: m, Chance: func() float64 { return .5 },
		Who: func(k link.Key) (link.Peer, bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			id, ok := m.peers[k]
			return link.Peer{Key: k, Role: link.Client, Account: [8]byte(id[:])}, ok
		},
		Opened: m.opened, Closed: func(c *link.Conn, _ error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if b := m.boxes[m.peers[c.Peer().Key]]; b.conn == c {
				b.conn = nil
			}
		},
		Documents:    func(context.Context, link.Peer, []byte) ([]byte, error) { return document, nil },
		Pace:         func(link.Peer) link.Pace { return fixedPace(m.down) },
		ClientFrames: 1 << 20, ClientFrameBurst: 1 << 20,
	})
	must(m.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l, at := m.link, m.listen()
	go func() { ended <- l.Serve(ctx, at) }()
	m.end = func() {
		cancel()
		if err := <-ended; err != nil {
			m.t.Error(err)
		}
	}
}

// pace sets the clocks: little cover, as each packet costs the test a millisecond, and ten with
// the race detector.
func (m *mesh) pace(payload, cover time.Duration) {
	m.set(directory.PayloadInterval, payload)
	m.set(directory.LoopInterval, cover)
	m.set(directory.DropInterval, cover)
}

// set sets a parameter of the network.
func (m *mesh) set(name string, d time.Duration) {
	for i := range m.cons.Parameters {
		if p := &m.cons.Parameters[i]; p.Name == name {
			p.Value = uint64(d / time.Millisecond)
		}
	}
}

// fixedPace ticks at equal times.
func fixedPace(every time.Duration) link.Pace {
	c, stop := make(chan time.Time), make(chan struct{})
	go func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-stop:
				return
			}
			select {
			case c <- time.Now():
			case <-stop:
				return
			}
		}
	}()
	return link.Pace{Ticks: c, Stop: sync.OnceFunc(func() { close(stop) }), Constant: true}
}

func (m *mesh) opened(c *link.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[m.peers[c.Peer().Key]]
	b.conn = c
	for _, item := range b.order {
		m.post(b, item)
	}
}

// post hands an item to the client; mu is held.
func (m *mesh) post(b *box, item uint64) {
	c, unit := b.conn, b.wait[item]
	if c == nil || unit == nil {
		return
	}
	m.wg.Go(func() { // done may come from within Post
		c.Post(unit, func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if err == nil {
				delete(b.wait, item)
				b.order = slices.DeleteFunc(b.order, func(i uint64) bool { return i == item })
			}
		})
	})
}

// Take is a packet of a client.
func (m *mesh) Take(_ context.Context, _ link.Peer, unit []byte, r link.Receipt) {
	raw, p, err := packet.CutUnit(unit)
	if err != nil || p.Layer != 0 {
		m.t.Errorf("a unit at layer %d: %v", p.Layer, err)
		r.Commit()
		return
	}
	raw = slices.Clone(raw)
	r.Commit()
	m.enter(0, raw)
}

// enter takes a packet all the way.
func (m *mesh) enter(layer int, raw []byte) {
	name := sha256.Sum256(raw)
	m.mu.Lock()
	again := m.seen[name]
	m.seen[name] = true
	m.mu.Unlock()
	if again {
		return // a replay
	}
	var wait time.Duration
	for {
		p, err := packet.ParsePrefix(raw)
		if err != nil || p.Layer != layer {
			m.t.Errorf("layer %d, want %d: %v", p.Layer, layer, err)
			return
		}
		var key *packet.PrivateKey
		for i := range m.cons.Nodes {
			if k := nodeKey(m.t, m.cons.Nodes[i].Nickname); k.ID() == p.KeyID {
				key = k
			}
		}
		res, err := packet.Unwrap(key, raw)
		if err != nil {
			m.t.Error(err)
			return
		}
		if res.Command == packet.Forward {
			wait += res.Delay
			raw, layer = res.Packet, layer+1
			continue
		}
		m.later(wait, func() { m.arrive(res) })
		return
	}
}

// later calls f after a time, unless the network has ended by then.
func (m *mesh) later(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		m.mu.Lock()
		over := m.over
		m.mu.Unlock()
		if !over {
			f()
		}
	})
}

func (m *mesh) arrive(res packet.Result) {
	m.mu.Lock()
	m.count[res.Command]++
	lost := m.lose != nil && m.lose(res)
	now := begin
	m.mu.Unlock()
	if lost {
		return
	}
	switch res.Command {
	case packet.Deliver:
		payload := slices.Clone(res.Payload)
		if !m.put(res.Mailbox, content.BoxUnit{Payload: payload}) {
			return
		}
		if what, err := packet.OpenContent(slices.Clone(payload)); err == nil {
			m.acknowledge(res.Mailbox, what)
		}
	case packet.Reply:
		m.put(res.Mailbox, content.BoxUnit{Reply: true, Mark: res.Mark, Payload: slices.Clone(res.Payload)})
	case packet.Exit:
		what, err := packet.OpenContent(res.Payload)
		if err != nil {
			m.t.Error(err)
			return
		}
		if block, answer, err := content.ParseInject(what); err == nil {
			m.use(block, answer, now)
		}
		if what.Kind&^content.Windowed == content.Mail {
			m.mu.Lock()
			m.mails = append(m.mails, packet.Content{Kind: what.Kind, Body: slices.Clone(what.Body)})
			m.mu.Unlock()
			m.acknowledge(packet.ID{}, what)
		}
		if service, request, err := content.ParseQuery(what); err == nil && m.serve != nil {
			if answer, err := content.NewAnswer(m.serve(service, request)); err != nil {
				m.t.Error(err)
			} else {
				m.use(what.SURB, answer, now)
			}
		}
	}
}

// acknowledge gives the acknowledgement that a packet asks for when it is in its box, as a node
// does: of a window when all is there or enough was waited.
func (m *mesh) acknowledge(mailbox packet.ID, what packet.Content) {
	if what.Kind&content.Windowed == 0 {
		if what.SURB != nil {
			m.use(what.SURB, content.NewAck(0), begin)
		}
		return
	}
	place, _, err := content.CutWindow(what)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.mu.Lock()
	w := m.windows[place.ID]
	if w == nil {
		w = &meshWindow{}
		m.windows[place.ID] = w
	}
	w.durable |= 1 << place.Index
	if what.SURB != nil {
		w.surbs = append(w.surbs, what.SURB)
	}
	whole := bits.OnesCount8(w.durable) == place.Count
	m.mu.Unlock()
	answer := func() {
		m.mu.Lock()
		surbs, durable := w.surbs, w.durable
		w.surbs = nil
		m.mu.Unlock()
		for _, s := range surbs {
			m.use(s, content.NewAck(durable), begin)
		}
	}
	if whole {
		answer()
	} else if what.SURB != nil {
		m.later(content.WindowWait*time.Duration(m.cons.Parameters.Get(directory.Delay))*time.Millisecond, answer)
	}
}

// meshWindow is what is known of a window.
type meshWindow struct {
	durable uint8
	surbs   []*packet.SURB // that wait
}

func (m *mesh) use(s *packet.SURB, c packet.Content, now time.Time) {
	raw, err := s.Use(nil, c, now)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.enter(1, raw)
}

// put is false for a mailbox that does not exist.
func (m *mesh) put(id packet.ID, u content.BoxUnit) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[id]
	if b == nil {
		return false
	}
	b.item++
	u.Item = b.item
	unit, err := content.AppendBoxUnit(nil, u)
	if err != nil {
		m.t.Error(err)
		return false
	}
	b.wait[u.Item] = unit
	b.order = append(b.order, u.Item)
	m.post(b, u.Item)
	return true
}

// user is a client of the mesh, with its own disk.
type user struct {
	*mesh
	name    string
	fs      vfs.FS
	id      *Identity
	store   *Store
	mailbox packet.ID
	now     func() time.Time
	rand    *lockedReader
	chosen  func(string, int, Way)
	clock   Chooser    // of the next start; nil: from rand
	lost    *packet.ID // there is no directory, and this is the own relay

	client *Client
	halt   func()
}

type lockedReader struct {
	mu sync.Mutex
	r  rngReader
}

func (r *lockedReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Read(b)
}

func (m *mesh) user(name string, now func() time.Time, seed uint64) *user {
	return m.userOn(crvfs.NewMem(), name, now, seed)
}

// userOn is user with a disk.
func (m *mesh) userOn(fs vfs.FS, name string, now func() time.Time, seed uint64) *user {
	u := &user{mesh: m, name: name, fs: fs, mailbox: sha256.Sum256([]byte("mailbox of " + name)), now: now, rand: &lockedReader{r: rngReader{rng(seed)}}}
	must(m.t, vfs.MkdirAll(u.fs, "dir", 0o700))
	var err error
	u.id, err = NewIdentity(u.fs, "dir", u.rand)
	must(m.t, err)
	key, err := link.KeyOf(u.id.Link.Public().(ed25519.PublicKey))
	must(m.t, err)
	m.mu.Lock()
	m.peers[key] = u.mailbox
	m.boxes[u.mailbox] = &box{wait: make(map[uint64][]byte)}
	m.mu.Unlock()
	u.open()
	return u
}

func (u *user) open() {
	var err error
	u.store, err = OpenStore(u.fs, "dir", u.id, StoreLimits{}, u.rand, u.now)
	must(u.t, err)
}

// start runs the client until halt.
func (u *user) start(free bool) {
	var err error
	relay, cons, fail := FindNode(u.cons, "relay0").ID, u.cons, error(nil)
	if u.lost != nil {
		relay, cons, fail = *u.lost, nil, errs.E("test", errs.Unavailable, "no directory", nil)
	}
	u.client, err = New(Options{Store: u.store, Relay: relay, Mailbox: u.mailbox, Peer: u.mesh.link.Key(),
		Consensus: func() (*directory.Consensus, error) { return cons, fail }, Parameters: func() directory.Parameters { return u.cons.Parameters },
		Addresses: func() []string { return []string{"relay"} }, Free: free,
		Link:   link.Options{Dial: u.dial(u.name), Chance: func() float64 { return .5 }},
		Chosen: u.chosen, Clock: u.clock, Random: u.rand, Now: u.now})
	must(u.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c := u.client
	go func() { ended <- c.Run(ctx) }()
	u.halt = func() {
		cancel()
		if err := <-ended; err != nil {
			u.t.Error(err)
		}
	}
}

// write queues a letter to somebody.
func (u *user) write(to *user, text []byte, ack bool) string {
	o := letter.Options{Room: letter.RoomPlain, Coded: true}
	if ack {
		o = letter.Options{Room: letter.RoomACK}
	}
	s, err := letter.Seal(to.id.Letter.Public(), letter.Message{Content: text}, o)
	must(u.t, err)
	name, err := u.store.Queue(Outgoing{Kind: content.Letter, Relay: FindNode(u.cons, "relay1").ID, Mailbox: to.mailbox, Ack: ack, Bodies: s.Bodies, Note: to.name})
	must(u.t, err)
	return name
}

// fetch takes out all letters that are whole.
func (u *user) fetch() (out []string) {
	in, err := u.store.Collect()
	must(u.t, err)
	if in.Damaged > 0 {
		u.t.Errorf("%d damaged files", in.Damaged)
	}
	for _, r := range in.Letters {
		must(u.t, r.Err)
		out = append(out, string(r.Letter.Content))
		must(u.t, in.Settle(u.store, r))
	}
	slices.Sort(out)
	return out
}
