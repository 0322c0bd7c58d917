package node

import (
	"context"
	"sync"
	"time"

	"postern.email/mixnet/pool"
	"postern.email/mixnet/stats"
)

// endQueue is a queue of packets that one goroutine works on. What fails and may not fail
// another time is put off, and tried again together; where nothing succeeds, all wait.
type endQueue struct {
	n    *Node
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	queue []waiting

	// After a try that failed as a whole:
	pause  time.Duration
	paused bool // it is to be made before the next one

	off      []waiting // what failed
	offAt    time.Time // when it is tried again
	offPause time.Duration

	err error // the last failure; nil: nothing has failed since
}

func (l *endQueue) give(p *pool.Packet) {
	l.n.count(stats.AttemptedDelivery, "")
	l.put(waiting{p, l.n.o.Now()})
}

// put has a packet worked on.
func (l *endQueue) put(w waiting) {
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	l.kick()
}

// retry puts a packet off that was worked on elsewhere and has failed.
func (l *endQueue) retry(w waiting, err error) {
	l.tried(0, []waiting{w}, err)
	l.kick()
}

func (l *endQueue) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next gives up to most packets.
func (l *endQueue) next(most int) []waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := min(most, len(l.queue))
	out := l.queue[:k:k]
	if l.queue = l.queue[k:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return out
}

// tried notes what became of a try: done is how many were settled, failed what is to be tried
// again, or given up when it waited too long.
func (l *endQueue) tried(done int, failed []waiting, err error) {
	n := l.n
	var off []waiting
	for _, w := range failed {
		if n.expired(w) {
			w.p.Drop()
			n.count(stats.UnretriableDelivery, "")
			continue
		}
		n.count(stats.FailedDelivery, "")
		w.p.Unload()
		off = append(off, w)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused = len(failed) > 0 && done == 0; l.paused {
		l.pause = longer(l.pause)
	} else {
		l.pause = 0
	}
	if len(failed) == 0 {
		if len(l.off) == 0 {
			l.offPause, l.err = 0, nil
		}
		return
	}
	l.err, l.off, l.offPause = err, append(l.off, off...), longer(l.offPause)
	l.offAt = n.after(l.offPause)
}

// longer is the pause after a pause.
func longer(d time.Duration) time.Duration { return min(max(2*d, firstPause), lastPause) }

// after is a time about so far from now.
func (n *Node) after(d time.Duration) time.Time {
	return n.o.Now().Add(time.Duration(float64(d) * (0.5 + n.o.Chance())))
}

func (l *endQueue) state() (length int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) + len(l.off), l.err
}

// wait is how long nothing is to be done: 0 if something is, and an hour when only a new packet
// changes that.
func (l *endQueue) wait() (d time.Duration, pause bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.n.o.Now()
	if len(l.off) > 0 && !now.Before(l.offAt) {
		l.queue, l.off = append(l.queue, l.off...), nil
	}
	switch {
	case l.paused:
		l.paused = false
		return l.n.after(l.pause).Sub(now), true
	case len(l.queue) > 0:
		return 0, false
	case len(l.off) > 0:
		return l.offAt.Sub(now), false
	}
	return time.Hour, false
}

// run works on what is in the queue until ctx ends.
func (l *endQueue) run(ctx context.Context, most int, do func(context.Context, []waiting)) error {
	for ctx.Err() == nil {
		d, pause := l.wait()
		if d <= 0 {
			if ws := l.next(most); len(ws) > 0 {
				do(ctx, ws)
			}
			continue
		}
		wake := l.wake
		if pause {
			wake = nil
		}
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}
