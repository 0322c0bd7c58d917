package imap

import "sort"

// seqMap is what a client believes about a mailbox: which UID has which message
// sequence number (RFC 9051 §2.3.1.2). It holds runs of consecutive UIDs, so
// that a waiting session on an ordinary mailbox costs a few bytes.
type seqMap struct {
	runs []run // ascending, never adjacent
	n    uint32
}

// run says that the sequence numbers from seq on have the UIDs from uid on, up
// to the next run.
type run struct{ uid, seq uint32 }

// add appends a message; uid must be higher than all before.
func (m *seqMap) add(uid uint32) {
	m.n++
	if last := len(m.runs) - 1; last >= 0 && m.runs[last].uid+(m.n-m.runs[last].seq) == uid {
		return
	}
	m.runs = append(m.runs, run{uid: uid, seq: m.n})
}

// len gives the number of messages.
func (m *seqMap) len() uint32 { return m.n }

// end gives the first sequence number behind run i.
func (m *seqMap) end(i int) uint32 {
	if i+1 < len(m.runs) {
		return m.runs[i+1].seq
	}
	return m.n + 1
}

// uid gives the UID of a sequence number from 1 to len.
func (m *seqMap) uid(seq uint32) uint32 {
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].seq > seq }) - 1
	return m.runs[i].uid + (seq - m.runs[i].seq)
}

// last gives the highest UID, 0 for an empty mailbox.
func (m *seqMap) last() uint32 {
	if m.n == 0 {
		return 0
	}
	return m.uid(m.n)
}

// seq gives the sequence number of a UID.
func (m *seqMap) seq(uid uint32) (uint32, bool) {
	s := m.lower(uid)
	return s, s <= m.n && m.uid(s) == uid
}

// lower gives the lowest sequence number whose UID is not below uid; len+1 if
// there is none.
func (m *seqMap) lower(uid uint32) uint32 {
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].uid > uid }) - 1
	if i < 0 {
		return 1
	}
	// The distance may be large; it must not overflow when added.
	return m.runs[i].seq + min(uid-m.runs[i].uid, m.end(i)-m.runs[i].seq)
}

// remove takes out messages by ascending sequence numbers, counted before any
// of them is removed.
func (m *seqMap) remove(seqs []uint32) {
	if len(seqs) == 0 {
		return
	}
	var out seqMap
	out.runs = make([]run, 0, len(m.runs)+1)
	i := 0
	for r := range m.runs {
		uid, end := m.runs[r].uid, m.end(r)
		for s := m.runs[r].seq; s < end; {
			if i < len(seqs) && seqs[i] == s {
				i++
				s, uid = s+1, uid+1
				continue
			}
			stop := end
			if i < len(seqs) && seqs[i] < end {
				stop = seqs[i]
			}
			out.addRun(uid, stop-s)
			uid += stop - s
			s = stop
		}
	}
	*m = out
}

// addRun appends count messages with consecutive UIDs.
func (m *seqMap) addRun(uid, count uint32) {
	if count == 0 {
		return
	}
	m.add(uid)
	m.n += count - 1
}
