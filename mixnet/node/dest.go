package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
	"postern.email/mixnet/stats"
)

// Bounds of what is on its way to one node.
const (
	// postedMax is how many packets are with a line at once: two windows of the link.
	postedMax = 128
	// rereadMemory is for packets that are read back from the disk to be sent, of all nodes.
	rereadMemory = 16 << 20
)

// Pauses after a node answered "later", or did not take a packet.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
	// lookEvery is how often packets that wait are looked at: whether their time is over.
	lookEvery = time.Minute
)

// waiting is a packet that has left the pool and is not sent.
type waiting struct {
	p     *pool.Packet
	since time.Time // of the first try
}

// dest is another node, as one that packets are for: the queue before its line. All packets
// of a dest are tried at the same times, so that a time tells nothing about any one of them.
type dest struct {
	n  *Node
	id packet.ID

	wake chan struct{}      // capacity 1
	end  context.CancelFunc // of run

	mu        sync.Mutex
	line      *link.Line         // nil: it is in no consensus, or the node ends
	peer      link.Peer          // of line
	stop      context.CancelFunc // of line
	connected bool
	queue     []waiting
	posted    int
	loops     int           // measuring packets that are with the line
	pause     time.Duration // the next one
	until     time.Time     // nothing is tried before
	gone      bool          // nothing is given to it any more
}

// give has a packet sent when it can be; false: this dest has ended, there is another one.
func (d *dest) give(p *pool.Packet) bool {
	w := waiting{p, d.n.o.Now()}
	d.mu.Lock()
	gone := d.gone
	if !gone {
		d.queue = append(d.queue, w)
	}
	d.mu.Unlock()
	if gone {
		return false
	}
	d.n.count(stats.AttemptedRelay, d.n.nameOf(d.id))
	d.kick()
	return true
}

func (d *dest) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run sends what waits until ctx ends.
func (d *dest) run(ctx context.Context) {
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	for {
		at := d.work(ctx)
		t.Reset(max(0, at.Sub(d.n.o.Now())))
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-t.C:
			d.giveUp()
		}
	}
}

// work hands to the line what it takes, and says when to look again.
func (d *dest) work(ctx context.Context) time.Time {
	for ctx.Err() == nil {
		now := d.n.o.Now()
		d.mu.Lock()
		line := d.line
		switch {
		case line == nil, !d.connected, d.posted >= postedMax, len(d.queue) == 0:
			d.mu.Unlock()
			return now.Add(lookEvery)
		case now.Before(d.until):
			at := d.until
			d.mu.Unlock()
			return at
		}
		w := d.queue[0]
		d.queue[0] = waiting{}
		if d.queue = d.queue[1:]; len(d.queue) == 0 {
			d.queue = nil
		}
		d.posted++
		d.mu.Unlock()
		if !d.post(line, w) {
			return now.Add(firstPause)
		}
	}
	return d.n.o.Now().Add(lookEvery)
}

// post hands one packet to the line. False: there is no memory for it now, or the line does not
// take it; it waits again.
func (d *dest) post(line *link.Line, w waiting) bool {
	n := d.n
	var buf *[replay.BufferLen]byte
	if !w.p.Held() {
		if !n.reread.Acquire(replay.BufferLen) {
			d.requeue(w) // what comes back from the line wakes this queue
			return false
		}
		buf = n.buffers.Get().(*[replay.BufferLen]byte)
	}
	free := func() {
		if buf != nil {
			n.buffers.Put(buf)
			n.reread.Release(replay.BufferLen)
		}
	}
	var space []byte
	if buf != nil {
		space = buf[:0]
	}
	body, err := w.p.Body(space)
	if err != nil {
		// Ended and counted by the pool, or put off by it.
		free()
		d.settled()
		return true
	}
	u, err := packet.Fill(body, n.o.Rand)
	if err == nil {
		err = line.Post(u, func(err error) {
			free()
			d.answered(w, err)
		})
	}
	if err != nil {
		free()
		d.requeue(w)
	}
	return err == nil
}

// settled notes that a packet is not with the line any more.
func (d *dest) settled() {
	d.mu.Lock()
	d.posted--
	d.mu.Unlock()
	d.kick()
}

// requeue puts a packet that was to be posted into the queue again.
func (d *dest) requeue(w waiting) {
	d.mu.Lock()
	d.posted--
	d.queue = append(d.queue, w)
	d.mu.Unlock()
}

// back is requeue for one that the line has given back.
func (d *dest) back(w waiting) {
	d.requeue(w)
	d.kick()
}

// answered is told what the line says of a packet. It is called by the link and does not
// block.
func (d *dest) answered(w waiting, err error) {
	n := d.n
	switch {
	case err == nil:
		w.p.Sent()
		n.count(stats.SuccessfulRelay, n.nameOf(d.id))
		d.mu.Lock()
		d.pause, d.until = 0, time.Time{}
		d.mu.Unlock()
		d.settled()
	case errors.Is(err, link.ErrLater):
		n.count(stats.FailedRelay, n.nameOf(d.id))
		d.mu.Lock()
		if now := n.o.Now(); !now.Before(d.until) {
			d.pause = min(max(2*d.pause, firstPause), lastPause)
			d.until = n.soonest(w.since, now, d.pause)
		}
		d.mu.Unlock()
		d.back(w)
	default:
		d.back(w)
	}
}

// soonest is when to try again after a pause, but not later than the schedule says.
func (n *Node) soonest(first, now time.Time, pause time.Duration) time.Time {
	at := now.Add(time.Duration(float64(pause) * (0.5 + n.o.Chance())))
	if next, ok := n.settings().Retry.Next(first, now); ok && next.Before(at) {
		return next
	}
	return at
}

// expired reports whether a packet has waited for as long as the schedule lasts.
func (n *Node) expired(w waiting) bool {
	_, ok := n.settings().Retry.Next(w.since, n.o.Now())
	return !ok
}

// giveUp drops what has waited too long. While there is no connection, what waits does not
// hold memory either: it is on the disk.
func (d *dest) giveUp() {
	d.mu.Lock()
	idle := !d.connected
	kept := d.queue[:0]
	var gone, stay []waiting
	for _, w := range d.queue {
		if d.n.expired(w) {
			gone = append(gone, w)
			continue
		}
		kept = append(kept, w)
		if idle {
			stay = append(stay, w)
		}
	}
	clear(d.queue[len(kept):])
	d.queue = kept
	d.mu.Unlock()
	for _, w := range stay {
		w.p.Unload()
	}
	for _, w := range gone {
		w.p.Drop()
		d.n.count(stats.UnretriableRelay, d.n.nameOf(d.id))
	}
}

// connect lets the dest have a line to a neighbour, or none: nil. The line is made anew only
// when the key has changed.
func (d *dest) connect(nb *neighbour) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if nb != nil && d.line != nil && d.peer == nb.peer {
		return nil
	}
	if d.stop != nil {
		d.stop()
		d.line, d.stop, d.connected = nil, nil, false
	}
	if nb == nil {
		return nil
	}
	n := d.n
	var line *link.Line
	line, err := n.link.Line(link.LineOptions{
		Peer: nb.peer, Queue: postedMax + loopsPosted, Pace: n.linkPace,
		Addresses: func() []string { return n.view.Load().addresses(d.id) },
		Changed: func(s link.Status) {
			d.mu.Lock()
			was, same := d.connected, d.line == line
			if same {
				d.connected = s.Connected
			}
			d.mu.Unlock()
			if same {
				n.countConnect(s, was, d.id)
			}
			d.kick()
		},
	})
	if err != nil {
		return errs.Wrap("mixnet/node.connect", err)
	}
	ctx, cancel := context.WithCancel(n.lineCtx)
	d.line, d.peer, d.stop = line, nb.peer, cancel
	n.lines.Go(func() { line.Run(ctx) })
	return nil
}

// retire ends a dest for which nothing waits or is under way; false: something does.
func (d *dest) retire() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = len(d.queue) == 0 && d.posted == 0
	return d.gone
}
