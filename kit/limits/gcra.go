package limits

import (
	"sync"
	"time"
)

// evictSample is how many keys are looked at to find one to forget.
const evictSample = 8

// maxDebt bounds for how long Charge can shut a key out.
const maxDebt = time.Hour

// GCRA limits the rate of events by key: the generic cell rate algorithm (ITU-T
// I.371), which needs one time stamp a key. All methods may be called by many
// goroutines.
type GCRA struct {
	mu        sync.Mutex
	interval  time.Duration // between two events at the steady rate
	tolerance time.Duration // how far ahead of the steady rate a burst may run
	maxKeys   int
	now       func() time.Time
	next      map[string]time.Time // theoretical arrival time of the next event
	swept     time.Time
}

// NewGCRA allows perMinute events a minute for each key, of which burst (at least
// 1) may come at once. perMinute 0 or less: everything is allowed. At most maxKeys
// (at least 1) keys are remembered; beyond, one of the least busy keys of a small sample is forgotten,
// which favours that key and nobody else. now nil: time.Now.
func NewGCRA(perMinute, burst, maxKeys int, now func() time.Time) *GCRA {
	if now == nil {
		now = time.Now
	}
	g := &GCRA{maxKeys: max(maxKeys, 1), now: now}
	if perMinute > 0 {
		g.interval = time.Minute / time.Duration(perMinute)
		g.tolerance = g.interval * time.Duration(max(burst, 1)-1)
		g.next = make(map[string]time.Time)
	}
	return g
}

// Allow counts one event of key. When it is too early, ok is false, nothing is
// counted, and next is the time from which one event would be allowed. The key ""
// is always allowed. A nil *GCRA allows everything.
func (g *GCRA) Allow(key string) (ok bool, next time.Time) { return g.ask(key, true) }

// Ready is Allow without counting: for what is known only afterwards, and then
// given to Charge.
func (g *GCRA) Ready(key string) (ok bool, next time.Time) { return g.ask(key, false) }

func (g *GCRA) ask(key string, count bool) (ok bool, next time.Time) {
	if g == nil || g.interval <= 0 || key == "" {
		return true, time.Time{}
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if earliest := g.earliest(key, now); earliest.After(now) {
		return false, earliest
	}
	if count {
		g.count(key, now, g.interval)
	}
	return true, time.Time{}
}

// Charge counts n events of key that have happened, be they allowed or not: as long as
// they are ahead of the rate nothing more is allowed. A debt is never longer than
// maxDebt. n 0 or less counts nothing.
func (g *GCRA) Charge(key string, n int64) {
	if g == nil || g.interval <= 0 || key == "" || n <= 0 {
		return
	}
	cost := time.Duration(maxDebt)
	if n <= int64(maxDebt/g.interval) {
		cost = g.interval * time.Duration(n)
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count(key, now, cost)
}

// earliest is the time from which one event of key is allowed.
func (g *GCRA) earliest(key string, now time.Time) time.Time {
	arrival := g.next[key]
	if arrival.Before(now) {
		arrival = now
	}
	return arrival.Add(-g.tolerance)
}

// count moves the next event of key by cost.
func (g *GCRA) count(key string, now time.Time, cost time.Duration) {
	arrival, known := g.next[key]
	if arrival.Before(now) {
		arrival = now
	}
	if !known && len(g.next) >= g.maxKeys {
		g.forget(now)
	}
	arrival = arrival.Add(cost)
	if latest := now.Add(g.tolerance + maxDebt); arrival.After(latest) {
		arrival = latest
	}
	g.next[key] = arrival
}

// forget makes room for one key: first by dropping the keys that are back at rest
// (at most once a full burst, so that the cost stays small), else the least busy
// of a sample.
func (g *GCRA) forget(now time.Time) {
	if now.Sub(g.swept) >= g.interval+g.tolerance || now.Before(g.swept) {
		g.swept = now
		for k, t := range g.next {
			if !t.After(now) {
				delete(g.next, k)
			}
		}
		if len(g.next) < g.maxKeys {
			return
		}
	}
	var victim string
	var least time.Time
	n := 0
	for k, t := range g.next {
		if n == 0 || t.Before(least) {
			victim, least = k, t
		}
		if n++; n == evictSample {
			break
		}
	}
	delete(g.next, victim)
}
