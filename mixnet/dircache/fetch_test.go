package dircache

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

// After the start the consensus is fetched at once, and each later one before its epoch; the
// change is told when the epoch begins, not when the next one comes in.
func TestNextIsFetchedInTime(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var asked []time.Time
			var changed []uint64
			c := w.cache(from(noted(w.authority(), func(at time.Time, r *directory.Request) {
				if r.Kind == directory.RequestConsensus {
					asked = append(asked, at)
				}
			})), func(o *Options) {
				o.Early = early
				o.Changed = func(cur *directory.Consensus) {
					if at := time.Now(); !at.Equal(cur.ValidAfter()) {
						t.Errorf("epoch %d is used from %s on", cur.Epoch, minutes(at))
					}
					changed = append(changed, cur.Epoch)
				}
			})
			if _, err := c.Current(); errs.Public(err) != "no consensus of the network is known yet" {
				t.Error(err)
			}
			defer run(c)()
			synctest.Wait()
			for hour := range uint64(24) {
				cur, err := c.Current()
				must(t, err)
				if cur.Epoch != hour0+hour {
					t.Fatalf("at the begin of epoch %d that of epoch %d is used", hour0+hour, cur.Epoch)
				}
				if c.Next() != nil {
					t.Errorf("the next is here before it was made")
				}
				time.Sleep(59 * time.Minute)
				if n := c.Next(); n == nil || n.Epoch != hour0+hour+1 || c.Newest() != n {
					t.Errorf("the next is not here")
				}
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if len(changed) != 25 || len(asked) != 25 {
				t.Errorf("%d changes, %d requests in 24 hours", len(changed), len(asked))
			}
			lo, hi := 45*time.Minute, 52*time.Minute+30*time.Second
			if early {
				lo, hi = 37*time.Minute+30*time.Second, 45*time.Minute
			}
			if !asked[0].Equal(bubble) {
				t.Errorf("first asked at %v", asked[0])
			}
			for _, at := range asked[1:] {
				if m := at.Sub(at.Truncate(time.Hour)); m < lo || m >= hi {
					t.Errorf("asked at %s", minutes(at))
				}
			}
			if f := c.entries(); len(f) > maxKept {
				t.Errorf("%d consensuses are held", len(f))
			}
		})
	}
}

// Many caches do not ask at the same time: the moments are uniform over their third, and no
// two thirds meet.
func TestFetchesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		var asked []time.Time
		src := noted(w.authority(), func(at time.Time, r *directory.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.Kind == directory.RequestConsensus && at.After(bubble.Add(time.Hour)) {
				asked = append(asked, at)
			}
		})
		const clients = 400
		for range clients {
			defer run(w.cache(from(src)))()
		}
		time.Sleep(2*time.Hour + 30*time.Minute)
		synctest.Wait()
		if len(asked) != clients {
			t.Fatalf("%d requests of %d clients", len(asked), clients)
		}
		// Kolmogorov and Smirnov: at 400 samples the distance stays below 0.098 in 999 of 1000 runs.
		slices.SortFunc(asked, time.Time.Compare)
		worst := 0.0
		for i, at := range asked {
			x := at.Sub(bubble.Add(time.Hour+45*time.Minute)).Seconds() / 450
			if x < 0 || x >= 1 {
				t.Fatalf("asked at %s", minutes(at))
			}
			worst = max(worst, math.Abs(x-float64(i)/clients), math.Abs(x-float64(i+1)/clients))
		}
		if worst > 0.115 {
			t.Errorf("the moments are not uniform: distance %.3f", worst)
		}
		t.Logf("distance from uniform %.3f", worst)
	})
}

// When the authorities fail for two epochs everybody goes on with what is here, nobody hears
// of a change, and tries are few and spread; there is no storm at the begin of an epoch nor
// when the authorities are back.
func TestLateConsensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		var asked []time.Time
		honest := w.authority()
		away := func(at time.Time) bool {
			return at.After(bubble.Add(30*time.Minute)) && at.Before(bubble.Add(2*time.Hour+37*time.Minute))
		}
		src := source(func(ctx context.Context, r *directory.Request) ([]byte, error) {
			at := time.Now()
			if r.Kind == directory.RequestConsensus {
				mu.Lock()
				asked = append(asked, at)
				mu.Unlock()
			}
			if away(at) {
				return nil, errNone
			}
			return honest(ctx, r)
		})
		const clients = 200
		var all []*Cache
		changes := 0
		for range clients {
			c := w.cache(from(src), func(o *Options) {
				o.Changed = func(*directory.Consensus) {
					mu.Lock()
					defer mu.Unlock()
					if at := time.Now(); away(at) {
						changes++
					}
				}
			})
			all = append(all, c)
			defer run(c)()
		}
		for range 5 {
			time.Sleep(30*time.Minute + 30*time.Second)
			for _, c := range all {
				cur, err := c.Current()
				must(t, err)
				if cur.Epoch != hour0 {
					t.Fatalf("epoch %d is used", cur.Epoch)
				}
			}
		}
		if changes > 0 {
			t.Errorf("%d changes while the authorities were away", changes)
		}
		time.Sleep(time.Until(bubble.Add(3*time.Hour + time.Minute)))
		for _, c := range all {
			if cur, err := c.Current(); err != nil || cur.Epoch != hour0+3 {
				t.Errorf("back again another consensus is used: %v", err)
			}
		}
		// Requests a minute: one try is two requests, when the consensus of the epoch is missing.
		count := map[int]int{} // since the begin
		for _, at := range asked[clients:] {
			count[int(at.Sub(bubble)/time.Minute)]++
		}
		most, total := 0, 0
		for _, n := range count {
			total += n
			most = max(most, n)
		}
		mean := total / (172 - 45)
		t.Logf("%d requests of %d clients, about %d a minute, at most %d", total, clients, mean, most)
		for m, n := range count {
			if n > 3*mean || m%60 < 2 && n > 2*mean {
				t.Errorf("%d requests within minute %d, where %d are usual", n, m, mean)
			}
		}
		if total > clients*45 {
			t.Errorf("%d requests in two and a half hours without authorities", total)
		}
	})
}

// Without any consensus tries begin close together and become rare.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var asked []time.Time
		c := w.cache(from(noted(source(down), func(at time.Time, _ *directory.Request) { asked = append(asked, at) })))
		defer run(c)()
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if !asked[0].Equal(bubble) || asked[1].Sub(asked[0]) > 3*time.Second {
			t.Errorf("the first tries at %v and %v", asked[0], asked[1])
		}
		var pauses []time.Duration
		for i := range asked[1:] {
			pauses = append(pauses, asked[i+1].Sub(asked[i]))
		}
		for i, p := range pauses {
			want := min(minUrgentPause<<min(i, 20), maxUrgentPause)
			if p < want/2 || p > want*3/2 {
				t.Errorf("pause %d is %s, and not about %s", i, p, want)
			}
		}
		last := pauses[len(pauses)-20:]
		if slices.Max(last)-slices.Min(last) < maxUrgentPause/10 {
			t.Errorf("pauses without jitter: %v", last)
		}
		if len(asked) > 110 {
			t.Errorf("%d tries in six hours", len(asked))
		}
	})
}

// One source after the other is tried; who is silent, down or lies does no harm.
func TestSourcesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stranger := dirtest.New(t, "other.net", time.Hour, 1)
		text := func(b []byte) source {
			return func(_ context.Context, r *directory.Request) ([]byte, error) {
				if r.Kind != directory.RequestConsensus {
					return nil, errNone
				}
				return b, nil
			}
		}
		few, err := w.of(hour0).WithSignatures(nil)
		must(t, err)
		var mu sync.Mutex
		used := map[string]int{}
		count := func(name string, s Source) Source {
			return noted(s, func(_ time.Time, r *directory.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Kind == directory.RequestConsensus {
					used[name]++
				}
			})
		}
		c := w.cache(from(
			count("silent", source(silent)),
			count("silent too", source(silent)),
			count("down", source(down)),
			count("none", source(func(context.Context, *directory.Request) ([]byte, error) { return nil, errNone })),
			count("noise", text([]byte("no consensus"))),
			count("not signed", text(few.Bytes())),
			count("another network", text(stranger.Agree(t, hour0, nil).Bytes())),
			count("packed wrongly", text([]byte("postern-packed 1\nsize 7\nx"))),
			count("honest", w.authority()),
			count("idle", w.authority()),
		))
		defer run(c)()
		begun := time.Now()
		for {
			time.Sleep(time.Second)
			synctest.Wait()
			if cur, err := c.Current(); err == nil {
				if cur.Hash() != w.of(hour0).Hash() {
					t.Error("another consensus was taken")
				}
				break
			}
			if time.Since(begun) > time.Hour {
				t.Fatal("no consensus after an hour")
			}
		}
		// Two that are silent cost a head start each.
		if took := time.Since(begun); took > 3*time.Hour/headStart+time.Second {
			t.Errorf("it took %s", took)
		}
		mu.Lock()
		defer mu.Unlock()
		if used["idle"] != 0 || used["honest"] != 1 || used["none"] != 2 {
			t.Errorf("asked: %v", used)
		}
	})
}

// At most two sources are asked at the same time, however many are silent, and all of them in
// turn.
func TestRaceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		var order []int
		list := make([]Source, maxSources)
		byIndex := map[Source]int{}
		for i := range list {
			s := &numbered{i}
			list[i], byIndex[s] = s, i
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := race(ctx, list, time.Minute, func(ctx context.Context, s Source) error {
			mu.Lock()
			now++
			most = max(most, now)
			order = append(order, byIndex[s])
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			now--
			mu.Unlock()
			return ctx.Err()
		})
		if err == nil || most != atOnce || now != 0 {
			t.Errorf("%v, %d at once, %d left", err, most, now)
		}
		if len(order) != maxSources || !slices.IsSorted(order) {
			t.Errorf("order %v", order)
		}
		if _, err := race(ctx, nil, time.Minute, nil); errs.KindOf(err) != errs.Unavailable {
			t.Error(err)
		}
	})
}

type numbered struct{ int }

func (*numbered) Fetch(context.Context, []byte) ([]byte, error) { return nil, errNone }

// A cache that was asleep, or whose clock was set, looks at it within a sixteenth of a period.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		var offset time.Duration
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(offset)
		}
		var heard []uint64
		src := source(func(_ context.Context, r *directory.Request) ([]byte, error) {
			epoch := r.Epoch
			if epoch == 0 {
				epoch = w.Network.Epoch(now())
			}
			if r.Kind != directory.RequestConsensus || now().Before(w.Network.Published(epoch)) {
				return nil, errNone
			}
			return w.of(epoch).Bytes(), nil
		})
		c := w.cache(from(src), func(o *Options) {
			o.Now = now
			o.Changed = func(cur *directory.Consensus) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, cur.Epoch)
			}
		})
		defer run(c)()
		time.Sleep(10 * time.Minute)
		mu.Lock()
		offset = 10 * time.Hour
		mu.Unlock()
		if _, err := c.Current(); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("what is eight hours too old is used: %v", err)
		}
		time.Sleep(time.Hour/look + time.Second)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(heard, []uint64{hour0, hour0 + 10}) {
			t.Errorf("heard of %v", heard)
		}
	})
}

// Who starts late in an epoch still has the next one in time; who comes back with one that is
// valid but old gets the present one soon.
func TestStartAtAnyTime(t *testing.T) {
	for _, minute := range []time.Duration{1, 30, 40, 46, 53, 58} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			time.Sleep(minute * time.Minute)
			c := w.cache(from(w.authority()))
			must(t, c.Put(w.of(hour0-1).Bytes()))
			defer run(c)()
			time.Sleep(time.Hour/soon + time.Second)
			if cur, err := c.Current(); err != nil || cur.Epoch < hour0 {
				t.Errorf("started at minute %d: %v", minute, err)
			}
			time.Sleep(time.Until(bubble.Add(time.Hour + 2*time.Hour/soon)))
			if cur, err := c.Current(); err != nil || cur.Epoch != hour0+1 {
				t.Errorf("started at minute %d, an epoch later: %v", minute, err)
			}
		})
	}
}

// From one consensus to the next only the difference is asked for; where it cannot be read,
// all of it.
func TestDifferenceIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		relay := w.cache()
		must(t, relay.Put(w.of(hour0).Bytes()))
		broken := false
		var sizes []int
		var asked []*directory.Request
		src := source(func(_ context.Context, r *directory.Request) ([]byte, error) {
			asked = append(asked, r)
			b, err := directory.AppendRequest(nil, *r)
			must(t, err)
			if b, err = relay.Answer(b); err != nil {
				return nil, err
			}
			if r.Kind == directory.RequestConsensus {
				sizes = append(sizes, len(b))
			}
			if broken && r.From != (directory.Hash{}) {
				b = b[:len(b)-1]
			}
			return b, nil
		})
		c := w.cache(from(src))
		defer run(c)()
		synctest.Wait()
		for hour := uint64(1); hour <= 2; hour++ {
			time.Sleep(40 * time.Minute)
			must(t, relay.Put(w.of(hour0+hour).Bytes()))
			time.Sleep(20 * time.Minute)
			synctest.Wait()
			cur, err := c.Current()
			must(t, err)
			if cur.Hash() != w.of(hour0+hour).Hash() {
				t.Error("another consensus came")
			}
			broken = true
		}
		if len(asked) != 4 || asked[0].From != (directory.Hash{}) || asked[1].From != w.of(hour0).Hash() || asked[2].From != w.of(hour0+1).Hash() || asked[3].From != (directory.Hash{}) {
			t.Errorf("%d requests", len(asked))
		}
		if len(sizes) != 4 || sizes[1] >= sizes[0] {
			t.Errorf("sizes %v", sizes)
		}
	})
}

// A relay that sends a whole consensus slowly, a frame at a time, is given the time; the
// present one is used until then, and later there are differences.
func TestSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		honest := w.authority()
		var asked atomic.Int32
		c := w.cache(from(source(func(ctx context.Context, r *directory.Request) ([]byte, error) {
			b, err := honest(ctx, r)
			if asked.Add(1) == 1 {
				select {
				case <-time.After(2 * time.Hour):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return b, err
		})))
		must(t, c.Put(w.of(hour0-1).Bytes()))
		defer run(c)()
		time.Sleep(time.Hour + 59*time.Minute)
		if cur, err := c.Current(); err != nil || cur.Epoch != hour0-1 || asked.Load() != 1 {
			t.Errorf("two hours later: %v, asked %d times", err, asked.Load())
		}
		time.Sleep(10 * time.Minute)
		if cur, err := c.Current(); err != nil || cur.Epoch != hour0+2 {
			t.Errorf("when it came: %v", err)
		}
	})
}
