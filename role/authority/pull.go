package authority

import (
	"context"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// puller fetches from one other authority what it has and this one lacks. Nobody pushes: who
// is down finds everything when it is back.
type puller struct {
	s    *Server
	id   packet.ID
	line *link.Line

	// What this one gave and could not be used, so that it is not asked for again in this epoch.
	// Others may give it well: a name covers no signatures.
	odd   map[directory.Hash]bool
	epoch uint64 // that odd is of

	mu      sync.Mutex
	heard   time.Time // of its last answer; zero: never
	failure error     // why there was none the last time
}

// run pulls until ctx ends.
func (p *puller) run(ctx context.Context) error {
	var lines sync.WaitGroup
	defer lines.Wait()
	lines.Go(func() { p.line.Run(ctx) })
	for round := 0; ; round++ {
		err := p.pull(ctx, round%proofRounds == 0)
		if ctx.Err() != nil {
			return nil
		}
		p.mu.Lock()
		if p.failure = err; err == nil {
			p.heard = p.s.d.Now()
		}
		p.mu.Unlock()
		if err != nil {
			p.s.d.Logger.Debug("another authority does not answer", "authority", shortID(p.id), "err", err)
		}
		// Between a half and one and a half of the beat, so that the authorities do not all ask
		// at one moment.
		t := time.NewTimer(time.Duration(float64(p.s.core.beat()) * (0.5 + p.s.d.Chance())))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// pullTime bounds one look at another authority, in beats.
const pullTime = 8

// leastPullTime bounds it where epochs are short.
const leastPullTime = 5 * time.Second

// maxOdd bounds puller.odd.
const maxOdd = 1024

// proofRounds is in which of the looks the others' proofs are looked at too: once a quarter of
// an epoch or so.
const proofRounds = 8

// pull looks once at all that may be lacking.
func (p *puller) pull(ctx context.Context, proofs bool) error {
	c := p.s.core
	ctx, cancel := context.WithTimeout(ctx, max(pullTime*c.beat(), leastPullTime))
	defer cancel()
	if now := c.net.Epoch(c.now()); p.epoch != now || p.odd == nil {
		p.epoch, p.odd = now, map[directory.Hash]bool{}
	}
	for _, epoch := range c.open() {
		if err := p.agreement(ctx, epoch); err != nil {
			return err
		}
	}
	if err := p.newest(ctx); err != nil || !proofs {
		return err
	}
	return p.proofs(ctx)
}

// agreement fetches documents of one agreement, and what they name. What the other does not
// have, or gives wrongly, is not asked for again in this round.
func (p *puller) agreement(ctx context.Context, epoch uint64) error {
	c := p.s.core
	b, err := p.ask(ctx, directory.Request{Kind: directory.RequestOffers, Epoch: epoch})
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := directory.ParseOffers(b)
	if err != nil {
		return err
	}
	if list.Network != c.net.Name() || list.Epoch != epoch {
		return errs.E("role/authority.pull", errs.Denied, "the answer is of another network or epoch", nil)
	}
	var hashes []directory.Hash
	for _, o := range list.Offers {
		hashes = append(hashes, o.Hash)
	}
	if err := p.take(ctx, epoch, c.lacks(epoch, hashes)); err != nil {
		return err
	}
	return p.take(ctx, epoch, c.wants(epoch))
}

func (p *puller) take(ctx context.Context, epoch uint64, hashes []directory.Hash) error {
	for _, h := range hashes {
		if p.odd[h] {
			continue
		}
		doc, err := p.ask(ctx, directory.Request{Kind: directory.RequestDocument, Hash: h})
		if err != nil {
			switch errs.KindOf(err) {
			case errs.NotFound, errs.Denied:
				continue
			}
			return err
		}
		if err := p.s.core.take(epoch, h, doc); err != nil {
			if len(p.odd) < maxOdd {
				p.odd[h] = true
			}
			p.s.d.Logger.Debug("a document of another authority was not taken", "authority", shortID(p.id), "err", err)
		}
	}
	return nil
}

// newest fetches the other's newest consensus, where this authority has none of the epoch
// that is now: it was down, or its disk is new.
func (p *puller) newest(ctx context.Context) error {
	c := p.s.core
	if n := c.newest.Load(); n != nil && n.Epoch >= c.net.Epoch(c.now()) {
		return nil
	}
	doc, err := p.ask(ctx, directory.Request{Kind: directory.RequestConsensus})
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return nil
	case err != nil:
		return err
	}
	if err := c.takeConsensus(doc); err != nil && errs.KindOf(err) != errs.Conflict { // older than ours
		p.s.d.Logger.Debug("a consensus of another authority was not taken", "authority", shortID(p.id), "err", err)
	}
	return nil
}

// proofs fetches proofs that the other has and that say something new.
func (p *puller) proofs(ctx context.Context) error {
	c := p.s.core
	b, err := p.ask(ctx, directory.Request{Kind: directory.RequestProofs})
	if err != nil {
		return err
	}
	list, err := directory.ParseProofs(b)
	if err != nil {
		return err
	}
	for _, n := range list.Proofs {
		if !c.isNews(n) {
			continue
		}
		doc, err := p.ask(ctx, directory.Request{Kind: directory.RequestDocument, Hash: n.Hash})
		switch {
		case err != nil && errs.KindOf(err) == errs.NotFound:
			continue
		case err != nil:
			return err
		}
		if err := c.takeProof(doc); err != nil {
			p.s.d.Logger.Debug("a proof of another authority was not taken", "authority", shortID(p.id), "err", err)
		}
	}
	return nil
}

func (p *puller) ask(ctx context.Context, r directory.Request) ([]byte, error) {
	b, err := directory.AppendRequest(nil, r)
	if err != nil {
		return nil, err
	}
	return p.line.Fetch(ctx, b)
}

// state tells how the other authority answers.
func (p *puller) state() (heard time.Time, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard, p.failure
}
