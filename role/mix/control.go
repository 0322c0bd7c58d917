package mix

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/replay"
	"postern.email/wire/control"
)

// Status is how a node does, as `postern mix status` shows it.
type Status struct {
	Info
	PID      int      `json:"pid"`
	Since    string   `json:"since"`
	Health   string   `json:"health"` // "ok", or why nothing new is taken
	Network  string   `json:"network"`
	Layers   []int    `json:"layers"`
	Listed   bool     `json:"listed"`          // it is in the directory in use
	Epoch    uint64   `json:"epoch,omitempty"` // of the directory in use
	Until    string   `json:"valid_until,omitempty"`
	NoDir    string   `json:"no_directory,omitempty"` // why there is no valid one
	Insecure []string `json:"insecurities,omitempty"`

	Authorities []AuthorityStatus `json:"authorities"`
	Peers       []PeerStatus      `json:"peers"`
	Keys        []KeyStatus       `json:"keys"`

	Packets struct {
		Held    int     `json:"held"`    // in the pool
		Mean    float64 `json:"mean"`    // of it since the start; -1: not known yet
		Later   int     `json:"later"`   // tried in vain, to be tried again
		Sent    uint64  `json:"sent"`    // since the start
		Dropped uint64  `json:"dropped"` // since the start: given up
		Replays uint64  `json:"replays"` // since the start
		Damaged int     `json:"damaged"` // kept aside
		Boxes   int     `json:"boxes"`   // wait for a box
		Exits   int     `json:"exits"`   // wait for an exit
	} `json:"packets"`
	Loops struct {
		Sent     uint64 `json:"sent"`
		Returned uint64 `json:"returned"`
	} `json:"loops"`
	Log struct {
		Segments int   `json:"segments"`
		Bytes    int64 `json:"bytes"`
		Tags     int   `json:"tags"`
	} `json:"log"`
	Clients int `json:"clients"` // who may connect; mode relay
}

// Info is what is known of a node as soon as it runs.
type Info struct {
	Nickname   string   `json:"nickname"`
	ID         string   `json:"id"`
	Mode       []string `json:"mode"`
	Version    string   `json:"version"`
	Dir        string   `json:"dir"`
	Listen     []string `json:"listen"`
	LinkKey    string   `json:"link_key"`
	Publish    bool     `json:"publish"`
	Descriptor string   `json:"descriptor,omitempty"` // its file
}

// AuthorityStatus is what an authority made of the node's descriptor.
type AuthorityStatus struct {
	ID      string `json:"id"`
	Verdict string `json:"verdict"` // "accepted", "held", "not asked yet", or why not
	At      string `json:"at,omitempty"`
}

// PeerStatus is another node.
type PeerStatus struct {
	ID        string `json:"id"`
	Nickname  string `json:"nickname"`
	Connected bool   `json:"connected"`
	Since     string `json:"since,omitempty"`
	Waiting   int    `json:"waiting"`
	Error     string `json:"error,omitempty"`
}

// KeyStatus is a set of keys.
type KeyStatus struct {
	Number    int    `json:"number"`
	KeyID     string `json:"key_id"`
	State     string `json:"state"`
	From      string `json:"from"`
	Until     string `json:"until"`
	Accepted  string `json:"accepted_until"`
	Published int    `json:"published"` // authorities that took it
}

// QueueEntry is a packet, or several that are damaged, as `postern mix queue` shows it.
type QueueEntry struct {
	State string `json:"state"` // inp, msg, rmv, crp
	ID    uint64 `json:"id,omitempty"`
	Due   string `json:"due,omitempty"`
	Next  string `json:"next,omitempty"` // nickname, or the first digits of the ID
	Bytes int64  `json:"bytes"`
	Count int    `json:"count"`
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Info tells what the node is.
func (s *Server) Info() Info {
	c, id := s.Config(), s.keys.Identity().Public().ID()
	i := Info{Nickname: c.Nickname, ID: hex.EncodeToString(id[:]), Mode: c.Mode, Version: s.d.Version, Dir: c.Server.BaseDir,
		Publish: c.Directory.Publish, Listen: []string{}}
	if key, err := link.KeyOf(s.keys.Link().Public().(ed25519.PublicKey)); err == nil {
		i.LinkKey = hex.EncodeToString(key[:])
	}
	for _, l := range s.listeners {
		i.Listen = append(i.Listen, l.Addr().String())
	}
	if s.node != nil {
		i.Descriptor = s.node.Status().Path
	}
	return i
}

// Status tells how the node does.
func (s *Server) Status() Status {
	n := s.node.Status()
	st := Status{Info: s.Info(), PID: os.Getpid(), Since: clock(s.started), Health: "ok", Network: s.network.Name(), Layers: n.Layers, Listed: n.Listed,
		Epoch: n.Epoch, Until: clock(n.ValidUntil), Insecure: n.Insecurities, Authorities: []AuthorityStatus{}, Peers: []PeerStatus{}, Keys: []KeyStatus{}, Clients: len(s.ends.clients.all())}
	if n.Health != nil {
		st.Health = errs.Public(n.Health)
	}
	if n.Directory != nil {
		st.NoDir = errs.Public(n.Directory)
	}
	for _, v := range n.Verdicts {
		a := AuthorityStatus{ID: short(v.Authority), Verdict: "accepted", At: clock(v.At)}
		switch {
		case v.At.IsZero():
			a.Verdict = "not asked yet"
		case v.Err != nil:
			a.Verdict = errs.Public(v.Err)
		case v.Held:
			a.Verdict = "held"
		}
		st.Authorities = append(st.Authorities, a)
	}
	for _, p := range n.Peers {
		x := PeerStatus{ID: short(p.ID), Nickname: p.Nickname, Connected: p.Connected, Since: clock(p.Since), Waiting: p.Waiting}
		if p.Err != nil {
			x.Error = errs.Public(p.Err)
		}
		st.Peers = append(st.Peers, x)
	}
	for _, k := range s.keys.List() {
		st.Keys = append(st.Keys, KeyStatus{Number: k.Number, KeyID: fmt.Sprintf("%08x", k.ID), State: string(k.State),
			From: clock(k.From), Until: clock(k.Until), Accepted: clock(k.AcceptedUntil), Published: len(k.Published)})
	}
	p := &st.Packets
	p.Held, p.Mean, p.Later, p.Sent, p.Dropped = n.Pool.Held, n.Pool.MeanLen, n.Pool.Later, n.Pool.Sent, n.Pool.Dropped
	p.Replays, p.Damaged, p.Boxes, p.Exits = n.Log.Replays, n.Log.Damaged, n.Boxes, n.Exits
	st.Loops.Sent, st.Loops.Returned = n.LoopsSent, n.LoopsIn
	st.Log.Segments, st.Log.Bytes, st.Log.Tags = n.Log.Segments, n.Log.Bytes, n.Log.Tags
	return st
}

// short is how lists name a node that has no nickname.
func short(id packet.ID) string { return hex.EncodeToString(id[:8]) }

// entry puts a packet of the log into words.
func entry(v replay.View, names *directory.Consensus) QueueEntry {
	e := QueueEntry{State: string(v.State), ID: v.ID, Due: clock(v.Due), Bytes: v.Bytes, Count: v.Count}
	if v.State != replay.Corrupt {
		id := packet.ID(v.Next)
		e.Next = short(id)
		if names != nil {
			if n := names.Find(id); n != nil {
				e.Next = n.Nickname
			}
		}
	}
	return e
}

// openControl serves the control socket.
func (s *Server) openControl(ctx context.Context) (err error) {
	if s.control, err = control.Listen(s.c.Server.BaseDir); err != nil {
		return err
	}
	s.supervise(ctx, "control", func(ctx context.Context) error { return control.Serve(ctx, s.control, s.commands()) })
	return nil
}

// commands is the table of the control socket.
func (s *Server) commands() map[string]control.Handler {
	return map[string]control.Handler{
		"status": func(context.Context, json.RawMessage, func(any) error) (any, error) { return s.Status(), nil },
		"queue": func(_ context.Context, _ json.RawMessage, progress func(any) error) (any, error) {
			n := 0
			for v := range s.node.Queue() {
				if err := progress(entry(v, s.cache.Newest())); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		},
		"stats": func(context.Context, json.RawMessage, func(any) error) (any, error) {
			if s.stats == nil {
				return nil, errs.E("role/mix.stats", errs.Unsupported, "nothing is counted: server.stats (LogStats) is off", nil)
			}
			var b bytes.Buffer
			err := s.stats.Dump(&b)
			return b.String(), err
		},
		"republish": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
			if err := s.node.Republish(ctx); err != nil {
				return nil, err
			}
			return s.Status(), nil
		},
		"reload": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
			if s.reread == nil {
				return nil, errs.E("role/mix.reload", errs.Unsupported, "this node cannot read its configuration again", nil)
			}
			next, err := s.reread()
			if err != nil {
				return nil, err
			}
			return s.Reload(ctx, next)
		},
	}
}
