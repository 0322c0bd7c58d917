package mtasts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
)

// domain is what a domain shows to the world, and how often it was asked.
type domain struct {
	mu      sync.Mutex
	id      string // "": none is announced
	txtErr  error
	text    string // "": the page cannot be had
	txts    int
	fetches int
	wait    chan struct{} // the page comes only then
}

func (d *domain) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// fetched gives the number of fetches since the last call.
func (d *domain) fetched() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.fetches
	d.fetches = 0
	return n
}

func (d *domain) fetcher() *Fetcher {
	return &Fetcher{
		TXT: func(ctx context.Context, _ string) ([]string, bool, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.txts++
			switch {
			case ctx.Err() != nil:
				return nil, false, errs.E("txt", errs.Canceled, "", ctx.Err())
			case d.txtErr != nil:
				return nil, false, d.txtErr
			case d.id == "":
				return nil, false, errs.E("txt", errs.NotFound, "", nil)
			}
			return []string{"v=STSv1; id=" + d.id}, false, nil
		},
		Client: &http.Client{Transport: web(func(r *http.Request) (*http.Response, error) {
			d.mu.Lock()
			d.fetches++
			text, wait := d.text, d.wait
			d.mu.Unlock()
			if wait != nil {
				select {
				case <-wait:
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			if text == "" {
				return nil, errors.New("connection refused")
			}
			return page(text), nil
		})},
	}
}

func policyText(mode Mode, mx string, age time.Duration) string {
	return Policy{Mode: mode, MX: []string{mx}, MaxAge: age}.Text()
}

const day = 24 * time.Hour

// want checks what a domain's policy is now: its first mx, or an error's kind and text.
func want(t *testing.T, c *Cache, step, mx string, kind errs.Kind, says string) {
	t.Helper()
	p, err := c.Policy(t.Context(), "example.com")
	switch {
	case mx != "" && (err != nil || p.MX[0] != mx):
		t.Errorf("%s: %+v, %v, want %s", step, p, err, mx)
	case mx == "" && (err == nil || errs.KindOf(err) != kind || errs.Public(err) != says):
		t.Errorf("%s: %+v, %v, want %v %q", step, p, err, kind, says)
	}
}

const noPolicy, noPage = "the domain announces no MTA-STS policy", "the MTA-STS policy of the domain could not be fetched"

// TestCache: a policy is fetched once, again when its id changes, and kept to its end
// whatever happens meanwhile.
func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{id: "1", text: policyText(Enforce, "one.example", 10*day)}
		c := NewCache(Options{Fetcher: d.fetcher()})
		fetches := func(step string, n int) {
			t.Helper()
			if got := d.fetched(); got != n {
				t.Errorf("%s: %d fetches, want %d", step, got, n)
			}
		}
		for range 3 {
			want(t, c, "first", "one.example", 0, "")
		}
		if p, err := c.Policy(t.Context(), "EXAMPLE.com"); err != nil || p.Mode != Enforce || p.MaxAge != 10*day {
			t.Errorf("%+v, %v", p, err)
		}
		fetches("first", 1)
		time.Sleep(5 * day)
		d.set(func() { d.id, d.text = "2", policyText(Testing, "two.example", 10*day) })
		for range 2 {
			want(t, c, "another id", "two.example", 0, "")
		}
		fetches("another id", 1)

		time.Sleep(day)
		d.set(func() { d.id, d.text = "3", "" })
		for range 3 {
			want(t, c, "the page is gone", "two.example", 0, "")
		}
		fetches("the page is gone", 1) // not with every mail
		time.Sleep(RetryAfter)
		want(t, c, "a while later", "two.example", 0, "")
		fetches("a while later", 1)
		d.set(func() { d.id, d.text = "4", "<html>" })
		want(t, c, "no policy there", "two.example", 0, "")
		fetches("another id is tried at once", 1)

		for name, change := range map[string]func(){
			"not announced": func() { d.id, d.txtErr = "", nil },
			"malformed":     func() { d.id, d.txtErr = "-", nil },
			"unknown":       func() { d.txtErr = errs.E("txt", errs.Unavailable, "the resolver does not answer", nil) },
		} {
			d.set(change)
			want(t, c, name, "two.example", 0, "")
		}
		d.set(func() { d.id, d.txtErr = "", nil })
		time.Sleep(9*day - RetryAfter - 1)
		want(t, c, "the last moment", "two.example", 0, "")
		time.Sleep(time.Nanosecond)
		want(t, c, "its end", "", errs.NotFound, noPolicy)
		fetches("its end", 0)
		d.set(func() { d.id, d.text = "2", policyText(None, "three.example", day) })
		if p, err := c.Policy(t.Context(), "example.com"); err != nil || p.Mode != None {
			t.Errorf("given up: %+v, %v", p, err)
		}
		fetches("the same id after its end", 1)
		time.Sleep(day)
		want(t, c, "the same id after another end", "three.example", 0, "")
		fetches("the same id after another end", 1)
	})
}

// TestNoPolicy: nothing is known, and nothing can be had.
func TestNoPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{}
		c := NewCache(Options{Fetcher: d.fetcher()})
		want(t, c, "none", "", errs.NotFound, noPolicy)
		d.set(func() { d.id = "-" })
		want(t, c, "malformed", "", errs.Invalid, "the record of the MTA-STS policy has no id")
		d.set(func() { d.txtErr = errs.E("txt", errs.Unavailable, "the resolver does not answer", nil) })
		want(t, c, "unknown", "", errs.Unavailable, "the resolver does not answer")
		d.set(func() { d.id, d.txtErr = "1", nil })
		for range 3 {
			want(t, c, "no page", "", errs.NotFound, noPage)
		}
		if n := d.fetched(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		time.Sleep(RetryAfter)
		d.set(func() { d.text = policyText(Enforce, "one.example", day) })
		want(t, c, "the page came", "one.example", 0, "")

		for _, name := range []string{"", "[192.0.2.1]", "a b", "*.example.com"} {
			before := d.txts
			if _, err := c.Policy(t.Context(), name); errs.KindOf(err) != errs.NotFound || d.txts != before {
				t.Errorf("%q: %v", name, err)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := NewCache(Options{Fetcher: d.fetcher()}).Policy(gone, "example.com"); errs.KindOf(err) != errs.Canceled {
			t.Errorf("given up: %v", err)
		}
	})
}

// TestOneFetch: many mails to one domain fetch its policy once; one that gives up while it
// fetches leaves it to another and is no failure of the page.
func TestOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{id: "1", text: policyText(Enforce, "one.example", day), wait: make(chan struct{})}
		c := NewCache(Options{Fetcher: d.fetcher()})
		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { _, err := c.Policy(leaving, "example.com"); left <- err }()
		synctest.Wait()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { want(t, c, "together", "one.example", 0, "") })
		}
		synctest.Wait()
		leave()
		if err := <-left; errs.KindOf(err) != errs.Canceled {
			t.Errorf("who left got %v", err)
		}
		synctest.Wait()
		close(d.wait)
		all.Wait()
		if n := d.fetched(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

// disk is where Save puts records.
type disk struct {
	records          map[string][]byte
	loadErr, saveErr error
}

func (d *disk) options(f *Fetcher) Options {
	return Options{Fetcher: f,
		Load: func(_ context.Context, domain string) ([]byte, error) {
			if d.loadErr != nil {
				return nil, d.loadErr
			}
			if b, ok := d.records[domain]; ok {
				return b, nil
			}
			return nil, errs.E("load", errs.NotFound, "", nil)
		},
		Save: func(_ context.Context, domain string, record []byte) error {
			if d.saveErr == nil {
				d.records[domain] = record
			}
			return d.saveErr
		}}
}

// TestRestart: a policy is known after a restart, until its end; a disk that fails is
// never a reason to think that there is none.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{id: "1", text: policyText(Enforce, "one.example", 10*day)}
		k := &disk{records: map[string][]byte{}}
		want(t, NewCache(k.options(d.fetcher())), "first", "one.example", 0, "")
		if len(k.records) != 1 || k.records["example.com"] == nil {
			t.Fatalf("saved: %q", k.records)
		}
		d.set(func() { d.id, d.text = "", "" })
		time.Sleep(10*day - time.Second)
		want(t, NewCache(k.options(d.fetcher())), "after a restart", "one.example", 0, "")

		const blind = "it cannot be told whether the domain has an MTA-STS policy"
		broken := errs.E("load", errs.Unavailable, "", nil)
		k.loadErr = broken
		want(t, NewCache(k.options(d.fetcher())), "the disk fails, none announced", "", errs.Unavailable, blind)
		d.set(func() { d.txtErr = errs.E("txt", errs.Unavailable, "the resolver does not answer", nil) })
		want(t, NewCache(k.options(d.fetcher())), "disk and resolver fail", "", errs.Unavailable, blind)
		d.set(func() { d.id, d.txtErr = "2", nil })
		want(t, NewCache(k.options(d.fetcher())), "disk and page fail", "", errs.Unavailable, blind)
		d.set(func() { d.text = policyText(Enforce, "two.example", day) })
		want(t, NewCache(k.options(d.fetcher())), "the disk fails, the page is there", "two.example", 0, "")
		k.loadErr, k.saveErr = nil, broken
		k.records["example.com"] = []byte("damaged")
		want(t, NewCache(k.options(d.fetcher())), "damaged, and not saved", "two.example", 0, "")
		d.set(func() { d.id = "" })
		want(t, NewCache(k.options(d.fetcher())), "damaged, and none announced", "", errs.NotFound, noPolicy)
		d.set(func() { d.id = "2" })
		k.saveErr = nil
		c := NewCache(k.options(d.fetcher()))
		want(t, c, "saved again", "two.example", 0, "")
		d.set(func() { d.id, d.text = "", "" })
		time.Sleep(day)
		want(t, NewCache(k.options(d.fetcher())), "its end", "", errs.NotFound, noPolicy)
	})
}

// TestClockSetBack: a policy that was fetched in what is now the future lives no longer
// than it says.
func TestClockSetBack(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := known{id: "1", policy: Policy{Mode: Enforce, MX: []string{"a.example"}, MaxAge: day}, fetched: now.Add(365 * day)}
	if got := k.until(now); !got.Equal(now.Add(day)) {
		t.Errorf("%v", got)
	}
}

// TestRefresh: Run fetches again what is past half of its time, so that a policy that is
// in use does not end; one that cannot be fetched is kept.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{id: "1", text: policyText(Enforce, "one.example", 10*day)}
		k := &disk{records: map[string][]byte{}}
		c := NewCache(k.options(d.fetcher()))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		want(t, c, "first", "one.example", 0, "")
		time.Sleep(5 * day)
		synctest.Wait()
		if n := d.fetched(); n != 1 {
			t.Errorf("%d fetches in the first half", n)
		}
		d.set(func() { d.text = policyText(Enforce, "two.example", 10*day) }) // under the same id
		time.Sleep(2 * RefreshEvery)
		synctest.Wait()
		if n := d.fetched(); n != 1 {
			t.Errorf("%d fetches in the second half", n)
		}
		want(t, c, "refreshed", "two.example", 0, "")
		if ends, err := RecordEnds(k.records["example.com"]); err != nil || time.Until(ends) < 9*day {
			t.Errorf("saved until %v, %v", ends, err)
		}
		d.set(func() { d.text = "" })
		time.Sleep(5*day + RefreshEvery)
		synctest.Wait()
		if n := d.fetched(); n == 0 {
			t.Error("no attempt")
		}
		want(t, c, "cannot be fetched", "two.example", 0, "")
		d.set(func() { d.id = "" })
		time.Sleep(2 * day)
		want(t, c, "not announced", "two.example", 0, "")
		time.Sleep(5 * day)
		want(t, c, "its end", "", errs.NotFound, noPolicy)
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestRefreshBesideMail: a mail that comes while a refresh fails gets the policy.
func TestRefreshBesideMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{id: "1", text: policyText(Enforce, "one.example", 10*day)}
		c := NewCache(Options{Fetcher: d.fetcher()})
		want(t, c, "first", "one.example", 0, "")
		time.Sleep(6 * day)
		d.set(func() { d.text, d.wait = "", make(chan struct{}) })
		var all sync.WaitGroup
		all.Go(func() { c.refresh(t.Context()) })
		synctest.Wait()
		all.Go(func() { want(t, c, "beside", "one.example", 0, "") })
		synctest.Wait()
		close(d.wait)
		all.Wait()
	})
}

// TestCacheIsBounded: in domains, and in what their policies take.
func TestCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{id: "1", text: policyText(Enforce, "one.example", day)}
		c := NewCache(Options{Fetcher: d.fetcher(), MaxEntries: 10})
		for i := range 20 {
			if _, err := c.Policy(t.Context(), fmt.Sprintf("d%d.example", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := c.entries.Len(); n != 10 {
			t.Errorf("%d entries", n)
		}
		c = NewCache(Options{Fetcher: d.fetcher()})
		big := Policy{Mode: Enforce, MaxAge: day}
		for i := range MaxMX {
			big.MX = append(big.MX, fmt.Sprintf("%s%d.example", strings.Repeat("x", 60), i))
		}
		for i := range 2 * MaxBytes / (MaxMX * 70) {
			c.put(fmt.Sprintf("d%d.example", i), &entry{known: known{id: "1", policy: big}})
		}
		if n := c.entries.Bytes(); n > MaxBytes || n < MaxBytes/2 || c.entries.Len() >= 2*MaxBytes/(MaxMX*70) {
			t.Errorf("%d entries of %d bytes", c.entries.Len(), n)
		}
	})
}
