package authority

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
)

// member is a client of the authorities: a cache that fetches over links.
type member struct {
	*dircache.Cache
	mu     sync.Mutex
	proofs []*directory.Proof
	stop   func()
}

// fetches starts a member that asks these sources.
func (w *world) fetches(sources ...dircache.Source) *member {
	w.t.Helper()
	m := &member{}
	var err error
	m.Cache, err = dircache.Open(dircache.Options{FS: vfs.NewCrashDisk(), Dir: "/dir", Network: w.net,
		Sources: func() []dircache.Source { return sources },
		Proof: func(p *directory.Proof) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.proofs = append(m.proofs, p)
		}})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	m.stop = func() { cancel(); running.Wait() }
	return m
}

func (w *world) stranger(name string) *client {
	seed := sha256.Sum256([]byte(name))
	return w.client(ed25519.NewKeyFromSeed(seed[:]), name)
}

// answering is a source that answers as an authority would, or lies.
type answering func(ctx context.Context, r *directory.Request) ([]byte, error)

func (a answering) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	return a(ctx, r)
}

// An authority lies to members in every way that it can alone: it shows them nothing, old
// consensuses, one without signatures, noise, a consensus that does not exist. Each member has
// that of the epoch all the same, from the others, and accuses nobody.
func TestLiesToMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, first, old := agreeing(t)
		bare, err := old.WithSignatures(nil)
		must(t, err)
		say := func(b []byte) answering {
			return func(_ context.Context, r *directory.Request) ([]byte, error) {
				if r.Kind == directory.RequestGossip {
					return (&directory.GossipList{Network: "test.net", Gossip: []directory.Gossip{{Epoch: first + 1, Sum: directory.Hash{1}}}}).Bytes(), nil
				}
				return b, nil
			}
		}
		c := w.stranger("member")
		defer c.stop()
		var members []*member
		for _, liar := range []answering{
			say(old.Bytes()), say(bare.Bytes()), say([]byte("postern-consensus 1\n")), say(nil), say(bytes.Repeat([]byte("x"), directory.MaxConsensus+1)),
			func(ctx context.Context, _ *directory.Request) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
			func(context.Context, *directory.Request) ([]byte, error) {
				return nil, errs.E("test", errs.Denied, "go away", nil)
			},
		} {
			m := w.fetches(liar, c.lines[0], c.lines[2])
			defer m.stop()
			members = append(members, m)
		}
		for epoch := first; epoch < first+2; epoch++ {
			w.until(epoch+1, 0.5)
			want := w.agreed(epoch)
			for i, m := range members {
				if got, err := m.Current(); err != nil || got.Hash() != want.Hash() {
					t.Errorf("member %d uses another consensus than that of epoch %d: %v", i, epoch, err)
				}
			}
		}
		for i, m := range members {
			if len(m.Proofs()) != 0 {
				t.Errorf("member %d accuses somebody", i)
			}
		}
	})
}

// agreeing gives three authorities, the first epoch that they agreed on, and its consensus,
// right after it was published.
func agreeing(t *testing.T) (w *world, epoch uint64, c *directory.Consensus) {
	t.Helper()
	w = newWorld(t, 3, time.Hour)
	w.start()
	t.Cleanup(func() { w.stop() })
	w.admit(someNodes(t, 3))
	epoch = w.next()
	w.until(epoch, 5.5)
	return w, epoch, w.agreed(epoch)
}

// split makes another consensus of an epoch, which some authorities sign as well.
func (w *world) split(c *directory.Consensus, liars ...*directory.PrivateKey) []byte {
	w.t.Helper()
	body, _, _ := strings.Cut(string(c.Bytes()), "\nsignature ")
	body = strings.Replace(body+"\n", "parameter delay ", "parameter delay 1", 1)
	sum := directory.HashOf([]byte(body))
	for _, e := range c.Endorsements() {
		for _, k := range liars {
			id, _ := authorityOf(e)
			if id != k.Public().ID() {
				continue
			}
			l := &liar{w: w, key: k}
			signed := l.sign(e, replacing("consensus", func(string) string { return sum.String() }))
			body += string(signed[bytes.Index(signed, []byte("signature ")):])
		}
	}
	return []byte(body)
}

// As many liars as the threshold can make a consensus of their own for some members. Those who
// are shown it cannot know at first; once they compare with anybody else, the liars, and nobody else,
// are convicted by both sides.
func TestSplitIsSeenByMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, first, honest := agreeing(t)
		var liars []*directory.PrivateKey
		guilty := map[string]bool{}
		for _, a := range w.all[:2] {
			k, err := openKeys(a.c, a.d.withDefaults(), false)
			must(t, err)
			liars = append(liars, k.Identity())
			guilty[idText(k.Identity().Public().ID())] = true
		}
		// One liar alone is below the threshold: nobody takes it.
		few := w.split(honest, liars[0])
		if err := w.fetchless().Put(few); errs.KindOf(err) != errs.Denied {
			t.Errorf("below the threshold: %v", err)
		}
		forged := w.split(honest, liars...)
		other := w.fetchless()
		must(t, other.Put(forged))
		liar := answering(func(_ context.Context, r *directory.Request) ([]byte, error) {
			b, err := directory.AppendRequest(nil, *r)
			must(t, err)
			return other.Answer(b)
		})
		c := w.stranger("member")
		defer c.stop()
		deceived, warned := w.fetches(liar, c.lines[2]), w.fetches(c.lines[2], liar)
		defer deceived.stop()
		defer warned.stop()
		w.until(first+1, 0.1)
		if got, err := deceived.Current(); err != nil || got.Hash() != directory.HashOf(forged) {
			t.Errorf("the deceived one uses another consensus: %v", err)
		}
		if got, err := warned.Current(); err != nil || got.Hash() != honest.Hash() {
			t.Errorf("the other one uses another consensus: %v", err)
		}
		for name, m := range map[string]*member{"deceived": deceived, "warned": warned} {
			accused := map[string]bool{}
			for _, p := range m.Proofs() {
				must(t, directory.VerifyProof(w.net, p))
				accused[idText(p.Accused)] = true
			}
			m.mu.Lock()
			told := len(m.proofs)
			m.mu.Unlock()
			if len(accused) != 2 || told != 2 {
				t.Errorf("%s: %d proofs, told of %d", name, len(accused), told)
			}
			for id := range accused {
				if !guilty[id] {
					t.Errorf("%s: an honest authority is accused", name)
				}
			}
		}
		// The next consensus brings both together again.
		w.until(first+2, 0.5)
		for _, m := range []*member{deceived, warned} {
			if got, err := m.Current(); err != nil || got.Hash() != w.agreed(first+1).Hash() {
				t.Errorf("an epoch later another consensus is used: %v", err)
			}
		}
	})
}

// fetchless is a member that asks nobody.
func (w *world) fetchless() *dircache.Cache {
	w.t.Helper()
	c, err := dircache.Open(dircache.Options{FS: vfs.NewCrashDisk(), Dir: "/dir", Network: w.net})
	must(w.t, err)
	return c
}
