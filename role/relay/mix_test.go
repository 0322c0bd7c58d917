package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/post/packetbox"
	"postern.email/wire/web"
)

const networkFile = "/network"

// testPeriod is so short that a descriptor of now is fresh in the epoch of now.
const testPeriod = directory.MaxSkew

// mixNet is a network with one authority, which agrees on what the test wants, and three
// mixes that take everything.
type mixNet struct {
	t     *testing.T
	auth  *dirtest.Authorities
	mixes [3]*testMix
}

// testMix is a mix that others connect to, and that keeps what comes.
type testMix struct {
	name string
	*link.Link
	addr string
	got  chan []byte
}

// Take is that of link.Handler.
func (m *testMix) Take(_ context.Context, _ link.Peer, unit []byte, r link.Receipt) {
	m.got <- bytes.Clone(unit)
	r.Commit()
}

func testLinkKey(name string) (ed25519.PrivateKey, link.Key) {
	seed := sha256.Sum256([]byte("link of " + name))
	priv := ed25519.NewKeyFromSeed(seed[:])
	key, err := link.KeyOf(priv.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return priv, key
}

// run calls fn until the test ends.
func run(t *testing.T, fn func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); fn(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func newMixNet(t *testing.T) *mixNet {
	n := &mixNet{t: t, auth: dirtest.New(t, "test.net", testPeriod, 1)}
	n.auth.Parameters = slices.Clone(directory.ProfileLow())
	for i := range n.auth.Parameters {
		switch p := &n.auth.Parameters[i]; p.Name {
		case directory.ReceiveInterval, directory.PayloadInterval, directory.LoopInterval, directory.DropInterval:
			p.Value = 10
		case directory.Delay:
			p.Value = 1
		case directory.LayerMinimum:
			p.Value = 1
		case directory.MixLoopInterval:
			p.Value = 86_400_000
		}
	}
	for i := range n.mixes {
		m := &testMix{name: fmt.Sprint("mix", i+1), got: make(chan []byte, 100)}
		priv, _ := testLinkKey(m.name)
		var err error
		m.Link, err = link.New(link.Options{Key: priv, Handler: m, Who: func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Relay}, true }})
		if err != nil {
			t.Fatal(err)
		}
		l := listener(t)
		m.addr = l.Addr().String()
		run(t, func(ctx context.Context) { _ = m.Serve(ctx, l) })
		n.mixes[i] = m
	}
	return n
}

// config is a relay in this network.
func (n *mixNet) config(fs vfs.FS, set ...string) Config {
	n.t.Helper()
	b, err := directory.FormatNetwork(n.auth.Network.Name(), n.auth.Network.Period(), n.auth.Network.Contacts())
	if err != nil {
		n.t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(fs, networkFile, b, 0o600); err != nil {
		n.t.Fatal(err)
	}
	return testConfig(n.t, "/data", append([]string{"mixnet.enabled=true", "mixnet.network=" + networkFile, "mixnet.nickname=home", "mixnet.listen=127.0.0.1:0", "mixnet.tokens_per_day=0"}, set...)...)
}

// consensus is one of now with the relay in it.
func (n *mixNet) consensus(s *Server) *directory.Consensus {
	n.t.Helper()
	<-s.mix.node.Described()
	nodes := append(n.mixDescriptors(), s.mix.node.Descriptor())
	return n.auth.Agree(n.t, n.auth.Network.Epoch(time.Now()), nil, nodes...)
}

// join puts a relay that runs into the network.
func (n *mixNet) join(s *Server) *directory.Consensus {
	n.t.Helper()
	c := n.consensus(s)
	if err := s.mix.cache.Put(c.Bytes()); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, "the relay is in the network", func() bool { return s.mix.node.Status().Listed })
	return c
}

// relayIn starts a relay in a network.
func relayIn(t *testing.T, set ...string) (*mixNet, *Server, *directory.Consensus) {
	t.Helper()
	n, fs := newMixNet(t), vfs.NewCrashDisk()
	s := begin(t, Deps{FS: fs, NoControl: true}, n.config(fs, set...))
	return n, s, n.join(s)
}

// dialer is a line to a relay's link, under a key.
func dialRelay(t *testing.T, s *Server, name string, h link.Handler, role link.Role, pace func() link.Pace) *link.Line {
	t.Helper()
	priv, _ := testLinkKey(name)
	peer := link.Peer{Key: s.mix.node.Link().Key(), Role: role}
	l, err := link.New(link.Options{Key: priv, Handler: h, Who: func(k link.Key) (link.Peer, bool) { return peer, k == peer.Key }, MinPause: 10 * time.Millisecond, MaxPause: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	line, err := l.Line(link.LineOptions{Peer: peer, Addresses: func() []string { return []string{s.Info().Mix} }, Pace: pace})
	if err != nil {
		t.Fatal(err)
	}
	run(t, line.Run)
	return line
}

// user is a client of the mix network.
type user struct {
	mu    sync.Mutex
	hold  bool // units are not answered
	got   []content.BoxUnit
	come  chan struct{} // capacity 1
	later []link.Receipt
}

// Take is that of link.Handler.
func (u *user) Take(_ context.Context, _ link.Peer, unit []byte, r link.Receipt) {
	b, err := content.ParseBoxUnit(bytes.Clone(unit))
	u.mu.Lock()
	if err == nil {
		u.got = append(u.got, b)
	}
	if u.hold {
		u.later = append(u.later, r)
	}
	hold := u.hold
	u.mu.Unlock()
	if !hold {
		r.Commit()
	}
	select {
	case u.come <- struct{}{}:
	default:
	}
}

func (u *user) items() []content.BoxUnit {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.got)
}

// release answers what was held.
func (u *user) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hold = false
	for _, r := range u.later {
		r.Commit()
	}
	u.later = nil
}

// steady is the pace of a client.
func steady() link.Pace {
	t := time.NewTicker(5 * time.Millisecond)
	return link.Pace{Ticks: t.C, Stop: t.Stop, Constant: true}
}

func clientOf(t *testing.T, s *Server, name string) (*user, *link.Line) {
	u := &user{come: make(chan struct{}, 1)}
	return u, dialRelay(t, s, name, u, link.Relay, steady)
}

// register asks /mix over HTTPS with a link key.
func register(t *testing.T, s *Server, method, address, password, key string) (int, string) {
	t.Helper()
	return askMix(t, s, method, address, password, "", key)
}

// askMix asks /mix over HTTPS.
func askMix(t *testing.T, s *Server, method, address, password, kind, body string) (int, string) {
	t.Helper()
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.Info().HTTPS+web.MixPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	r.SetBasicAuth(address, password)
	res, err := hc.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// joined registers a client of an account and gives its entry.
func joined(t *testing.T, s *Server, address, password, client string) web.MixEntry {
	t.Helper()
	_, key := testLinkKey(client)
	code, body := register(t, s, "POST", address, password, key.String())
	var e web.MixEntry
	if err := json.Unmarshal([]byte(body), &e); err != nil || code != 200 {
		t.Fatal(code, body, err)
	}
	return e
}

func mailboxOf(t *testing.T, e web.MixEntry) packet.ID {
	t.Helper()
	b, err := hex.DecodeString(e.Mailbox)
	if err != nil || len(b) != 32 {
		t.Fatal(e.Mailbox, err)
	}
	return packet.ID(b)
}

// relayKey is the relay's packet key of now.
func relayKey(t *testing.T, c *directory.Consensus, s *Server) packet.Hop {
	t.Helper()
	id := s.mix.node.ID()
	return packet.Hop{Node: id, Key: c.Find(id).Key(time.Now())}
}

// toMailbox builds a packet as it arrives at the last layer.
func toMailbox(t *testing.T, hop packet.Hop, mailbox packet.ID, c packet.Content) []byte {
	t.Helper()
	hop.Delay = 0
	p, err := packet.Build(nil, packet.Route{First: packet.Last, Hops: []packet.Hop{hop}}, packet.Dest{Command: packet.Deliver, Mailbox: mailbox}, c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return fill(p)
}

// fill makes a unit of a packet.
func fill(p []byte) []byte {
	n := len(p)
	p = append(p, make([]byte, packet.Size-n)...)
	_, _ = rand.Read(p[n:])
	return p
}

// TestMixRelay is the whole way: a user registers with address and password; a packet for the
// mailbox that comes over a mix's link is stored and acknowledged, the end-to-end
// acknowledgement goes into layer 1, the client gets the packet over its own link, and it
// leaves the relay when the client has taken it. A packet of the client's goes on to layer 1.
func TestMixRelay(t *testing.T) {
	n, s, c := relayIn(t)
	e := joined(t, s, anna, annas, "annas client")
	if e.Node != fmt.Sprintf("%x", s.mix.node.ID()) || e.LinkKey != s.mix.node.Link().Key().String() || len(e.Addresses) != 1 {
		t.Errorf("%+v", e)
	}
	if net, err := directory.ParseNetwork([]byte(e.Network)); err != nil || net.Name() != "test.net" {
		t.Error("the network file:", err)
	}
	u, line := clientOf(t, s, "annas client")
	u.hold = true
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)

	// With a reply block for the acknowledgement.
	hop := relayKey(t, c, s)
	seed := packet.Seed{1}
	first := layerOne(n, c)
	hops := []packet.Hop{hopOf(t, c, 1), hopOf(t, c, 2), hopOf(t, c, 3), hop}
	surb, _, err := packet.NewSURB(hops, mailboxOf(t, e), &seed, time.Now().Add(24*time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	unit := toMailbox(t, hop, mailboxOf(t, e), packet.Content{Kind: content.Letter, SURB: surb, Body: []byte("canary in a letter")})
	again := bytes.Clone(unit)
	if err := mix.Send(t.Context(), unit); err != nil {
		t.Fatal(err)
	}
	if err := mix.Send(t.Context(), again); err != nil { // the answer was lost
		t.Fatal(err)
	}
	until(t, "the client has the packet", func() bool { return len(u.items()) == 1 })
	got, err := packet.OpenContent(bytes.Clone(u.items()[0].Payload))
	if err != nil || got.Kind != content.Letter || string(got.Body) != "canary in a letter" || u.items()[0].Reply {
		t.Errorf("%+v %v", got, err)
	}
	if w := s.packets.Stats().Waiting; w != 1 {
		t.Errorf("%d packets wait, before the client has taken it", w)
	}
	u.release()
	until(t, "it has left the relay", func() bool { return s.packets.Stats().Waiting == 0 })
	reply := <-first.got
	if p, err := packet.ParsePrefix(reply[:packet.SizeAt(1)]); err != nil || p.Layer != 1 {
		t.Errorf("the acknowledgement: %+v %v", p, err)
	}

	// On from layer 0.
	route := packet.Route{First: 0, Hops: append([]packet.Hop{hop}, hops...)}
	out, err := packet.Build(nil, route, packet.Dest{Command: packet.Deliver, Mailbox: mailboxOf(t, e)}, packet.Content{Kind: content.Letter, Body: []byte("x")}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Send(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if p, err := packet.ParsePrefix((<-first.got)[:packet.SizeAt(1)]); err != nil || p.Layer != 1 {
		t.Errorf("the packet: %+v %v", p, err)
	}
	if len(u.items()) != 1 {
		t.Errorf("the client got %d packets", len(u.items()))
	}
}

// layerOne is the mix of layer 1, hopOf the hop of a layer.
func layerOne(n *mixNet, c *directory.Consensus) *testMix {
	for i := range c.Nodes {
		for _, m := range n.mixes {
			if c.Nodes[i].Layer == 1 && c.Nodes[i].Nickname == m.name {
				return m
			}
		}
	}
	n.t.Fatal("no mix is in layer 1")
	return nil
}

func hopOf(t *testing.T, c *directory.Consensus, layer int) packet.Hop {
	t.Helper()
	for i := range c.Nodes {
		if e := &c.Nodes[i]; e.Mode == directory.Mix && e.Layer == layer {
			return packet.Hop{Node: e.ID, Key: e.Key(time.Now())}
		}
	}
	t.Fatalf("no mix is in layer %d", layer)
	return packet.Hop{}
}

// TestMixOrderAndAgain: packets wait while the client is away, come in their order, and again
// when the connection ended before the client's answer.
func TestMixOrderAndAgain(t *testing.T) {
	n, s, c := relayIn(t)
	e := joined(t, s, anna, annas, "annas client")
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
	hop := relayKey(t, c, s)
	for i := range 6 {
		if err := mix.Send(t.Context(), toMailbox(t, hop, mailboxOf(t, e), packet.Content{Kind: content.Plain, Body: []byte{byte(i)}})); err != nil {
			t.Fatal(err)
		}
		until(t, "it is in the mailbox", func() bool { return s.packets.Stats().Waiting == int64(i+1) })
	}
	numbers := func(u *user) (ns []uint64) {
		for _, b := range u.items() {
			ns = append(ns, b.Item)
		}
		return ns
	}
	func() {
		u := &user{come: make(chan struct{}, 1), hold: true}
		priv, _ := testLinkKey("annas client")
		peer := link.Peer{Key: s.mix.node.Link().Key(), Role: link.Relay}
		l, err := link.New(link.Options{Key: priv, Handler: u, Who: func(k link.Key) (link.Peer, bool) { return peer, k == peer.Key }})
		if err != nil {
			t.Fatal(err)
		}
		line, err := l.Line(link.LineOptions{Peer: peer, Addresses: func() []string { return []string{s.Info().Mix} }, Pace: steady})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); line.Run(ctx) }()
		until(t, "some packets came", func() bool { return len(u.items()) >= 3 })
		cancel()
		<-done
		u.release()
	}()
	if w := s.packets.Stats().Waiting; w != 6 {
		t.Errorf("%d wait", w)
	}
	u, _ := clientOf(t, s, "annas client")
	until(t, "all have come", func() bool { return s.packets.Stats().Waiting == 0 })
	if got := numbers(u); !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Error(got)
	}
}

// TestMixWhoMayConnect: a client's connection ends with its key, with a block, and with the
// account; unknown keys get none.
func TestMixWhoMayConnect(t *testing.T) {
	_, s, _ := relayIn(t)
	clients := func() int { return s.mix.feed.Stats().Connections }
	clientOf(t, s, "stranger")
	joined(t, s, anna, annas, "annas client")
	_, key := testLinkKey("annas client")
	clientOf(t, s, "annas client")
	is := func(want int) {
		t.Helper()
		until(t, fmt.Sprintf("%d clients", want), func() bool { return clients() == want })
	}
	is(1)
	if err := s.accounts.Block(t.Context(), addr("anna")); err != nil {
		t.Fatal(err)
	}
	s.mix.recheck()
	is(0)
	if err := s.accounts.Unblock(t.Context(), addr("anna")); err != nil {
		t.Fatal(err)
	}
	is(1)
	if code, body := register(t, s, "DELETE", anna, annas, key.String()); code != 204 {
		t.Error(code, body)
	}
	is(0)
	joined(t, s, anna, annas, "annas client")
	is(1)
	if err := s.accounts.Reset(t.Context(), addr("anna"), "another password"); err != nil {
		t.Fatal(err)
	}
	is(0)
	joined(t, s, anna, "another password", "annas client")
	is(1)
	if err := s.accounts.Delete(t.Context(), addr("anna")); err != nil {
		t.Fatal(err)
	}
	is(0)
	if st := s.packets.Stats(); st.Boxes != 0 {
		t.Errorf("%+v", st)
	}
}

// TestMixBlockCommand: the command ends the connection by itself.
func TestMixBlockCommand(t *testing.T) {
	_, s, _ := relayIn(t)
	joined(t, s, anna, annas, "annas client")
	clientOf(t, s, "annas client")
	until(t, "the client is there", func() bool { return s.mix.feed.Stats().Connections == 1 })
	command(t, s, "account.block", AccountArgs{Address: "anna"}, nil)
	until(t, "it is gone", func() bool { return s.mix.feed.Stats().Connections == 0 })
}

// command runs one of the control socket's.
func command(t *testing.T, s *Server, name string, args any, into any) {
	t.Helper()
	if err := tryCommand(t, s, name, args, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func tryCommand(t *testing.T, s *Server, name string, args any, into any) error {
	t.Helper()
	in, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.commands()[name](t.Context(), in, func(any) error { return nil })
	if err != nil {
		return err
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	return nil
}

// TestMixAccountCommand: an operator registers, lists and removes clients.
func TestMixAccountCommand(t *testing.T) {
	_, s, _ := relayIn(t)
	var a MixAccount
	if err := tryCommand(t, s, "account.mix", AccountArgs{Address: "anna"}, nil); errs.KindOf(err) != errs.NotFound || errs.Public(err) != "there is no such account" {
		t.Error(err)
	}
	allowed(t, login(s, anna, annas))
	command(t, s, "account.mix", AccountArgs{Address: "anna"}, &a)
	if a.Address != anna || len(a.Clients) != 0 || a.Mailbox != "" || a.Entry != nil {
		t.Errorf("%+v", a)
	}
	_, key := testLinkKey("annas client")
	command(t, s, "account.mix", AccountArgs{Address: "anna", Key: key.String()}, &a)
	if len(a.Clients) != 1 || a.Clients[0].Key != key.String() || a.Clients[0].Since != time.Now().UTC().Format(time.DateOnly) || a.Entry == nil || a.Entry.Mailbox != a.Mailbox {
		t.Errorf("%+v", a)
	}
	a = MixAccount{}
	command(t, s, "account.mix", AccountArgs{Address: "anna", Key: key.String(), Remove: true}, &a)
	if len(a.Clients) != 0 || a.Entry != nil {
		t.Errorf("%+v", a)
	}
	err := tryCommand(t, s, "account.mix", AccountArgs{Address: "anna", Key: key.String(), Remove: true}, nil)
	if errs.KindOf(err) != errs.NotFound || errs.Public(err) != "the account has no client with this link key" {
		t.Error(err)
	}
	err = tryCommand(t, s, "account.mix", AccountArgs{Address: "anna", Key: "zz"}, nil)
	if errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	other := inMemory(t)
	allowed(t, login(other, anna, annas))
	err = tryCommand(t, other, "account.mix", AccountArgs{Address: "anna", Key: key.String()}, nil)
	if errs.KindOf(err) != errs.Unsupported || !strings.Contains(errs.Public(err), "mixnet.enabled") {
		t.Error(err)
	}
	if code, body := register(t, other, "POST", anna, annas, key.String()); code != 404 {
		t.Error(code, body)
	}
}

// TestMixRegistration: wrong passwords, blocked accounts and a fifth client are refused; what
// was refused has no client.
func TestMixRegistration(t *testing.T) {
	_, s, _ := relayIn(t, "web.requests_per_second=0")
	_, key := testLinkKey("annas client")
	allowed(t, login(s, anna, annas))
	if code, body := register(t, s, "POST", anna, "a wrong password", key.String()); code != 401 || !strings.Contains(body, "name or password is wrong") {
		t.Error(code, body)
	}
	for i := range packetbox.MaxKeys {
		joined(t, s, anna, annas, fmt.Sprint("client ", i))
	}
	if code, body := register(t, s, "POST", anna, annas, key.String()); code != 409 || !strings.Contains(body, "four clients") {
		t.Error(code, body)
	}
	_, theirs := testLinkKey("client 0")
	if code, body := register(t, s, "POST", "ben@example.org", "ben's password", theirs.String()); code != 409 || !strings.Contains(body, "another account") {
		t.Error(code, body)
	}
	if err := s.accounts.Block(t.Context(), addr("anna")); err != nil {
		t.Fatal(err)
	}
	if code, _ := register(t, s, "POST", anna, annas, theirs.String()); code != 403 {
		t.Error(code)
	}
	if _, err := s.packets.Client(t.Context(), key); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}

// TestMixKeepsItself: after a restart the relay has the same identity, link key, name key and
// mailboxes, and its files are not open.
func TestMixKeepsItself(t *testing.T) {
	n, fs := newMixNet(t), vfs.NewCrashDisk()
	c := n.config(fs)
	var before []string
	for range 2 {
		s, err := Start(t.Context(), Deps{FS: fs, NoControl: true, NewRSA: someRSA, StopGrace: 50 * time.Millisecond}, c)
		if err != nil {
			t.Fatal(err)
		}
		<-s.mix.node.Described()
		d := s.mix.node.Descriptor()
		if d.NameKey.ID() != s.mix.name.Public().ID() || d.Mode != directory.Relay|directory.Mailbox || !slices.Equal(d.Domains, []string{"example.org"}) {
			t.Errorf("%+v", d.Node)
		}
		e := joined(t, s, anna, annas, "annas client")
		now := []string{e.Node, e.LinkKey, e.Mailbox, fmt.Sprintf("%x", d.NameKey.ID())}
		if before != nil && !slices.Equal(before, now) {
			t.Errorf("%v\nbefore %v", now, before)
		}
		before = now
		secrets := [][]byte{s.mix.keys.LogSecret(), s.mix.keys.Link().Seed(), s.mix.keys.Identity().Seed()[:32], s.mix.name.Seed()[:32]}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, x := range secrets {
			if found := disktest.Holding(t, fs, "/data", x, []byte(hex.EncodeToString(x))); len(found) != 0 {
				t.Error("a key lies open in", found)
			}
		}
	}
}

// TestMixNothingInTheClear: what a packet holds, whose mailbox it is for, and the keys of
// clients are in no file; with the node key exactly that is told which the table names.
func TestMixNothingInTheClear(t *testing.T) {
	n, s, c := relayIn(t)
	e := joined(t, s, anna, annas, "annas client")
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
	unit := toMailbox(t, relayKey(t, c, s), mailboxOf(t, e), packet.Content{Kind: content.Plain, Body: []byte("canary in a packet")})
	if err := mix.Send(t.Context(), unit); err != nil {
		t.Fatal(err)
	}
	until(t, "it is in the mailbox", func() bool { return s.packets.Stats().Waiting == 1 })
	mailbox, _ := hex.DecodeString(e.Mailbox)
	_, key := testLinkKey("annas client")
	told := revealed(t, s)
	id, err := s.accounts.Show(t.Context(), addr("anna"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mix-name: a mailbox is account " + id.ID.String(), "mix-client: account " + id.ID.String() + ": link key " + key.String(),
		"mix-packet: account " + id.ID.String() + " packet 1: a message", "mix-key: the key of names", "mix-key: the identity of the node", "mix-key: packet key"} {
		if !strings.Contains(told, want) {
			t.Errorf("not told: %s in\n%s", want, told)
		}
	}
	if strings.Contains(told, "canary") {
		t.Error("what is sealed end to end is told") // Plain is not, but nobody looks into a payload
	}
	fs := s.d.FS
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found := disktest.Holding(t, fs, "/data", []byte("canary"), mailbox, []byte(e.Mailbox), key[:], []byte(key.String())); len(found) != 0 {
		t.Error("in the clear in", found)
	}
}

// TestMixUsed: an account whose client connects counts as used.
func TestMixUsed(t *testing.T) {
	var clk clock
	n, fs := newMixNet(t), vfs.NewCrashDisk()
	s := begin(t, Deps{FS: fs, NoControl: true, Now: clk.now}, n.config(fs))
	n.join(s)
	joined(t, s, anna, annas, "annas client")
	before, err := s.accounts.Show(t.Context(), addr("anna"))
	if err != nil {
		t.Fatal(err)
	}
	clk.ahead.Store(int64(24 * time.Hour))
	clientOf(t, s, "annas client")
	until(t, "the day is written", func() bool {
		a, err := s.accounts.Show(t.Context(), addr("anna"))
		return err == nil && a.LastLogin == before.LastLogin+1
	})
}

// TestMixStatus: numbers of the network, and no names.
func TestMixStatus(t *testing.T) {
	if st := inMemory(t).Status(); st.Mixnet != nil {
		t.Errorf("%+v", st.Mixnet)
	}
	n, s, c := relayIn(t)
	joined(t, s, anna, annas, "annas client")
	clientOf(t, s, "annas client")
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
	e := joined(t, s, "ben@example.org", "ben's password", "bens client")
	if err := mix.Send(t.Context(), toMailbox(t, relayKey(t, c, s), mailboxOf(t, e), packet.Content{Kind: content.Plain, Body: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	until(t, "all is there", func() bool {
		m := s.Status().Mixnet
		return m.Links.Clients == 1 && m.Mailboxes.All == 2 && m.Mailboxes.Packets == 1
	})
	m := s.Status().Mixnet
	if !m.Listed || m.Epoch != c.Epoch || m.ValidUntil != c.ValidUntil().UTC().Format(time.RFC3339) || m.Nickname != "home" || m.Health != "ok" || m.Directory != "" || m.Authorities.All != 1 {
		t.Errorf("%+v", m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"anna", "ben", e.Mailbox, "127.0.0.1"} {
		if strings.Contains(string(b), no) {
			t.Errorf("%s is in the status: %s", no, b)
		}
	}
}

// TestMixDoctor: each thing that can be wrong with the mix network is said, with what to do.
func TestMixDoctor(t *testing.T) {
	if found := diagnosed(t, inMemory(t), "mix network: directory"); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	says := func(s *Server, what, text string, ok bool) {
		t.Helper()
		if d := diagnosis(t, s, what); d.OK != ok || !strings.Contains(d.Text, text) {
			t.Errorf("%s: %+v", what, d)
		}
	}
	var clk clock
	n, fs := newMixNet(t), vfs.NewCrashDisk()
	l := listener(t)
	s := begin(t, Deps{FS: fs, NoControl: true, Now: clk.now, Sockets: map[string]net.Listener{"mix": l}}, n.config(fs, "mixnet.addresses="+l.Addr().String()))
	says(s, "mix network: directory", "no consensus of the network is known yet", false)
	says(s, "mix network: disk", "0 packets", true)
	says(s, "mix network: link", "answers", true)
	n.join(s)
	says(s, "mix network: directory", "this relay is in it", true)
	says(s, "mix network: clock", "fits", true)
	clk.ahead.Store(int64(5 * time.Hour))
	s.mix.node.Renew()
	until(t, "the node has seen the time", func() bool { return s.mix.node.Status().Directory != nil })
	says(s, "mix network: directory", "the consensus is not valid now", false)

	none := listener(t)
	none.Close()
	fs = vfs.NewCrashDisk()
	other := begin(t, Deps{FS: fs, NoControl: true}, n.config(fs, "mixnet.publish=false", "mixnet.addresses="+none.Addr().String()+","+n.mixes[0].addr))
	for i, want := range []string{"does not answer as a link", "answers with another key than this relay's"} {
		if found := diagnosed(t, other, "mix network: link"); len(found) != 2 || !strings.Contains(found[i].Text, want) || found[i].OK {
			t.Errorf("%+v", found)
		}
	}
	c := n.auth.Agree(t, n.auth.Network.Epoch(time.Now()), nil, n.mixDescriptors()...)
	if err := other.mix.cache.Put(c.Bytes()); err != nil {
		t.Fatal(err)
	}
	until(t, "the node knows the network", func() bool { return other.mix.node.Status().Epoch != 0 })
	says(other, "mix network: directory", "its authorities are not told of it", false)
}

// mixDescriptors are those of the mixes.
func (n *mixNet) mixDescriptors() (all []*directory.Descriptor) {
	now := time.Now()
	for _, m := range n.mixes {
		_, key := testLinkKey(m.name)
		all = append(all, n.auth.Mix(n.t, m.name, now, func(d *directory.Descriptor) {
			d.LinkKey, d.Addresses, d.Published = directory.Hash(key), []string{m.addr}, now.Truncate(time.Second)
		}))
	}
	return all
}
