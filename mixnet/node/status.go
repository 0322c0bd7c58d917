package node

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
)

// Status is how a node stands, for its operator. All errors have public texts.
type Status struct {
	ID     packet.ID
	Layers []int // that it serves now
	Listed bool  // it is in the consensus in use

	Epoch      uint64    // of the consensus in use; 0: there is none
	ValidUntil time.Time // of that consensus
	Directory  error     // why there is no valid one

	Descriptor *directory.Descriptor // nil: none yet
	Path       string                // of its file
	Verdicts   []Verdict             // of the authorities, by ID

	Pool  pool.Stats
	Log   replay.Stats
	Link  link.Counts
	Peers []Peer // by name

	Boxes, Exits       int   // packets that wait for a box, for an exit
	Queries            int   // that wait for a service
	Windows            int   // that are acknowledged when the rest of their packets is there, or late
	BoxError, ExitErr  error // why the last try failed
	Health             error // why nothing new is taken: the log
	Keys               error // why keys could not be changed
	Insecurities       []string
	LoopsSent, LoopsIn uint64 // in the epochs that are counted now
}

// Peer is another node as this one sees it.
type Peer struct {
	ID        packet.ID
	Nickname  string // "(unlisted)": it is in no consensus
	Connected bool
	Since     time.Time
	Waiting   int       // packets for it that have left the pool
	Paused    time.Time // nothing is tried before; zero: it is not paused
	Err       error     // why there is no connection
}

// Status gives the numbers of now.
func (n *Node) Status() Status {
	v := n.view.Load()
	s := Status{ID: n.id, Layers: v.own.list(), Listed: v.listed, Directory: v.valid,
		Pool: n.mix.Stats(), Log: n.log.Stats(), Link: n.link.Counts(), Insecurities: n.Insecurities()}
	if v.current != nil {
		s.Epoch, s.ValidUntil = v.current.Epoch, v.current.ValidUntil()
	}
	s.Boxes, s.BoxError = n.ends.boxes.state()
	s.Exits, s.ExitErr = n.ends.exits.state()
	s.Queries, _ = n.ends.queries.state()
	s.Windows = n.ends.windows.waiting()
	s.Health = n.log.Refusal()
	n.mu.Lock()
	s.Keys = n.keysErr
	for _, d := range n.dests {
		s.Peers = append(s.Peers, d.status(v))
	}
	n.mu.Unlock()
	slices.SortFunc(s.Peers, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	n.desc.mu.Lock()
	s.Descriptor, s.Path = n.desc.current, n.desc.path
	for _, a := range n.authorities {
		verdict, ok := n.desc.verdicts[a.ID]
		if !ok {
			verdict = Verdict{Authority: a.ID}
		}
		s.Verdicts = append(s.Verdicts, verdict)
	}
	n.desc.mu.Unlock()
	s.LoopsSent, s.LoopsIn = n.loops.sum()
	return s
}

func (d *dest) status(v *view) Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Peer{ID: d.id, Nickname: v.name(d.id), Waiting: len(d.queue) + d.posted}
	if d.n.o.Now().Before(d.until) {
		p.Paused = d.until
	}
	if d.line != nil {
		l := d.line.Status()
		p.Connected, p.Since, p.Err = l.Connected, l.Since, l.Err
	}
	return p
}

// sum gives the loops of the epochs that are counted, each as often as nodes were on its way.
func (l *loops) sum() (sent, returned uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, by := range l.counts {
		for _, c := range by {
			sent, returned = sent+c.Sent, returned+c.Returned
		}
	}
	return sent, returned
}

// Bounds below which a network hides little.
const (
	leastLayer  = 2 // mixes of a layer
	leastRelays = 2
)

// Insecurities says in plain words what makes this node, or its network, weak: the pool, the
// log, the keys, the size of the network, and what the role knows.
func (n *Node) Insecurities() []string {
	list := slices.Clone(n.settings().Insecure)
	list = append(list, n.mix.Insecurities()...)
	v := n.view.Load()
	now := n.o.Now()
	if v.valid != nil {
		list = append(list, "there is no valid directory of the network: "+errs.Public(v.valid))
	}
	if text := n.loops.alarmText(); text != "" {
		list = append(list, text)
	}
	if v.beside > 0 {
		list = append(list, count(v.beside, "node is", "nodes are")+" known from files and not from the directory: no authority has looked at what is there")
	}
	if v.current != nil {
		var size [packet.Layers]int
		for i := range v.current.Nodes {
			e := &v.current.Nodes[i]
			for _, l := range layersOf(e.Mode, e.Layer).list() {
				size[l]++
			}
		}
		for l := 1; l < packet.Last; l++ {
			if size[l] < leastLayer {
				list = append(list, fmt.Sprintf("layer %d of the network has %s: who runs it sees all that passes there", l, count(size[l], "mix", "mixes")))
			}
		}
		if size[0] < leastRelays {
			list = append(list, fmt.Sprintf("the network has %s: all senders are users of it", count(size[0], "relay", "relays")))
		}
	}
	if _, ok := n.newestKey(now); !ok {
		list = append(list, "no packet key of this node is valid now: it takes no packets")
	}
	n.mu.Lock()
	if n.keysErr != nil {
		list = append(list, "packet keys could not be changed: "+errs.Public(n.keysErr))
	}
	n.mu.Unlock()
	return list
}

func count(k int, one, many string) string {
	switch k {
	case 0:
		return "no " + one
	case 1:
		return "one " + one
	}
	return fmt.Sprintf("%d %s", k, many)
}
