package client

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Want says what a way has to be like.
type Want struct {
	// From and To are the layers of the first and the last hop: 0 and packet.Last for a
	// packet, 1 and packet.Last for a reply block. A ping may end before.
	From, To int

	// Hops are the hops that are given: the sender's relay at layer 0, that of the
	// mailbox at the last, and what a user asked for. nil: drawn.
	Hops [packet.Layers]*directory.Entry

	// Mode is what the last hop must be, if it is at the last layer: Mailbox or Exit.
	Mode directory.Mode

	// Life is for how long the hops must take packets of this way: that of a reply block. 0: it
	// is used at once.
	Life time.Duration
}

// Hop is one hop of a way.
type Hop struct {
	Entry *directory.Entry
	Key   *packet.PublicKey
	Delay time.Duration // that it was asked for; 0 at the last hop
}

// Way is a way that was chosen.
type Way struct {
	First int   // layer of the first hop
	Hops  []Hop // one for each layer from First on
}

// Route is the way as packet.Build takes it.
func (w *Way) Route() packet.Route {
	r := packet.Route{First: w.First, Hops: make([]packet.Hop, len(w.Hops))}
	for i, h := range w.Hops {
		r.Hops[i] = packet.Hop{Node: h.Entry.ID, Key: h.Key, Delay: h.Delay}
	}
	return r
}

// Stay is how long the hops keep a packet of this way: the delays, and of a pool, which
// chooses the delay itself, the time that it says one can expect.
func (w *Way) Stay() time.Duration {
	var sum time.Duration
	for i, h := range w.Hops {
		if i < len(w.Hops)-1 {
			sum += stay(h.Entry, h.Delay)
		}
	}
	return sum
}

// KeysEnd is when the first of the hops' keys ends.
func (w *Way) KeysEnd() time.Time {
	var end time.Time
	for _, h := range w.Hops {
		for _, k := range h.Entry.Keys {
			if k.Key == h.Key && (end.IsZero() || k.Until.Before(end)) {
				end = k.Until
			}
		}
	}
	return end
}

func stay(e *directory.Entry, delay time.Duration) time.Duration {
	if e.Residence > 0 {
		return e.Residence
	}
	return delay
}

// slack is how long a key must be valid beyond the moment at which a packet should come:
// for the link, for a node that is away for a while, and for wrong clocks. Nodes take a
// key for hours beyond its end besides.
const slack = directory.MaxSkew

// Pick chooses a way at a time: of each layer one node with a chance in proportion to its
// score, on the condition that no two are of one family, and a delay for each hop but the
// last. Ends that are given may be of one family, or the same node: whose relay somebody
// uses is no choice of this function; mixes never are of the family of an end.
//
// errs.Unavailable, with a public text that names the layer, when there is nobody to
// choose; errs.Invalid when the hops that are given cannot be a way.
func Pick(c *directory.Consensus, now time.Time, r Chooser, want Want) (Way, error) {
	const op = "mixnet/client.Pick"
	var p picker
	if err := p.prepare(c, now, r, want); err != nil {
		return Way{}, errs.Wrap(op, err)
	}
	chosen, ok := p.draw(r)
	if !ok {
		return Way{}, errs.E(op, errs.Unavailable, "there is no way without two nodes of one family", nil)
	}
	w := Way{First: want.From, Hops: make([]Hop, 0, want.To-want.From+1)}
	for l := want.From; l <= want.To; l++ {
		e := chosen[l]
		w.Hops = append(w.Hops, Hop{Entry: e, Key: keyUntil(e, now, p.until[l]), Delay: p.delay[l]})
	}
	return w, nil
}

// picker holds what a way can be made of.
type picker struct {
	want  Want
	delay [packet.Layers]time.Duration
	until [packet.Layers]time.Time // up to when the key of a hop must be valid
	nodes [packet.Layers]weighted  // of layers that are drawn
}

// weighted are nodes with their chances.
type weighted struct {
	nodes []*directory.Entry
	upTo  []float64 // sums of the weights
}

func (w *weighted) draw(r Chooser) *directory.Entry {
	x := r.Float64() * w.upTo[len(w.upTo)-1]
	i := sort.Search(len(w.upTo)-1, func(i int) bool { return x < w.upTo[i] })
	return w.nodes[i]
}

// weigh gives each node its score as weight. Where all have 0, nothing is known of them,
// and all are the same.
func weigh(nodes []*directory.Entry) weighted {
	w := weighted{nodes: make([]*directory.Entry, 0, len(nodes)), upTo: make([]float64, 0, len(nodes))}
	sum := 0.0
	for _, e := range nodes {
		if e.Score > 0 {
			sum += float64(e.Score)
			w.nodes, w.upTo = append(w.nodes, e), append(w.upTo, sum)
		}
	}
	if len(w.nodes) == 0 {
		for i, e := range nodes {
			w.nodes, w.upTo = append(w.nodes, e), append(w.upTo, float64(i+1))
		}
	}
	return w
}

// serves reports whether a node can be a hop at a layer.
func serves(e *directory.Entry, layer int, mode directory.Mode) bool {
	switch layer {
	case 0:
		return e.Mode.Has(directory.Relay)
	case packet.Last:
		if mode == 0 {
			return e.Mode.Has(directory.Mailbox) || e.Mode.Has(directory.Exit)
		}
		return e.Mode.Has(mode)
	}
	return e.Mode.Has(directory.Mix) && e.Layer == layer
}

// keyUntil is the key to use now for a packet that the node must take until a time: of those
// that have begun the newest, as all clients do, nil if it ends before.
func keyUntil(e *directory.Entry, now, until time.Time) *packet.PublicKey {
	for i := len(e.Keys) - 1; i >= 0; i-- {
		if k := e.Keys[i]; !now.Before(k.From) {
			if until.Before(k.Until) {
				return k.Key
			}
			return nil
		}
	}
	return nil
}

// clash reports whether two nodes must not be on one way.
func clash(a, b *directory.Entry) bool {
	return a.ID == b.ID || a.Family != "" && a.Family == b.Family
}

// ends reports whether two layers are the two ends of a way.
func ends(a, b int) bool { return a+b == packet.Last && (a == 0 || b == 0) }

func (p *picker) prepare(c *directory.Consensus, now time.Time, r Chooser, want Want) error {
	const op = "mixnet/client.Pick"
	if want.From < 0 || want.To > packet.Last || want.From > want.To {
		return errs.E(op, errs.Invalid, "the layers of the way do not exist", nil)
	}
	p.want = want
	mean := time.Duration(c.Parameters.Get(directory.Delay)) * time.Millisecond
	limit := time.Duration(c.Parameters.Get(directory.MaxDelay)) * time.Millisecond
	for l := want.From; l < want.To; l++ {
		p.delay[l] = Delay(r, mean, limit)
	}
	if err := p.checkGiven(); err != nil {
		return err
	}
	at := now.Add(slack)
	for l := want.From; l <= want.To; l++ {
		p.until[l] = at
		if life := now.Add(want.Life); life.After(at) {
			p.until[l] = life
		}
		longest := p.delay[l]
		if e := want.Hops[l]; e != nil {
			if keyUntil(e, now, p.until[l]) == nil {
				return errs.E(op, errs.Unavailable, fmt.Sprintf("%s has no key that is valid for long enough", e.Nickname), nil)
			}
			longest = max(longest, stay(e, 0))
		} else {
			nodes, err := p.candidates(c, now, l)
			if err != nil {
				return err
			}
			for _, e := range nodes {
				longest = max(longest, stay(e, 0))
			}
			p.nodes[l] = weigh(nodes)
		}
		at = at.Add(longest)
	}
	return nil
}

// checkGiven looks at the hops that are given.
func (p *picker) checkGiven() error {
	const op = "mixnet/client.Pick"
	for l, e := range p.want.Hops {
		if e == nil {
			continue
		}
		if l < p.want.From || l > p.want.To || !serves(e, l, p.want.Mode) {
			return errs.E(op, errs.Invalid, fmt.Sprintf("%s is no hop for layer %d of this way", e.Nickname, l), nil)
		}
		for k, other := range p.want.Hops[:l] {
			if other == nil || ends(k, l) || !clash(other, e) {
				continue
			}
			if other.ID == e.ID {
				return errs.E(op, errs.Invalid, fmt.Sprintf("%s would be on the way twice", e.Nickname), nil)
			}
			return errs.E(op, errs.Invalid, fmt.Sprintf("%s and %s are of one family, and would know more of the way than one may", other.Nickname, e.Nickname), nil)
		}
	}
	return nil
}

// candidates are the nodes that a layer may be drawn from.
func (p *picker) candidates(c *directory.Consensus, now time.Time, layer int) ([]*directory.Entry, error) {
	var out []*directory.Entry
	serve, keyed := 0, 0
	for i := range c.Nodes {
		e := &c.Nodes[i]
		if !serves(e, layer, p.want.Mode) {
			continue
		}
		serve++
		if keyUntil(e, now, p.until[layer]) == nil {
			continue
		}
		keyed++
		free := true
		for _, g := range p.want.Hops {
			free = free && (g == nil || !clash(g, e))
		}
		if free {
			out = append(out, e)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	why := "the others on this way are of the family of each node there"
	switch {
	case serve == 0:
		why = "the directory lists no node for it"
	case keyed == 0:
		why = "no node there has a key that is valid for long enough"
	}
	return nil, errs.E("mixnet/client.Pick", errs.Unavailable, fmt.Sprintf("nobody can be chosen for layer %d: %s", layer, why), nil)
}

// drawTries is how often a way is drawn before it is searched for: a network in which one way
// in 50 has no family twice fails once in 10⁸.
const drawTries = 1000

// draw chooses the nodes that were not given. A way with two nodes of one family is thrown
// away as a whole and drawn anew: what remains has the chances of independent choices.
func (p *picker) draw(r Chooser) (chosen [packet.Layers]*directory.Entry, ok bool) {
	for range drawTries {
		if ok = p.once(r, &chosen); ok {
			return chosen, true
		}
	}
	chosen = p.want.Hops
	return chosen, p.search(r, &chosen, p.want.From)
}

func (p *picker) once(r Chooser, chosen *[packet.Layers]*directory.Entry) bool {
	*chosen = p.want.Hops
	for l := p.want.From; l <= p.want.To; l++ {
		if chosen[l] != nil {
			continue
		}
		if chosen[l] = p.nodes[l].draw(r); p.stands(chosen, l, chosen[l]) {
			return false
		}
	}
	return true
}

// search finds a way where few are possible: in each layer it begins at a node that is drawn,
// and tries one node of each family. Nodes without a family stand in nobody's way, so two
// of them are enough: one of them may be the other end.
func (p *picker) search(r Chooser, chosen *[packet.Layers]*directory.Entry, layer int) bool {
	if layer > p.want.To {
		return true
	}
	if p.want.Hops[layer] != nil {
		return p.search(r, chosen, layer+1)
	}
	nodes := p.nodes[layer].nodes
	from := slices.Index(nodes, p.nodes[layer].draw(r))
	tried := make(map[string]int)
	for i := range nodes {
		e := nodes[(from+i)%len(nodes)]
		if tried[e.Family] > 0 && (e.Family != "" || tried[""] == 2) || p.stands(chosen, layer, e) {
			continue
		}
		tried[e.Family]++
		chosen[layer] = e
		if p.search(r, chosen, layer+1) {
			return true
		}
	}
	chosen[layer] = nil
	return false
}

// stands reports whether a node that was drawn for an earlier layer excludes e.
func (p *picker) stands(chosen *[packet.Layers]*directory.Entry, layer int, e *directory.Entry) bool {
	for k := p.want.From; k < layer; k++ {
		if p.want.Hops[k] == nil && clash(chosen[k], e) {
			return true
		}
	}
	return false
}
