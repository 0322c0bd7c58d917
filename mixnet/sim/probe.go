package sim

import (
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// probe is a node that measures the network with loops, as mixnet/node does: a mix gives them to a
// relay, and they come back over the mixes of the layers before its own; a relay gives them to
// layer 1, and they come back at the last. Each sends one in each mix-loop-interval for each
// node that it measures. Loops of a mix end in it without a stay.
type probe struct {
	clocks  *client.Clocks
	entry   *directory.Entry
	first   int // layer of the first hop
	last    int // of its own
	targets int // nodes that it measures
}

// addProbes has all nodes measure the network. Only where there are three layers of mixes.
func (w *world) addProbes() error {
	if w.s.Layers != mixLayers {
		return errs.E("mixnet/sim.probe", errs.Invalid, fmt.Sprintf("the loops of mixes need %d layers", mixLayers), nil)
	}
	interval := w.s.Parameters.Get(directory.MixLoopInterval)
	for i := range w.nodes {
		e := &w.c.Nodes[i]
		p := probe{entry: e, last: e.Layer, targets: w.s.Relays + (e.Layer-1)*w.s.Mixes}
		if e.Layer == 0 {
			p.first, p.last, p.targets = 1, packet.Last, mixLayers*w.s.Mixes
		}
		// Of a client's clocks only that of the loops is looked at.
		p.clocks = client.NewClocks(directory.Parameters{
			{Name: directory.DropInterval, Value: quiet},
			{Name: directory.LoopInterval, Value: max(1, interval/uint64(p.targets))},
			{Name: directory.PayloadInterval, Value: quiet},
		}, w.began, w.rng)
		w.probes = append(w.probes, p)
		w.windProbe(int32(i))
	}
	return nil
}

// quiet is the mean, in milliseconds, of a clock that is not listened to: ten years.
const quiet = 10 * 365 * 86_400_000

func (w *world) windProbe(i int32) {
	for {
		if t := w.probes[i].clocks.Next(); t.Slot == client.Loop {
			w.order.set(int32(len(w.users)+len(w.nodes))+i, int64(t.At.Sub(w.began)))
			return
		}
	}
}

// loop sends a loop of a node.
func (w *world) loop(i int32) error {
	pr := &w.probes[i]
	want := client.Want{From: pr.first, To: pr.last}
	want.Hops[pr.last] = pr.entry
	way, err := client.Pick(w.c, w.began, w.rng, want)
	if err != nil {
		return err
	}
	slot, p := w.parcel()
	p.user, p.probe, p.load, p.slot, p.born = end, i, client.Round, client.Loop, w.now
	for l, h := range way.Hops[:pr.last-pr.first] {
		p.stops[l] = stop{w.number[h.Entry], int32(h.Delay.Milliseconds())}
		p.n++
	}
	w.windProbe(i)
	return w.enter(slot, move{from: end, slot: slot}, 0)
}

// stay is how long the nodes of its way keep a packet in all: a node knows of its loop when it must be
// back.
func (p *parcel) stay() int64 {
	sum := int64(0)
	for _, s := range p.stops[:p.n] {
		sum += int64(s.delay) * int64(time.Millisecond)
	}
	return sum
}
