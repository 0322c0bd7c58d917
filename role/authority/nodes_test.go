package authority

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// alone is the core of one authority, with a clock that the test moves.
type alone struct {
	t     testing.TB
	disk  vfs.FS
	clock *clocktest.Clock
	net   *directory.Network
	log   bytes.Buffer
	*core
}

func newAlone(t testing.TB) *alone {
	t.Helper()
	key := newNode(t, "alone", directory.Mix).id
	n, err := directory.NewNetwork("test.net", time.Hour, []*directory.PublicKey{key.Public()})
	must(t, err)
	a := &alone{t: t, disk: vfs.NewCrashDisk(), clock: clocktest.New(n.Begin(500_000)), net: n}
	must(t, vfs.MkdirAll(a.disk, "/data", 0o700))
	a.again()
	return a
}

// again opens the core as a restart does.
func (a *alone) again() {
	a.t.Helper()
	var err error
	a.core, err = openCore(coreOptions{disk: disk{a.disk, "/data"}, net: a.net, signer: newNode(a.t, "alone", directory.Mix).id, params: directory.ProfileLow(), keep: 3,
		give: func(*directory.Consensus) {}, now: a.clock.Now, log: slog.New(slog.NewTextHandler(&a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	must(a.t, err)
}

// publish publishes what a node says of itself now.
func (a *alone) offer(n *someNode, change ...func(*directory.Descriptor)) (*directory.Descriptor, bool, error) {
	a.t.Helper()
	a.clock.Add(time.Second) // later descriptors are newer
	d := n.descriptor(a.t, a.clock.Now(), change...)
	held, err := a.core.publish(n.linkKey(a.t), d.Bytes())
	return d, held, err
}

func (a *alone) only(id packet.ID) Node {
	a.t.Helper()
	n, err := pick(a.core.nodes(), idText(id), true)
	must(a.t, err)
	return n
}

func refused(t testing.TB, err error, kind errs.Kind, public string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || errs.Public(err) != public {
		t.Errorf("got %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Public(err), kind, public)
	}
}

// A new node is held until the operator approves it; its later descriptors are taken by
// themselves, but not what claims something new; a foreign key for a known nickname is
// refused. All of it survives a restart.
func TestApproval(t *testing.T) {
	a := newAlone(t)
	mix, foe := newNode(t, "mixA", directory.Mix), newNode(t, "foe", directory.Mix)
	d, held, err := a.offer(mix)
	must(t, err)
	if !held {
		t.Fatal("a new node is not held")
	}
	a.again()
	n := a.only(d.ID())
	if n.State != StateWaits || n.Reason != "it is new" || n.Nickname != "mixA" || n.Since != a.clock.Now().Format(stamp) || n.Fresh {
		t.Fatalf("%+v", n)
	}
	if got := a.registry.Fresh(a.clock.Now()); len(got) != 0 {
		t.Error("it is voted for")
	}
	// What is approved is what was looked at.
	newer, _, err := a.offer(mix)
	must(t, err)
	refused(t, a.approve(d.ID(), d.Hash()), errs.NotFound, "no such descriptor waits for a decision")
	must(t, a.approve(newer.ID(), newer.Hash()))
	a.again()
	if n := a.only(d.ID()); n.State != StateApproved || !n.Fresh || n.Score == nil || *n.Score != directory.NeutralScore {
		t.Fatalf("%+v", n)
	}
	// Later descriptors are taken by themselves.
	later, held, err := a.offer(mix, func(d *directory.Descriptor) { d.Addresses = []string{"192.0.2.1:1"} })
	must(t, err)
	if n := a.only(d.ID()); held || n.State != StateApproved || n.Descriptor != later.Hash().String() || n.Addresses[0] != "192.0.2.1:1" {
		t.Fatalf("held %v: %+v", held, n)
	}
	// One that claims something new waits, and the old one stays.
	_, held, err = a.offer(mix, func(d *directory.Descriptor) { d.Family = "big" })
	must(t, err)
	a.again()
	n = a.only(d.ID())
	if !held || n.State != StateChanged || n.Reason != "it claims another family" || n.Was == nil || n.Was.Family != "" || !n.Fresh {
		t.Fatalf("held %v: %+v", held, n)
	}
	// Another identity cannot have the nickname, in whatever case.
	_, _, err = a.offer(foe, func(d *directory.Descriptor) { d.Nickname = "MIXa" })
	refused(t, err, errs.Denied, "the nickname belongs to a node with another key")
	// An older descriptor is refused, and so is another network's.
	held, err = a.core.publish(mix.linkKey(t), d.Bytes())
	refused(t, err, errs.Conflict, "a newer descriptor of this node is known")
	_, _, err = a.offer(foe, func(d *directory.Descriptor) { d.Network = "other.net" })
	refused(t, err, errs.Denied, "descriptor is of another network")
	_ = held
	// A link key must be shown to be claimed.
	_, err = a.core.publish(mix.linkKey(t), foe.descriptor(t, a.clock.Now()).Bytes())
	refused(t, err, errs.Denied, "the descriptor names another link key than that of this connection")
	_, err = a.core.publish(link.Key{}, []byte("hello"))
	refused(t, err, errs.Invalid, "line 1: no end of line")

	// What was rejected is refused, and its nickname is free.
	must(t, a.reject(d.ID()))
	a.again()
	if n := a.only(d.ID()); n.State != StateRejected || n.Since == "" {
		t.Fatalf("%+v", n)
	}
	_, _, err = a.offer(mix)
	refused(t, err, errs.Denied, "the operator rejected this node")
	_, held, err = a.offer(foe, func(d *directory.Descriptor) { d.Nickname = "MIXa" })
	if err != nil || !held {
		t.Errorf("held %v, %v", held, err)
	}
	// What is forgotten may come back, and waits.
	must(t, a.forget(d.ID()))
	refused(t, a.forget(d.ID()), errs.NotFound, "no such node is known")
	a.again()
	if _, held, err := a.offer(mix, func(d *directory.Descriptor) { d.Nickname = "mixB" }); err != nil || !held {
		t.Errorf("held %v, %v", held, err)
	}
	// A node that was not approved in time is dropped, from the disk too.
	a.tick()
	a.clock.Add(24 * time.Hour)
	a.tick()
	a.again()
	if all := a.core.nodes(); len(all) != 0 {
		t.Errorf("%d nodes wait for ever", len(all))
	}
}

// A publication of a node that nobody knows is counted against all of them together; those of
// known nodes are not.
func TestPublishLimit(t *testing.T) {
	w := newAlone(t)
	var c Config
	c.Nodes.PublishPerMinute = 4
	s := &Server{core: w.core, net: w.net, publishing: publishLimit(c, Deps{Now: w.clock.Now}), d: Deps{}.withDefaults()}
	known := newNode(t, "mixA", directory.Mix)
	publish := func(n *someNode) error {
		w.clock.Add(time.Second)
		r, err := directory.AppendRequest(nil, directory.Request{Kind: directory.RequestPublish, Document: n.descriptor(t, w.clock.Now()).Bytes()})
		must(t, err)
		_, err = s.answer(t.Context(), link.Peer{Key: n.linkKey(t)}, r)
		return err
	}
	must(t, publish(known))
	n := w.only(known.id.Public().ID())
	h, _ := parseID(n.Descriptor)
	must(t, w.approve(known.id.Public().ID(), directory.Hash(h)))
	limited := 0
	for i := range 4 {
		if err := publish(newNode(t, fmt.Sprintf("stranger%d", i), directory.Mix)); err != nil {
			refused(t, err, errs.Busy, "too many unknown nodes publish now")
			limited++
		}
	}
	if limited != 3 { // two at once, of which one was the known node's
		t.Errorf("%d of 4 were put off", limited)
	}
	must(t, publish(known))
}

// Fingerprints name nodes by their first digits, nicknames only where nothing is let in.
func TestPick(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("a", 16)+strings.Repeat("b", 48)
	nodes := []Node{{ID: a, Nickname: "one"}, {ID: b, Nickname: "two"}, {ID: strings.Repeat("c", 64), Nickname: "One"}}
	for _, x := range []struct {
		name  string
		exact bool
		want  string
		kind  errs.Kind
		text  string
	}{
		{a, true, a, 0, ""},
		{strings.Repeat("a", 17), true, a, 0, ""},
		{strings.Repeat("A", 17), true, a, 0, ""},
		{strings.Repeat("c", 16), true, strings.Repeat("c", 64), 0, ""},
		{"two", false, b, 0, ""},
		{"two", true, "", errs.NotFound, "no known node has a fingerprint that begins with these digits; 16 or more are needed, and a nickname is not enough, because anybody can claim one"},
		{strings.Repeat("c", 15), true, "", errs.NotFound, "no known node has a fingerprint that begins with these digits; 16 or more are needed, and a nickname is not enough, because anybody can claim one"},
		{strings.Repeat("a", 16), true, "", errs.Invalid, "2 nodes are called that; write the first 16 digits of the fingerprint"},
		{"one", false, "", errs.Invalid, "2 nodes are called that; write the first 16 digits of the fingerprint"},
		{"", false, "", errs.NotFound, "no known node has this nickname or fingerprint"},
	} {
		n, err := pick(nodes, x.name, x.exact)
		if x.text != "" {
			refused(t, err, x.kind, x.text)
		} else if err != nil || n.ID != x.want {
			t.Errorf("%s: %v, %v", x.name, n.ID, err)
		}
	}
}

// What mixes measured is kept over a restart and makes the scores that the authority votes
// for. Only a mix that takes part is heard, and each epoch once.
func TestScores(t *testing.T) {
	a := newAlone(t)
	var nodes []*someNode
	for i := range 4 {
		n := newNode(t, fmt.Sprintf("mix%d", i), directory.Mix)
		nodes = append(nodes, n)
		d, _, err := a.offer(n)
		must(t, err)
		must(t, a.approve(d.ID(), d.Hash()))
	}
	report := func(by *someNode, epoch uint64) error {
		v := directory.Stats{Network: "test.net", Epoch: epoch}
		for _, n := range []*someNode{nodes[0], nodes[1], nodes[2], nodes[3]} {
			if n.id != by.id {
				returned := uint64(20)
				if n == nodes[3] {
					returned = 5
				}
				v.Loops = append(v.Loops, directory.Loops{Through: n.id.Public().ID(), Sent: 20, Returned: returned})
			}
		}
		sortLoops(v.Loops)
		s, err := directory.SignStats(v, by.id)
		must(t, err)
		return a.core.stats(s.Bytes())
	}
	epoch := a.net.Epoch(a.clock.Now())
	for _, n := range nodes[:3] {
		must(t, report(n, epoch-1))
	}
	refused(t, report(nodes[0], epoch-1), errs.Exists, "statistics of this epoch or a later one are here")
	refused(t, report(nodes[0], epoch), errs.Invalid, "statistics of an epoch that is not over")
	refused(t, report(newNode(t, "stranger", directory.Mix), epoch-1), errs.Denied, "not a node of this network")
	a.again()
	for i, want := range []uint64{1000, 1000, 1000, 250} {
		if n := a.only(nodes[i].id.Public().ID()); n.Score == nil || *n.Score != want {
			t.Errorf("mix %d has score %v, want %d", i, n.Score, want)
		}
	}
	// The vote says so.
	a.clock.Add(a.net.Begin(epoch).Add(10 * time.Minute).Sub(a.clock.Now()))
	a.tick()
	scores := map[string]bool{}
	for _, d := range a.documents(epoch + 1) {
		if kindOf(d) == kindVote {
			v, err := directory.ParseVote(a.net, d)
			must(t, err)
			for _, l := range v.Nodes {
				scores[fmt.Sprint(idText(l.ID)[:8], l.Score)] = true
			}
		}
	}
	if id := nodes[3].id.Public().ID(); len(scores) != 4 || !scores[fmt.Sprint(idText(id)[:8], 250)] {
		t.Errorf("voted for %v", scores)
	}
	// Measurements that count no more leave the disk.
	a.clock.Add(13 * 24 * time.Hour)
	a.tick()
	a.clock.Add(time.Hour)
	a.tick()
	if names, err := a.core.disk.list(historyDir); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func sortLoops(l []directory.Loops) {
	for i := range l {
		for j := range l[:i] {
			if bytes.Compare(l[i].Through[:], l[j].Through[:]) < 0 {
				l[i], l[j] = l[j], l[i]
			}
		}
	}
}

// A disk that fails keeps a decision from being taken: memory is no further than the disk.
func TestFullDisk(t *testing.T) {
	a := newAlone(t)
	full := vfs.NewFaults(a.disk)
	a.disk = full
	a.again()
	d, _, err := a.offer(newNode(t, "mixA", directory.Mix))
	must(t, err)
	full.SetSpace(0)
	refused(t, a.approve(d.ID(), d.Hash()), errs.NoSpace, "cannot write to the data directory")
	if n := a.only(d.ID()); n.State != StateWaits {
		t.Errorf("%+v", n)
	}
	full.SetSpace(-1)
	must(t, a.approve(d.ID(), d.Hash()))

	// What it would say is not said before it can be kept.
	epoch := a.net.Epoch(a.clock.Now()) + 2
	a.clock.Add(a.net.Begin(epoch - 1).Add(10 * time.Minute).Sub(a.clock.Now()))
	full.SetSpace(0)
	next := a.tick()
	if docs := a.documents(epoch); len(docs) != 0 {
		t.Errorf("%d documents are given out and not kept", len(docs))
	}
	if wait := next.Sub(a.clock.Now()); wait > 2*time.Minute {
		t.Errorf("it is tried again in %v", wait)
	}
	full.SetSpace(-1)
	a.clock.Add(time.Minute)
	a.tick()
	if docs := a.documents(epoch); len(docs) != 1 || kindOf(docs[0]) != kindVote {
		t.Errorf("%d documents", len(docs))
	}
}

// The file of a node has one form; anything else is damage that is told.
func FuzzRecord(f *testing.F) {
	n := newNode(f, "mixA", directory.Mix)
	at := time.Unix(1_800_000_000, 0).UTC()
	d := n.descriptor(f, at)
	later := n.descriptor(f, at.Add(time.Hour))
	for _, r := range []record{{since: at, rejected: true}, {since: at, held: d}, {since: at, approved: d}, {since: at, approved: d, held: later}} {
		f.Add(r.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(d.ID(), b)
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.bytes(), b) {
			t.Fatalf("read\n%q\nand wrote\n%q", b, r.bytes())
		}
	})
}

// A damaged file of a node is told of and left alone; all others are there.
func TestDamagedNode(t *testing.T) {
	a := newAlone(t)
	good, bad := newNode(t, "mixA", directory.Mix), newNode(t, "mixB", directory.Mix)
	for _, n := range []*someNode{good, bad} {
		_, _, err := a.offer(n)
		must(t, err)
	}
	name := "/data/" + nodeDir + "/" + idText(bad.id.Public().ID())
	b, err := vfs.ReadFile(a.disk, name)
	must(t, err)
	for _, cut := range []func() []byte{
		func() []byte { return b[:len(b)-1] },
		func() []byte { return append(bytes.Clone(b), "rejected\n"...) },
		func() []byte { return bytes.Replace(b, []byte("held"), []byte("kept"), 1) },
		func() []byte { return bytes.Replace(b, []byte("since 2"), []byte("since x"), 1) },
		func() []byte { c := bytes.Clone(b); c[len(c)-20] ^= 1; return c },
		func() []byte { return (&record{since: a.clock.Now(), held: good.descriptor(t, a.clock.Now())}).bytes() },
	} {
		must(t, vfs.WriteFileAtomic(a.disk, name, cut(), 0o600))
		a.log.Reset()
		a.again()
		if all := a.core.nodes(); len(all) != 1 || all[0].Nickname != "mixA" {
			t.Errorf("%d nodes", len(all))
		}
		if !strings.Contains(a.log.String(), "the file of a node is damaged") {
			t.Errorf("not told: %s", a.log.String())
		}
	}
}
