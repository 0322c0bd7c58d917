package deliver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"postern.email/agent/road"
	"postern.email/kit/defaults"
	"postern.email/post/queue"
)

// Defaults of OutOptions.
const (
	DefaultDestinations   = 500              // destinations that are served at one time
	DefaultPerDestination = 4                // connections to one destination
	DefaultFirstRetry     = 30 * time.Second // doubled after each failure …
	DefaultLastRetry      = time.Hour        // … up to this
	DefaultKeep           = 20 * time.Second // an idle connection to a destination
	DefaultGrace          = 10 * time.Second // for mails being handed over at a shutdown
	DefaultSlow           = 15 * time.Second // a mail that takes longer makes its destination a slow one
)

// suspects is the part of the destinations that may be slow ones, or ones which could not be
// reached the last time: the rest is kept for those that take mail at once.
const suspects = 2 // one half

// Roads leads to other hosts: ByRoad makes it of *road.Roads.
type Roads interface {
	Session(domain string) Session
}

// Session is one worker's way to one destination.
type Session interface {
	Send(ctx context.Context, j road.Job) road.Outcome
	Close()
}

// ByRoad makes Roads of the real ones.
func ByRoad(r *road.Roads) Roads { return byRoad{r} }

type byRoad struct{ r *road.Roads }

func (b byRoad) Session(domain string) Session { return b.r.Session(domain) }

// OutOptions of an Out. Deliver (with a Queue, Accounts and Domain) and Roads are needed.
type OutOptions struct {
	Deliver *Deliver // whose queue is worked on; it also puts reports into mailboxes
	Roads   Roads

	Destinations, PerDestination int
	FirstRetry, LastRetry        time.Duration
	Keep, Grace, Slow            time.Duration
	Delay                        time.Duration // DefaultDelay; negative: nobody is told of a delay

	Logger *slog.Logger // nil: nothing is logged
}

// Out hands the mails of the queue to other hosts. Each destination has its own workers and
// its own pause after a failure, so that no destination waits for another.
type Out struct {
	o    OutOptions
	d    *Deliver
	q    *queue.Queue
	wake chan struct{} // a worker ended, or a destination has more than its workers take

	mu      sync.Mutex
	dests   map[string]*destination
	workers int
	suspect int // workers at destinations that are slow, or could not be reached the last time
}

// worker is one of a destination's, see serve.
type worker struct {
	suspect bool // it counts as such
	slow    bool // its mail took longer than OutOptions.Slow
}

// destination is what is known of one destination, beside the pause that the queue keeps. It is
// forgotten when it has no worker and was reached quickly, or nothing waits for it any more; a
// restart forgets all, and every destination is tried again.
type destination struct {
	name     string
	workers  int
	reached  bool          // a mail was handed over since the last failure, and none is slow
	slow     bool          // the last mail took long, whatever became of it
	failures int           // tries to reach it that failed, in a row
	last     time.Time     // when the last of them was, or it was slow
	why      string        // what it ended with
	more     chan struct{} // wakes one idle worker; capacity 1
	idle     int
}

// NewOut makes an Out; Run works.
func NewOut(o OutOptions) *Out {
	defaults.Positive(&o.FirstRetry, DefaultFirstRetry)
	defaults.Positive(&o.LastRetry, DefaultLastRetry)
	defaults.Positive(&o.Keep, DefaultKeep)
	defaults.Positive(&o.Grace, DefaultGrace)
	defaults.Positive(&o.Slow, DefaultSlow)
	defaults.Zero(&o.Delay, DefaultDelay)
	defaults.Positive(&o.Destinations, DefaultDestinations)
	defaults.Positive(&o.PerDestination, DefaultPerDestination)
	defaults.Logger(&o.Logger)
	return &Out{o: o, d: o.Deliver, q: o.Deliver.o.Queue, wake: make(chan struct{}, 1), dests: make(map[string]*destination)}
}

// Run hands out what is due until ctx ends; mails that are being handed over then have
// Grace to finish.
func (o *Out) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	// Workers outlive ctx by the grace: breaking off between the other side's 250 and our
	// commit would send the mail twice.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		t := time.AfterFunc(o.o.Grace, stop)
		wg.Wait()
		t.Stop()
		stop()
	}()
	if o.o.Delay > 0 {
		wg.Go(func() { o.warn(ctx) })
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, next := o.q.Due()
		for _, name := range due {
			o.start(ctx, work, &wg, name)
		}
		wait := forgetEvery
		if !next.IsZero() {
			wait = min(max(next.Sub(o.d.o.Now()), 0), wait)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-o.q.Changed():
		case <-o.wake:
		case <-timer.C:
			o.forget()
		}
	}
}

// start serves a destination that has something due, with one more worker, if that may be.
// Otherwise a worker that ends makes Run look again.
func (o *Out) start(ctx, work context.Context, wg *sync.WaitGroup, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.dests[name]
	if d == nil {
		d = &destination{name: name, more: make(chan struct{}, 1)}
	}
	w := &worker{suspect: d.failures > 0 || d.slow}
	switch {
	case d.idle > 0:
		select {
		case d.more <- struct{}{}:
		default:
		}
		return
	case d.workers > 0 && !d.reached, d.workers >= o.o.PerDestination, o.workers >= o.o.Destinations,
		w.suspect && o.suspect >= o.mostSuspects():
		if w.suspect { // it has mail, and must not be forgotten while it waits for its turn
			d.last = o.d.o.Now()
		}
		return
	}
	o.dests[name] = d
	d.workers++
	o.workers++
	if w.suspect {
		o.suspect++
	}
	wg.Go(func() {
		o.serve(ctx, work, d, w)
		o.mu.Lock()
		d.workers--
		o.workers--
		if w.suspect {
			o.suspect--
		}
		if d.workers == 0 && d.failures == 0 && !d.slow {
			delete(o.dests, d.name)
		}
		o.mu.Unlock()
		o.look()
	})
}

func (o *Out) mostSuspects() int { return max(o.o.Destinations/suspects, 1) }

// tooSlow takes note that a worker's mail takes long: from now on its destination has one worker at
// most, among the suspects. false: there is no room among them, and the worker must give up, so
// that hosts which hang never take the places of those that do not, however many they are.
func (o *Out) tooSlow(d *destination, w *worker) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.slow, d.slow, d.reached, d.last = true, true, false, o.d.o.Now()
	if !w.suspect {
		if o.suspect >= o.mostSuspects() {
			return false
		}
		w.suspect = true
		o.suspect++
	}
	return true
}

// forgetEvery is how often destinations are looked for that nothing waits for.
const forgetEvery = 10 * time.Minute

// forget drops destinations that failed so long ago that somebody would have tried again if
// there were mail.
func (o *Out) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, d := range o.dests {
		if d.workers == 0 && o.d.o.Now().Sub(d.last) > 2*o.o.LastRetry {
			delete(o.dests, name)
		}
	}
}

// look makes Run look at what is due.
func (o *Out) look() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
