package mailbox

import (
	"encoding/binary"
	"math"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// counters is the one record of an account that every delivery rewrites.
type counters struct {
	nextMid         uint64 // number of the next message record
	nextBox         uint32 // number of the next folder
	nextSeries      uint32
	nextUIDValidity uint32 // a counter, never a clock: a name made again gets a higher one
	folders         int    // folder records
	used            int64  // sum of the stored bytes of all message records
	limit           int64  // the quota as last told by a delivery; for trimming while nobody is here
}

func (c *counters) encode() []byte {
	b := append(make([]byte, 0, 40), formatVersion)
	b = binary.AppendUvarint(b, c.nextMid)
	b = binary.AppendUvarint(b, uint64(c.nextBox))
	b = binary.AppendUvarint(b, uint64(c.nextSeries))
	b = binary.AppendUvarint(b, uint64(c.nextUIDValidity))
	b = binary.AppendUvarint(b, uint64(c.folders))
	b = binary.AppendUvarint(b, uint64(c.used))
	return binary.AppendUvarint(b, uint64(c.limit))
}

func decodeCounters(b []byte) (c counters, err error) {
	d := newDec(b)
	c.nextMid = d.Uvarint()
	c.nextBox = d.Uint32()
	c.nextSeries = d.Uint32()
	c.nextUIDValidity = d.Uint32()
	c.folders = int(d.Int(math.MaxInt32))
	c.used = d.Int(math.MaxInt64)
	c.limit = d.Int(math.MaxInt64)
	return c, d.End("post/mailbox.decodeCounters")
}

func getCounters(r store.Reader, id seal.AccountID) (counters, error) {
	b, err := r.Get(countersKey(id))
	if err != nil {
		return counters{}, err
	}
	return decodeCounters(b)
}

// boxState is the one record of a mailbox that every change of it rewrites: sessions watch its key.
type boxState struct {
	series      uint32 // number under which pages, keywords and tombstones lie
	uidValidity uint32
	uidNext     uint32
	highest     uint64 // highest modseq given out; each changing transaction takes the next
	messages    int
	unseen      int
	deleted     int
	size        int64 // stored bytes of all mails, copies counted each time

	recent uint32 // mails from this UID on were claimed by no session (ClaimRecent)
	tail   uint32 // key of the page that takes new mails; 0: the next mail makes one

	tombs     int    // expunged UIDs remembered
	tombFloor uint64 // expunges up to this modseq are forgotten

	// dirty tells which pages changed last, so that a reader who has the state
	// of modseq m ≥ dirtyFloor reads only the pages with a modseq above m again.
	dirtyFloor uint64
	dirty      []dirtyPage // ascending modseq, at most maxDirty
}

type dirtyPage struct {
	page   uint32 // its key
	modseq uint64
}

func newBoxState(series, uidValidity uint32) *boxState {
	return &boxState{series: series, uidValidity: uidValidity, uidNext: 1, highest: 1, recent: 1, tombFloor: 1, dirtyFloor: 1}
}

func (s *boxState) encode() []byte {
	b := append(make([]byte, 0, 64+8*len(s.dirty)), formatVersion)
	for _, v := range [...]uint64{uint64(s.series), uint64(s.uidValidity), uint64(s.uidNext), s.highest,
		uint64(s.messages), uint64(s.unseen), uint64(s.deleted), uint64(s.size),
		uint64(s.recent), uint64(s.tail), uint64(s.tombs), s.tombFloor, s.dirtyFloor, uint64(len(s.dirty))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, p := range s.dirty {
		b = binary.AppendUvarint(b, uint64(p.page))
		b = binary.AppendUvarint(b, p.modseq)
	}
	return b
}

func decodeState(b []byte) (*boxState, error) {
	s := &boxState{}
	d := newDec(b)
	s.series = d.Uint32()
	s.uidValidity = d.Uint32()
	s.uidNext = d.Uint32()
	s.highest = d.Uvarint()
	s.messages = int(d.Int(math.MaxUint32))
	s.unseen = int(d.Int(math.MaxUint32))
	s.deleted = int(d.Int(math.MaxUint32))
	s.size = d.Int(math.MaxInt64)
	s.recent = d.Uint32()
	s.tail = d.Uint32()
	s.tombs = int(d.Int(math.MaxInt32))
	s.tombFloor = d.Uvarint()
	s.dirtyFloor = d.Uvarint()
	n := int(d.Int(maxDirty))
	s.dirty = make([]dirtyPage, 0, n+1)
	for range n {
		s.dirty = append(s.dirty, dirtyPage{d.Uint32(), d.Uvarint()})
	}
	return s, d.End("post/mailbox.decodeState")
}

// touch notes that a page changes with the transaction's modseq, which is s.highest.
func (s *boxState) touch(page uint32) {
	for i, p := range s.dirty {
		if p.page == page {
			s.dirty = append(s.dirty[:i], s.dirty[i+1:]...)
			break
		}
	}
	s.dirty = append(s.dirty, dirtyPage{page, s.highest})
	if len(s.dirty) > maxDirty {
		s.dirtyFloor = s.dirty[0].modseq
		s.dirty = append(s.dirty[:0], s.dirty[1:]...)
	}
}

// count adds (sign 1) or takes away (sign -1) a mail from the counts.
func (s *boxState) count(e *Entry, sign int) {
	s.messages += sign
	if e.Flags&Seen == 0 {
		s.unseen += sign
	}
	if e.Flags&Deleted != 0 {
		s.deleted += sign
	}
}

// getState reads a mailbox's state; errs.NotFound says that there is no such mailbox.
func getState(r store.Reader, id seal.AccountID, box uint32) (*boxState, error) {
	b, err := r.Get(stateKey(id, box))
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			err = errs.E("post/mailbox", errs.NotFound, "no such mailbox", err)
		}
		return nil, err
	}
	return decodeState(b)
}
