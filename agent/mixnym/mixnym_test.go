package mixnym

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// relay is a list of addresses, and a relay that takes blocks.
type relay struct {
	mu    sync.Mutex
	list  []client.Nym
	used  map[string]int // by label
	fail  error
	part  bool // a feed stops after its first blocks
	fed   map[string][]time.Time
	wait  chan struct{} // nil, or what a feed waits for
	feeds int           // at work
	most  int           // of those at once
}

func (r *relay) List() ([]client.Nym, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]client.Nym(nil), r.list...), nil
}

func (r *relay) Get(label string) (client.Nym, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.list {
		if n.Label == label {
			return n, nil
		}
	}
	n := client.Nym{Label: label, Key: bytes.Repeat([]byte{byte(len(r.list) + 1)}, 32), Made: time.Now(), Minute: 100 + 10*len(r.list)}
	r.list = append(r.list, n)
	return n, nil
}

func (r *relay) Forget(label string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, n := range r.list {
		if n.Label == label {
			r.list = append(r.list[:i:i], r.list[i+1:]...)
			return nil
		}
	}
	return errs.E("test", errs.NotFound, "no such address", nil)
}

func (r *relay) Came(string, string) error { return nil }

func (r *relay) Thread(string) ([]string, error) { return nil, nil }

func (r *relay) Left() (map[string]int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := map[string]int{}
	for i := range r.list {
		m[r.list[i].Name()] = max(0, r.list[i].Blocks-r.used[r.list[i].Label])
	}
	return m, nil
}

func (r *relay) Feed(ctx context.Context, label string, more func()) (client.Nym, error) {
	r.mu.Lock()
	r.feeds++
	r.most = max(r.most, r.feeds)
	wait := r.wait
	r.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.feeds--
	r.fed[label] = append(r.fed[label], time.Now())
	for i := range r.list {
		n := &r.list[i]
		if n.Label != label {
			continue
		}
		if r.fail != nil {
			return *n, r.fail
		}
		r.used[label], n.Until = 0, time.Now().Truncate(time.Hour).Add(client.BlockLife)
		if r.part {
			n.Blocks = 4
			more()
			return *n, errors.New("no answer")
		}
		n.Blocks, n.Fed = client.DailyBlocks, time.Now()
		more()
	}
	return client.Nym{}, nil
}

// times are the moments at which an address was fed since the last call, from the begin on.
func (r *relay) times(label string, begin time.Time) (out []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.fed[label] {
		out = append(out, t.Sub(begin))
	}
	r.fed[label] = nil
	return out
}

// world is a desk that runs in a bubble of time.
type world struct {
	*Desk
	r       *relay
	begin   time.Time
	offline bool
	changed int
	stop    func()
}

func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{r: &relay{fed: map[string][]time.Time{}, used: map[string]int{}}, begin: time.Now()}
		w.run()
		f(t, w)
		w.stop()
	})
}

// every is between two looks.
const every = 5 * time.Minute

// run starts a desk with what is on the disk.
func (w *world) run() {
	w.set(func(*relay) {}) // what came before is seen by all that begins now
	w.Desk = New(Options{Nyms: w.r, Domain: "one.example", Every: every, Rand: rand.NewChaCha8([32]byte{1}), Online: func() bool { w.r.mu.Lock(); defer w.r.mu.Unlock(); return !w.offline },
		Changed: func() { w.changed++ }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
	synctest.Wait()
}

// set changes what the relay does.
func (w *world) set(f func(r *relay)) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	f(w.r)
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

// TestDaily: a new address is fed at once, then at its own minute of the day, whatever is used of it above
// the low mark; and another one at another minute.
func TestDaily(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, err := w.Get("Fox [x]")
		must(t, err)
		if name, ok := w.Find(a); !ok || name != "Fox x" || a.Domain != "one.example" {
			t.Errorf("%v %q %v", a, name, ok)
		}
		_, err = w.Get("owl")
		must(t, err)
		pass(time.Minute)
		if f, o := w.r.times("Fox x", w.begin), w.r.times("owl", w.begin); len(f) != 1 || len(o) != 1 || f[0] != 0 {
			t.Fatalf("%v %v", f, o)
		}
		w.set(func(r *relay) { r.used["owl"] = client.DailyBlocks - LowBlocks })
		pass(72 * time.Hour)
		for label, minute := range map[string]int{"Fox x": 100, "owl": 110} {
			got := w.r.times(label, w.begin.UTC().Truncate(24*time.Hour))
			if len(got) != 3 {
				t.Errorf("%s: %v", label, got)
			}
			for _, at := range got {
				if late := at%(24*time.Hour) - time.Duration(minute)*time.Minute; late < 0 || late > every {
					t.Errorf("%s is fed at %v", label, at)
				}
			}
		}
	})
}

// TestLow: a stock that gets low is filled at a moment that is drawn, not at once, and not more often than
// every two hours, whoever empties it.
func TestLow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, err := w.Get("fox")
		must(t, err)
		pass(5 * time.Hour)
		w.r.times("fox", w.begin)
		began := time.Now()
		moments := map[time.Duration]bool{}
		for range 30 * 6 {
			w.set(func(r *relay) { r.used["fox"] = client.DailyBlocks - LowBlocks + 1 })
			pass(10 * time.Minute)
		}
		all := w.r.times("fox", began)
		if len(all) < 8 || len(all) > 15 {
			t.Errorf("%d times in 30 hours", len(all))
		}
		for i, at := range all {
			if i > 0 {
				if d := at - all[i-1]; d < lowRest && d > time.Minute {
					// but for the daily one, which is at its own minute
					if m := began.Add(at).UTC().Truncate(time.Minute); m.Hour()*60+m.Minute() != 100 {
						t.Errorf("%v after the one before", d)
					}
				}
				moments[all[i]-all[i-1]] = true
			}
		}
		if len(moments) < 3 {
			t.Errorf("the moments are not drawn: %v", all)
		}
	})
}

// TestMissed: moments at which the machine was off, or there was no line, are made up for, each at a moment
// of its own, so that addresses of one user are not fed together.
func TestMissed(t *testing.T) {
	for _, how := range []string{"off", "no line"} {
		bubble(t, func(t *testing.T, w *world) {
			for i := range 8 {
				_, err := w.Get(fmt.Sprint(i))
				must(t, err)
			}
			pass(time.Hour)
			for i := range 8 {
				w.r.times(fmt.Sprint(i), w.begin)
			}
			if how == "off" {
				w.stop()
				pass(26 * time.Hour)
				w.run()
			} else {
				w.set(func(*relay) { w.offline = true })
				pass(26 * time.Hour)
				w.set(func(*relay) { w.offline = false })
			}
			began := time.Now()
			pass(spread + time.Minute)
			moments := map[time.Duration]bool{}
			for i := range 8 {
				got := w.r.times(fmt.Sprint(i), began)
				if len(got) != 1 || got[0] < 0 {
					t.Fatalf("%s: address %d was fed at %v", how, i, got)
				}
				moments[got[0].Truncate(time.Minute)] = true
			}
			if len(moments) < 3 {
				t.Errorf("%s: they are fed together: %v", how, moments)
			}
		})
	}
}

// TestReady: mail may leave when the address has the blocks that it needs, for long enough; who waits has
// it fed at once, and hears why it waits.
func TestReady(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		if err := w.Ready("fox", 1); errs.KindOf(err) != errs.NotFound {
			t.Error(err)
		}
		w.set(func(r *relay) { r.wait = make(chan struct{}) })
		_, err := w.Get("fox")
		must(t, err)
		synctest.Wait()
		refused := func(blocks int, words string) {
			t.Helper()
			if err := w.Ready("fox", blocks); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.Public(err), words) {
				t.Errorf("%v, want %q", err, words)
			}
		}
		refused(1, "is being fed with reply blocks")
		w.set(func(r *relay) { r.part = true })
		w.set(func(r *relay) { close(r.wait) })
		pass(time.Second)
		w.set(func(*relay) {
			if w.changed != 1 {
				t.Errorf("%d words that there are more blocks", w.changed)
			}
		})
		must(t, w.Ready("fox", 4)) // also when the feed is not complete
		refused(5, "")
		w.set(func(r *relay) { r.part = false })
		pass(2 * every)
		must(t, w.Ready("fox", client.DailyBlocks+100)) // no address has more
		pass(24 * time.Hour)
		must(t, w.Ready("fox", 1))
		w.r.times("fox", w.begin)
		w.set(func(r *relay) { r.used["fox"] = client.DailyBlocks })
		began := time.Now()
		refused(1, "is being fed")
		pass(time.Second)
		must(t, w.Ready("fox", 1))
		if got := w.r.times("fox", began); len(got) != 1 || got[0] > time.Second {
			t.Errorf("%v", got)
		}
		// Whatever the relay says, waiting mail asks again after a pause only.
		w.set(func(r *relay) { r.used["fox"] = client.DailyBlocks })
		refused(1, "is being fed")
		pass(wantedRest - time.Minute)
		refused(1, "is being fed")
		pass(time.Minute + every)
		must(t, w.Ready("fox", 1))
		must(t, w.Forget("fox"))
		if err := w.Ready("fox", 1); errs.KindOf(err) != errs.NotFound {
			t.Error(err)
		}
		if err := w.Forget("fox"); errs.KindOf(err) != errs.NotFound {
			t.Error(err)
		}
	})
}

// TestRefused: what the relay says is told, and it is asked less and less often.
func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(func(r *relay) {
			r.fail = errs.E("test", errs.Unsupported, "the relay of this account has no reply addresses", nil)
		})
		if w.Refused() != nil {
			t.Error("before it was asked")
		}
		_, err := w.Get("fox")
		must(t, err)
		pass(time.Second)
		if err := w.Ready("fox", 1); errs.KindOf(err) != errs.Unsupported || !strings.Contains(errs.Public(err), "has no reply addresses") {
			t.Error(err)
		}
		if errs.KindOf(w.Refused()) != errs.Unsupported {
			t.Error("it is not known")
		}
		states, err := w.States()
		must(t, err)
		if len(states) != 1 || states[0].Err == nil || states[0].Label != "fox" || !states[0].Until.IsZero() || !states[0].Due.After(time.Now()) {
			t.Errorf("%+v", states)
		}
		w.set(func(r *relay) { r.fail = errs.E("test", errs.Busy, "the relay takes no reply blocks now", nil) })
		pass(24 * time.Hour)
		if n := len(w.r.times("fox", w.begin)); n < 20 || n > 40 {
			t.Errorf("%d tries in a day", n)
		}
		if err := w.Ready("fox", 1); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.Public(err), "takes no reply blocks now") {
			t.Error(err)
		}
		if w.Refused() != nil {
			t.Error("what the relay said before is kept")
		}
		w.set(func(r *relay) { r.fail = nil })
		pass(2 * time.Hour)
		must(t, w.Ready("fox", 1))
	})
}

// TestBounds: four addresses at once are fed; a feed that gets no further ends.
func TestBounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(func(r *relay) { r.wait = make(chan struct{}) })
		for i := range 6 {
			_, err := w.Get(fmt.Sprint(i))
			must(t, err)
		}
		pass(time.Minute)
		w.set(func(r *relay) {
			if r.feeds != atOnce {
				t.Errorf("%d at once", r.feeds)
			}
		})
		pass(feedTime + time.Minute)
		if n := len(w.r.times("0", w.begin)); n != 1 {
			t.Errorf("a feed does not end: %d", n)
		}
		w.set(func(r *relay) { close(r.wait) })
		pass(time.Minute)
		w.set(func(r *relay) {
			if r.most != atOnce {
				t.Errorf("%d at once", r.most)
			}
		})
	})
}

// TestFind: only the account's own addresses are its.
func TestFind(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, err := w.Get("")
		must(t, err)
		if name, ok := w.Find(mail.Address{Local: strings.ToUpper(a.Local), Domain: "ONE.example"}); !ok || name != "" {
			t.Error("its own address is not found")
		}
		for _, other := range []mail.Address{{Local: a.Local, Domain: "two.example"}, {Local: "reply." + strings.Repeat("a", 26), Domain: "one.example"}, {Local: "anna", Domain: "one.example"}} {
			if _, ok := w.Find(other); ok {
				t.Errorf("%v is taken", other)
			}
		}
	})
}
