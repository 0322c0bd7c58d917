package sim

import (
	"math"

	"postern.email/kit/errs"
)

// trace is all that an observer of the whole network sees: each packet as it goes from one
// place to the next, in order of time. Its memory is bounded.
type trace struct {
	moves []move
	most  int
}

// move is one step of a packet: from a sender into the network, from node to node, or to its
// end. Nothing takes time on a link, so leaving and coming are one step.
type move struct {
	from int32 // a node, or ^user
	to   int32 // a node, or end
	held int32 // packets in the node that it came to, itself among them
	slot int32 // which packet it is: only looked at where the observer runs a node
}

// end is where a packet leaves the network.
const end = math.MinInt32

func (t *trace) add(m move) error {
	if len(t.moves) >= t.most {
		return errs.E("mixnet/sim.trace", errs.Full, "the simulation would need more memory than it may use: fewer users, a lower rate or a shorter delay would do", nil)
	}
	t.moves = append(t.moves, m)
	return nil
}

// suspects is what an observer makes of one packet that ended.
type suspects struct {
	packets float64   // bits of entropy over the packets that entered
	users   []float64 // the chance of each user to have sent it
	lost    float64   // chance that fell before the begin of the trace
}

// backwards finds, for each of the moves in targets, which must end packets, the
// chance of every packet and of every user to be the one that ended there.
//
// It goes back in time. Who saw a packet leave an honest node knows that it was one of those
// that were in there, each as likely: an exponential delay has no memory, and the other
// rules choose at random. Further back, where a packet came in and made them n, it was the one
// with chance 1/n. A node of the observer (mine) hides nothing: packets keep their names.
// Routes are chosen independently of each other, so nothing else can be learned.
func (t *trace) backwards(targets []int, nodes, users int, mine func(node int32) bool) []suspects {
	n := len(targets)
	out := make([]suspects, n)
	for i := range out {
		out[i].users = make([]float64, users)
	}
	first := make(map[int]int, n) // of targets, by move
	for i, at := range targets {
		first[at] = i
	}
	pool := make([][]float64, nodes) // chance that the packet is in that node
	for i := range pool {
		pool[i] = make([]float64, n)
	}
	named := map[int32][]float64{} // the same for a packet in a node of the observer
	mass := make([]float64, n)
	for at := len(t.moves) - 1; at >= 0; at-- {
		m := t.moves[at]
		switch {
		case m.to == end:
			i, ok := first[at]
			if !ok {
				continue
			}
			clear(mass)
			mass[i] = 1
		case mine(m.to):
			held, ok := named[m.slot]
			if !ok {
				continue
			}
			copy(mass, held)
			delete(named, m.slot)
		default:
			share := 1 / float64(m.held)
			for i, v := range pool[m.to] {
				v *= share
				mass[i] = v
				pool[m.to][i] -= v
			}
		}
		switch {
		case m.from < 0:
			for i, v := range mass {
				if v > 0 {
					out[i].users[^m.from] += v
					out[i].packets -= v * math.Log2(v)
				}
			}
		case mine(m.from):
			named[m.slot] = append([]float64(nil), mass...)
		default:
			for i, v := range mass {
				pool[m.from][i] += v
			}
		}
	}
	for i := range out {
		found := 0.0
		for _, v := range out[i].users {
			found += v
		}
		out[i].lost = max(0, 1-found)
	}
	return out
}

// labels follows a few users' packets forward: of each packet that moves, the chance that it
// carries each label (Loopix, §4.3).
type labels struct {
	pool  [][2]float64 // sum over the packets in a node
	named map[int32][2]float64
	mine  func(node int32) bool
}

func newLabels(nodes int, mine func(int32) bool) *labels {
	return &labels{pool: make([][2]float64, nodes), named: map[int32][2]float64{}, mine: mine}
}

// move carries the labels of a packet along. held is how many were in the node that it
// leaves, itself among them; label is that of a packet that enters, -1 for none.
func (l *labels) move(m move, held int32, label int) {
	var p [2]float64
	switch {
	case m.from < 0:
		if label >= 0 {
			p[label] = 1
		}
	case l.mine(m.from):
		p = l.named[m.slot]
		delete(l.named, m.slot)
	default:
		for i := range p {
			p[i] = l.pool[m.from][i] / float64(held)
			l.pool[m.from][i] -= p[i]
		}
	}
	switch {
	case m.to == end:
	case l.mine(m.to):
		l.named[m.slot] = p
	default:
		for i := range p {
			l.pool[m.to][i] += p[i]
		}
	}
}
