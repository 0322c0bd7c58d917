package client

import (
	"math"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// stage is how far a fragment is.
type stage uint8

const (
	fresh  stage = iota // not given to the relay yet
	given               // the relay has it on its disk; an acknowledgement is awaited if there is one
	landed              // acknowledged; or given, where nobody acknowledges
)

// piece is what is known of one fragment.
type piece struct {
	Stage stage
	Tries int           `json:",omitempty"`
	Due   time.Time     `json:",omitzero"`  // of Stage given: when it is sent again
	Marks []packet.Mark `json:",omitempty"` // of the reply blocks that went with it
	busy  bool          // it is on the line now
}

// state is what became of a message so far, on disk.
type state struct {
	Pieces []piece
}

func (s *Store) loadState(name string, count int) (*state, error) {
	var st state
	if err := s.loadJSON(outDir+"/"+name+stateSuffix, &st); err != nil {
		return nil, err
	}
	if len(st.Pieces) == 0 {
		st.Pieces = make([]piece, count)
	}
	if len(st.Pieces) != count {
		return nil, errs.E("mixnet/client.Store.state", errs.Corrupt, "a message that waits is damaged", nil)
	}
	return &st, nil
}

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
	ackSlack   = 5 * time.Minute // beyond one and a half times the expected time
	ackLongest = 6 * time.Hour   // between two tries
	maxTries   = 64              // of a fragment: so many marks are kept
)

// again is when a fragment is sent again that no acknowledgement has come for: one and a half
// times the time that there and back should take, and some slack; twice as long after each try; up
// to a fifth more or less, so that no rhythm shows.
func again(now time.Time, expected time.Duration, tries int, r Chooser) time.Time {
	d := float64(expected)*1.5 + float64(ackSlack)
	d *= math.Pow(2, float64(min(tries-1, 20)))
	d = min(d, float64(ackLongest)) * (0.8 + 0.4*r.Float64())
	return now.Add(time.Duration(d))
}

// message is a message that the client works on.
type message struct {
	name  string
	head  *outHead
	state *state
	why   string // it cannot be sent now
}

// next gives the fragment to send now, -1 if there is none: those that were never sent first.
func (m *message) next(now time.Time, old bool) int {
	for i := range m.state.Pieces {
		p := &m.state.Pieces[i]
		switch {
		case p.busy || p.Stage == landed:
		case p.Stage == fresh && !old:
			return i
		case p.Stage == given && old && !now.Before(p.Due) && p.Tries < maxTries:
			return i
		}
	}
	return -1
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

// fresh is how many fragments were never sent.
func (m *message) fresh() (n int) {
	for i := range m.state.Pieces {
		if m.state.Pieces[i].Stage == fresh {
			n++
		}
	}
	return n
}
