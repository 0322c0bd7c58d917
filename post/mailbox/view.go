package mailbox

import "iter"

// View is one state of a mailbox: immutable, shared by all sessions that have it
// open. Mails lie packed and are decoded on the way out.
type View struct {
	Box           uint32
	UIDValidity   uint32
	UIDNext       uint32
	HighestModSeq uint64
	Unseen        int // mails without \Seen
	Deleted       int // mails with \Deleted
}

// Len gives the number of mails.
func (v *View) Len() int { return 0 }

// At gives mail i, 0 ≤ i < Len; sequence number i+1. To read many in order use
// Range, to read many anywhere a Cursor: they decode a page once.
func (v *View) At(i int) Entry { return Entry{} }

// Find gives the place of uid; if it is not there, the place of the next higher one (Len if none).
func (v *View) Find(uid uint32) (i int, ok bool) { return 0, false }

// Range gives mails from ≤ i < to, in order.
func (v *View) Range(from, to int) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {}
}

// Changed gives, in order, the mails with a modseq above since (RFC 7162 CHANGEDSINCE).
func (v *View) Changed(since uint64) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {}
}

// FirstUnseen gives the place of the first mail without \Seen, or -1.
func (v *View) FirstUnseen() int { return -1 }

// Cursor reads one View at any place and keeps the last page decoded. It is not for
// more than one goroutine. Its zero value is not usable.
type Cursor struct{ v *View }

// Cursor gives a reader.
func (v *View) Cursor() *Cursor { return &Cursor{v: v} }

// At is View.At.
func (c *Cursor) At(i int) Entry { return c.v.At(i) }
