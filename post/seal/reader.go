package seal

import (
	"container/list"
	"crypto/hpke"
	"hash/maphash"
	"sync"

	"postern.email/kit/errs"
)

// Limits of the reader's cache: for one opened account at most
// maxReadChains × MaxChainMails/checkpointEvery × 32 bytes = 8 KiB of states.
const (
	maxReadChains   = 16
	checkpointEvery = 64 // so a random mail costs at most 63 steps
)

// chainCache keeps states of the chains read last. The zero value is ready.
type chainCache struct {
	mu   sync.Mutex
	live map[readKey]*list.Element // of *readChain
	lru  list.List
}

// readKey names a chain and the encapsulation it was opened with: a damaged
// encapsulation must not stand in the way of the right one.
type readKey struct {
	chain ChainID
	encap uint64
}

var encapSeed = maphash.MakeSeed()

// readChain holds every checkpointEvery-th state as far as it was walked, and
// the position after the mail read last with that mail's key: a mail's summary and
// body are often read one after the other.
type readChain struct {
	key    readKey
	points []chainState
	cursor chainState
	at     int // index that cursor stands at
	last   [KeyLen]byte
	have   bool // last is the key of index at-1
}

// MailKey gives the key of the mail with this chain, encapsulation and index.
// A wrong encapsulation is not noticed here but by OpenPart (implicit rejection
// of the KEM), except one of the wrong length.
func (o *Opened) MailKey(chain ChainID, encap []byte, index uint16) (*MailKey, error) {
	const op = "seal.MailKey"
	if len(encap) != EncapLen || int(index) >= MaxChainMails {
		return nil, errs.E(op, errs.Corrupt, "", errShort)
	}
	k := readKey{chain, maphash.Bytes(encapSeed, encap)}
	key, ok := o.chains.find(k, int(index))
	if !ok {
		first, err := o.decapsulate(chain, encap)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		key = o.chains.add(k, first, int(index))
		clear(first[:])
		if o.isClosed() { // Close may have emptied the cache before add
			o.chains.drop()
		}
	} else if o.isClosed() {
		return nil, errs.E(op, errs.Unavailable, "", errClosed)
	}
	mk, err := MailKeyOf(key[:])
	clear(key[:])
	return mk, errs.Wrap(op, err)
}

func (o *Opened) isClosed() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.closed
}

// decapsulate gives the first state of a chain: once an hour at most for new mail.
func (o *Opened) decapsulate(chain ChainID, encap []byte) (first chainState, err error) {
	priv, err := o.private()
	if err != nil {
		return first, err
	}
	r, err := hpke.NewRecipient(encap, priv, hpke.HKDFSHA256(), hpke.ExportOnly(), chainInfo(o.id, chain))
	if err != nil {
		return first, errs.E("decapsulate", errs.Corrupt, "", err)
	}
	b, err := r.Export(labelChainExport, KeyLen)
	if err != nil {
		return first, errs.E("decapsulate", errs.Internal, "", err)
	}
	copy(first[:], b)
	clear(b)
	return first, nil
}

func (c *chainCache) find(k readKey, index int) (key [KeyLen]byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.live[k]
	if e == nil {
		return key, false
	}
	c.lru.MoveToFront(e)
	return e.Value.(*readChain).keyAt(index), true
}

func (c *chainCache) add(k readKey, first chainState, index int) [KeyLen]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = make(map[readKey]*list.Element)
	}
	e := c.live[k]
	if e == nil {
		for c.lru.Len() >= maxReadChains {
			c.remove(c.lru.Back())
		}
		points := append(make([]chainState, 0, MaxChainMails/checkpointEvery), first) // never moved: no copies stay behind
		e = c.lru.PushFront(&readChain{key: k, points: points, cursor: first})
		c.live[k] = e
	}
	return e.Value.(*readChain).keyAt(index)
}

func (c *chainCache) remove(e *list.Element) {
	r := e.Value.(*readChain)
	c.lru.Remove(e)
	delete(c.live, r.key)
	clear(r.points)
	clear(r.cursor[:])
	clear(r.last[:])
	r.have = false
}

// drop erases everything.
func (c *chainCache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.lru.Len() > 0 {
		c.remove(c.lru.Back())
	}
	c.live = nil
}

// keyAt walks to index from the cursor or from the nearest checkpoint before it.
func (r *readChain) keyAt(index int) (key [KeyLen]byte) {
	if r.have && r.at == index+1 {
		return r.last
	}
	p := min(index/checkpointEvery, len(r.points)-1)
	if r.at > index || r.at < p*checkpointEvery {
		r.cursor, r.at = r.points[p], p*checkpointEvery
	}
	for {
		key = r.cursor.step()
		r.at++
		if r.at%checkpointEvery == 0 && r.at/checkpointEvery == len(r.points) && r.at < MaxChainMails {
			r.points = append(r.points, r.cursor)
		}
		if r.at > index {
			r.last, r.have = key, true
			return key
		}
	}
}
