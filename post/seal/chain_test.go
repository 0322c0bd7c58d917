package seal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
)

type fakeClock struct{ t time.Time }

func (c *fakeClock) now() time.Time { return c.t }

func newFakeClock() *fakeClock { return &fakeClock{time.Unix(1800000000, 0)} }

func next(t testing.TB, c *Chains, o *Opened) *Slot {
	t.Helper()
	s, err := c.Next(o.ID(), o.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mustOpen seals with the slot's key and opens with the reader's.
func mustOpen(t testing.TB, o *Opened, s *Slot) {
	t.Helper()
	text := fmt.Appendf(nil, "mail %d", s.Index)
	sealed, err := s.Key.SealPart(PartBody, 0, text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := o.MailKey(s.Chain, s.Encap, s.Index)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.OpenPart(PartBody, 0, sealed)
	if err != nil || !bytes.Equal(got, text) {
		t.Fatalf("index %d: %q %v", s.Index, got, err)
	}
}

func TestChainReadsInAnyOrder(t *testing.T) {
	o, c := testKey(t, 1), NewChains(ChainOptions{})
	slots := make([]*Slot, MaxChainMails)
	for i := range slots {
		slots[i] = next(t, c, o)
		if int(slots[i].Index) != i || slots[i].Chain != slots[0].Chain {
			t.Fatalf("mail %d: chain %x index %d", i, slots[i].Chain, slots[i].Index)
		}
	}
	for _, i := range rand.Perm(len(slots)) {
		mustOpen(t, o, slots[i])
	}
	if n := next(t, c, o); n.Chain == slots[0].Chain || n.Index != 0 {
		t.Fatalf("the chain goes on after %d mails", MaxChainMails)
	}
	e := o.chains.lru.Front().Value.(*readChain)
	if len(e.points) > MaxChainMails/checkpointEvery || cap(e.points) != MaxChainMails/checkpointEvery {
		t.Errorf("%d checkpoints", len(e.points))
	}
}

// A commit that fails and is done again takes a new slot: no index is used twice,
// and a mail whose neighbours were never written or are gone can be read.
func TestFailedCommitUsesUpItsIndex(t *testing.T) {
	o, c := testKey(t, 1), NewChains(ChainOptions{})
	lost, kept := next(t, c, o), next(t, c, o)
	if kept.Index != lost.Index+1 {
		t.Fatalf("index %d after %d", kept.Index, lost.Index)
	}
	mustOpen(t, o, kept)
	third := next(t, c, o)
	o.Trim() // a new session: nothing cached
	mustOpen(t, o, third)
}

func TestChainEnds(t *testing.T) {
	clock := newFakeClock()
	o := testKey(t, 1)
	c := NewChains(ChainOptions{Now: clock.now, MaxMails: 3})
	first := next(t, c, o)
	clock.t = clock.t.Add(DefaultChainAge - time.Second)
	if s := next(t, c, o); s.Chain != first.Chain || s.Index != 1 {
		t.Fatal("the chain ended early")
	}
	clock.t = clock.t.Add(time.Second)
	second := next(t, c, o)
	if second.Chain == first.Chain || second.Index != 0 {
		t.Fatal("the chain did not end after its hour")
	}
	clock.t = clock.t.Add(-time.Minute)
	third := next(t, c, o)
	if third.Chain == second.Chain {
		t.Fatal("a clock set back makes a chain live longer")
	}
	next(t, c, o)
	next(t, c, o)
	if s := next(t, c, o); s.Chain == third.Chain || s.Index != 0 {
		t.Fatal("the chain did not end after MaxMails")
	}
	// A reset account has another key under the same number.
	fresh, err := FromSeed(o.ID(), bytes.Repeat([]byte{77}, SeedLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := next(t, c, o)
	s := next(t, c, fresh)
	if s.Chain == before.Chain || s.Index != 0 {
		t.Fatal("the chain went on under another key")
	}
	mustOpen(t, fresh, s)
}

func TestOldStatesAreErased(t *testing.T) {
	o, c := testKey(t, 1), NewChains(ChainOptions{MaxMails: 2})
	next(t, c, o)
	w := c.stripe(o.ID()).lru.Front().Value.(*writeChain)
	before := w.state
	if before == (chainState{}) {
		t.Fatal("no state at all")
	}
	next(t, c, o)
	if w.state != (chainState{}) {
		t.Error("a finished chain keeps a state")
	}
	if before.step(); before == w.state {
		t.Error("the chain did not move")
	}
	clock := newFakeClock()
	c = NewChains(ChainOptions{Now: clock.now})
	next(t, c, o)
	w = c.stripe(o.ID()).lru.Front().Value.(*writeChain)
	clock.t = clock.t.Add(DefaultChainAge)
	c.Expire()
	if c.Live() != 0 || w.state != (chainState{}) {
		t.Error("an old chain stays in memory")
	}
}

// A writer that found a chain just before it was forgotten looks again.
func TestForgottenChainIsNotUsed(t *testing.T) {
	o, c := testKey(t, 1), NewChains(ChainOptions{})
	before := next(t, c, o)
	st := c.stripe(o.ID())
	w := st.lru.Front().Value.(*writeChain)
	w.mu.Lock()
	got := make(chan *Slot)
	go func() {
		s, err := c.Next(o.ID(), o.Public())
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	// The writer may or may not wait for the lock by now: both ways must hold.
	runtime.Gosched()
	st.mu.Lock()
	st.lru.Remove(st.live[o.ID()])
	delete(st.live, o.ID())
	w.dead = true
	clear(w.state[:])
	st.mu.Unlock()
	w.mu.Unlock()
	s := <-got
	if s.Chain == before.Chain || s.Index != 0 {
		t.Error("a forgotten chain goes on")
	}
	mustOpen(t, o, s)
	if c.Live() != 1 {
		t.Errorf("%d chains", c.Live())
	}
}

func TestLiveChainsAreBounded(t *testing.T) {
	const most = 128
	c := NewChains(ChainOptions{MaxLive: most})
	pub := testKey(t, 1).Public()
	for i := range 3 * most {
		id := AccountID{byte(i >> 8), byte(i), 0, 0, 0, 0, 1, byte(i)}
		if _, err := c.Next(id, pub); err != nil {
			t.Fatal(err)
		}
		if n := c.Live(); n > most {
			t.Fatalf("%d chains live", n)
		}
	}
	if d := NewChains(ChainOptions{}); d.o.MaxLive != DefaultLiveChain || d.o.MaxMails != MaxChainMails || d.o.MaxAge != time.Hour {
		t.Errorf("defaults %+v", d.o)
	}
	one := NewChains(ChainOptions{MaxLive: 1})
	a, b := testKey(t, 1), testKey(t, 2)
	first := next(t, one, a)
	next(t, one, b)
	if s := next(t, one, a); s.Chain == first.Chain {
		t.Error("a chain that was pushed out goes on")
	}
}

func TestNextFromManySides(t *testing.T) {
	c := NewChains(ChainOptions{MaxMails: 50, MaxLive: 2})
	keys := []*Opened{testKey(t, 1), testKey(t, 2), testKey(t, 3)}
	type place struct {
		c ChainID
		i uint16
	}
	var mu sync.Mutex
	seen := map[place]bool{}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 100 {
				o := keys[(g+i/10)%len(keys)]
				s, err := c.Next(o.ID(), o.Public())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[place{s.Chain, s.Index}] {
					t.Errorf("chain %x index %d was given out twice", s.Chain, s.Index)
				}
				seen[place{s.Chain, s.Index}] = true
				mu.Unlock()
				if i%25 == 0 {
					mustOpen(t, o, s)
				}
			}
		})
	}
	wg.Wait()
}

func TestEachProcessHasItsOwnChain(t *testing.T) {
	o := testKey(t, 1)
	a, b := next(t, NewChains(ChainOptions{}), o), next(t, NewChains(ChainOptions{}), o)
	if a.Chain == b.Chain || bytes.Equal(a.Encap, b.Encap) || bytes.Equal(a.Key.Bytes(), b.Key.Bytes()) {
		t.Fatal("two processes share a chain")
	}
	mustOpen(t, o, a)
	mustOpen(t, o, b)
}

func TestReaderRefusesWhatIsNotItsOwn(t *testing.T) {
	o, c := testKey(t, 1), NewChains(ChainOptions{})
	s := next(t, c, o)
	sealed, err := s.Key.SealPart(PartBody, 0, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(s.Encap)
	damaged[100] ^= 1
	for name, f := range map[string]func() (*MailKey, error){
		"damaged encapsulation": func() (*MailKey, error) { return o.MailKey(s.Chain, damaged, 0) },
		"other chain number":    func() (*MailKey, error) { return o.MailKey(ChainID{1}, s.Encap, 0) },
		"other index":           func() (*MailKey, error) { return o.MailKey(s.Chain, s.Encap, 1) },
		"other account":         func() (*MailKey, error) { return testKey(t, 2).MailKey(s.Chain, s.Encap, 0) },
	} {
		k, err := f()
		if err == nil {
			_, err = k.OpenPart(PartBody, 0, sealed)
		}
		if errs.KindOf(err) != errs.Corrupt || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What was tried before does not stand in the way of the right one.
	k, err := o.MailKey(s.Chain, s.Encap, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.OpenPart(PartBody, 0, sealed); err != nil {
		t.Error(err)
	}
	_, err = o.MailKey(s.Chain, s.Encap[:100], 0)
	wantKind(t, err, errs.Corrupt)
	_, err = o.MailKey(s.Chain, s.Encap, MaxChainMails)
	wantKind(t, err, errs.Corrupt)
}

func TestReaderCacheIsBounded(t *testing.T) {
	o := testKey(t, 1)
	for range 3 * maxReadChains {
		mustOpen(t, o, next(t, NewChains(ChainOptions{}), o))
		if n := o.chains.lru.Len(); n > maxReadChains || n != len(o.chains.live) {
			t.Fatalf("%d chains cached", n)
		}
	}
}

func TestNextRefusesABadKey(t *testing.T) {
	c := NewChains(ChainOptions{})
	_, err := c.Next(AccountID{1}, PublicKey("short"))
	wantKind(t, err, errs.Corrupt)
	if ValidPublicKey(PublicKey("short")) || !ValidPublicKey(testKey(t, 1).Public()) {
		t.Error("ValidPublicKey")
	}
	o := testKey(t, 1)
	if _, err := c.Next(AccountID{1}, o.Public()); err != nil {
		t.Errorf("after a bad key: %v", err)
	}
	if _, err := NewChains(ChainOptions{Rand: bytes.NewReader(nil)}).Next(o.ID(), o.Public()); err == nil {
		t.Error("a chain without randomness")
	}
}

func BenchmarkNext(b *testing.B) {
	o := testKey(b, 1)
	c := NewChains(ChainOptions{})
	for b.Loop() {
		if _, err := c.Next(o.ID(), o.Public()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewChain(b *testing.B) {
	o := testKey(b, 1)
	c := NewChains(ChainOptions{MaxMails: 1})
	for b.Loop() {
		if _, err := c.Next(o.ID(), o.Public()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenChain(b *testing.B) {
	o := testKey(b, 1)
	s := next(b, NewChains(ChainOptions{}), o)
	for b.Loop() {
		o.Trim()
		if _, err := o.MailKey(s.Chain, s.Encap, s.Index); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMailKeyRandomIndex(b *testing.B) {
	o := testKey(b, 1)
	s := next(b, NewChains(ChainOptions{}), o)
	for b.Loop() {
		if _, err := o.MailKey(s.Chain, s.Encap, uint16(rand.IntN(MaxChainMails))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealPart10K(b *testing.B) {
	k, err := NewMailKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	plain := make([]byte, 10<<10)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		clear(k.used)
		if _, err := k.SealPart(PartBody, 0, plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFromSeed(b *testing.B) {
	seed := make([]byte, SeedLen)
	for b.Loop() {
		if _, err := FromSeed(AccountID{}, seed, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrapDefault(b *testing.B) {
	o := testKey(b, 1)
	raw, err := o.Wrap("correct horse", passhash.Password())
	if err != nil {
		b.Fatal(err)
	}
	w, err := ParseWrapped(raw)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := w.Unwrap(o.ID(), o.Public(), "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestOneMailIsDerivedOnce: the summary and the body of one mail cost one walk, and
// what is kept for that is erased with the rest.
func TestOneMailIsDerivedOnce(t *testing.T) {
	o, c := testKey(t, 1), NewChains(ChainOptions{})
	var s *Slot
	for range 10 {
		s = next(t, c, o)
	}
	if _, err := o.MailKey(s.Chain, s.Encap, s.Index); err != nil {
		t.Fatal(err)
	}
	r := o.chains.lru.Front().Value.(*readChain)
	good := r.cursor
	clear(r.points)
	clear(r.cursor[:]) // whoever walks from here gets a wrong key
	mustOpen(t, o, s)
	r.cursor = good
	mustOpen(t, o, next(t, c, o))
	mustOpen(t, o, next(t, c, o))
	o.Trim()
	if r.last != [KeyLen]byte{} || r.cursor != (chainState{}) {
		t.Error("a key stays in memory")
	}
}

// TestOpenInPlace: the same text, and no text from a damaged part.
func TestOpenInPlace(t *testing.T) {
	k, err := NewMailKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.SealPart(PartBody, 3, []byte("one mail"))
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(sealed)
	bad[0] ^= 1
	if got, err := k.OpenPartInPlace(PartBody, 3, sealed); err != nil || string(got) != "one mail" || &got[0] != &sealed[0] {
		t.Errorf("%q %v", got, err)
	}
	if got, err := k.OpenPartInPlace(PartBody, 3, bad); got != nil || errs.KindOf(err) != errs.Corrupt {
		t.Errorf("%q %v", got, err)
	}
}
