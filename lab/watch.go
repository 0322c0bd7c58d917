package lab

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"postern.email/wire/control"
)

// askTime bounds one question to a member.
const askTime = time.Second

// view is how the lab stands, as the page shows it. It tells counts and nothing of any mail.
type view struct {
	Epoch   uint64 `json:"epoch"`
	Phase   string `json:"phase"`
	Members []seen `json:"members"`
	Moves   []move `json:"moves"` // since the last view
	Kills   int    `json:"kills"`
	Came    uint64 `json:"came"` // packets that came to a mix to be sent on, where some are lost on purpose; each three times
	Lost    uint64 `json:"lost"` // of them
}

// seen is one member.
type seen struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Up    bool   `json:"up"`
	State string `json:"state"` // in a word or two
	Sent  uint64 `json:"sent"`  // packets since it was started
	Held  int    `json:"held"`  // packets that wait in it
	layer int
	came  uint64 // packets that came to a proxy
	epoch uint64 // that an authority is in
	phase string // of the agreement
}

// move is a number of packets from one member to another. From comes from the sender's count; to whom
// they went the lab does not know and draws.
type move struct {
	From string `json:"from"`
	To   string `json:"to"`
	N    int    `json:"n"`
}

// watcher asks the members how they do. It is used by one goroutine.
type watcher struct {
	l    *Lab
	last map[string]seen
}

// look asks every member.
func (w *watcher) look(ctx context.Context) view {
	lost := w.l.losses()
	v := view{Kills: int(w.l.kills.Load()), Came: lost.Came, Lost: lost.Lost}
	all := make([]seen, len(w.l.members))
	var wg sync.WaitGroup
	for i, m := range w.l.members {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			all[i] = m.look(ctx)
		})
	}
	wg.Wait()
	v.Members = all
	v.Moves = w.moves(all)
	w.last = map[string]seen{}
	for _, s := range all {
		w.last[s.Name] = s
		if s.Kind == "authority" && s.Up {
			v.Epoch, v.Phase = s.epoch, s.phase
		}
	}
	return v
}

// look asks one member.
func (m *member) look(ctx context.Context) seen {
	s := seen{Name: m.name, Kind: m.kind, State: "down"}
	if !m.up() {
		return s
	}
	ask := func(v any) bool {
		s.Up = control.Call(ctx, m.dir, "status", nil, v, nil) == nil
		if s.State = "starting"; s.Up {
			s.State = "ok"
		}
		return s.Up
	}
	switch m.kind {
	case "authority":
		var st authorityStatus
		if ask(&st) {
			s.epoch, s.phase = st.Epoch, st.Agreement.Phase
			if st.Consensus != nil {
				s.State = fmt.Sprintf("signed by %d", len(st.Consensus.SignedBy))
			}
		}
	case "mix":
		var st mixStatus
		if ask(&st) {
			s.Sent, s.Held = st.Packets.Sent, st.Packets.Held
			if !st.Listed {
				s.State = "not listed"
			} else if len(st.Layers) > 0 {
				s.layer = st.Layers[0]
			}
		}
	case "relay":
		var st relayStatus
		if ask(&st) {
			s.Held = st.Mixnet.Log.Packets
			if s.State = fmt.Sprintf("%d clients", st.Mixnet.Links.Clients); st.Mixnet.Links.Clients == 1 {
				s.State = "1 client"
			}
		}
	case "proxy":
		var st proxyStatus
		if ask(&st) {
			for _, a := range st.Lines {
				s.Sent += uint64(a.Sent + a.Cover)
				s.came += uint64(a.Received)
				s.Held += len(a.Waiting)
			}
			if s.State = "connected"; !st.connected() {
				s.State = "not connected"
			}
		}
	default: // the world has no control socket
		s.Up, s.State = true, "ok"
	}
	return s
}

// moves compares with the last look.
func (w *watcher) moves(all []seen) (out []move) {
	names := map[string][]string{} // by kind, and for mixes by layer
	for _, s := range all {
		key := s.Kind
		if s.Kind == "mix" {
			key = fmt.Sprint("layer", s.layer)
		}
		if s.Up {
			names[key] = append(names[key], s.Name)
		}
	}
	send := func(from, key string, n uint64) {
		to := names[key]
		if len(to) == 0 {
			return
		}
		counts := map[string]int{}
		for range min(n, mostMoves) {
			counts[to[mathrand.IntN(len(to))]]++
		}
		for _, name := range to {
			if counts[name] > 0 {
				out = append(out, move{from, name, counts[name]})
			}
		}
	}
	for _, s := range all {
		was, ok := w.last[s.Name]
		if !ok || !s.Up || s.Sent < was.Sent || s.came < was.came {
			continue
		}
		switch sent := s.Sent - was.Sent; {
		case s.Kind == "mix" && s.layer == Layers:
			send(s.Name, "relay", sent)
		case s.Kind == "mix" && s.layer > 0:
			send(s.Name, fmt.Sprint("layer", s.layer+1), sent)
		case s.Kind == "proxy":
			relay := w.l.relayOf(s.Name)
			if n := int(min(sent, mostMoves)); n > 0 {
				out = append(out, move{s.Name, relay, n})
			}
			send(relay, "layer1", sent)
			if n := int(min(s.came-was.came, mostMoves)); n > 0 {
				out = append(out, move{relay, s.Name, n})
			}
		}
	}
	return out
}

// Layers is how many mixes a packet passes.
const Layers = 3

// mostMoves bounds what is drawn of one member at one time.
const mostMoves = 20
