package node

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/stats"
)

// Bounds of loops.
const (
	loopsPosted  = 32      // with one line at once
	loopsPending = 1 << 16 // sent and not back; beyond, the node sends none
	loopEpochs   = 3       // of which counts are kept
)

// loops are the measuring packets of this node: it sends them through the network back to
// itself, at random times, and tells the authorities once an epoch how many came back. They
// look like any other packet to all but this node.
//
// A mix gives a loop to a relay, and it comes back over the mixes of the layers before its own.
// A relay gives it to layer 1, and it comes back at layer 4.
type loops struct {
	n *Node

	mu      sync.Mutex
	pending map[packet.Mark]loop
	counts  map[uint64]map[packet.ID]*directory.Loops // by the epoch in which they were sent
	told    uint64                                    // the last epoch that was told
	alarm   *alarm
	since   time.Time // of the last change of the alarm
	looked  time.Time // when loops were judged last
}

// loop is one that was sent.
type loop struct {
	epoch   uint64
	through []packet.ID
	due     time.Time // it should be back before
	judged  bool      // it was not
	pool    bool      // a node on its way delays as it likes
}

func newLoops(n *Node) *loops {
	return &loops{n: n, pending: make(map[packet.Mark]loop), counts: make(map[uint64]map[packet.ID]*directory.Loops), alarm: newAlarm()}
}

// run sends loops until ctx ends.
func (l *loops) run(ctx context.Context) error {
	n := l.n
	if n.o.noLoops {
		return nil
	}
	t := time.NewTimer(l.wait())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := l.send(); err != nil {
			n.o.Logger.Warn("a measuring packet could not be made", "error", errs.Public(err))
		}
		t.Reset(l.wait())
	}
}

// report tells what became of loops until ctx ends.
func (l *loops) report(ctx context.Context) error {
	return again(ctx, nil, func() time.Duration { return l.tell(ctx) })
}

// wait is the time to the next loop: one in each mix-loop-interval for each node that can be
// measured, on average. With nobody to measure it looks again after that interval.
func (l *loops) wait() time.Duration {
	return l.n.exponential(l.between(l.n.view.Load()))
}

// where tells the layers of a loop: from the first that it is given to, to the one in which it
// comes back here. False: this node is in no layer.
func (v *view) where(self packet.ID) (first, last int, ok bool) {
	if v.current == nil || v.valid != nil {
		return 0, 0, false
	}
	e := v.current.Find(self)
	if e == nil {
		return 0, 0, false
	}
	switch at := layersOf(e.Mode, e.Layer).list(); {
	case len(at) == 0:
		return 0, 0, false
	case e.Mode.Has(directory.Mix):
		return 0, e.Layer, true
	case at[len(at)-1] == packet.Last:
		return 1, packet.Last, true
	}
	return 0, 0, false // layer 0 alone: nothing comes back to it
}

// candidates are the nodes of a layer, this one left out, that have a key now.
func (v *view) candidates(layer int, self packet.ID, now time.Time) (list []*directory.Entry) {
	for i := range v.current.Nodes {
		e := &v.current.Nodes[i]
		if e.ID != self && layersOf(e.Mode, e.Layer).has(layer) && e.Key(now) != nil {
			list = append(list, e)
		}
	}
	return list
}

// targets are the nodes that this one measures.
func (l *loops) targets(v *view) (list []packet.ID) {
	first, last, ok := v.where(l.n.id)
	if !ok {
		return nil
	}
	now := l.n.o.Now()
	for layer := first; layer < last; layer++ {
		for _, e := range v.candidates(layer, l.n.id, now) {
			if !slices.Contains(list, e.ID) {
				list = append(list, e.ID)
			}
		}
	}
	return list
}

// send makes a loop and gives it to its first hop. The route leads through one node that was
// drawn from all that can be measured, so that a large layer is measured as well as a small one;
// the other hops are drawn evenly.
func (l *loops) send() error {
	const op = "mixnet/node.loop"
	n := l.n
	v, now := n.view.Load(), n.o.Now()
	targets := l.targets(v)
	if len(targets) == 0 {
		return nil
	}
	target := targets[n.below(len(targets))]
	first, last, _ := v.where(n.id)
	route := packet.Route{First: first}
	p := loop{epoch: n.o.Network.Epoch(now), due: now.Add(alarmSlack + v.milliseconds(directory.Delay))}
	for layer := first; layer < last; layer++ {
		list := v.candidates(layer, n.id, now)
		if len(list) == 0 {
			return nil // a layer is empty: there is no way
		}
		e := list[n.below(len(list))]
		for _, c := range list {
			if c.ID == target {
				e = c
			}
		}
		delay := n.delay(v)
		route.Hops = append(route.Hops, packet.Hop{Node: e.ID, Key: e.Key(now), Delay: delay})
		p.through, p.due = append(p.through, e.ID), p.due.Add(delay)
		p.pool = p.pool || e.Residence > 0
	}
	key := v.current.Find(n.id).Key(now)
	if key == nil {
		return nil
	}
	route.Hops = append(route.Hops, packet.Hop{Node: n.id, Key: key})
	var mark packet.Mark
	if _, err := io.ReadFull(n.o.Rand, mark[:]); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	unit := make([]byte, 0, packet.Size)
	unit, err := packet.Build(unit, route, packet.Dest{Command: packet.Ping, Mark: mark}, packet.Content{}, n.o.Rand)
	if err == nil {
		unit, err = packet.Fill(unit, n.o.Rand)
	}
	if err != nil {
		return errs.Wrap(op, err)
	}
	if !l.sent(mark, p) {
		return nil
	}
	n.count(stats.Loop, "sent")
	if d := n.dest(p.through[0]); d != nil {
		d.postLoop(unit)
	}
	return nil
}

// postLoop hands a loop to the line. A loop that cannot be sent now is one that was lost.
func (d *dest) postLoop(unit []byte) {
	d.mu.Lock()
	line, ok := d.line, d.connected && d.loops < loopsPosted
	if ok {
		d.loops++
	}
	d.mu.Unlock()
	if !ok {
		return
	}
	done := func(error) {
		d.mu.Lock()
		d.loops--
		d.mu.Unlock()
	}
	if line.Post(unit, done) != nil {
		done(nil)
	}
}

// sent notes a loop; false: too many are on their way.
func (l *loops) sent(m packet.Mark, p loop) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) >= loopsPending {
		return false
	}
	by := l.counts[p.epoch]
	if by == nil {
		by = make(map[packet.ID]*directory.Loops)
		l.counts[p.epoch] = by
	}
	for _, id := range p.through {
		c := by[id]
		if c == nil {
			c = &directory.Loops{Through: id}
			by[id] = c
		}
		c.Sent = min(c.Sent+1, directory.MaxLoops)
	}
	l.pending[m] = p
	return true
}

// back notes that a loop has come back; a mark that is not known is somebody else's affair.
func (l *loops) back(m packet.Mark) {
	h := threshold(l.between(l.n.view.Load()))
	l.mu.Lock()
	p, ok := l.pending[m]
	if !ok {
		l.mu.Unlock()
		return
	}
	delete(l.pending, m)
	changed := !p.judged && l.noteLocked(true, p, h)
	if changed {
		defer l.sayAlarm()
	}
	defer l.mu.Unlock()
	l.n.count(stats.Loop, "returned")
	for _, id := range p.through {
		if c := l.counts[p.epoch][id]; c != nil {
			c.Returned = min(c.Returned+1, c.Sent)
		}
	}
}

// tell gives the authorities the counts of an epoch, half an epoch after its end, when what was
// sent in it is back or lost. It says when to look again.
func (l *loops) tell(ctx context.Context) time.Duration {
	n := l.n
	period := n.o.Network.Period()
	now := n.o.Now()
	epoch := n.o.Network.Epoch(now.Add(-period/2)) - 1
	if l.epochToTell(epoch) && n.settings().Publish {
		doc, err := directory.SignStats(directory.Stats{Network: n.o.Network.Name(), Epoch: epoch, Loops: l.of(epoch)}, n.o.Keys.Identity())
		if err == nil {
			var request []byte
			request, err = directory.AppendRequest(nil, directory.Request{Kind: directory.RequestStats, Document: doc.Bytes()})
			if err == nil {
				n.tellAll(ctx, request)
			}
		}
		if err != nil {
			n.o.Logger.Warn("what was measured could not be told to the authorities", "error", errs.Public(err))
		}
	}
	// Not all nodes at the same moment.
	at := n.o.Network.Begin(n.o.Network.Epoch(n.o.Now().Add(-period/2)) + 1).Add(period/2 + time.Duration(n.o.Chance()*float64(period)/4))
	return max(at.Sub(n.o.Now()), time.Millisecond)
}

// epochToTell reports whether something was measured in an epoch that was not told, and forgets
// what is too old.
func (l *loops) epochToTell(epoch uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.counts {
		if e+loopEpochs < epoch {
			delete(l.counts, e)
		}
	}
	for m, p := range l.pending {
		if p.epoch < epoch {
			delete(l.pending, m) // it does not count any more
		}
	}
	if epoch <= l.told || len(l.counts[epoch]) == 0 {
		return false
	}
	l.told = epoch
	return true
}

// of gives the counts of an epoch, sorted.
func (l *loops) of(epoch uint64) []directory.Loops {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]directory.Loops, 0, len(l.counts[epoch]))
	for _, c := range l.counts[epoch] {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b directory.Loops) int { return slices.Compare(a.Through[:], b.Through[:]) })
	return list[:min(len(list), directory.MaxNodes)]
}

// exponential draws a time with that mean.
func (n *Node) exponential(mean time.Duration) time.Duration {
	return directory.DrawInterval(n.o.Chance(), mean)
}

// delay draws how long a hop shall keep a packet of this node.
func (n *Node) delay(v *view) time.Duration {
	return directory.DrawDelay(n.o.Chance(), v.milliseconds(directory.Delay), v.maxDelay)
}

// below draws a number from 0 to less than k.
func (n *Node) below(k int) int { return min(k-1, int(n.o.Chance()*float64(k))) }
