package mailbox

import (
	"context"
	"math"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// txn is one run of a transaction function on one account. It gathers what changes and
// flush writes it, so that each record is written once a transaction however
// many mails it touches. A second run begins with a fresh txn.
type txn struct {
	b        *Boxes
	tx       store.Tx
	id       seal.AccountID
	c        counters
	cRead    bool
	cChanged bool
	boxes    []*boxTx
	chains   []chainDelta
	unlink   []blob.Name // files to remove after the commit
	deleted  bool        // sealed bytes were deleted: the store needs a purge
}

type chainDelta struct {
	chain seal.ChainID
	delta int64
	encap []byte // for the first reference
}

// boxTx is one mailbox within a txn.
type boxTx struct {
	t       *txn
	box     uint32
	st      *boxState
	bumped  bool // the transaction has taken its modseq
	changed bool
	tail    []Entry // rows of page st.tail, if tailRead
	tailMod bool
	tailHas bool

	names     []string // the mailbox's keywords, if namesRead
	namesRead bool
}

// update runs fn in one transaction on an account, writes what it gathered, and
// then removes the files that no mail refers to any more.
func (b *Boxes) update(ctx context.Context, id seal.AccountID, fn func(*txn) error) error {
	var last *txn
	err := b.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		last = &txn{b: b, tx: tx, id: id}
		if err := fn(last); err != nil {
			return err
		}
		return last.flush()
	})
	if err != nil {
		return err
	}
	b.settle(last)
	return nil
}

// settle does what must follow a commit.
func (b *Boxes) settle(t *txn) {
	if t.deleted {
		b.purge.note()
	}
	b.unlink(t.unlink)
}

// counters reads the account's counters for changing them.
func (t *txn) counters() (*counters, error) {
	if !t.cRead {
		c, err := getCounters(t.tx, t.id)
		if err != nil {
			return nil, err
		}
		t.c, t.cRead = c, true
	}
	t.cChanged = true
	return &t.c, nil
}

// open reads a mailbox; the same one gives the same boxTx.
func (t *txn) open(box uint32) (*boxTx, error) {
	for _, x := range t.boxes {
		if x.box == box {
			return x, nil
		}
	}
	st, err := getState(t.tx, t.id, box)
	if err != nil {
		return nil, err
	}
	x := &boxTx{t: t, box: box, st: st}
	t.boxes = append(t.boxes, x)
	return x, nil
}

// flush writes all that was gathered.
func (t *txn) flush() error {
	for _, x := range t.boxes {
		if err := x.flush(); err != nil {
			return err
		}
	}
	for i := range t.chains {
		if err := t.flushChain(&t.chains[i]); err != nil {
			return err
		}
	}
	if t.cChanged {
		return t.tx.Set(countersKey(t.id), t.c.encode())
	}
	return nil
}

// refChain adds delta references to a chain. encap is needed when delta is positive.
func (t *txn) refChain(chain seal.ChainID, delta int64, encap []byte) {
	for i := range t.chains {
		if c := &t.chains[i]; c.chain == chain {
			c.delta += delta
			if encap != nil {
				c.encap = encap
			}
			return
		}
	}
	t.chains = append(t.chains, chainDelta{chain, delta, encap})
}

// flushChain keeps an encapsulation exactly as long as a mail refers to it: it is put
// with the first reference that commits, whichever mail that is, also if an earlier mail
// of the chain failed or is gone already.
func (t *txn) flushChain(c *chainDelta) error {
	if c.delta == 0 {
		return nil
	}
	k := chainRefsKey(t.id, c.chain)
	var n uint64
	b, err := t.tx.Get(k)
	switch {
	case err == nil:
		if n, err = decodeCount(b); err != nil {
			return err
		}
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	now := int64(n) + c.delta
	switch {
	case now < 0 || now > 0 && n == 0 && c.encap == nil:
		return errs.E("post/mailbox.flushChain", errs.Corrupt, "", nil)
	case now == 0:
		t.deleted = true
		if err := t.tx.Delete(k); err != nil {
			return err
		}
		return t.tx.Delete(encapKey(t.id, c.chain))
	case n == 0:
		if err := t.tx.Set(encapKey(t.id, c.chain), c.encap); err != nil {
			return err
		}
	}
	return t.tx.Set(k, encodeCount(uint64(now)))
}

// refs gives how many mailbox entries share a message record.
func (t *txn) refs(mid uint64) (uint64, error) {
	b, err := t.tx.Get(refsKey(t.id, mid))
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	return decodeCount(b)
}

// share adds a reference to a message record.
func (t *txn) share(mid uint64) error {
	n, err := t.refs(mid)
	if err != nil {
		return err
	}
	return t.tx.Set(refsKey(t.id, mid), encodeCount(n+1))
}

// head reads the readable part of a message record.
func (t *txn) head(mid uint64) (messageHead, error) {
	b, err := t.tx.Get(messageKey(t.id, mid))
	if err != nil {
		return messageHead{}, err
	}
	h, _, err := decodeMessage(b)
	return h, err
}

// release takes a reference away; with the last one the mail's records go, and its
// file after the commit.
func (t *txn) release(mid uint64, h *messageHead) error {
	n, err := t.refs(mid)
	if err != nil {
		return err
	}
	if n > 2 {
		return t.tx.Set(refsKey(t.id, mid), encodeCount(n-1))
	}
	if n == 2 {
		return t.tx.Delete(refsKey(t.id, mid))
	}
	c, err := t.counters()
	if err != nil {
		return err
	}
	c.used -= h.stored
	t.deleted = true
	t.refChain(h.chain, -1, nil)
	if h.blob {
		t.unlink = append(t.unlink, h.name)
		err = t.tx.Delete(blobKey(t.id, h.name))
	} else {
		err = t.tx.Delete(bodyKey(t.id, mid))
	}
	if err != nil {
		return err
	}
	return t.tx.Delete(messageKey(t.id, mid))
}

// bump takes the transaction's modseq, once.
func (x *boxTx) bump() uint64 {
	if !x.bumped {
		x.bumped, x.changed = true, true
		x.st.highest++
	}
	return x.st.highest
}

// add puts a mail at the end; UID and ModSeq of e are set here.
func (x *boxTx) add(e Entry, stored int64) (uint32, error) {
	if x.st.uidNext == math.MaxUint32 {
		return 0, errs.E("post/mailbox", errs.Full, "the mailbox has used up its numbers", nil)
	}
	e.UID, e.ModSeq = x.st.uidNext, x.bump()
	if err := x.readTail(); err != nil {
		return 0, err
	}
	if !x.tailHas || len(x.tail) >= pageEntries {
		if err := x.flushTail(); err != nil {
			return 0, err
		}
		x.st.tail, x.tail, x.tailHas = e.UID, x.tail[:0], true
	}
	if !x.tailMod {
		x.tailMod = true
		x.st.touch(x.st.tail)
	}
	x.tail = append(x.tail, e)
	x.st.uidNext++
	x.st.size += stored
	x.st.count(&e, 1)
	return e.UID, nil
}

func (x *boxTx) readTail() error {
	if x.tailHas || x.st.tail == 0 {
		return nil
	}
	b, err := x.t.tx.Get(pageKey(x.t.id, x.st.series, x.st.tail))
	if err != nil {
		return errs.E("post/mailbox.readTail", errs.Corrupt, "", err)
	}
	// A row takes six bytes at least; one more is about to be added.
	x.tail, _, err = decodePage(make([]Entry, 0, min(len(b)/6+1, pageEntries)), b)
	x.tailHas = err == nil
	return err
}

func (x *boxTx) flushTail() error {
	if !x.tailMod {
		return nil
	}
	x.tailMod = false
	return x.t.tx.Set(pageKey(x.t.id, x.st.series, x.st.tail), encodePage(x.tail))
}

func (x *boxTx) flush() error {
	if err := x.flushTail(); err != nil {
		return err
	}
	if !x.changed {
		return nil
	}
	x.st.recent = max(x.st.recent, min(x.t.b.claimed(x.t.id, x.box), x.st.uidNext))
	return x.t.tx.Set(stateKey(x.t.id, x.box), x.st.encode())
}

// page is a page that edit has in hand.
type page struct {
	key     uint32
	rows    []Entry
	changed bool
}

// edit calls fn for each mail of uids (ascending) that exists. fn may change Flags
// (then it sets ModSeq to bump()) and returns whether the mail stays; a mail that
// goes has been dealt with by fn but for its row and counts. Pages that become empty
// vanish, small neighbours are joined.
func (x *boxTx) edit(uids []uint32, fn func(e *Entry) (keep bool, err error)) error {
	if len(uids) == 0 {
		return nil
	}
	if err := x.flushTail(); err != nil {
		return err
	}
	x.tail, x.tailHas = nil, false
	pages, err := x.load(uids[0], uids[len(uids)-1])
	if err != nil {
		return err
	}
	next := 0
	for _, p := range pages {
		kept := p.rows[:0]
		for _, e := range p.rows {
			for next < len(uids) && uids[next] < e.UID {
				next++
			}
			if next == len(uids) || uids[next] != e.UID {
				kept = append(kept, e)
				continue
			}
			old := e
			keep, err := fn(&e)
			if err != nil {
				return err
			}
			if keep {
				kept = append(kept, e)
			}
			if keep && e == old {
				continue
			}
			p.changed = true
			x.bump()
			x.st.count(&old, -1)
			if keep {
				x.st.count(&e, 1)
			}
		}
		p.rows = kept
	}
	return x.store(pages)
}

// load reads the pages that can hold UIDs from lo to hi, and the one before them, which
// a page that has become small is joined to.
func (x *boxTx) load(lo, hi uint32) ([]*page, error) {
	id, series := x.t.id, x.st.series
	first := lo
	start, _ := pageRange(id, series)
	n := 0
	err := x.t.tx.ScanReverse(start, pageKey(id, series, lo+1), func(k, _ []byte) (bool, error) {
		first = keyUID(k)
		n++
		return n < 2, nil
	})
	if err != nil {
		return nil, err
	}
	var pages []*page
	end := after(pageKey(id, series, hi))
	err = x.t.tx.Scan(pageKey(id, series, first), end, func(k, v []byte) (bool, error) {
		rows, _, err := decodePage(nil, v)
		pages = append(pages, &page{key: keyUID(k), rows: rows})
		return true, err
	})
	return pages, err
}

// A page with fewer rows than joinBelow is joined to the one before it if both
// together have at most joinMax; so deleting does not leave crumbs behind.
const (
	joinBelow = pageEntries / 4
	joinMax   = pageEntries * 3 / 4
)

// store writes the changed pages of a run of neighbours.
func (x *boxTx) store(pages []*page) error {
	for i := len(pages) - 1; i > 0; i-- {
		p, before := pages[i], pages[i-1]
		if !p.changed || len(p.rows) == 0 || len(p.rows) >= joinBelow ||
			len(before.rows) == 0 || len(before.rows)+len(p.rows) > joinMax {
			continue
		}
		before.rows = append(slices.Clip(before.rows), p.rows...)
		before.changed = true
		p.rows = nil
		if x.st.tail == p.key {
			x.st.tail = before.key
		}
	}
	for _, p := range pages {
		if !p.changed {
			continue
		}
		x.st.touch(p.key)
		k := pageKey(x.t.id, x.st.series, p.key)
		if len(p.rows) > 0 {
			if err := x.t.tx.Set(k, encodePage(p.rows)); err != nil {
				return err
			}
			continue
		}
		if x.st.tail == p.key {
			x.st.tail = 0
		}
		if err := x.t.tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
