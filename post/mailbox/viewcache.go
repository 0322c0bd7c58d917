package mailbox

import (
	"container/list"
	"context"
	"sync"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// entryBytes is what an entry of the cache costs beside its View.
const entryBytes = 400

type boxID struct {
	id  seal.AccountID
	box uint32
}

// viewCache keeps the last View of each mailbox in use, so that all sessions share one. It
// is bounded by memory; a session keeps its own View alive also when it has left the
// cache.
type viewCache struct {
	max int64

	mu   sync.Mutex
	used int64
	live map[boxID]*list.Element // of *cachedView
	lru  list.List               // front: used last
}

type cachedView struct {
	at     boxID
	charge int64 // guarded by viewCache.mu

	mu     sync.Mutex // held while the mailbox is read: sessions of one mailbox read it once
	view   *View
	recent uint32 // claimed up to here and not yet on disk, see ClaimRecent
}

func newViewCache(max int64) *viewCache {
	return &viewCache{max: max, live: make(map[boxID]*list.Element)}
}

func (c *viewCache) get(at boxID) *cachedView {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.live[at]; e != nil {
		c.lru.MoveToFront(e)
		return e.Value.(*cachedView)
	}
	e := &cachedView{at: at, charge: entryBytes}
	c.live[at] = c.lru.PushFront(e)
	c.used += entryBytes
	c.shrink()
	return e
}

// peek does not make an entry.
func (c *viewCache) peek(at boxID) *cachedView {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.live[at]; e != nil {
		return e.Value.(*cachedView)
	}
	return nil
}

// charged notes the size of the entry's View.
func (c *viewCache) charged(e *cachedView, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.live[e.at]; el == nil || el.Value != e {
		return
	}
	c.used += bytes + entryBytes - e.charge
	e.charge = bytes + entryBytes
	c.shrink()
}

// shrink forgets what was not used for longest, but never the last one.
func (c *viewCache) shrink() {
	for c.used > c.max && c.lru.Len() > 1 {
		c.remove(c.lru.Back())
	}
}

func (c *viewCache) drop(at boxID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.live[at]; e != nil {
		c.remove(e)
	}
}

func (c *viewCache) remove(el *list.Element) {
	e := el.Value.(*cachedView)
	c.lru.Remove(el)
	delete(c.live, e.at)
	c.used -= e.charge
}

// view gives the durable state of a mailbox.
func (b *Boxes) view(ctx context.Context, id seal.AccountID, box uint32) (*View, error) {
	at := boxID{id, box}
	e := b.views.get(at)
	e.mu.Lock()
	defer e.mu.Unlock()
	var v *View
	err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		st, err := getState(r, id, box)
		if err != nil {
			return err
		}
		if o := e.view; o != nil && o.UIDValidity == st.uidValidity && o.series == st.series && o.HighestModSeq == st.highest {
			v = o
			return nil
		}
		v, err = loadView(r, id, box, st, e.view)
		return err
	})
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			b.views.drop(at)
		}
		return nil, err
	}
	if v != e.view {
		e.view = v
		b.views.charged(e, v.bytes())
	}
	return v, nil
}

// claimed gives the claim that a mailbox's next change takes to the disk.
func (b *Boxes) claimed(id seal.AccountID, box uint32) uint32 {
	e := b.views.peek(boxID{id, box})
	if e == nil || !e.mu.TryLock() { // the next change takes it then
		return 0
	}
	defer e.mu.Unlock()
	return e.recent
}
