package account

import (
	"container/list"
	"context"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// gate lets as many password hashes run at once as it has slots, so that their
// memory and time are bounded whatever strangers do. The others wait in a
// bounded queue:
//
//   - classes go one before the other: logins from where the account was opened
//     lately, logins of known accounts, new addresses;
//   - within a class networks take turns, and within a network accounts do, so a
//     crowd delays itself;
//   - when the queue is full, the network with the longest one loses its last.
//
// Equal attempts that wait at the same time share one run.
type gate struct {
	slots, max, perTurn int
	wait                time.Duration
	retain, release     func(outcome) // take and give back a reference to an outcome's key

	mu      sync.Mutex
	closed  bool
	running int
	waiting int
	classes [numWaits]turns
	jobs    map[jobKey]*job
	turns   map[string]int // jobs waiting, by network, over all classes
	done    sync.WaitGroup
}

// jobKey names equal attempts: a keyed hash of network, name and password.
type jobKey [32]byte

// waitClass orders the queue.
type waitClass uint8

const (
	waitProven waitClass = iota
	waitLogin
	waitCreate
	numWaits
)

// ticket describes an attempt to the gate.
type ticket struct {
	key     jobKey
	class   waitClass
	network string // "" for exempt peers: they take turns as one, without a bound of their own
	account string
}

// outcome is what a run gives to everybody who shares it: a reference to an
// opened key for each, or an error.
type outcome struct {
	key *openKey
	err error
}

// job is one run, waiting or running.
type job struct {
	ticket
	run     func() outcome
	waiters map[chan outcome]struct{}
	elem    *list.Element // in its account's queue while it waits
	started bool
}

func newGate(slots, max, perNetwork int, wait time.Duration, retain, release func(outcome)) *gate {
	return &gate{slots: slots, max: max, perTurn: perNetwork, wait: wait, retain: retain, release: release,
		jobs: make(map[jobKey]*job), turns: make(map[string]int)}
}

// do runs run in a slot, or joins an equal attempt, and gives the outcome; the
// caller owns its reference. run goes on when its callers have given up. Errors
// of the gate's own are errs.Busy, errs.Canceled and errs.Unavailable.
func (g *gate) do(ctx context.Context, t ticket, run func() outcome) outcome {
	const op = "account.gate"
	c := make(chan outcome, 1)
	g.mu.Lock()
	j := g.jobs[t.key]
	switch {
	case g.closed:
		g.mu.Unlock()
		return outcome{err: errs.E(op, errs.Unavailable, textClosed, nil)}
	case j != nil:
		j.waiters[c] = struct{}{}
	default:
		if !g.room(t.network) {
			g.mu.Unlock()
			return outcome{err: errs.E(op, errs.Busy, textGateFull, nil)}
		}
		j = &job{ticket: t, run: run, waiters: map[chan outcome]struct{}{c: {}}}
		g.jobs[t.key] = j
		g.push(j)
		g.dispatch()
	}
	g.mu.Unlock()

	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	for timeout := timer.C; ; {
		select {
		case o := <-c:
			return o
		case <-timeout:
			if !g.leave(j, c, false) {
				timeout = nil // it is running: the outcome is near
				continue
			}
			return outcome{err: errs.E(op, errs.Busy, textGateWait, nil)}
		case <-ctx.Done():
			g.leave(j, c, true)
			select {
			case o := <-c:
				g.release(o)
			default:
			}
			return outcome{err: errs.E(op, errs.Canceled, "", ctx.Err())}
		}
	}
}

// room says whether one more of this network may wait, and makes room when the
// queue is full at the cost of the network that waits most.
func (g *gate) room(network string) bool {
	if g.running < g.slots && g.waiting == 0 {
		return true
	}
	if network != "" && g.turns[network] >= g.perTurn {
		return false
	}
	if g.waiting < g.max {
		return true
	}
	longest, n := "", 0
	for k, v := range g.turns {
		if v > n {
			longest, n = k, v
		}
	}
	if n <= g.turns[network]+1 {
		return false
	}
	for class := int(numWaits) - 1; class >= 0; class-- {
		if j := g.classes[class].last(longest); j != nil {
			g.remove(j)
			g.finish(j, outcome{err: errs.E("account.gate", errs.Busy, textGateFull, nil)})
			return true
		}
	}
	return false
}

func (g *gate) push(j *job) {
	g.classes[j.class].push(j)
	g.waiting++
	g.turns[j.network]++
}

// remove takes a waiting job out of the queue.
func (g *gate) remove(j *job) {
	g.classes[j.class].remove(j)
	g.waiting--
	if g.turns[j.network]--; g.turns[j.network] == 0 {
		delete(g.turns, j.network)
	}
}

// dispatch starts jobs while slots are free.
func (g *gate) dispatch() {
	for g.running < g.slots {
		var j *job
		for class := range g.classes {
			if j = g.classes[class].next(); j != nil {
				break
			}
		}
		if j == nil {
			return
		}
		g.remove(j)
		j.started = true
		g.running++
		g.done.Go(func() {
			o := j.run()
			g.mu.Lock()
			defer g.mu.Unlock()
			g.running--
			g.finish(j, o)
			g.dispatch()
		})
	}
}

// finish hands the outcome to everybody who still waits for it, and gives the run's own
// reference back before: a key is as long in use as its sessions, and not a moment longer.
func (g *gate) finish(j *job, o outcome) {
	delete(g.jobs, j.key)
	for range j.waiters {
		g.retain(o)
	}
	g.release(o)
	for c := range j.waiters {
		c <- o // capacity 1, sent to once
	}
	j.waiters = nil
}

// leave takes a caller out of a job. The last one takes a waiting job along. A
// job that runs is left only when force is set. It reports whether c will get
// nothing more.
func (g *gate) leave(j *job, c chan outcome, force bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, in := j.waiters[c]; !in || j.started && !force {
		return false
	}
	delete(j.waiters, c)
	if len(j.waiters) == 0 && !j.started {
		g.remove(j)
		delete(g.jobs, j.key)
	}
	return true
}

// close refuses what comes, sends away what waits and waits for what runs.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	for class := range g.classes {
		for j := g.classes[class].next(); j != nil; j = g.classes[class].next() {
			g.remove(j)
			g.finish(j, outcome{err: errs.E("account.gate", errs.Unavailable, textClosed, nil)})
		}
	}
	g.mu.Unlock()
	g.done.Wait()
}

// load gives what runs and what waits, for the operator.
func (g *gate) load() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, g.waiting
}
