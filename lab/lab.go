package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Lab is one that runs.
type Lab struct {
	c     Config
	plan  *plan
	say   func(string)
	spawn *spawner
	lock  io.Closer

	members []*member // in the order in which they were started
	info    Info
	broken  chan error
	kills   atomic.Int64
	wg      sync.WaitGroup
	cancel  context.CancelFunc // ends what runs beside the members
	once    sync.Once
	stopErr error
}

// Start sets a lab up, or continues the one in the directory, and returns when everything in it
// is ready: the network has agreed, and proxies are connected. say (nil: nobody) hears of each step.
// ctx ends the start, not the lab.
//
// errs.Exists when another lab holds the directory; errs.Invalid for a Config out of bounds, or
// one that the lab in the directory is not; errs.Denied for a directory with something else in
// it; errs.Canceled when ctx ends; errs.Unavailable, with the end of a log in the public text,
// when a part does not start.
func Start(ctx context.Context, c Config, say func(string)) (*Lab, error) {
	const op = "lab.Start"
	asked := c
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	if say == nil {
		say = func(string) {}
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, errs.E(op, errs.Invalid, "the directory has no path", err)
	}
	if err := usable(c.Dir, asked); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o700); err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot make the directory "+c.Dir, err)
	}
	lock, err := daemon.Hold(vfs.OS(), c.Dir, time.Now())
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	run, cancel := context.WithCancel(context.Background())
	l := &Lab{c: c, say: say, spawn: newSpawner(), lock: lock, broken: make(chan error, 1), cancel: cancel}
	if err := l.begin(ctx, run); err != nil {
		_ = l.Close() // why it could not start is what matters
		if ctx.Err() != nil {
			return nil, errs.E(op, errs.Canceled, "stopped before the lab was ready; the same directory continues", err)
		}
		return nil, errs.Wrap(op, err)
	}
	return l, nil
}

// begin does all of Start that Close undoes.
func (l *Lab) begin(ctx, run context.Context) (err error) {
	if l.plan, err = loadPlan(l.c.Dir); errs.KindOf(err) == errs.NotFound {
		if l.plan, err = newPlan(l.c); err == nil {
			err = l.plan.save(l.c.Dir)
		}
	}
	if err != nil {
		return err
	}
	l.info = Info{Dir: l.c.Dir, Network: l.path("network"), CA: l.path("ca.pem"), Speed: l.c.Speed, Profile: l.c.Profile, Period: l.plan.Period.String()}
	steps := []func(context.Context) error{l.setUp, l.startWorld, l.startTor, l.startNetwork, l.startRelays, l.agree, l.startProxies}
	for _, step := range steps {
		if err := l.step(ctx, step); err != nil {
			return err
		}
	}
	if !l.plan.Made {
		l.plan.Made = true
		if err := l.plan.save(l.c.Dir); err != nil {
			return err
		}
	}
	l.info.Ready = true
	return l.accompany(run)
}

// step runs one step, and gives up when a member ends meanwhile.
func (l *Lab) step(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-l.broken:
		cancel(err)
		<-done
		return err
	}
}

// accompany starts what runs beside the members, until run ends.
func (l *Lab) accompany(run context.Context) error {
	if err := l.servePage(run); err != nil {
		return err
	}
	if l.c.Kill {
		l.wg.Go(func() { l.disturb(run) })
	}
	return nil
}

// Info tells where everything is.
func (l *Lab) Info() Info { return l.info }

// Broken gives the reason when a part has ended that should not have, or could not be started
// again: the lab should then be closed.
func (l *Lab) Broken() <-chan error { return l.broken }

// Close stops all parts cleanly, at the same time, and waits until they have ended: about 25 seconds
// at most. What they keep stays in the directory. The error names parts that had to be killed.
func (l *Lab) Close() error {
	l.once.Do(func() {
		l.cancel()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, m := range l.members {
			wg.Go(func() {
				if err := m.stop(); err != nil {
					mu.Lock()
					l.stopErr = errors.Join(l.stopErr, err)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		l.wg.Wait()
		l.spawn.close()
		l.lock.Close()
	})
	return l.stopErr
}

// path is a file in the lab's directory.
func (l *Lab) path(elem ...string) string {
	return filepath.Join(append([]string{l.c.Dir}, elem...)...)
}

// add makes a member.
func (l *Lab) add(kind string, i int, info any) *member {
	name := memberName(kind, i)
	m := &member{name: name, kind: kind, dir: l.path(name, "data"), log: l.logFile(name), info: info, lab: l}
	l.members = append(l.members, m)
	return m
}

// of gives the members of a kind.
func (l *Lab) of(kind string) (all []*member) {
	for _, m := range l.members {
		if m.kind == kind {
			all = append(all, m)
		}
	}
	return all
}

// startAll starts members beside each other, as far as the machine has cores.
func (l *Lab) startAll(ctx context.Context, all []*member) error {
	return each(len(all), func(i int) error { return all[i].start(ctx) })
}

// parallel bounds what is set up and started at one time.
const parallel = 4

// each runs f for 0 to n-1, some at a time, and gives the first error.
func each(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	failed := make([]error, n)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			failed[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// poll calls f every tick until it says that all is well, and says what was waited for when ctx
// ends or limit is over.
func poll(ctx context.Context, limit time.Duration, what string, f func() bool) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			return errs.E("lab.poll", errs.Canceled, "", context.Cause(ctx))
		case <-deadline.C:
			return errs.E("lab.poll", errs.Unavailable, "waited in vain for "+limit.String()+": "+what, nil)
		case <-tick.C:
		}
	}
	return nil
}

// pollEvery is how often a member is asked how it does while something is waited for.
const pollEvery = 200 * time.Millisecond
