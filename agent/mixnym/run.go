package mixnym

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
)

// Run feeds addresses when it is time, until ctx ends. It returns nil.
func (d *Desk) Run(ctx context.Context) error {
	t := time.NewTicker(d.o.Every)
	defer t.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		if err := d.pass(ctx, &wg); err != nil && ctx.Err() == nil {
			d.o.Logger.Debug("reply addresses cannot be looked at", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-t.C:
		}
	}
}

// pass begins the feeds that are due. They run in wg.
func (d *Desk) pass(ctx context.Context, wg *sync.WaitGroup) error {
	online := d.o.Online()
	d.mu.Lock() // also while the list is read: what a feed noted is in it when that feed is over
	defer d.mu.Unlock()
	list, err := d.o.Nyms.List()
	if err != nil || len(list) == 0 {
		return err
	}
	left, err := d.o.Nyms.Left()
	if err != nil {
		return err
	}
	now := d.o.Now()
	if !online || now.Sub(d.last) > max(asleep, 2*d.o.Every) {
		d.since = now // moments that pass now, or that the machine slept through, are missed
	}
	d.last = now
	busy := 0
	for _, p := range d.plans {
		if p.busy {
			busy++
		}
	}
	for i := range list {
		n := &list[i]
		p := d.plan(n.Label)
		if p.busy {
			continue
		}
		d.schedule(n, p, left[n.Name()], now)
		if !online || busy >= atOnce || now.Before(p.due) || now.Before(p.pause) {
			continue
		}
		busy++
		p.busy, p.wanted = true, false
		wg.Go(func() { d.feed(ctx, n.Label, p) })
	}
	return nil
}

// schedule draws when an address is fed. The lock is held.
func (d *Desk) schedule(n *client.Nym, p *plan, left int, now time.Time) {
	switch {
	case p.wanted && now.Sub(n.Fed) >= wantedRest, n.Fed.IsZero():
		p.due = now
		return
	case p.due.IsZero() || !p.of.Equal(n.Fed) || p.due.Before(d.since) && p.drawn.Before(d.since):
		p.of, p.drawn, p.low, p.due = n.Fed, now, false, n.Next()
		if p.due.Before(d.since) { // it was missed
			p.due = d.since.Add(d.within(min(spread, n.Until.Sub(d.since)/2)))
		}
	}
	if left >= LowBlocks {
		return
	}
	if !p.low {
		p.low = true
		at := now
		if rest := n.Fed.Add(lowRest); rest.After(at) {
			at = rest
		}
		if at = at.Add(d.within(spread)); at.Before(p.due) {
			p.due = at
		}
	}
}

// within draws a time from zero to most, evenly.
func (d *Desk) within(most time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(d.o.Rand, b[:]); err != nil || most <= 0 {
		return 0
	}
	return time.Duration(float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53) * float64(most))
}

// feed feeds one address, and draws when it is tried again if that fails.
func (d *Desk) feed(ctx context.Context, label string, p *plan) {
	within, cancel := context.WithTimeout(ctx, feedTime)
	defer cancel()
	_, err := d.o.Nyms.Feed(within, label, d.o.Changed)
	now := d.o.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	p.busy = false
	if ctx.Err() != nil {
		return
	}
	if p.err = err; err == nil {
		p.tries, p.pause = 0, time.Time{}
		return
	}
	pause := min(firstPause<<min(p.tries, 10), lastPause)
	p.pause = now.Add(pause/2 + d.within(pause))
	p.tries++
	d.o.Logger.Debug("a reply address could not be fed", "kind", errs.KindOf(err))
}
