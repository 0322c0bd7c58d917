package mtasts

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/flight"
	"postern.email/kit/logs"
	"postern.email/kit/lru"
)

// Bounds of a Cache.
const (
	MaxEntries   = 10_000          // domains in memory; more are in Save's hands alone
	MaxBytes     = 16 << 20        // of their policies
	RetryAfter   = 5 * time.Minute // a policy that could not be fetched (RFC 8461 §3.3)
	RefreshEvery = time.Hour       // how often Run looks for policies past half of their time
	entryCost    = 400             // bytes of an entry beside its names
)

// Options of a Cache. Fetcher is needed.
type Options struct {
	Fetcher *Fetcher
	// Load and Save keep a record for a domain over a restart; Load gives
	// errs.NotFound when there is none. See RecordEnds. nil: memory only.
	Load func(ctx context.Context, domain string) ([]byte, error)
	Save func(ctx context.Context, domain string, record []byte) error

	MaxEntries int              // 0: MaxEntries
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger     // nil: nothing is logged
}

// Cache keeps policies for as long as they say, whatever becomes of the announcement and
// the page meanwhile: who can suppress those must not be able to turn a policy off
// (RFC 8461 §10.2). It may be used by many goroutines.
type Cache struct {
	o      Options
	asking flight.Group[string, Policy]

	mu      sync.Mutex
	entries *lru.Map[string, *entry]
}

// entry is replaced, never changed.
type entry struct {
	known            // zero id: no policy is known
	failed string    // an id whose policy could not be fetched
	retry  time.Time // nor will be before this time
}

func (e *entry) valid(now time.Time) bool { return e.id != "" && now.Before(e.until(now)) }

// due reports whether the policy is past half of its time.
func (e *entry) due(now time.Time) bool {
	return e.valid(now) && e.until(now).Sub(now) < e.policy.MaxAge/2
}

// NewCache makes a Cache.
func NewCache(o Options) *Cache {
	if o.MaxEntries <= 0 {
		o.MaxEntries = MaxEntries
	}
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	return &Cache{o: o, entries: lru.New[string, *entry](o.MaxEntries, MaxBytes)}
}

// Policy gives the policy of a domain that mail goes to. Each call looks up what the
// domain announces now; the page is fetched when that is not what is known. Errors:
// errs.NotFound when the domain has no policy, or shows none that can be fetched and none
// is known (then mail goes as without, RFC 8461 §5.1); errs.Unavailable when it cannot be
// told now; errs.Canceled when the caller gave up.
func (c *Cache) Policy(ctx context.Context, domain string) (Policy, error) {
	const op = "wire/mtasts.Cache.Policy"
	d, ok := policyDomain(domain)
	if !ok {
		return Policy{}, errs.E(op, errs.NotFound, "the domain has no MTA-STS policy", nil)
	}
	p, err := c.asking.Do(ctx, d, func(ctx context.Context) (Policy, error) { return c.find(ctx, d) })
	return p, errs.Wrap(op, err)
}

func (c *Cache) find(ctx context.Context, domain string) (Policy, error) {
	const op = "wire/mtasts.find"
	e, blind := c.entry(ctx, domain)
	id, err := c.o.Fetcher.ID(ctx, domain)
	now := c.o.Now()
	switch {
	case e.valid(now) && (err != nil || id == e.id || id == e.failed && now.Before(e.retry)):
		return e.policy, nil
	case err != nil && blind != nil: // what was saved may still hold
		return Policy{}, errs.E(op, errs.Unavailable, "it cannot be told whether the domain has an MTA-STS policy", blind)
	case err != nil:
		return Policy{}, err
	case id == e.failed && now.Before(e.retry):
		return Policy{}, errs.E(op, errs.NotFound, "the MTA-STS policy of the domain could not be fetched", nil)
	}
	fresh, err := c.fetch(ctx, domain, id, e)
	switch {
	case err == nil:
		return fresh.policy, nil
	case e.valid(now):
		return e.policy, nil
	case errs.KindOf(err) == errs.Canceled:
		return Policy{}, err
	case blind != nil:
		return Policy{}, errs.E(op, errs.Unavailable, "it cannot be told whether the domain has an MTA-STS policy", blind)
	}
	return Policy{}, errs.E(op, errs.NotFound, "the MTA-STS policy of the domain could not be fetched", err)
}

// entry gives what is known, from memory or as it was saved; blind is why it could not be
// loaded. The entry is never nil. A damaged record is as good as none: the next fetch
// replaces it.
func (c *Cache) entry(ctx context.Context, domain string) (e *entry, blind error) {
	c.mu.Lock()
	e, ok := c.entries.Get(domain)
	c.mu.Unlock()
	if ok || c.o.Load == nil {
		if !ok {
			e = new(entry)
		}
		return e, nil
	}
	record, err := c.o.Load(ctx, domain)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			err = nil
		}
		return new(entry), err
	}
	k, err := decode(record)
	if err != nil {
		c.o.Logger.Warn("a kept MTA-STS policy is damaged", "err", err)
		return new(entry), nil
	}
	e = &entry{known: k}
	c.put(domain, e)
	return e, nil
}

func (c *Cache) put(domain string, e *entry) {
	size := entryCost + len(domain)
	for _, mx := range e.policy.MX {
		size += len(mx) + 16
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Put(domain, e, int64(size))
}

// fetch gets the policy that is announced as id, in place of old.
func (c *Cache) fetch(ctx context.Context, domain, id string, old *entry) (*entry, error) {
	p, err := c.o.Fetcher.Policy(ctx, domain)
	now := c.o.Now()
	if err != nil {
		if errs.KindOf(err) != errs.Canceled {
			c.put(domain, &entry{known: old.known, failed: id, retry: now.Add(RetryAfter)})
		}
		return nil, err
	}
	e := &entry{known: known{id: id, policy: p, fetched: time.Unix(now.Unix(), 0)}}
	c.put(domain, e)
	if c.o.Save != nil {
		if err := c.o.Save(ctx, domain, e.encode()); err != nil {
			c.o.Logger.Warn("an MTA-STS policy could not be kept for after a restart", "err", err)
		}
	}
	return e, nil
}

// Run fetches the policies in memory again that are past half of their time, until ctx
// ends (RFC 8461 §3.3, §10.2): then one that is suppressed at its end was seen before. It
// gives the error of ctx.
func (c *Cache) Run(ctx context.Context) error {
	t := time.NewTicker(RefreshEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			c.refresh(ctx)
		}
	}
}

func (c *Cache) refresh(ctx context.Context) {
	now := c.o.Now()
	due := map[string]*entry{}
	c.mu.Lock()
	for domain, e := range c.entries.All() {
		if e.due(now) && !now.Before(e.retry) {
			due[domain] = e
		}
	}
	c.mu.Unlock()
	for domain, e := range due {
		if ctx.Err() != nil {
			return
		}
		// One after another, and never beside somebody who asks for the same policy now.
		_, _ = c.asking.Do(ctx, domain, func(ctx context.Context) (Policy, error) { return c.again(ctx, domain, e) })
	}
}

// again fetches a policy that is known. When that fails, the domain gave it up or the
// network does not work: the policy goes on until it ends.
func (c *Cache) again(ctx context.Context, domain string, e *entry) (Policy, error) {
	const op = "wire/mtasts.again"
	id, err := c.o.Fetcher.ID(ctx, domain)
	if err == nil {
		var fresh *entry
		if fresh, err = c.fetch(ctx, domain, id, e); err == nil {
			return fresh.policy, nil
		}
	}
	c.o.Logger.Debug("an MTA-STS policy could not be fetched again", "domain", logs.Secret(domain), "err", err)
	if e.valid(c.o.Now()) {
		return e.policy, nil
	}
	return Policy{}, errs.Wrap(op, err)
}
