package directory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/mixnet/packet"
)

// world is some authorities and the ways between them, for one epoch. Time goes in steps of
// 1/32 of a period.
type world struct {
	t        testing.TB
	net      *Network
	keys     []*PrivateKey
	machines []*Machine
	epoch    uint64
	liar     int                                  // -1: nobody
	lie      func(to int, docs [][]byte) [][]byte // what the liar gives instead
	lost     func(step, from, to int) bool
	delay    func() int
	random   *rand.Rand
	mail     []letter
	sent     map[string]bool
}

type letter struct {
	step, to int
	doc      []byte
}

const steps = 32

func newWorld(t testing.TB, authorities int, epoch uint64, view func(i int) View) *world {
	t.Helper()
	w := &world{t: t, epoch: epoch, liar: -1, sent: map[string]bool{}, random: rand.New(rand.NewPCG(1, 2))}
	w.net, w.keys = testNetwork(t, authorities)
	w.lost = func(int, int, int) bool { return false }
	w.delay = func() int { return 0 }
	for i, k := range w.keys {
		m, err := NewMachine(w.net, epoch, k, testSecret(i))
		must(t, err)
		must(t, m.SetView(view(i)))
		w.machines = append(w.machines, m)
	}
	return w
}

func (w *world) honest() (out []*Machine) {
	for i, m := range w.machines {
		if i != w.liar {
			out = append(out, m)
		}
	}
	return out
}

// run goes through the epoch before the one that is agreed on.
func (w *world) run() {
	begin := w.net.Begin(w.epoch - 1)
	for step := range steps {
		now := begin.Add(w.net.period * time.Duration(step) / steps)
		for _, m := range w.machines {
			_, _ = m.Advance(now)
		}
		for from := range w.machines {
			for to := range w.machines {
				if from != to && !w.lost(step, from, to) {
					w.send(step, from, to)
				}
			}
		}
		w.random.Shuffle(len(w.mail), func(i, j int) { w.mail[i], w.mail[j] = w.mail[j], w.mail[i] })
		var later []letter
		for _, l := range w.mail {
			if l.step > step {
				later = append(later, l)
				continue
			}
			if l.to == w.liar && w.mine(l.doc) {
				continue // the liar keeps to what it thinks it said
			}
			_ = w.machines[l.to].Add(l.doc)
		}
		w.mail = later
	}
}

func (w *world) send(step, from, to int) {
	m := w.machines[from]
	docs := m.Offers()
	for _, h := range w.machines[to].Wants() {
		if d := m.Document(h); d != nil {
			must(w.t, w.machines[to].Add(d))
		}
	}
	if from == w.liar && w.lie != nil {
		docs = w.lie(to, docs)
	}
	for _, d := range docs {
		key := fmt.Sprint(from, to, Hash(sum(d)))
		if !w.sent[key] {
			w.sent[key] = true
			w.mail = append(w.mail, letter{step + w.delay(), to, d})
		}
	}
}

func sum(b []byte) (h Hash) { return (&text{raw: b, body: len(b)}).Hash() }

// agree checks that all who published published the same, and gives that; nil if nobody did.
func (w *world) agree(t testing.TB) (c *Consensus, published int) {
	t.Helper()
	for _, m := range w.honest() {
		f := m.Consensus()
		if f == nil {
			continue
		}
		published++
		if _, err := Verify(w.net, f, nil, w.net.Begin(w.epoch)); err != nil {
			t.Fatalf("published: %v", err)
		}
		if c != nil && c.Hash() != f.Hash() {
			t.Fatalf("two consensuses:\n%s\n%s", c.Bytes()[:600], f.Bytes()[:600])
		}
		c = f
	}
	return c, published
}

// exposed checks that every proof holds for anybody, and gives the kinds against one member.
// Nobody else may be accused, but of a reveal that did not arrive.
func (w *world) exposed(t testing.TB, liar packet.ID) map[ProofKind]int {
	t.Helper()
	out := map[ProofKind]int{}
	for _, m := range w.honest() {
		for _, p := range m.Proofs() {
			q, err := ParseProof(p.Bytes())
			must(t, err)
			must(t, VerifyProof(w.net, q))
			if q.Accused == liar {
				out[q.Kind]++
			} else if q.Kind != WithheldReveal {
				t.Errorf("an honest authority is accused of %s", q.Kind)
			}
		}
	}
	return out
}

func sameView(t testing.TB, previous *Consensus) func(int) View {
	nodes := testNodes(t, 6, someTime)
	return func(int) View { return View{ProfileLow(), rated(nodes, 900), previous} }
}

// earlier are consensuses that other tests build on, by the number of authorities.
var earlier sync.Map

// before gives the consensus of the epoch before someEpoch.
func before(t testing.TB, authorities int) *Consensus {
	if c, ok := earlier.Load(authorities); ok {
		return c.(*Consensus)
	}
	w := newWorld(t, authorities, someEpoch-1, sameView(t, nil))
	w.run()
	c, _ := w.agree(t)
	earlier.Store(authorities, c)
	return c
}

// The whole epoch, for each number of authorities.
func TestEpoch(t *testing.T) {
	for authorities := 1; authorities <= MaxAuthorities; authorities++ {
		if racetest.Enabled && authorities > 3 && authorities < MaxAuthorities {
			continue // signatures are slow there
		}
		t.Run(fmt.Sprint(authorities), func(t *testing.T) {
			w := newWorld(t, authorities, someEpoch, sameView(t, nil))
			w.run()
			c, published := w.agree(t)
			if published != authorities || len(c.Signatures) != authorities {
				t.Fatalf("%d published, %d signed", published, len(c.Signatures))
			}
			if len(c.Nodes) != 8 || len(c.Withheld)+len(c.Equivocated) != 0 || c.Parameters.Get(Delay) != 20_000 {
				t.Errorf("consensus: %d nodes, %d withheld", len(c.Nodes), len(c.Withheld))
			}
			if e := w.exposed(t, packet.ID{}); len(e) != 0 {
				t.Errorf("accusations: %v", e)
			}
			// The next one follows it.
			v := newWorld(t, authorities, someEpoch+1, sameView(t, c))
			v.run()
			next, _ := v.agree(t)
			if next == nil || next.Inputs.Previous != c.Name() {
				t.Fatal("the next consensus does not follow this one")
			}
			if next.Random == c.Random {
				t.Error("the shared random value is the same twice")
			}
			if warnings, err := Verify(v.net, next, c, v.net.Begin(v.epoch)); err != nil || len(warnings) != 0 {
				t.Errorf("warnings %v, %v", warnings, err)
			}
		})
	}
}

// Nothing is done before its time, and each thing once.
func TestPhases(t *testing.T) {
	w := newWorld(t, 1, someEpoch, sameView(t, nil))
	m := w.machines[0]
	begin := w.net.Begin(someEpoch - 1)
	at := func(eighths int) time.Time { return begin.Add(time.Hour * time.Duration(eighths) / 8) }
	want := []string{"", "postern-vote", "postern-reveal", "postern-endorsement", "", ""}
	for p, title1 := range want {
		for _, now := range []time.Time{at(p), at(p + 1).Add(-time.Second)} {
			made, err := m.Advance(now)
			must(t, err)
			switch {
			case title1 == "" && len(made) != 0, title1 != "" && now.Equal(at(p)) && (len(made) != 1 || title(made[0]) != title1),
				!now.Equal(at(p)) && len(made) != 0:
				t.Errorf("phase %d: %d documents", p, len(made))
			}
		}
		if (m.Consensus() != nil) != (p == 5) {
			t.Errorf("phase %d: consensus %v", p, m.Consensus() != nil)
		}
	}
	if err := m.SetView(View{}); errs.KindOf(err) != errs.Conflict || errs.Public(err) != "the vote was made already" {
		t.Errorf("view after the vote: %v", err)
	}
	for i, want := range []int{1, 2, 3, 5} {
		if got := m.Next(at(want).Add(-time.Second)); !got.Equal(at(want)) {
			t.Errorf("step %d: next is %v", i, got)
		}
	}
	if !m.Next(at(5)).IsZero() {
		t.Error("something comes after the last phase")
	}
}

// An authority that restarts goes on with what it made before, and makes no second document.
func TestRestart(t *testing.T) {
	w := newWorld(t, 3, someEpoch, sameView(t, nil))
	begin := w.net.Begin(someEpoch - 1)
	for p := 1; p <= 3; p++ {
		for i := range w.machines {
			now := begin.Add(time.Hour * time.Duration(p) / 8)
			_, err := w.machines[i].Advance(now)
			must(t, err)
		}
		for range 2 {
			for i := range w.machines {
				for j := range w.machines {
					w.send(0, i, j)
				}
			}
			for _, l := range w.mail {
				must(t, w.machines[l.to].Add(l.doc))
			}
			w.mail = nil
		}
		old := w.machines[0]
		m, err := NewMachine(w.net, someEpoch, w.keys[0], testSecret(0))
		must(t, err)
		for _, d := range old.Offers() {
			must(t, m.Add(d))
		}
		for _, h := range m.Wants() {
			must(t, m.Add(old.Document(h)))
		}
		made, err := m.Advance(begin.Add(time.Hour*time.Duration(p)/8 + time.Second))
		must(t, err)
		if len(made) != 0 {
			t.Fatalf("phase %d: made again: %s", p, title(made[0]))
		}
		w.machines[0] = m
	}
	for _, m := range w.machines {
		_, err := m.Advance(begin.Add(time.Hour * 5 / 8))
		must(t, err)
	}
	if c, n := w.agree(t); n != 3 || len(c.Signatures) != 3 {
		t.Fatalf("%d published", n)
	}
}

// lies are the ways in which one of several authorities can break the rules. Each gives what
// the liar tells to one other instead of what an honest one would.
var lies = []struct {
	kind  ProofKind
	name  string
	least int // authorities with whom the others still publish
	make  func(w *world) func(to int, docs [][]byte) [][]byte
}{
	{TwoVotes, "two votes", 3, func(w *world) func(int, [][]byte) [][]byte {
		var second []byte
		return func(to int, docs [][]byte) [][]byte {
			return w.replace(docs, "postern-vote", func(b []byte) []byte {
				if second == nil {
					v, err := ParseVote(w.net, b)
					must(w.t, err)
					v.Nodes = v.Nodes[1:]
					v, err = SignVote(w.net, *v, w.keys[w.liar])
					must(w.t, err)
					second = v.Bytes()
				}
				if to < w.liar {
					return b
				}
				return second
			})
		}
	}},
	{TwoReveals, "two reveals", 5, func(w *world) func(int, [][]byte) [][]byte {
		return func(to int, docs [][]byte) [][]byte {
			return w.replace(docs, "postern-reveal", func(b []byte) []byte {
				r, err := ParseReveal(w.net, b)
				must(w.t, err)
				if to < w.liar {
					r.Votes = r.Votes[1:]
				}
				r, err = SignReveal(w.net, *r, w.keys[w.liar])
				must(w.t, err)
				return r.Bytes()
			})
		}
	}},
	{WithheldReveal, "withheld reveal", 3, func(w *world) func(int, [][]byte) [][]byte {
		return func(_ int, docs [][]byte) [][]byte {
			return w.replace(docs, "postern-reveal", func([]byte) []byte { return nil })
		}
	}},
	{WrongReveal, "wrong reveal", 3, func(w *world) func(int, [][]byte) [][]byte {
		return func(_ int, docs [][]byte) [][]byte {
			return w.replace(docs, "postern-reveal", func(b []byte) []byte {
				r, err := ParseReveal(w.net, b)
				must(w.t, err)
				r.Value[0] ^= 1
				r, err = SignReveal(w.net, *r, w.keys[w.liar])
				must(w.t, err)
				return r.Bytes()
			})
		}
	}},
	{WrongConsensus, "stale signature", 3, func(w *world) func(int, [][]byte) [][]byte {
		return w.endorseOther(func(c *Consensus) Hash { return c.Inputs.Previous.Hash })
	}},
	{WrongConsensus, "bad layer", 3, func(w *world) func(int, [][]byte) [][]byte {
		return w.endorseOther(func(c *Consensus) Hash {
			for i := range c.Nodes {
				if e := &c.Nodes[i]; e.Layer != 0 {
					e.Layer = e.Layer%mixLayers + 1
					break
				}
			}
			c, err := c.seal("test")
			must(w.t, err)
			return c.Hash()
		})
	}},
	{WrongConsensus, "wrong parameters", 3, func(w *world) func(int, [][]byte) [][]byte {
		return w.endorseOther(func(c *Consensus) Hash {
			c.Parameters[0].Value = 1
			c, err := c.seal("test")
			must(w.t, err)
			return c.Hash()
		})
	}},
	{TwoEndorsements, "two endorsements", 3, func(w *world) func(int, [][]byte) [][]byte {
		other := w.endorseOther(func(c *Consensus) Hash { return Hash{1} })
		return func(to int, docs [][]byte) [][]byte {
			if to < w.liar {
				return other(to, docs)
			}
			return docs
		}
	}},
}

// replace changes the liar's own documents of one kind.
func (w *world) replace(docs [][]byte, kind string, with func([]byte) []byte) (out [][]byte) {
	for _, d := range docs {
		if title(d) == kind && w.mine(d) {
			if d = with(d); d == nil {
				continue
			}
		}
		out = append(out, d)
	}
	return out
}

// mine reports whether a document is the liar's.
func (w *world) mine(d []byte) bool {
	return bytes.Contains(d, fmt.Appendf(nil, "\nauthority %x\n", w.keys[w.liar].Public().ID()))
}

// endorseOther signs another consensus than what was computed.
func (w *world) endorseOther(other func(*Consensus) Hash) func(int, [][]byte) [][]byte {
	return func(_ int, docs [][]byte) [][]byte {
		return w.replace(docs, "postern-endorsement", func(b []byte) []byte {
			e, err := ParseEndorsement(w.net, b)
			must(w.t, err)
			c, err := ParseConsensus(w.machines[w.liar].computed[e.Consensus].Bytes())
			must(w.t, err)
			e.Consensus = other(c)
			x := e.write()
			must(w.t, sign(x, w.keys[w.liar]))
			return x.b
		})
	}
}

// One of several lies, in each way, and every message arrives: the others publish the same
// all the same, and can prove it.
func TestLiars(t *testing.T) {
	for _, l := range lies {
		for _, authorities := range []int{l.least, 5} {
			if racetest.Enabled && authorities == 5 && l.least < 5 {
				continue
			}
			t.Run(fmt.Sprint(l.name, " of ", authorities), func(t *testing.T) {
				w := newWorld(t, authorities, someEpoch, sameView(t, before(t, authorities)))
				w.liar = authorities - 2
				w.lie = l.make(w)
				w.run()
				c, published := w.agree(t)
				if published != authorities-1 {
					t.Fatalf("%d of %d honest authorities published", published, authorities-1)
				}
				got := w.exposed(t, w.keys[w.liar].Public().ID())
				if got[l.kind] == 0 {
					t.Errorf("nobody can prove %s, only %v", l.kind, got)
				}
				id := w.keys[w.liar].Public().ID()
				switch l.kind {
				case TwoVotes:
					if !slices.Contains(c.Equivocated, id) || len(c.Nodes) != 8 {
						t.Error("the vote was not discarded")
					}
				case WithheldReveal, WrongReveal:
					if !slices.Contains(c.Withheld, id) {
						t.Error("the consensus does not say so")
					}
				}
			})
		}
	}
}

// Without a liar, whatever is lost, late or out of order: all who publish publish the same,
// and nobody is accused of a lie. With one, two of them may publish different ones only if
// the proof against the liar follows from these.
func TestLossModel(t *testing.T) {
	// An epoch of nine authorities is some hundred signatures, so fewer are gone through than
	// rapid's 100, unless a number is asked for.
	most := 30
	if racetest.Enabled {
		most = 6
	}
	racetest.Runs(t, most)
	rapid.Check(t, func(r *rapid.T) {
		authorities := rapid.SampledFrom([]int{1, 2, 2, 3, 3, 3, 4, 5, 5, 6, 7, 8, 9}).Draw(r, "authorities")
		nodes := testNodes(t, 4, someTime)
		previous := before(t, authorities)
		seed := rapid.Uint64().Draw(r, "seed")
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, authorities, someEpoch, func(i int) View {
			v := View{ProfileLow(), rated(nodes, uint64(100*i)), previous}
			if random.IntN(4) == 0 {
				v.Previous = nil
			}
			if random.IntN(3) == 0 {
				v.Nodes = v.Nodes[1:]
			}
			return v
		})
		w.random = random
		loss := rapid.IntRange(0, 100).Draw(r, "loss")
		down := map[[3]int]bool{}
		for phase := range 6 {
			for i := range authorities {
				for j := range authorities {
					down[[3]int{phase, i, j}] = random.IntN(100) < loss
				}
			}
		}
		w.lost = func(step, from, to int) bool { return down[[3]int{step * 8 / steps, from, to}] }
		late := rapid.IntRange(1, 8).Draw(r, "late")
		w.delay = func() int { return random.IntN(late) }
		lie := -1
		if authorities > 1 && rapid.Bool().Draw(r, "liar") {
			lie = rapid.IntRange(0, len(lies)-1).Draw(r, "lie")
			w.liar = rapid.IntRange(0, authorities-1).Draw(r, "who")
			w.lie = lies[lie].make(w)
		}
		w.run()
		if lie < 0 {
			w.agree(t)
			w.exposed(t, packet.ID{})
			return
		}
		id := w.keys[w.liar].Public().ID()
		w.exposed(t, id)
		honest := w.honest()
		for i, a := range honest {
			for _, b := range honest[:i] {
				x, y := a.Consensus(), b.Consensus()
				if x == nil || y == nil || x.Hash() == y.Hash() {
					continue
				}
				proofs := Equivocations(w.net, x, y)
				if len(proofs) == 0 {
					r.Fatal("two consensuses and no proof")
				}
				for _, p := range proofs {
					if p.Accused != id {
						r.Fatal("an honest authority endorsed two")
					}
					if err := VerifyProof(w.net, p); err != nil {
						r.Fatal(err)
					}
				}
			}
		}
	})
}

// Whoever makes many documents cannot keep the others apart: whatever each of them saw, and
// in which order, they come to have the same two.
func TestManyVotes(t *testing.T) {
	w := newWorld(t, 3, someEpoch, sameView(t, nil))
	var votes [][]byte
	for delay := range uint64(6) {
		v, err := SignVote(w.net, Vote{Header: Header{Epoch: someEpoch}, Parameters: Parameters{{Delay, delay + 1}}}, w.keys[1])
		must(t, err)
		votes = append(votes, v.Bytes())
	}
	want := slices.Clone(votes)
	slices.SortFunc(want, func(a, b []byte) int { return compareHash(HashOf(a), HashOf(b)) })
	for i := range votes {
		m, err := NewMachine(w.net, someEpoch, w.keys[0], testSecret(0))
		must(t, err)
		for j := range votes {
			_ = m.Add(votes[(i+j)%len(votes)])
		}
		got := m.Offers()
		slices.SortFunc(got, func(a, b []byte) int { return compareHash(HashOf(a), HashOf(b)) })
		if len(got) != 2 || HashOf(got[0]) != HashOf(want[0]) || HashOf(got[1]) != HashOf(want[1]) {
			t.Errorf("begun with %d: %d votes", i, len(got))
		}
		if p := m.Proofs(); len(p) != 1 || VerifyProof(w.net, p[0]) != nil {
			t.Errorf("begun with %d: %d proofs", i, len(p))
		}
	}
}

// What a machine refuses, and with which words.
func TestMachineRefuses(t *testing.T) {
	w := newWorld(t, 3, someEpoch, sameView(t, nil))
	m := w.machines[0]
	other, err := NewNetwork("other.net", time.Hour, w.net.authorities)
	must(t, err)
	vote := func(n *Network, epoch, delay uint64, k *PrivateKey) []byte {
		v, err := SignVote(n, Vote{Header: Header{Epoch: epoch}, Parameters: Parameters{{Delay, delay}}}, k)
		must(t, err)
		return v.Bytes()
	}
	must(t, m.Add(vote(w.net, someEpoch, 1, w.keys[1])))
	must(t, m.Add(vote(w.net, someEpoch, 1, w.keys[1])))
	must(t, m.Add(vote(w.net, someEpoch, 2, w.keys[1])))
	highest := func(list ...[]byte) []byte {
		return slices.MaxFunc(list, func(a, b []byte) int { return compareHash(HashOf(a), HashOf(b)) })
	}
	one, two := vote(w.net, someEpoch, 1, w.keys[1]), vote(w.net, someEpoch, 2, w.keys[1])
	third := one
	for delay := uint64(3); HashOf(highest(one, two, third)) != HashOf(third) || delay == 3; delay++ {
		third = vote(w.net, someEpoch, delay, w.keys[1])
	}
	broken := vote(w.net, someEpoch, 1, w.keys[2])
	copy(broken[bytes.Index(broken, []byte("signature "))+75:], "AAAA")
	c := &Consensus{Network: "test.net", Epoch: someEpoch - 1, Period: time.Hour}
	c, err = c.seal("test")
	must(t, err)
	for _, x := range []struct {
		doc    []byte
		kind   errs.Kind
		public string
	}{
		{[]byte("hello"), errs.Unsupported, "not a document of the agreement"},
		{nil, errs.Unsupported, "not a document of the agreement"},
		{vote(other, someEpoch, 1, w.keys[1]), errs.Denied, "document is of another network"},
		{vote(w.net, someEpoch+1, 1, w.keys[1]), errs.Denied, "document is of another epoch"},
		{third, errs.Exists, "two different documents of this authority are here already"},
		{broken, errs.Denied, "signature is wrong"},
		{testNode(t, "stranger", Mix, someTime).Bytes(), errs.NotFound, "no vote names this descriptor"},
		{c.Bytes(), errs.NotFound, "no vote names this consensus"},
	} {
		if err := m.Add(x.doc); errs.KindOf(err) != x.kind || errs.Public(err) != x.public {
			t.Errorf("%.20q: %v", x.doc, err)
		}
	}
	if got := m.Proofs(); len(got) != 1 || got[0].Kind != TwoVotes {
		t.Errorf("proofs: %v", got)
	}
	stranger := testKey(t, "stranger")
	if _, err := NewMachine(w.net, someEpoch, stranger, testSecret(1)); errs.Public(err) != "this key is no authority of the network" {
		t.Error(err)
	}
	if _, err := NewMachine(w.net, 0, w.keys[0], testSecret(1)); errs.Public(err) != "no such epoch" {
		t.Error(err)
	}
	at := w.net.Begin(someEpoch - 1)
	n, err := NewMachine(w.net, someEpoch, w.keys[0], testSecret(0))
	must(t, err)
	if _, err := n.Advance(at.Add(time.Hour / 8)); errs.Public(err) != "there is no view to vote for" {
		t.Error(err)
	}
	if _, err := n.Advance(at.Add(time.Hour * 3 / 8)); errs.Public(err) != "0 authorities revealed, and 2 are needed" {
		t.Error(err)
	}
	if _, err := n.Advance(at.Add(time.Hour)); errs.Public(err) != fmt.Sprintf("no consensus of epoch %d has the threshold of signatures", someEpoch) {
		t.Error(err)
	}
	if got := n.Missing(); len(got) != 3 {
		t.Errorf("missing: %v", got)
	}
	if err := n.SetView(View{Previous: c}); errs.KindOf(err) != errs.Denied {
		t.Error(err)
	}
	c.Epoch = someEpoch
	if err := n.SetView(View{Previous: c}); errs.Public(err) != "the previous consensus is not before this epoch" {
		t.Error(err)
	}
	if err := n.SetView(View{Nodes: make([]Rated, MaxNodes+1)}); errs.Public(err) != "more than 512 nodes" {
		t.Error(err)
	}
}
