package alias

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/postmap"
)

// Times of the keeper.
const (
	lookEvery  = 10 * time.Minute // how long the map may be wrong because somebody wrote into it
	firstRetry = 5 * time.Second  // after a map that could not be written; doubled each time
	lastRetry  = 5 * time.Minute
	syncTime   = time.Minute // for one rewriting
)

// keeper has the map follow the store. Who changed something asks for it (Sync) and waits until the map
// shows it: all who ask while the map is being written share the next rewriting.
type keeper struct {
	table *postmap.Table
	// lines gives what should be in the map now, and when that changes by itself (zero: never).
	lines func(ctx context.Context) (lines []postmap.Line, next time.Time, err error)
	now   func() time.Time
	log   *slog.Logger

	wake chan struct{}
	mu   sync.Mutex
	next *round // that those who ask now wait for; nil: nobody does
	last Map
}

// Map says how the map was found or left at last.
type Map struct {
	Lines     int       `json:"lines"`     // of ours
	Conflicts int       `json:"conflicts"` // aliases that are left out because somebody else's line has their address
	Written   time.Time `json:"written"`   // when it was changed last; zero: not since the start
	Error     string    `json:"error,omitempty"`
	Waits     bool      `json:"waits,omitempty"` // a change is not in the map yet

	conflicts []postmap.Conflict
}

// round is one rewriting that callers wait for.
type round struct {
	done chan struct{}
	r    postmap.Result
	err  error
}

func newKeeper(table *postmap.Table, lines func(context.Context) ([]postmap.Line, time.Time, error), now func() time.Time, log *slog.Logger) *keeper {
	return &keeper{table: table, lines: lines, now: now, log: log, wake: make(chan struct{}, 1)}
}

// Sync waits until the map holds what was in the store when it was called. The errors are those of
// postmap.Table.Sync; it is tried again then, without anybody asking. errs.Canceled with ctx, and when the server
// stops.
func (k *keeper) Sync(ctx context.Context) (postmap.Result, error) {
	k.mu.Lock()
	if k.next == nil {
		k.next = &round{done: make(chan struct{})}
	}
	r := k.next
	k.mu.Unlock()
	k.Touch()
	select {
	case <-r.done:
		return r.r, r.err
	case <-ctx.Done():
		return postmap.Result{}, errs.E("role/alias.Sync", errs.Canceled, "", ctx.Err())
	}
}

// Touch has the map looked at soon.
func (k *keeper) Touch() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// State tells how the map is.
func (k *keeper) State() Map {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// run writes the map when it has to be, until ctx ends. Whoever waits then is told.
func (k *keeper) run(ctx context.Context) error {
	defer k.finish()
	failed := 0
	for ctx.Err() == nil {
		wait := k.once(ctx, &failed)
		t := time.NewTimer(wait)
		select {
		case <-k.wake:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil
}

// errStopped is what they are told whose change the map does not show yet.
func errStopped(cause error) error {
	return errs.E("role/alias.Sync", errs.Canceled, "the server stops; the map is written when it starts again", cause)
}

// finish tells those who wait that nobody will write any more.
func (k *keeper) finish() {
	if r := k.take(); r != nil {
		r.err = errStopped(nil)
		close(r.done)
	}
}

// take gives the round that callers wait for; who comes from now on waits for another.
func (k *keeper) take() *round {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.next
	k.next = nil
	return r
}

// once writes the map, and says how long nothing has to be done.
func (k *keeper) once(ctx context.Context, failed *int) time.Duration {
	r := k.take()
	result, next, err := k.write(ctx)
	if err != nil && ctx.Err() != nil {
		err = errStopped(err)
	}
	k.note(result, err)
	if r != nil {
		r.r, r.err = result, err
		close(r.done)
	}
	switch {
	case err != nil:
		*failed++
		wait := min(firstRetry<<min(*failed-1, 16), lastRetry)
		if ctx.Err() == nil {
			k.log.Error("the map of Postfix could not be written; it is tried again", "in", wait, "err", err)
		}
		return wait
	case *failed > 0:
		k.log.Info("the map of Postfix is written again")
		*failed = 0
	}
	if next.IsZero() {
		return lookEvery
	}
	return max(min(next.Sub(k.now()), lookEvery), time.Millisecond)
}

func (k *keeper) write(ctx context.Context) (r postmap.Result, next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	lines, next, err := k.lines(ctx)
	if err != nil {
		return r, next, err
	}
	r, err = k.table.Sync(ctx, lines)
	return r, next, err
}

// note remembers how the map is, and says what is new about it.
func (k *keeper) note(r postmap.Result, err error) {
	k.mu.Lock()
	was := k.last
	if err != nil {
		k.last.Error, k.last.Waits = errs.Public(err), true
		if k.last.Error == "" {
			k.last.Error = "the map could not be written"
		}
	} else {
		k.last = Map{Lines: r.Lines, Conflicts: len(r.Conflicts), conflicts: r.Conflicts, Written: was.Written}
		if r.Changed {
			k.last.Written = k.now().UTC()
		}
	}
	k.mu.Unlock()
	if n := len(r.Conflicts); n > 0 && n != was.Conflicts {
		k.log.Warn("aliases are left out of the map: lines of others have their addresses; postern alias doctor names the lines", "aliases", n)
	}
	if r.Changed {
		k.log.Info("the map of Postfix was written", "aliases", r.Lines)
	}
}
