package interop

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/interop/smallworld"
	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
)

// liarRole is the child that is an authority and lies.
const liarRole = "lying authority"

// liarJob is what that process is told on its standard input.
type liarJob struct {
	Identity []byte // directory.PrivateLen bytes
	Link     []byte // seed of its Ed25519 key
	Network  string // the network file
	Listen   string // host:port
}

// liar is an authority that takes part in every agreement, and in each breaks one rule: the
// number of the epoch says which. Everything else of it is as an honest one does it, since a liar
// who wants to be believed is careful.
type liar struct {
	net    *directory.Network
	key    *directory.PrivateKey
	secret [32]byte
	others []*link.Line
	fooled link.Key // the one of the others that is shown the second of two votes

	mu     sync.Mutex
	rounds map[uint64]*liarRound
}

// liarRound is its part in one agreement.
type liarRound struct {
	m     *directory.Machine
	own   map[directory.Hash]bool   // what the machine made
	false map[directory.Hash][]byte // what is shown in the place of those
	said  map[directory.Hash][]byte
}

// Lies, one for each phase in which an authority says something.
const (
	twoVotes = iota
	withheldReveal
	wrongEndorsement
	liesThere
)

// runLiarProcess runs a liar until its standard input ends.
func runLiarProcess() int {
	var job liarJob
	err := json.NewDecoder(os.Stdin).Decode(&job)
	if err == nil {
		err = runLiar(job, func() { fmt.Println("here") })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runLiar(job liarJob, ready func()) error {
	text, err := os.ReadFile(job.Network)
	if err != nil {
		return err
	}
	l := &liar{rounds: map[uint64]*liarRound{}}
	if l.net, err = directory.ParseNetwork(text); err != nil {
		return err
	}
	if l.key, err = directory.NewPrivateKey(job.Identity); err != nil {
		return err
	}
	if _, err := rand.Read(l.secret[:]); err != nil {
		return err
	}
	own, err := link.New(link.Options{Key: ed25519.NewKeyFromSeed(job.Link), Handler: takesNothing{}, Documents: l.answer, MaxDocument: directory.MaxProof,
		Who:      func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Authority}, true },
		MinPause: 50 * time.Millisecond, MaxPause: time.Second})
	if err != nil {
		return err
	}
	for _, c := range l.net.Contacts() {
		if link.Key(c.LinkKey) == own.Key() {
			continue
		}
		line, err := own.Line(link.LineOptions{Peer: link.Peer{Key: link.Key(c.LinkKey), Role: link.Authority}, Addresses: func() []string { return c.Addresses }})
		if err != nil {
			return err
		}
		l.others, l.fooled = append(l.others, line), link.Key(c.LinkKey)
	}
	door, err := net.Listen("tcp", job.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = own.Serve(ctx, door) })
	for _, line := range l.others {
		running.Go(func() { line.Run(ctx) })
		running.Go(func() { l.pull(ctx, line) })
	}
	ready()
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	running.Wait()
	return nil
}

// pull keeps looking at what one of the others has, and does what is due.
func (l *liar) pull(ctx context.Context, line *link.Line) {
	tick := time.NewTicker(l.net.Period() / 64)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := l.net.Epoch(time.Now())
		for _, epoch := range []uint64{now, now + 1} {
			l.advance(epoch)
			l.fetch(ctx, line, epoch)
		}
		l.mu.Lock()
		delete(l.rounds, now-1)
		l.mu.Unlock()
	}
}

// round gives its part in the agreement on an epoch. l.mu is held.
func (l *liar) round(epoch uint64) *liarRound {
	if r := l.rounds[epoch]; r != nil {
		return r
	}
	m, err := directory.NewMachine(l.net, epoch, l.key, &l.secret)
	if err == nil {
		err = m.SetView(directory.View{Parameters: directory.ProfileLow()})
	}
	if err != nil {
		panic(err) // a child of a test, with keys that the test made
	}
	r := &liarRound{m, map[directory.Hash]bool{}, map[directory.Hash][]byte{}, map[directory.Hash][]byte{}}
	l.rounds[epoch] = r
	return r
}

// advance makes what is due, and the lie that goes with it.
func (l *liar) advance(epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.round(epoch)
	made, _ := r.m.Advance(time.Now())
	for _, doc := range made {
		h := directory.HashOf(doc)
		r.own[h] = true
		if lie := l.lie(r, epoch, doc); lie != nil {
			r.false[h] = lie
		}
	}
}

// lie gives the false form of a document of its own; nil: there is none.
func (l *liar) lie(r *liarRound, epoch uint64, doc []byte) []byte {
	kind, _, _ := strings.Cut(string(doc[:min(len(doc), 32)]), " ")
	switch {
	case kind == "postern-vote" && epoch%liesThere == twoVotes:
		v, err := directory.ParseVote(l.net, doc)
		if err != nil {
			return nil
		}
		other := *v
		other.Parameters = nil
		if v, err = directory.SignVote(l.net, other, l.key); err == nil {
			return v.Bytes()
		}
	case kind == "postern-endorsement" && epoch%liesThere == wrongEndorsement:
		c, err := directory.Compute(l.net, r.material(l.net, epoch))
		if err != nil {
			return nil
		}
		if e, err := directory.SignEndorsement(l.net, c, l.key); err == nil {
			return e.Bytes()
		}
	}
	return nil
}

// material is what everybody computes from, but for the descriptors: whichever is asked for, it is that
// of one node. So all other nodes are missing from what follows.
func (r *liarRound) material(n *directory.Network, epoch uint64) directory.Material {
	m := directory.Material{Epoch: epoch}
	var one *directory.Descriptor
	for _, doc := range r.m.Offers() {
		if v, err := directory.ParseVote(n, doc); err == nil {
			m.Votes = append(m.Votes, v)
			for _, x := range v.Nodes {
				if d, err := directory.ParseDescriptor(r.m.Document(x.Descriptor)); err == nil && one == nil {
					one = d
				}
			}
		} else if v, err := directory.ParseReveal(n, doc); err == nil {
			m.Reveals = append(m.Reveals, v)
		}
	}
	m.Descriptor = func(directory.Hash) *directory.Descriptor { return one }
	m.Previous = func(p directory.Previous) *directory.Consensus {
		c, err := directory.ParseConsensus(r.m.Document(p.Hash))
		if err != nil {
			return nil
		}
		return c
	}
	return m
}

// fetch takes from another what is lacking of an agreement.
func (l *liar) fetch(ctx context.Context, line *link.Line, epoch uint64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ask := func(r directory.Request) []byte {
		b, err := directory.AppendRequest(nil, r)
		if err != nil {
			return nil
		}
		if b, err = line.Fetch(ctx, b); err != nil {
			return nil
		}
		return b
	}
	list, err := directory.ParseOffers(ask(directory.Request{Kind: directory.RequestOffers, Epoch: epoch}))
	if err != nil {
		return // it has nothing of this epoch, or is not there
	}
	l.mu.Lock()
	m := l.round(epoch).m
	have := map[directory.Hash]bool{}
	for _, doc := range m.Offers() {
		have[directory.HashOf(doc)] = true
	}
	for h := range l.round(epoch).said {
		have[h] = true // its own lies come back
	}
	l.mu.Unlock()
	var want []directory.Hash
	for _, o := range list.Offers {
		if !have[o.Hash] {
			want = append(want, o.Hash)
		}
	}
	for range 2 { // votes, and then what they name
		for _, h := range want {
			if doc := ask(directory.Request{Kind: directory.RequestDocument, Hash: h}); doc != nil {
				l.mu.Lock()
				_ = m.Add(doc)
				l.mu.Unlock()
			}
		}
		l.mu.Lock()
		want = m.Wants()
		l.mu.Unlock()
	}
}

// answer answers the others, and nodes.
func (l *liar) answer(_ context.Context, from link.Peer, request []byte) ([]byte, error) {
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.Kind {
	case directory.RequestOffers:
		if p := l.rounds[r.Epoch]; p != nil {
			return directory.NewOffers(l.net, r.Epoch, l.show(p, r.Epoch, from.Key)).Bytes(), nil
		}
	case directory.RequestDocument:
		for _, p := range l.rounds {
			if doc := p.said[r.Hash]; doc != nil {
				return doc, nil
			}
			if doc := p.m.Document(r.Hash); doc != nil {
				return doc, nil
			}
		}
	case directory.RequestProofs:
		return directory.NewProofList(l.net, nil).Bytes(), nil
	case directory.RequestPublish, directory.RequestStats:
		return directory.FormatVerdict(false, nil), nil
	}
	return nil, errs.E("liar", errs.NotFound, "", nil)
}

// show gives what one of the others gets to see.
func (l *liar) show(r *liarRound, epoch uint64, to link.Key) (docs [][]byte) {
	for _, doc := range r.m.Offers() {
		h := directory.HashOf(doc)
		if r.own[h] {
			switch lie := r.false[h]; {
			case epoch%liesThere == withheldReveal && bytes.HasPrefix(doc, []byte("postern-reveal ")):
				continue
			case lie != nil && (epoch%liesThere != twoVotes || to == l.fooled):
				doc = lie
			}
		}
		r.said[directory.HashOf(doc)] = doc
		docs = append(docs, doc)
	}
	return docs
}

// proofLine is what `authority proofs --json` prints for one.
type proofLine struct {
	Hash, Kind, Accused string
	Epoch               uint64
}

// proofsOf gives the proofs that an authority has.
func proofsOf(a *smallworld.Member) (all []proofLine, err error) {
	out, err := a.Command("proofs", "--json").Output()
	for in := json.NewDecoder(bytes.NewReader(out)); err == nil; {
		var p proofLine
		if err = in.Decode(&p); err == nil {
			all = append(all, p)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// TestLyingAuthority: one of three authorities is a liar, in a process of its own. It shows each of
// the two others another vote; keeps its reveal to itself; and signs another list of nodes than
// what follows from the votes. In each of these epochs the honest two publish one consensus with all
// nodes, and both have a proof that names the liar, and nobody else: on the status page, in
// `authority proofs`, and for whoever checks it with the network file.
func TestLyingAuthority(t *testing.T) {
	t.Parallel()
	w := smallworld.New(t)
	key, err := directory.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, err := link.KeyOf(public)
	if err != nil {
		t.Fatal(err)
	}
	// Phases of three seconds: an honest one that is late for one would be taken for a liar.
	const period = 24 * time.Second
	job := liarJob{Identity: key.Seed(), Link: private.Seed(), Listen: w.Address() + ":48100"}
	own, err := directory.FormatNetwork("small-net", period, []directory.Contact{{Key: key.Public(), LinkKey: directory.Hash(name), Addresses: []string{job.Listen}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "liar.network")
	writeFile(t, file, string(own))
	n := smallworld.NewMixNetWith(t, w, binary(t), 2, []string{file}, period, append([]string{"listen.http=127.0.0.1:0"}, mixFast...)...)
	job.Network = n.File
	startLiar(t, job)
	n.Node(t, "mix1", "mix")
	n.Node(t, "relay1", "relay")
	n.Approve(t)
	n.Lists(t, ids(n.Nodes)...)

	id := key.Public().ID()
	liarID := fmt.Sprintf("%x", id[:])
	want := map[string]bool{"two-votes": true, "withheld-reveal": true, "wrong-consensus": true}
	var shown []proofLine // one of each kind, with a consensus of its epoch
	eventually(t, 12*period, func() error {
		shown = nil
		found := map[string]bool{}
		for i, a := range n.Authorities {
			all, err := proofsOf(a)
			if err != nil {
				return err
			}
			for _, p := range all {
				if p.Accused != liarID {
					t.Fatalf("%s accuses an honest authority: %+v", a.Name, p)
				}
				if !want[p.Kind] || found[a.Name+p.Kind] || agreedOn(n, p.Epoch) != nil {
					continue
				}
				if found[a.Name+p.Kind] = true; i == 0 {
					shown = append(shown, p)
				}
			}
		}
		if len(found) < 2*len(want) {
			return fmt.Errorf("proofs, in epochs with a consensus: %v", found)
		}
		return nil
	})
	for _, p := range shown {
		proof, err := n.Authorities[0].Command("proofs", p.Hash).Output()
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(t.TempDir(), p.Kind)
		writeFile(t, at, string(proof))
		out, err := n.Authorities[1].Command("proofs", "--check", at).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "authority "+liarID) {
			t.Errorf("%s: the other one does not find it true: %v: %s", p.Kind, err, out)
		}
		for _, a := range n.Authorities {
			page, document := pagesOf(t, a, p.Hash)
			if !strings.Contains(page, p.Kind) || !strings.Contains(page, liarID[:16]) {
				t.Errorf("the status page of %s does not name the liar for %s", a.Name, p.Kind)
			}
			if a == n.Authorities[0] && document != string(proof) {
				t.Errorf("%s: the proof is not published", p.Kind)
			}
		}
	}
}

// startLiar runs the process until the test ends.
func startLiar(t *testing.T, job liarJob) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+liarRole)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, out := startPiped(t, cmd)
	t.Cleanup(func() {
		in.Close()
		timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the liar: %v: %s", err, said.Bytes())
		}
	})
	if err := json.NewEncoder(in).Encode(job); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatalf("the liar does not start: %v: %s", err, said.Bytes())
	}
}

// agreedOn tells whether all authorities of the program have the same consensus of an epoch, with
// all nodes, signed by each of them.
func agreedOn(n *smallworld.MixNet, epoch uint64) error {
	var first string
	for _, a := range n.Authorities {
		var c smallworld.Consensus
		out, err := a.Command("show", "--epoch", fmt.Sprint(epoch), "--json").Output()
		if err == nil {
			err = json.Unmarshal(out, &c)
		}
		if err != nil {
			return err
		}
		if first == "" {
			first = c.Hash
		}
		signed := 0
		for _, id := range c.SignedBy {
			for _, o := range n.Authorities {
				if o.ID == id {
					signed++
				}
			}
		}
		if c.Hash != first || len(c.Nodes) != len(n.Nodes) || signed != len(n.Authorities) {
			return fmt.Errorf("epoch %d: %s, %d nodes, signed by %d", epoch, c.Hash, len(c.Nodes), signed)
		}
	}
	return nil
}

// pagesOf gives what a browser shows of an authority: its status page, and a proof.
func pagesOf(t *testing.T, a *smallworld.Member, hash string) (page, proof string) {
	t.Helper()
	var st struct{ HTTP string }
	a.Ask(t, &st, "status")
	get := func(path string) string {
		r, err := http.Get("http://" + st.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return get("/"), get("/postern/proofs/" + hash)
}
