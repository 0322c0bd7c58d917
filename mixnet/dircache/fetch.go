package dircache

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// How fetching is spread over time, as parts of a period (docs/directory.md §13).
const (
	headStart = 64 // before the next source is asked beside the one that is silent
	patience  = 2  // for one try with several sources
	soon      = 16 // within which what is missing but not needed at once is fetched
	minPause  = 64 // after the first failure
	maxPause  = 8
	look      = 16 // how often the clock is looked at, for machines that slept

	// Where there is no consensus to be used, tries are closer.
	minUrgentPause = 2 * time.Second
	maxUrgentPause = 5 * time.Minute

	// lonePatience is for a try with one source, in periods: over a link with a slow clock a
	// whole consensus takes long, and beginning anew would not make it shorter.
	lonePatience = directory.ValidEpochs

	atOnce  = 2 // sources that are asked at the same time
	gossips = 3 // sources that are compared with after each consensus
)

// Run fetches consensuses until ctx ends: at once if there is none to be used, and the next one
// at a random moment before its epoch. It calls Changed when an epoch begins.
func (c *Cache) Run(ctx context.Context) error {
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() { c.watch(ctx) })
	var p plan
	for {
		c.saveAll()
		at := c.next(&p)
		if !c.waitUntil(ctx, at) {
			return errs.Wrap("mixnet/dircache.Cache.Run", ctx.Err())
		}
		if now := c.o.Now(); p.fetch && !now.Before(p.at) {
			c.try(ctx, &p)
		}
	}
}

// watch tells of each epoch that begins.
func (c *Cache) watch(ctx context.Context) {
	for {
		c.announce()
		net := c.o.Network
		at := net.Begin(net.Epoch(c.o.Now()) + 1)
		if !sleep(ctx, c.span(at)) {
			return
		}
	}
}

// span is how long to wait for a time, but not longer than the clock may go unwatched.
func (c *Cache) span(at time.Time) time.Duration {
	return max(0, min(at.Sub(c.o.Now()), c.o.Network.Period()/look))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitUntil waits for a time, or less. It is false when ctx has ended.
func (c *Cache) waitUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(c.span(at))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// plan is what is to be fetched next.
type plan struct {
	fetch bool
	epoch uint64    // the one that is wanted
	at    time.Time // when to try
	fails int       // tries in a row
}

// next brings the plan up to date, and gives the time at which something is to be done.
func (c *Cache) next(p *plan) time.Time {
	net, now := c.o.Network, c.o.Now()
	epoch := net.Epoch(now)
	want := epoch
	if n := c.Newest(); n != nil {
		if n.Epoch > epoch {
			*p = plan{}
			return net.Begin(epoch + 1)
		}
		if n.Epoch == epoch {
			want = epoch + 1
		}
	}
	switch {
	case !p.fetch || p.fails == 0 && p.epoch != want:
		*p = plan{fetch: true, epoch: want, at: c.moment(want, now)}
	case p.epoch != want:
		// It goes on as it was: many miss the same consensus, and must not all begin anew.
		p.epoch = want
	}
	return p.at
}

// moment draws when to fetch the consensus of an epoch for the first time.
func (c *Cache) moment(epoch uint64, now time.Time) time.Time {
	net := c.o.Network
	within := func(from, to time.Time) time.Time {
		return from.Add(time.Duration(c.o.Chance() * float64(to.Sub(from))))
	}
	if epoch <= net.Epoch(now) {
		if _, err := c.Current(); err != nil {
			return now
		}
		return within(now, now.Add(net.Period()/soon))
	}
	begin := net.Begin(epoch)
	third := begin.Sub(net.Published(epoch)) / 3
	from, to := begin.Add(-2*third), begin.Add(-third)
	if c.o.Early {
		from, to = from.Add(-third), from
	}
	switch {
	case now.Before(from):
		return within(from, to)
	case now.Before(to):
		return within(now, to)
	}
	return within(now, now.Add(begin.Sub(now)/2))
}

// try asks the sources once.
func (c *Cache) try(ctx context.Context, p *plan) {
	sources := c.o.Sources()
	sources = sources[:min(len(sources), maxSources)]
	long := c.o.Network.Period() / patience
	if len(sources) == 1 {
		long = c.o.Network.Period() * lonePatience
	}
	limit, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	winner, err := race(limit, sources, c.o.Network.Period()/headStart, func(ctx context.Context, s Source) error {
		return c.fetch(ctx, s, p.epoch)
	})
	if err == nil {
		*p = plan{}
		c.gossip(ctx, sources, winner)
		return
	}
	if ctx.Err() != nil {
		return
	}
	_, none := c.Current()
	p.at = c.o.Now().Add(c.pause(p.fails, none != nil))
	p.fails++
	c.o.Log.Debug("no source has the consensus", "epoch", p.epoch, "tries", p.fails, "err", err)
}

// pause after a number of failures: twice as long each time, between a half and one and a
// half of that.
func (c *Cache) pause(fails int, urgent bool) time.Duration {
	least, most := c.o.Network.Period()/minPause, c.o.Network.Period()/maxPause
	if urgent {
		least, most = min(least, minUrgentPause), min(most, maxUrgentPause)
	}
	d := least << min(fails, 20)
	return time.Duration(float64(min(d, most)) * (0.5 + c.o.Chance()))
}

// race asks the sources in their order until one has what is wanted. One that fails is
// followed at once, one that is silent for the head start is joined by the next. It tells which
// one it was.
func race(ctx context.Context, sources []Source, head time.Duration, ask func(context.Context, Source) error) (winner int, err error) {
	if len(sources) == 0 {
		return 0, errNoSource
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	type result struct {
		i   int
		err error
	}
	results := make(chan result, len(sources))
	stops := make(map[int]context.CancelFunc) // of those under way
	begun := 0
	start := func() {
		if begun == len(sources) || ctx.Err() != nil {
			return
		}
		i := begun
		one, stop := context.WithCancel(ctx)
		stops[i] = stop
		begun++
		running.Go(func() { results <- result{i, ask(one, sources[i])} })
	}
	start()
	for len(stops) > 0 {
		timer := time.NewTimer(head)
		select {
		case r := <-results:
			timer.Stop()
			stops[r.i]()
			delete(stops, r.i)
			if r.err == nil {
				return r.i, nil
			}
			err = r.err
			start()
		case <-timer.C:
			switch {
			case begun == len(sources):
			case len(stops) < atOnce:
				start()
			default: // the first is given up; its end starts the next
				stops[slices.Min(slices.Collect(maps.Keys(stops)))]()
			}
		}
	}
	return 0, err
}

// errNoSource: Sources gave none.
var errNoSource = errs.E("mixnet/dircache.Run", errs.Unavailable, "nobody to ask for the consensus is known", nil)

// fetch asks one source for the consensus of an epoch, else for its newest, and takes it.
func (c *Cache) fetch(ctx context.Context, s Source, epoch uint64) error {
	const op = "mixnet/dircache.fetch"
	con, err := c.get(ctx, s, epoch, c.Newest())
	if errs.KindOf(err) == errs.NotFound && epoch <= c.o.Network.Epoch(c.o.Now()) {
		con, err = c.get(ctx, s, 0, c.Newest())
	}
	if err != nil {
		return err
	}
	if known := c.Of(con.Epoch); known != nil && known.Hash() == con.Hash() {
		return errs.E(op, errs.NotFound, "the source has nothing newer", nil)
	}
	if err := c.take(con); err != nil {
		c.o.Log.Warn("a source gave a consensus that was refused", "epoch", con.Epoch, "why", errs.Public(err))
		return err
	}
	return nil
}

// get asks one source for the consensus of an epoch (0: its newest), as a difference from one
// that is here, if any. If that cannot be read it asks for all of it.
func (c *Cache) get(ctx context.Context, s Source, epoch uint64, base *directory.Consensus) (*directory.Consensus, error) {
	r := directory.Request{Kind: directory.RequestConsensus, Epoch: epoch, Packed: true}
	if base != nil {
		r.From = base.Hash()
	}
	b, err := directory.AppendRequest(nil, r)
	if err != nil {
		return nil, err
	}
	if b, err = s.Fetch(ctx, b); err != nil {
		return nil, err
	}
	var con *directory.Consensus
	if b, err = directory.OpenConsensus(b, base); err == nil {
		con, err = directory.ParseConsensusAfter(b, c.Newest())
	}
	switch {
	case err == nil:
		return con, nil
	case base != nil:
		return c.get(ctx, s, epoch, nil)
	}
	c.o.Log.Warn("a source gave a consensus that cannot be read", "why", errs.Public(err))
	// What this source cannot give, another may.
	return nil, errs.E("mixnet/dircache.get", errs.Denied, "the source gave what is no consensus", err)
}

// gossip compares what is here with what others have, so that nobody is shown a directory of
// his own unnoticed. It asks a few at random, not the one that was asked just now.
func (c *Cache) gossip(ctx context.Context, sources []Source, not int) {
	others := slices.Delete(slices.Clone(sources), not, not+1)
	for i := range min(gossips, len(others)) {
		j := i + min(int(c.o.Chance()*float64(len(others)-i)), len(others)-i-1)
		others[i], others[j] = others[j], others[i]
		limit, cancel := context.WithTimeout(ctx, c.o.Network.Period()/headStart)
		err := c.compare(limit, others[i])
		cancel()
		if err != nil && ctx.Err() == nil {
			c.o.Log.Debug("a source was not compared", "err", err)
		}
	}
}

// compare asks a source for the names of its consensuses. For one that contradicts ours it
// must show it, and that it is endorsed; then somebody signed both.
func (c *Cache) compare(ctx context.Context, s Source) error {
	b, err := directory.AppendRequest(nil, directory.Request{Kind: directory.RequestGossip})
	if err != nil {
		return err
	}
	if b, err = s.Fetch(ctx, b); err != nil {
		return err
	}
	g, err := directory.ParseGossip(b)
	if err != nil {
		return err
	}
	for _, theirs := range g.Gossip {
		mine := c.Of(theirs.Epoch)
		if mine == nil || mine.Gossip().Compare(theirs) == nil {
			continue
		}
		other, err := c.get(ctx, s, theirs.Epoch, nil)
		if err == nil && other.Epoch == theirs.Epoch {
			_, err = directory.Verify(c.o.Network, other, nil, other.ValidAfter())
		}
		if err != nil {
			c.o.Log.Warn("a source names another consensus and cannot show it", "epoch", theirs.Epoch, "why", errs.Public(err))
			continue
		}
		c.expose(mine, other)
	}
	return nil
}
