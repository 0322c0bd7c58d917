package dial

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// Bounds of what a TXTCache keeps. The times are short because the resolver does not
// tell how long an answer holds, and a key that was withdrawn must not live on.
const (
	MaxTXT     = 1000            // answers; beyond, the one unused for longest goes
	maxTXTSize = 16 << 10        // bytes of one answer; larger ones are not kept
	keepTXT    = 5 * time.Minute // an answer
	keepNoTXT  = time.Minute     // that there is none
)

// TXTCache remembers answers of a look-up, so that many mails of one domain cost one
// question. Failures are not kept. It may be used by many goroutines.
type TXTCache struct {
	lookup func(context.Context, string) ([]string, bool, error)
	now    func() time.Time

	mu    sync.Mutex
	names map[string]*list.Element
	used  *list.List // of *txtAnswer, the latest first
}

type txtAnswer struct {
	name      string
	txts      []string
	authentic bool
	err       error // errs.NotFound, or nil
	until     time.Time
}

// NewTXTCache makes a cache in front of lookup (such as Dialer.TXT); now may be nil.
func NewTXTCache(lookup func(context.Context, string) ([]string, bool, error), now func() time.Time) *TXTCache {
	if now == nil {
		now = time.Now
	}
	return &TXTCache{lookup: lookup, now: now, names: make(map[string]*list.Element), used: list.New()}
}

// TXT is lookup, or what it said lately. The answer must not be changed.
func (c *TXTCache) TXT(ctx context.Context, name string) (txts []string, authentic bool, err error) {
	name = strings.ToLower(name)
	if a := c.kept(name); a != nil {
		return a.txts, a.authentic, a.err
	}
	txts, authentic, err = c.lookup(ctx, name)
	keep := keepTXT
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		keep = keepNoTXT
	case err != nil:
		return nil, false, err
	}
	size := 0
	for _, t := range txts {
		size += len(t)
	}
	if size <= maxTXTSize {
		c.keep(&txtAnswer{name, txts, authentic, err, c.now().Add(keep)})
	}
	return txts, authentic, err
}

func (c *TXTCache) kept(name string) *txtAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.names[name]
	if e == nil {
		return nil
	}
	a := e.Value.(*txtAnswer)
	if !c.now().Before(a.until) {
		c.drop(e)
		return nil
	}
	c.used.MoveToFront(e)
	return a
}

func (c *TXTCache) keep(a *txtAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.names[a.name]; e != nil {
		c.drop(e)
	}
	c.names[a.name] = c.used.PushFront(a)
	if c.used.Len() > MaxTXT {
		c.drop(c.used.Back())
	}
}

// Forget drops what is known about a name: the next question is asked again.
func (c *TXTCache) Forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.names[strings.ToLower(name)]; e != nil {
		c.drop(e)
	}
}

func (c *TXTCache) drop(e *list.Element) {
	delete(c.names, e.Value.(*txtAnswer).name)
	c.used.Remove(e)
}
