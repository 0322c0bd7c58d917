package seal

import (
	"bytes"
	"container/list"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha512"
	"io"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
)

// Limits of chains and their defaults.
const (
	DefaultChainAge  = time.Hour
	MaxChainMails    = 1024  // also the format's limit: a reader refuses a higher index
	DefaultLiveChain = 10000 // chains that one process keeps open for writing
	chainStripes     = 64    // locks, so that accounts do not wait for each other
)

// ChainID names one encapsulation and the keys that follow from it. It is random,
// so two processes can never continue each other's chain.
type ChainID [16]byte

// chainState is one position of a chain: HMAC-SHA-512 of it gives the next
// position and this position's mail key. It only moves forward.
type chainState [KeyLen]byte

// step replaces s by the next state, in place, and gives the mail key of the
// state before.
func (s *chainState) step() (key [KeyLen]byte) {
	m := hmac.New(sha512.New, s[:])
	m.Write([]byte(labelChainStep))
	var sum [sha512.Size]byte
	m.Sum(sum[:0])
	copy(s[:], sum[:KeyLen])
	copy(key[:], sum[KeyLen:])
	clear(sum[:])
	return key
}

// ChainOptions are the limits of Chains; zero values mean the defaults.
type ChainOptions struct {
	Rand     io.Reader        // chain numbers; the KEM uses the standard library's own randomness
	Now      func() time.Time // default time.Now
	MaxAge   time.Duration    // a chain takes mail for so long; default 1 h
	MaxMails int              // mails of one chain; default and highest 1,024
	MaxLive  int              // chains kept open at once; default 10,000; beyond, the one unused for longest ends
}

// Chains is the writer's side: for each account that gets mail one encapsulation
// an hour, and a key for each mail from a chain that moves forward in memory, so
// that a mail costs microseconds instead of a KEM. Who steals the memory of this
// process cannot open the earlier mails of a chain; who has the account's
// password can open all (DESIGN §5). Safe for use by many goroutines.
type Chains struct {
	o       ChainOptions
	stripes []chainStripe
}

type chainStripe struct {
	mu    sync.Mutex
	live  map[AccountID]*list.Element // of *writeChain
	lru   list.List                   // front: used last
	max   int
	swept time.Time
}

// writeChain is one account's chain. Its own lock is held while it encapsulates,
// so that only mail to the same account waits.
type writeChain struct {
	id AccountID

	mu    sync.Mutex
	dead  bool // removed from its stripe; look again
	pub   PublicKey
	chain ChainID
	encap []byte
	state chainState
	next  int
	began time.Time
}

// Slot is the key of one mail to one account and what its reader needs to find
// it. Encap must be durable, as a record of its own, before or with the first
// acknowledged mail of the chain; it is shared by all slots of the chain: do not
// change it. A slot that was given out is used up, also if no mail follows.
type Slot struct {
	Chain ChainID
	Encap []byte
	Index uint16
	Key   *MailKey
}

// NewChains makes the writer's side; one per process.
func NewChains(o ChainOptions) *Chains {
	defaults.Rand(&o.Rand)
	defaults.Clock(&o.Now)
	defaults.Positive(&o.MaxAge, DefaultChainAge)
	if o.MaxMails <= 0 || o.MaxMails > MaxChainMails {
		o.MaxMails = MaxChainMails
	}
	defaults.Positive(&o.MaxLive, DefaultLiveChain)
	c := &Chains{o: o, stripes: make([]chainStripe, min(chainStripes, o.MaxLive))}
	for i := range c.stripes {
		c.stripes[i].live = make(map[AccountID]*list.Element)
		c.stripes[i].max = o.MaxLive / len(c.stripes)
	}
	return c
}

// Next gives the key for the next mail to account id, whose public half is pub.
// A new chain begins after MaxAge, after MaxMails, and when pub has changed.
func (c *Chains) Next(id AccountID, pub PublicKey) (*Slot, error) {
	const op = "seal.Chains.Next"
	now := c.o.Now()
	for {
		w := c.stripe(id).get(id, now, c.o.MaxAge)
		w.mu.Lock()
		if w.dead {
			w.mu.Unlock()
			continue
		}
		if w.expired(now, c.o.MaxAge) || w.next >= c.o.MaxMails || !bytes.Equal(w.pub, pub) {
			if err := w.begin(pub, now, c.o.Rand); err != nil {
				w.mu.Unlock()
				return nil, errs.Wrap(op, err)
			}
		}
		s := &Slot{Chain: w.chain, Encap: w.encap, Index: uint16(w.next)}
		key := w.state.step()
		w.next++
		if w.next >= c.o.MaxMails {
			clear(w.state[:])
		}
		w.mu.Unlock()
		var err error
		s.Key, err = MailKeyOf(key[:])
		clear(key[:])
		return s, errs.Wrap(op, err)
	}
}

// Expire erases the chains that are too old to take mail. Next does it as it
// goes along; an idle server calls this every few minutes.
func (c *Chains) Expire() {
	now := c.o.Now()
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		s.sweep(now, c.o.MaxAge)
		s.mu.Unlock()
	}
}

// Live gives the number of chains in memory.
func (c *Chains) Live() int {
	n := 0
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		n += s.lru.Len()
		s.mu.Unlock()
	}
	return n
}

func (c *Chains) stripe(id AccountID) *chainStripe {
	// The last byte: the first ones choose the shard, which a caller may vary little.
	return &c.stripes[int(id[7])%len(c.stripes)]
}

// get finds or adds the account's chain and forgets the one unused for longest
// when there are too many.
func (s *chainStripe) get(id AccountID, now time.Time, age time.Duration) *writeChain {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= age/4 {
		s.sweep(now, age)
	}
	if e := s.live[id]; e != nil {
		s.lru.MoveToFront(e)
		return e.Value.(*writeChain)
	}
	for s.lru.Len() >= s.max {
		s.remove(s.lru.Back())
	}
	w := &writeChain{id: id}
	s.live[id] = s.lru.PushFront(w)
	return w
}

// remove forgets a chain. Who holds its lock finishes first; who waits for it
// sees dead and looks again.
func (s *chainStripe) remove(e *list.Element) {
	w := e.Value.(*writeChain)
	s.lru.Remove(e)
	delete(s.live, w.id)
	w.mu.Lock()
	w.dead = true
	clear(w.state[:])
	w.encap = nil // an erased state is never stepped: whoever still came here would begin anew
	w.mu.Unlock()
}

func (s *chainStripe) sweep(now time.Time, age time.Duration) {
	s.swept = now
	for e := s.lru.Back(); e != nil; {
		prev := e.Prev()
		w := e.Value.(*writeChain)
		if w.mu.TryLock() { // held: it is in use
			old := w.encap != nil && w.expired(now, age)
			w.mu.Unlock()
			if old {
				s.remove(e)
			}
		}
		e = prev
	}
}

func (w *writeChain) expired(now time.Time, age time.Duration) bool {
	d := now.Sub(w.began)
	return w.encap == nil || d >= age || d < 0 // a clock set back does not make a chain live longer
}

// begin encapsulates to pub and starts at index 0 with a number of its own.
func (w *writeChain) begin(pub PublicKey, now time.Time, random io.Reader) error {
	clear(w.state[:])
	w.encap = nil
	var chain ChainID
	if _, err := io.ReadFull(random, chain[:]); err != nil {
		return errs.E("begin", errs.Internal, "", err)
	}
	key, err := hpke.MLKEM768X25519().NewPublicKey(pub)
	if err != nil {
		return errs.E("begin", errs.Corrupt, "", err)
	}
	enc, sender, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.ExportOnly(), chainInfo(w.id, chain))
	if err != nil {
		return errs.E("begin", errs.Corrupt, "", err)
	}
	first, err := sender.Export(labelChainExport, KeyLen)
	if err != nil {
		return errs.E("begin", errs.Internal, "", err)
	}
	copy(w.state[:], first)
	clear(first)
	w.chain, w.encap, w.next, w.began, w.pub = chain, enc, 0, now, bytes.Clone(pub)
	return nil
}
