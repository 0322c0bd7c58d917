package client

import (
	"math"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// stage is how far a fragment is.
type stage uint8

const (
	wanting stage = iota // to be given to the relay, for the first time or again
	given                // the relay has it on its disk; an acknowledgement is awaited if there is one
	landed               // acknowledged; or given, where nobody acknowledges
)

// piece is what is known of one fragment.
type piece struct {
	Stage stage
	Tries int  `json:",omitempty"`
	busy  bool // it is on the line now
}

// group is what is acknowledged together: a window of several fragments, or one alone. The last
// of them that leaves carries the reply block. What turns out to be missing is sent again, again with
// a block in the last of it; the window keeps its name, so that the relay at the end tells all
// that it has by then (docs/content.md).
type group struct {
	Tries int           `json:",omitempty"` // blocks that were given away
	Quiet int           `json:",omitempty"` // of them those since the last news
	Due   time.Time     `json:",omitzero"`  // nothing of it leaves before
	Marks []packet.Mark `json:",omitempty"` // of the blocks
	Asker int           `json:",omitempty"` // the fragment that carried the last of them
}

// state is what became of a message so far, on disk.
type state struct {
	Pieces []piece
	Groups []group `json:",omitempty"` // of a message that is acknowledged
}

func (s *Store) loadState(name string, h *outHead) (*state, error) {
	var st state
	if err := s.loadJSON(outDir+"/"+name+stateSuffix, &st); err != nil {
		return nil, err
	}
	if len(st.Pieces) == 0 {
		st.Pieces = make([]piece, h.Count)
	}
	if len(st.Groups) == 0 {
		st.Groups = make([]group, h.groups())
	}
	if len(st.Pieces) != h.Count || len(st.Groups) != h.groups() {
		return nil, errs.E("mixnet/client.Store.state", errs.Corrupt, "a message that waits is damaged", nil)
	}
	return &st, nil
}

// groups is into how many groups the fragments of a message are put: as few as there can be, of as
// equal a size as can be.
func (h *outHead) groups() int {
	switch {
	case !h.Ack:
		return 0
	case h.Size > letter.RoomACK:
		return h.Count
	}
	return (h.Count + content.MaxWindow - 1) / content.MaxWindow
}

// span gives the first fragment of a group, and how many it has.
func (h *outHead) span(g int) (first, n int) {
	all := h.groups()
	first = g * h.Count / all
	return first, (g+1)*h.Count/all - first
}

// groupOf is the group of a fragment.
func (h *outHead) groupOf(i int) int { return ((i+1)*h.groups() - 1) / h.Count }

func (st *state) progress(name string, h *outHead) Progress {
	p := Progress{Name: name, Created: h.Created, Note: h.Note, Packets: h.Count}
	for _, f := range st.Pieces {
		if f.Tries > 0 {
			p.Sent++
		}
		if f.Stage == landed && h.Ack {
			p.Acked++
		}
	}
	return p
}

// Repetition of what is not acknowledged.
const (
	DefaultAckSlack = 5 * time.Minute // beyond one and a half times the expected time
	ackLongest      = 6 * time.Hour   // between two tries
	maxTries        = 64              // of a group: so many marks are kept
)

// again is when it is time to ask again for what no acknowledgement has come for: one and a half
// times the time that there and back should take, and some slack; twice as long after each try
// without news, of which this is number quiet; up to a fifth more or less, so that no rhythm shows.
func again(now time.Time, expected, slack time.Duration, quiet int, r Chooser) time.Time {
	d := float64(expected)*1.5 + float64(slack)
	d *= math.Pow(2, float64(min(quiet-1, 20)))
	d = min(d, float64(ackLongest)) * (0.8 + 0.4*r.Float64())
	return now.Add(time.Duration(d))
}

// message is a message that the client works on.
type message struct {
	name  string
	head  *outHead
	state *state
	why   string               // it cannot be sent now
	own   *directory.Consensus // of its files alone, once that was needed
}

// next gives the fragment to send now, the first that can be, and whether it is to carry the
// reply block of its group; -1 if there is none.
func (m *message) next(now time.Time) (i int, block bool) {
	if !m.head.Ack {
		for i := range m.state.Pieces {
			if p := &m.state.Pieces[i]; p.Stage == wanting && !p.busy {
				return i, false
			}
		}
		return -1, false
	}
	for g := range m.state.Groups {
		if i, block := m.nextOf(g, now); i >= 0 {
			return i, block
		}
	}
	return -1, false
}

func (m *message) nextOf(g int, now time.Time) (i int, block bool) {
	group := &m.state.Groups[g]
	if now.Before(group.Due) || group.Tries >= maxTries {
		return -1, false
	}
	first, n := m.head.span(g)
	i, waits, busy, all := -1, 0, false, true
	for k := first; k < first+n; k++ {
		p := &m.state.Pieces[k]
		busy = busy || p.busy
		all = all && p.Stage == landed
		if p.Stage == wanting && !p.busy {
			if waits++; i < 0 {
				i = k
			}
		}
	}
	switch {
	case waits > 0:
		return i, waits == 1
	case busy || all:
		return -1, false
	}
	// All have left, and nothing was heard: the one with the block is sent again, since it may be
	// the only one that is missing. Its acknowledgement tells.
	if i = group.Asker; i < first || i >= first+n || m.state.Pieces[i].Stage == landed {
		for i = first; m.state.Pieces[i].Stage == landed; i++ {
		}
	}
	return i, true
}

// posted notes what the line said of a fragment. slack is that of again.
func (m *message) posted(e *event, slack time.Duration, now time.Time, r Chooser) {
	p := &m.state.Pieces[e.piece]
	p.busy = false
	switch {
	case e.err != nil || p.Stage == landed:
	case !m.head.Ack:
		p.Stage = landed
	default:
		p.Stage = given
		if e.block {
			g := &m.state.Groups[m.head.groupOf(e.piece)]
			g.Tries++
			g.Quiet++
			g.Asker, g.Due = e.piece, again(now, e.stay, slack, g.Quiet, r)
		}
	}
}

// acked notes an acknowledgement: which fragments of its group are where they shall be. latest: it
// is for the last block that was sent, so that what it does not name is missing. What is missing is
// sent again at once where there was something new, since the way is open then; else when the
// group is due anyway.
func (m *message) acked(e *event, now time.Time) {
	g := &m.state.Groups[e.group]
	first, n := m.head.span(e.group)
	news, missing := false, false
	for k := range n {
		p := &m.state.Pieces[first+k]
		switch {
		case p.Stage == landed:
		case n == 1 || e.durable&(1<<k) != 0:
			p.Stage, news = landed, true
		case e.latest && p.Stage == given:
			p.Stage, missing = wanting, true
		}
	}
	if news {
		g.Quiet = 0
		if missing {
			g.Due = now
		}
	}
}

// landed reports whether a group has nothing left to be done.
func (m *message) landed(g int) bool {
	first, n := m.head.span(g)
	for i := first; i < first+n; i++ {
		if m.state.Pieces[i].Stage != landed {
			return false
		}
	}
	return true
}

// done reports whether nothing is left to do.
func (m *message) done() bool {
	for i := range m.state.Pieces {
		if m.state.Pieces[i].Stage != landed {
			return false
		}
	}
	return true
}

// waits is how many fragments are to be sent.
func (m *message) waits() (n int) {
	for i := range m.state.Pieces {
		if m.state.Pieces[i].Stage == wanting {
			n++
		}
	}
	return n
}
