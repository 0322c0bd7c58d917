package imap

import (
	"context"
	"slices"
	"sort"
)

// resync is the parameter of SELECT (QRESYNC …) (RFC 7162 §3.2.5).
type resync struct {
	uidValidity uint32
	modseq      uint64
	known       *numSet
	seqs, uids  *numSet // message sequence match data, §3.2.5.2
}

func (p *parser) resync(q *resync) (err error) {
	if err = p.sp(); err != nil {
		return err
	}
	if err = p.expect('('); err != nil {
		return err
	}
	if q.uidValidity, err = p.number(); err != nil {
		return err
	}
	if err = p.sp(); err != nil {
		return err
	}
	if q.modseq, err = p.number64(); err != nil {
		return err
	}
	if p.take(' ') && p.peek() != '(' {
		set, err := p.sequence()
		if err != nil || set.saved {
			return syntaxf("wrong set of known UIDs")
		}
		q.known = &set
		p.take(' ')
	}
	if p.take('(') {
		seqs, err := p.sequence()
		if err != nil {
			return err
		}
		if err := p.sp(); err != nil {
			return err
		}
		uids, err := p.sequence()
		if err != nil {
			return err
		}
		q.seqs, q.uids = &seqs, &uids
		if err := p.expect(')'); err != nil {
			return err
		}
	}
	return p.expect(')')
}

// tellResync sends what the client missed: VANISHED (EARLIER), then the flags that
// changed. With another UIDVALIDITY the client starts anew and nothing is sent.
func (c *conn) tellResync(ctx context.Context, q *resync) error {
	s := c.sel
	if q.uidValidity != s.uidValidity {
		return nil
	}
	var known []numRange
	if q.known != nil {
		known = q.known.resolve(max(s.uidNext, 1) - 1)
	} else {
		known = []numRange{{1, max(s.uidNext, 2) - 1}}
	}
	if err := c.tellVanished(ctx, known, q.modseq, q.matched(s)); err != nil {
		return err
	}
	for i, e := range s.view.Changed(q.modseq) {
		if !inRanges(known, e.UID) {
			continue
		}
		if err := c.tellFlagsOf(ctx, uint32(i)+1, e, true, true); err != nil {
			return err
		}
	}
	return c.w.err
}

// matched gives the highest UID up to which the client's pairs of sequence number
// and UID are still right: nothing below was expunged since.
func (q *resync) matched(s *selected) uint32 {
	if q.seqs == nil {
		return 0
	}
	seqs, uids := q.seqs.resolve(s.seq.len()), q.uids.resolve(s.seq.last())
	up := uint32(0)
	ui, uoff := 0, uint32(0)
	for _, r := range seqs {
		for seq := r.lo; seq <= r.hi && seq <= s.seq.len(); seq++ {
			if ui >= len(uids) {
				return up
			}
			uid := uids[ui].lo + uoff
			if s.seq.uid(seq) != uid {
				return up
			}
			up = uid
			if uoff++; uids[ui].lo+uoff > uids[ui].hi {
				ui, uoff = ui+1, 0
			}
		}
	}
	return up
}

// tellVanished sends the UIDs of ranges that were expunged after a modseq (RFC
// 7162 §3.2.6). Where the backend does not remember, every UID that does not exist
// is named, which is always right (§3.2.5.2); below skip nothing is missing then.
func (c *conn) tellVanished(ctx context.Context, ranges []numRange, since uint64, skip uint32) error {
	s := c.sel
	gone, complete, err := s.mailbox.Expunged(ctx, since)
	if err != nil {
		return err
	}
	var out []numRange
	if complete {
		slices.Sort(gone)
		for _, uid := range slices.Compact(gone) {
			if inRanges(ranges, uid) {
				out = append(out, numRange{uid, uid})
			}
		}
	} else {
		out = s.missing(ranges, skip)
	}
	if out = mergeRanges(out); len(out) > 0 {
		c.w.s("* VANISHED (EARLIER) ").ranges(out).crlf()
	}
	return c.w.err
}

// missing gives the parts of ranges between skip and uidNext where no message is.
func (s *selected) missing(ranges []numRange, skip uint32) []numRange {
	var out []numRange
	for _, r := range ranges {
		lo, hi := max(r.lo, skip+1), min(r.hi, max(s.uidNext, 1)-1)
		i := sort.Search(len(s.seq.runs), func(i int) bool { return s.seq.runs[i].uid > lo }) - 1
		for i = max(i, 0); lo <= hi && i < len(s.seq.runs); i++ {
			first := s.seq.runs[i].uid
			end := first + (s.seq.end(i) - s.seq.runs[i].seq) // behind the run
			if lo < first {
				out = append(out, numRange{lo, min(hi, first-1)})
			}
			lo = max(lo, end)
		}
		if lo <= hi {
			out = append(out, numRange{lo, hi})
		}
	}
	return out
}
