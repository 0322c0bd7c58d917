package replay

import (
	"encoding/binary"

	"postern.email/kit/errs"
)

// found is a record in a segment.
type found struct {
	head
	block uint32
}

// hole is a stretch of blocks in which records should be and are not.
type hole struct {
	from, to uint32
	first    uint64 // seq of the first record that is missing
	records  int
	group    uint64 // of the record behind the hole; 0: there is none
}

// scanned is what a segment holds.
type scanned struct {
	records []found
	holes   []hole
	ended   bool   // in good order: all of it had been synced
	stop    uint32 // the block behind what is whole
}

// scan looks at a segment block by block where it is damaged, else record by record.
// Records later than acked are void: their Add was told that it failed. Bodies are not
// looked at.
func (l *Log) scan(s *segment, acked uint64) (sc scanned) {
	sealed := make([]byte, sealedHead)
	expect, bad := s.first, uint32(0)
	at := uint32(1)
	for at < s.blocks {
		h, err := l.headAt(s, at, sealed)
		if err == nil && h.kind == kindEnd {
			sc.ended = true
			break
		}
		if err == nil && h.seq > acked {
			break
		}
		if err != nil || h.seq < expect || h.seq-expect > uint64(s.blocks) {
			if bad == 0 {
				bad = at
			}
			at++
			continue
		}
		if h.seq > expect {
			from := bad
			if from == 0 {
				from = at
			}
			sc.holes = append(sc.holes, hole{from, at, expect, int(h.seq - expect), h.group})
		}
		sc.records = append(sc.records, found{h, at})
		expect, bad = h.seq+1, 0
		at += h.blocks()
	}
	sc.stop = min(at, s.blocks)
	if bad != 0 {
		sc.stop = bad
	}
	if acked != noAcked && acked >= expect {
		// The next segment says that more had been acknowledged.
		sc.holes = append(sc.holes, hole{sc.stop, s.blocks, expect, int(min(acked-expect+1, uint64(s.blocks))), 0})
	} else if sc.ended && bad != 0 {
		sc.holes = append(sc.holes, hole{bad, at, expect, 1, 0})
	}
	return sc
}

// noAcked: nobody knows what was acknowledged.
const noAcked = 1<<64 - 1

// headAt reads the head at a block.
func (l *Log) headAt(s *segment, block uint32, sealed []byte) (head, error) {
	if _, err := s.file.ReadAt(sealed, int64(block)*blockLen); err != nil {
		return head{}, errs.E("mixnet/replay.headAt", errs.Corrupt, "", err)
	}
	return openHead(s.aead, &l.c.scratch, block, sealed)
}

// cut ends the last segment of a log that was not closed: behind what is whole. What of its
// last group cannot be read was never acknowledged, as far as anybody can tell; all groups
// before it had been synced, so what is missing there is damage.
func (l *Log) cut(s *segment, sc *scanned) error {
	at := sc.stop
	if n := len(sc.records); n > 0 {
		group := sc.records[n-1].group
		whole := n
		for i := n - 1; i >= 0 && sc.records[i].group == group; i-- {
			r := &sc.records[i]
			if r.body > 0 {
				var err error
				if l.c.body, err = s.read(r.block, int(r.body), l.c.body[:0:cap(l.c.body)]); err != nil {
					if errs.KindOf(err) != errs.Corrupt {
						return err
					}
					whole, at = i, r.block
				}
			}
		}
		sc.records = sc.records[:whole]
		kept := sc.holes[:0]
		for _, h := range sc.holes {
			if h.from >= at {
				continue
			}
			if h.group == group && h.first+uint64(h.records) > group {
				// Its end, or all of it, is of the last group.
				at = h.from
				for len(sc.records) > 0 && sc.records[len(sc.records)-1].block >= at {
					sc.records = sc.records[:len(sc.records)-1]
				}
				if h.first >= group {
					continue
				}
				h.records = int(group - h.first)
			}
			kept = append(kept, h)
		}
		sc.holes = kept
	}
	if at < s.blocks {
		l.stats.Torn = 1
	}
	end := appendRecord(nil, s.aead, &l.c.scratch, at, &head{kind: kindEnd}, nil)
	s.blocks = at
	if err := s.write(end); err != nil {
		return err
	}
	s.blocks++
	return nil
}

// takeIn takes a record in.
func (l *Log) takeIn(s *segment, r *found) error {
	switch r.kind {
	case kindPacket, kindTag:
		k, err := l.keyOf(r.key)
		if err != nil {
			return err
		}
		if k != nil {
			t := tagged{k, k.fingerprint(r.tag)}
			if k.set.add(t.f) {
				s.tags = append(s.tags, t)
			}
		}
	case kindEnded:
		k := l.c.keys[r.key]
		if k == nil {
			k = &keyState{key: r.key}
		}
		if !k.ended {
			l.endState(k)
		}
	case kindSent:
		b, err := s.read(r.block, int(r.body), l.c.body[:0:cap(l.c.body)])
		if err != nil {
			l.setAside(s, r.block, r.block+r.blocks(), 1)
			return nil
		}
		for ; len(b) > 0; b = b[8:] {
			delete(l.waiting, binary.BigEndian.Uint64(b))
		}
	}
	if r.kind == kindPacket || r.kind == kindMoved {
		l.waiting[r.id] = &Entry{ID: r.id, Due: r.due, Next: r.next, Key: r.key, Use: r.use, Size: int(r.body),
			block: r.block, seg: s}
	}
	return nil
}

// keyOf gives the state of a key whose tags are to be known, or nil.
func (l *Log) keyOf(key Key) (*keyState, error) {
	k, err := l.key(key)
	if kind := errs.KindOf(err); err != nil && (kind == errs.Denied || kind == errs.Corrupt) {
		return nil, nil
	}
	return k, err
}
