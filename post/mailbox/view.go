package mailbox

import (
	"iter"
	"slices"
	"sort"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// View is one state of a mailbox: immutable, shared by all sessions that have it
// open. Mails lie packed and are decoded on the way out; the UIDs of a View never
// change their order.
type View struct {
	Box           uint32
	UIDValidity   uint32
	UIDNext       uint32
	HighestModSeq uint64
	Unseen        int // mails without \Seen
	Deleted       int // mails with \Deleted

	series uint32
	n      int
	pages  []pageRef
}

// pageRef is one packed page in memory.
type pageRef struct {
	key     uint32
	start   int32 // place of its first row in the View
	count   uint8
	unseen  uint8
	deleted uint8
	highest uint64
	data    []byte
}

// loadView makes the View of a state. Of old, which may be nil, it takes over all
// pages that have not changed since.
func loadView(r store.Reader, id seal.AccountID, box uint32, st *boxState, old *View) (*View, error) {
	v := &View{Box: box, UIDValidity: st.uidValidity, UIDNext: st.uidNext, HighestModSeq: st.highest,
		Unseen: st.unseen, Deleted: st.deleted, series: st.series}
	var err error
	if old != nil && old.series == st.series && old.UIDValidity == st.uidValidity &&
		old.HighestModSeq >= st.dirtyFloor && old.HighestModSeq <= st.highest {
		v.pages, err = changedPages(r, id, st, old)
	} else {
		v.pages, err = allPages(r, id, st)
	}
	if err != nil {
		return nil, err
	}
	for i := range v.pages {
		v.pages[i].start = int32(v.n)
		v.n += int(v.pages[i].count)
	}
	if v.n != st.messages {
		return nil, errs.E("post/mailbox.loadView", errs.Corrupt, "", nil)
	}
	return v, nil
}

// allPages reads a whole mailbox into few allocations.
func allPages(r store.Reader, id seal.AccountID, st *boxState) ([]pageRef, error) {
	if st.messages == 0 {
		return nil, nil
	}
	pages := make([]pageRef, 0, st.messages/pageEntries+1)
	var slab []byte
	var buf []Entry
	start, end := pageRange(id, st.series)
	err := r.Scan(start, end, func(k, val []byte) (bool, error) {
		if len(slab)+len(val) > cap(slab) {
			// Small mailboxes take what they need; large ones come in pieces, so that
			// a page that is replaced later does not hold all others in memory.
			slab = make([]byte, 0, max(len(val), min(64<<10, st.messages*10-len(slab))))
		}
		at := len(slab)
		slab = append(slab, val...)
		p, rows, err := newPageRef(keyUID(k), slab[at:len(slab):len(slab)], buf[:0])
		buf = rows
		pages = append(pages, p)
		return true, err
	})
	return pages, err
}

// changedPages reads what changed after old.
func changedPages(r store.Reader, id seal.AccountID, st *boxState, old *View) ([]pageRef, error) {
	pages := slices.Clone(old.pages)
	for _, d := range st.dirty {
		if d.modseq <= old.HighestModSeq {
			continue
		}
		i, had := slices.BinarySearchFunc(pages, d.page, func(p pageRef, key uint32) int {
			return int(int64(p.key) - int64(key))
		})
		val, err := r.Get(pageKey(id, st.series, d.page))
		switch {
		case err != nil && errs.KindOf(err) == errs.NotFound:
			if had {
				pages = slices.Delete(pages, i, i+1)
			}
			continue
		case err != nil:
			return nil, err
		}
		p, _, err := newPageRef(d.page, slices.Clone(val), nil)
		if err != nil {
			return nil, err
		}
		if had {
			pages[i] = p
		} else {
			pages = slices.Insert(pages, i, p)
		}
	}
	return pages, nil
}

// newPageRef checks a page once, so that reading it later cannot fail.
func newPageRef(key uint32, data []byte, buf []Entry) (pageRef, []Entry, error) {
	rows, in, err := decodePage(buf, data)
	if err != nil {
		return pageRef{}, buf, err
	}
	if rows[0].UID < key {
		return pageRef{}, buf, errs.E("post/mailbox.newPageRef", errs.Corrupt, "", nil)
	}
	return pageRef{key: key, count: uint8(in.count), unseen: uint8(in.unseen), deleted: uint8(in.deleted),
		highest: in.highest, data: data}, rows, nil
}

// bytes is about what the View takes in memory.
func (v *View) bytes() int64 {
	n := int64(160 + 48*cap(v.pages))
	for i := range v.pages {
		n += int64(len(v.pages[i].data))
	}
	return n
}

// Len gives the number of mails.
func (v *View) Len() int { return v.n }

// page gives the number of the page that holds place i.
func (v *View) page(i int) int {
	return sort.Search(len(v.pages), func(p int) bool { return int(v.pages[p].start) > i }) - 1
}

// At gives mail i, 0 ≤ i < Len; its sequence number is i+1. To read many in order
// use Range, to read many anywhere a Cursor: they decode a page once.
func (v *View) At(i int) Entry {
	p := &v.pages[v.page(i)]
	r := openRows(p.data)
	for range i - int(p.start) + 1 {
		r.next()
	}
	return r.cur
}

// Find gives the place of uid; if it is not there, the place of the next higher one (Len if none).
func (v *View) Find(uid uint32) (i int, ok bool) {
	n := sort.Search(len(v.pages), func(p int) bool { return v.pages[p].key > uid }) - 1
	if n < 0 {
		return 0, false
	}
	i = int(v.pages[n].start)
	for r := openRows(v.pages[n].data); r.next(); i++ {
		if r.cur.UID >= uid {
			return i, r.cur.UID == uid
		}
	}
	return i, false
}

// Range gives mails from ≤ i < to, in order. Bounds outside of the View are cut.
func (v *View) Range(from, to int) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		from, to := max(from, 0), min(to, v.n)
		if from >= to {
			return
		}
		for n := v.page(from); n < len(v.pages); n++ {
			i := int(v.pages[n].start)
			if i >= to {
				return
			}
			for r := openRows(v.pages[n].data); r.next(); i++ {
				if i >= to {
					return
				}
				if i >= from && !yield(i, r.cur) {
					return
				}
			}
		}
	}
}

// Changed gives, in order, the mails with a modseq above since (RFC 7162 CHANGEDSINCE).
func (v *View) Changed(since uint64) iter.Seq2[int, Entry] {
	return v.where(func(p *pageRef) bool { return p.highest > since }, func(e *Entry) bool { return e.ModSeq > since })
}

// where gives the mails that match; pages that cannot hold one are not decoded.
func (v *View) where(maybe func(*pageRef) bool, match func(*Entry) bool) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		for n := range v.pages {
			p := &v.pages[n]
			if !maybe(p) {
				continue
			}
			i := int(p.start)
			for r := openRows(p.data); r.next(); i++ {
				if match(&r.cur) && !yield(i, r.cur) {
					return
				}
			}
		}
	}
}

// FirstUnseen gives the place of the first mail without \Seen, or -1.
func (v *View) FirstUnseen() int {
	for i := range v.where(func(p *pageRef) bool { return p.unseen > 0 }, func(e *Entry) bool { return e.Flags&Seen == 0 }) {
		return i
	}
	return -1
}

// deletedUIDs lists the mails with \Deleted.
func (v *View) deletedUIDs() []uint32 {
	var uids []uint32
	for _, e := range v.where(func(p *pageRef) bool { return p.deleted > 0 }, func(e *Entry) bool { return e.Flags&Deleted != 0 }) {
		uids = append(uids, e.UID)
	}
	return uids
}

// Cursor reads one View at any place and keeps the last page decoded. It is not for
// more than one goroutine.
type Cursor struct {
	v    *View
	page int // number of the decoded page, -1: none
	rows []Entry
}

// Cursor gives a reader.
func (v *View) Cursor() *Cursor { return &Cursor{v: v, page: -1} }

// At is View.At.
func (c *Cursor) At(i int) Entry {
	if c.page >= 0 {
		if at := i - int(c.v.pages[c.page].start); at >= 0 && at < len(c.rows) {
			return c.rows[at]
		}
	}
	c.page = c.v.page(i)
	c.rows = c.rows[:0]
	if c.rows == nil {
		c.rows = make([]Entry, 0, pageEntries)
	}
	for r := openRows(c.v.pages[c.page].data); r.next(); {
		c.rows = append(c.rows, r.cur)
	}
	return c.rows[i-int(c.v.pages[c.page].start)]
}
