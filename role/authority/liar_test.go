package authority

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/racetest"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
)

// liar stands before an honest authority with its keys: others reach only the liar, and get
// what it makes of the answers.
type liar struct {
	w     *world
	a     *authority
	key   *directory.PrivateKey
	to    map[link.Key]int // who asks
	lie   lie
	spoil bool // what it passes on of others is damaged
	front *link.Link
	stop  func()

	mu   sync.Mutex
	said map[directory.Hash][]byte
	made map[directory.Hash]bool // lies
}

// lie gives what the liar shows to one other of the documents that it has: of its own ones
// another, none, or the same.
type lie func(l *liar, to int, doc []byte) []byte

// corrupt makes an authority a liar. It must not run yet.
func (w *world) corrupt(i int, f lie) *liar {
	w.t.Helper()
	a := w.all[i]
	l := &liar{w: w, a: a, lie: f, to: map[link.Key]int{}, said: map[directory.Hash][]byte{}, made: map[directory.Hash]bool{}}
	a.c.Listen.Link = "behind " + a.addr
	k, err := openKeys(a.c, a.d.withDefaults(), false)
	must(w.t, err)
	l.key = k.Identity()
	for j, o := range w.all {
		for _, c := range w.net.Contacts() {
			if slices.Contains(c.Addresses, o.addr) {
				l.to[link.Key(c.LinkKey)] = j
			}
		}
	}
	front, err := link.New(link.Options{Key: k.Link(), Handler: refuseUnits{}, Documents: l.answer, MaxDocument: directory.MaxProof,
		Who: func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Authority}, true }})
	must(w.t, err)
	l.front = front
	return l
}

// run serves until stop; the authority behind it runs already.
func (l *liar) run() {
	door, err := l.w.ether.listen("", l.a.addr)
	must(l.w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.front.Serve(ctx, door) })
	l.stop = func() { cancel(); running.Wait() }
}

func (l *liar) answer(ctx context.Context, from link.Peer, request []byte) ([]byte, error) {
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	switch r.Kind {
	case directory.RequestOffers:
		l.mu.Lock()
		defer l.mu.Unlock()
		var docs [][]byte
		for _, d := range l.a.core.documents(r.Epoch) {
			if l.mine(d) {
				if l.made[directory.HashOf(d)] {
					continue // a lie that others passed on
				}
				own := directory.HashOf(d)
				if d = l.lie(l, l.to[from.Key], d); d == nil {
					continue
				}
				if h := directory.HashOf(d); h != own {
					l.made[h] = true
				}
			}
			l.said[directory.HashOf(d)] = d
			docs = append(docs, d)
		}
		return directory.NewOffers(l.w.net, r.Epoch, docs).Bytes(), nil
	case directory.RequestDocument:
		l.mu.Lock()
		d := l.said[r.Hash]
		l.mu.Unlock()
		if d != nil {
			return d, nil
		}
		b := l.a.core.find(r.Hash)
		if b != nil && l.mine(b) {
			return nil, context.Canceled // what it did not show, it does not have
		}
		if b != nil && l.spoil {
			b = bytes.Clone(b)
			copy(b[len(b)-9:], "AAAAAAAA\n")
			return b, nil
		}
	}
	return l.a.Server.answer(ctx, from, request)
}

// documents gives those of an agreement.
func (c *core) documents(epoch uint64) (out [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.agreements[epoch]; a != nil {
		for _, o := range a.docs {
			out = append(out, o.doc)
		}
	}
	return out
}

// mine reports whether a document of the agreement is the liar's.
func (l *liar) mine(doc []byte) bool {
	id, ok := authorityOf(doc)
	return ok && id == l.key.Public().ID() && kindOf(doc) != kindConsensus
}

// sign puts the liar's signature under another body.
func (l *liar) sign(doc []byte, change func(lines []string) []string) []byte {
	body, _, _ := bytes.Cut(doc, []byte("signature "))
	lines := change(strings.Split(strings.TrimSuffix(string(body), "\n"), "\n"))
	body = []byte(strings.Join(lines, "\n") + "\n")
	s, err := l.key.Sign(body)
	must(l.w.t, err)
	return fmt.Appendf(body, "signature %x %s %s\n", s.Signer[:], base64.RawStdEncoding.EncodeToString(s.Ed25519[:]), base64.RawStdEncoding.EncodeToString(s.MLDSA[:]))
}

// without drops the last line that begins with a word.
func without(word string) func([]string) []string {
	return func(lines []string) []string {
		for i := len(lines) - 1; i >= 0; i-- {
			if strings.HasPrefix(lines[i], word+" ") {
				return slices.Delete(slices.Clone(lines), i, i+1)
			}
		}
		return lines
	}
}

// replacing changes the argument of a line.
func replacing(word string, with func(old string) string) func([]string) []string {
	return func(lines []string) []string {
		lines = slices.Clone(lines)
		for i := range lines {
			if rest, ok := strings.CutPrefix(lines[i], word+" "); ok {
				lines[i] = word + " " + with(rest)
			}
		}
		return lines
	}
}

// lies in each phase, what they are called by those who see them, and the least number of
// authorities with whom the others publish all the same.
var lies = []struct {
	name  string
	kind  directory.ProofKind
	least int
	lie   lie
}{
	{"two votes", directory.TwoVotes, 3, func(l *liar, to int, doc []byte) []byte {
		if kindOf(doc) == kindVote && to%2 == 0 {
			return l.sign(doc, without("node"))
		}
		return doc
	}},
	{"a vote for each", directory.TwoVotes, 5, func(l *liar, to int, doc []byte) []byte {
		if kindOf(doc) == kindVote {
			return l.sign(doc, replacing("parameter delay", func(string) string { return strconv.Itoa(to + 1) }))
		}
		return doc
	}},
	{"withheld reveal", directory.WithheldReveal, 3, func(_ *liar, _ int, doc []byte) []byte {
		if kindOf(doc) == kindReveal {
			return nil
		}
		return doc
	}},
	{"wrong reveal", directory.WrongReveal, 3, func(l *liar, _ int, doc []byte) []byte {
		if kindOf(doc) == kindReveal {
			return l.sign(doc, replacing("value", func(string) string { return strings.Repeat("ab", 32) }))
		}
		return doc
	}},
	{"two reveals", directory.TwoReveals, 5, func(l *liar, to int, doc []byte) []byte {
		if kindOf(doc) == kindReveal && to%2 == 0 {
			return l.sign(doc, without("vote"))
		}
		return doc
	}},
	{"stale signature", directory.WrongConsensus, 3, func(l *liar, _ int, doc []byte) []byte {
		if kindOf(doc) == kindEndorsement { // it endorses the consensus before as that of this epoch
			return l.sign(doc, replacing("consensus", func(string) string { return l.a.core.newest.Load().Hash().String() }))
		}
		return doc
	}},
	{"two endorsements", directory.TwoEndorsements, 3, func(l *liar, to int, doc []byte) []byte {
		if kindOf(doc) == kindEndorsement && to%2 == 0 {
			return l.sign(doc, replacing("consensus", func(string) string { return strings.Repeat("cd", 32) }))
		}
		return doc
	}},
	// Not a lie that can be proven, and none that does harm: the others pass the vote on.
	{"a vote for some", "", 3, func(_ *liar, to int, doc []byte) []byte {
		if kindOf(doc) == kindVote && to%2 == 0 {
			return nil
		}
		return doc
	}},
}

// One of several authorities lies, in each phase and each way: the others publish one
// consensus all the same, and each of them has the proof that names the liar, and nobody else.
func TestLiars(t *testing.T) {
	for k, x := range lies {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { withLiars(t, x.least, map[int]int{1: k}) })
		})
	}
}

// An authority that passes on what others said with wrong signatures keeps nobody from having
// it from others.
func TestSpoiler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, time.Hour)
		l := w.corrupt(1, func(_ *liar, _ int, doc []byte) []byte { return doc })
		l.spoil = true
		w.start()
		defer w.stop()
		l.run()
		defer l.stop()
		w.admit(someNodes(t, 6))
		for range 2 {
			epoch := w.next()
			w.until(epoch, 6)
			if c := w.agreed(epoch, 0, 2); len(c.Signatures) != 3 || len(c.Nodes) != 7 {
				t.Errorf("%d signatures, %d nodes", len(c.Signatures), len(c.Nodes))
			}
		}
		w.quiet()
	})
}

// Of nine authorities one lies in each phase at the same time. (Of seven under the race
// detector, which is slow with signatures.)
func TestLiarInEachPhase(t *testing.T) {
	n := 9
	if racetest.Enabled {
		n = 7
	}
	synctest.Test(t, func(t *testing.T) { withLiars(t, n, map[int]int{1: 0, 3: 2, 5: 5}) })
}

// withLiars runs a network, makes some of it liars after the first consensus, and looks at what the
// others have two epochs later. Liars are told by the numbers of their lies.
func withLiars(t *testing.T, n int, liars map[int]int) {
	w := newWorld(t, n, time.Hour)
	var lying atomic.Bool
	var fronts []*liar
	for i, k := range liars {
		fronts = append(fronts, w.corrupt(i, func(l *liar, to int, doc []byte) []byte {
			if lying.Load() {
				return lies[k].lie(l, to, doc)
			}
			return doc
		}))
	}
	w.start()
	defer w.stop()
	for _, l := range fronts {
		l.run()
		defer l.stop()
	}
	w.admit(someNodes(t, 6))
	var honest []int
	for i := range w.all {
		if _, ok := liars[i]; !ok {
			honest = append(honest, i)
		}
	}
	first := w.next()
	w.until(first, 5.5)
	w.agreed(first, honest...)
	synctest.Wait()
	lying.Store(true)
	w.until(first+1, 6)
	c := w.agreed(first+1, honest...)
	if len(c.Nodes) != 7 {
		t.Errorf("%d nodes", len(c.Nodes))
	}
	w.until(first+2, 6)
	w.agreed(first+2, honest...)
	for _, i := range honest {
		got := map[string]bool{}
		for _, p := range w.all[i].core.proofList() {
			must(t, directory.VerifyProof(w.net, p))
			got[idText(p.Accused)+" "+string(p.Kind)] = true
		}
		for _, l := range fronts {
			id := idText(l.key.Public().ID())
			kind := lies[liars[slices.Index(w.all, l.a)]].kind
			if kind != "" && !got[id+" "+string(kind)] {
				t.Errorf("authority %d cannot prove %s", i, kind)
			}
			for k := range got {
				if strings.HasPrefix(k, id) {
					delete(got, k)
				}
			}
		}
		if len(got) > 0 {
			t.Errorf("authority %d accuses honest ones: %v", i, got)
		}
	}
}
