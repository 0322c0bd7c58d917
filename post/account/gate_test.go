package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
)

// hashing is a run that takes a while and writes down who it was.
type hashing struct {
	mu   sync.Mutex
	log  []string
	now  int
	most int
	took time.Duration
}

func (h *hashing) run(name string) func() outcome {
	return func() outcome {
		h.mu.Lock()
		h.log = append(h.log, name)
		h.now++
		h.most = max(h.most, h.now)
		h.mu.Unlock()
		time.Sleep(h.took) // fake time
		h.mu.Lock()
		h.now--
		h.mu.Unlock()
		return outcome{}
	}
}

func testGate(slots, max, perNetwork int, wait time.Duration) *gate {
	return newGate(slots, max, perNetwork, wait, func(outcome) {}, func(outcome) {})
}

// key makes the key of a test's ticket.
func key(s string) (k jobKey) { copy(k[:], s); return k }

// enter starts a caller and waits until it is in the queue.
func enter(g *gate, wg *sync.WaitGroup, h *hashing, t ticket, got *error) {
	name := fmt.Sprintf("%s/%s", t.network, t.account)
	if t.key == (jobKey{}) {
		t.key = key(fmt.Sprintf("%s %d", name, len(g.jobs)))
	}
	wg.Go(func() {
		o := g.do(context.Background(), t, h.run(name))
		if got != nil {
			*got = o.err
		}
	})
	synctest.Wait()
}

func TestGateTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(1, 100, 100, time.Hour)
		h := &hashing{took: time.Second}
		var wg sync.WaitGroup
		in := func(class waitClass, network, account string) {
			enter(g, &wg, h, ticket{class: class, network: network, account: account}, nil)
		}
		in(waitLogin, "x", "first")
		for _, acc := range []string{"1", "1", "1", "2", "3"} { // one network crowds one account
			in(waitLogin, "x", acc)
		}
		in(waitCreate, "y", "new")
		in(waitLogin, "y", "4")
		in(waitLogin, "z", "5")
		in(waitProven, "z", "own")
		wg.Wait()
		want := []string{"x/first", "z/own", "x/1", "y/4", "z/5", "x/2", "x/3", "x/1", "x/1", "y/new"}
		if !slices.Equal(h.log, want) || h.most != 1 {
			t.Errorf("order %v\nwant  %v, %d at once", h.log, want, h.most)
		}
		if r, w := g.load(); r != 0 || w != 0 || len(g.jobs) != 0 || len(g.turns) != 0 {
			t.Errorf("left over: %d %d %v %v", r, w, g.jobs, g.turns)
		}
	})
}

func TestGateSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(3, 100, 100, time.Hour)
		h := &hashing{took: time.Second}
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range 12 {
			enter(g, &wg, h, ticket{class: waitLogin, network: fmt.Sprint(i)}, nil)
		}
		if r, w := g.load(); r != 3 || w != 9 {
			t.Errorf("%d run, %d wait", r, w)
		}
		wg.Wait()
		if h.most != 3 || time.Since(begin) != 4*time.Second {
			t.Errorf("%d at once, %v in all", h.most, time.Since(begin))
		}
	})
}

func TestGateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(1, 4, 3, time.Hour)
		h := &hashing{took: time.Second}
		var wg sync.WaitGroup
		err := make([]error, 10)
		in := func(i int, network string) {
			enter(g, &wg, h, ticket{class: waitLogin, network: network, account: fmt.Sprint(i)}, &err[i])
		}
		in(0, "run")
		in(1, "x")
		in(2, "x")
		in(3, "x")
		in(4, "x") // one too many of a network
		wantKind(t, err[4], errs.Busy, textGateFull)
		in(5, "y")
		in(6, "z") // the queue is full: the longest network loses its last
		wantKind(t, err[3], errs.Busy, textGateFull)
		in(7, "x") // and may not push out others
		wantKind(t, err[7], errs.Busy, textGateFull)
		in(8, "")
		wantKind(t, err[2], errs.Busy, textGateFull)
		in(9, "w") // all networks wait once: nobody is pushed out
		wantKind(t, err[9], errs.Busy, textGateFull)
		wg.Wait()
		if !slices.Equal(h.log, []string{"run/0", "x/1", "y/5", "z/6", "/8"}) {
			t.Errorf("served %v", h.log)
		}
	})
}

func TestGateWaitsNoLongerThanSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(1, 10, 10, 5*time.Second)
		h := &hashing{took: 12 * time.Second}
		var wg sync.WaitGroup
		var first, second error
		enter(g, &wg, h, ticket{network: "x", account: "1"}, &first)
		enter(g, &wg, h, ticket{network: "x", account: "2"}, &second)
		begin := time.Now()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantKind(t, second, errs.Busy, textGateWait)
		if _, w := g.load(); w != 0 {
			t.Errorf("%d wait", w)
		}
		wg.Wait()
		if first != nil || time.Since(begin) != 12*time.Second {
			t.Errorf("who was served was sent away: %v after %v", first, time.Since(begin))
		}
	})
}

func TestGateCallersGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refs := 0
		var mu sync.Mutex
		g := newGate(1, 10, 10, time.Hour, func(outcome) { mu.Lock(); refs++; mu.Unlock() }, func(outcome) { mu.Lock(); refs--; mu.Unlock() })
		h := &hashing{took: time.Second}
		gone, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		var got [3]error
		enter(g, &wg, h, ticket{network: "x", account: "runs"}, nil)
		for i := range got {
			c := gone
			if i == 2 {
				c = context.Background()
			}
			wg.Go(func() {
				o := g.do(c, ticket{key: key("same"), network: "x", account: "same"}, h.run("same"))
				got[i] = o.err
				if o.err == nil {
					g.release(o)
				}
			})
		}
		wg.Go(func() {
			o := g.do(gone, ticket{key: key("alone"), network: "y", account: "alone"}, h.run("alone"))
			if errs.KindOf(o.err) != errs.Canceled {
				t.Errorf("alone: %v", o.err)
			}
		})
		synctest.Wait()
		if _, w := g.load(); w != 2 {
			t.Errorf("%d wait: equal attempts do not share", w)
		}
		cancel()
		synctest.Wait()
		if _, w := g.load(); w != 1 {
			t.Errorf("%d wait after one was given up by all", w)
		}
		wg.Wait()
		wantKind(t, got[0], errs.Canceled, "")
		wantKind(t, got[1], errs.Canceled, "")
		if got[2] != nil || !slices.Equal(h.log, []string{"x/runs", "same"}) {
			t.Errorf("%v %v", got[2], h.log)
		}
		// enter keeps its reference, each run gives its own back.
		if refs != 1-2 {
			t.Errorf("references are off by %d", refs+1)
		}
	})
}

func TestGateCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(1, 10, 10, time.Hour)
		h := &hashing{took: time.Second}
		var wg sync.WaitGroup
		var runs, waits error
		enter(g, &wg, h, ticket{network: "x", account: "1"}, &runs)
		enter(g, &wg, h, ticket{network: "x", account: "2"}, &waits)
		g.close()
		wg.Wait()
		wantKind(t, waits, errs.Unavailable, textClosed)
		if runs != nil || h.now != 0 {
			t.Errorf("what ran was not awaited: %v", runs)
		}
		wantKind(t, g.do(context.Background(), ticket{}, h.run("late")).err, errs.Unavailable, textClosed)
	})
}

// The same wrong password at once costs one run and counts as one failure.
func TestEqualLoginsShareOneHash(t *testing.T) {
	block := make(chan struct{})
	var mu sync.Mutex
	hashes := 0
	a := office(t, func(o *Options) {
		o.GateSlots = 1
		o.hash = func(f func()) {
			mu.Lock()
			hashes++
			mu.Unlock()
			<-block
			f()
		}
	})
	done := make(chan error)
	go func() { done <- try(a, "alice@example.org", "correct horse", "192.0.2.1") }()
	block <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	const n = 20
	for range n {
		go func() { done <- try(a, "alice@example.org", "wrong horse", "192.0.2.1") }()
	}
	waitFor(t, func() bool {
		a.gate.mu.Lock()
		defer a.gate.mu.Unlock()
		waiters := 0
		for _, j := range a.gate.jobs {
			waiters += len(j.waiters)
		}
		return waiters == n
	})
	block <- struct{}{}
	for range n {
		if err := <-done; errs.KindOf(err) != errs.Auth {
			t.Fatal(err)
		}
	}
	if hashes != 2 {
		t.Errorf("%d hashes", hashes)
	}
	close(block)
	if f, _ := a.slow.fails.Get(a.slow.attempt("192.0.2.1", addr(t, "alice@example.org")).own); f.n != 1 {
		t.Errorf("%d failures counted", f.n)
	}
}

func TestTurnsNeverLoseAJob(t *testing.T) {
	var q turns
	var all []*job
	for i := range 200 {
		j := &job{ticket: ticket{network: fmt.Sprint(i % 7), account: fmt.Sprint(i % 11)}}
		q.push(j)
		all = append(all, j)
	}
	for i, j := range all {
		if i%3 == 0 {
			q.remove(j)
		}
	}
	n := 0
	for j := q.next(); j != nil; j = q.next() {
		q.remove(j)
		n++
	}
	if n != 200-67 || len(q.networks) != 0 || q.ring.Len() != 0 {
		t.Errorf("%d served, %d networks left", n, len(q.networks))
	}
	if q.last("1") != nil {
		t.Error("a job in an empty queue")
	}
}

func TestErrorsOfTheGateAreTemporary(t *testing.T) {
	a := office(t)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := a.Login(canceled, LoginRequest{Name: "alice@example.org", Password: "correct horse", Peer: peer("192.0.2.1")})
	if !errors.Is(err, errs.Canceled) || !errs.KindOf(err).Temporary() {
		t.Errorf("%v", err)
	}
}
