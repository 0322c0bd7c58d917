package forward

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/alias"
)

// fresh is a world whose mailboxes elsewhere have not been asked.
func fresh(t testing.TB, change func(*Options)) *world {
	w := newWorld(t, change)
	for owner, target := range w.reg.targets {
		if err := w.f.save(t.Context(), consentName(owner, target), consent{}, 1); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// get and post ask for a page; the body of the answer and its status.
func (w *world) page(method, path string, form url.Values) (int, string) {
	w.t.Helper()
	r := httptest.NewRequest(method, "/f/"+path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	rec := httptest.NewRecorder()
	w.f.Handler().ServeHTTP(rec, r)
	if csp := rec.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || rec.Header().Get("Referrer-Policy") != "no-referrer" {
		w.t.Error("the page may do what it likes")
	}
	return rec.Code, rec.Body.String()
}

func do(what string) url.Values { return url.Values{"do": {what}} }

func (w *world) state() string {
	w.t.Helper()
	s, err := w.f.State(w.t.Context(), annas)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.State
}

// TestConsent: nothing is sent on before whoever reads the mailbox has said yes on the page; opening it
// says nothing; the answer can be taken back.
func TestConsent(t *testing.T) {
	w := fresh(t, nil)
	if got := w.state(); got != "not-asked" {
		t.Error(got)
	}
	if got := w.forward("shop-1", shop, news); got != replyAsked.String() {
		t.Errorf("before: %s", got)
	}
	if got := w.state(); got != "asked" {
		t.Error(got)
	}
	l := w.one("home.example")
	contains(t, l.raw, []string{"Auto-Submitted: auto-generated", "https://mail.example/f/confirm/"}, "offers", "shop")
	code := "confirm/" + l.code(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if status, text := w.page(method, code, nil); status != 200 || method == http.MethodGet && !strings.Contains(text, "Say yes only if it was you") {
			t.Errorf("%d %s", status, text)
		}
	}
	if got := w.forward("shop-1", shop, news); got != replyAsked.String() {
		t.Errorf("opening the page was enough: %s", got)
	}
	if status, _ := w.page(http.MethodPost, strings.ToUpper(code[:20])+code[20:], do("yes")); status != 404 {
		t.Error("the path is folded") // the code may be, the path not
	}
	for _, c := range []struct{ do, state, forward string }{{"yes", "agreed", "250"}, {"no", "asked", replyAsked.String()}, {"yes", "agreed", "250"}, {"never", "refused", replyUnknown.String()}, {"yes", "agreed", "250"}} {
		if status, text := w.page(http.MethodPost, code, do(c.do)); status != 200 {
			t.Fatalf("%s: %d %s", c.do, status, text)
		}
		if got := w.state(); got != c.state {
			t.Errorf("%s: %s", c.do, got)
		}
		if got := w.forward("shop-1", shop, news); got != c.forward {
			t.Errorf("%s: %s", c.do, got)
		}
	}
	if err := w.f.Ask(t.Context(), annas, ""); errs.KindOf(err) != errs.Exists {
		t.Errorf("asked again: %v", err)
	}
	// Another mailbox has not agreed.
	w.reg.targets[annas] = w.Address("other@home.example")
	if got := w.forward("shop-1", shop, news+"2"); got != replyAsked.String() {
		t.Errorf("after a change of the mailbox: %s", got)
	}
	if status, _ := w.page(http.MethodGet, code, nil); status != 404 {
		t.Error("the old link is good for the new mailbox")
	}
}

// TestPages: what is no link of ours, or no form of ours, is refused and changes nothing.
func TestPages(t *testing.T) {
	w := fresh(t, nil)
	if err := w.f.Ask(t.Context(), annas, "192.0.2.0/24"); err != nil {
		t.Fatal(err)
	}
	code := "confirm/" + w.one("home.example").code(t)
	for _, c := range []struct {
		method, path string
		form         url.Values
		want         int
	}{
		{"GET", "confirm/" + strings.Repeat("a", 26), nil, 404}, {"GET", "confirm/", nil, 404}, {"GET", "", nil, 404}, {"GET", "stop/", nil, 404}, {"GET", "stop/alias.example/re.x", nil, 404},
		{"POST", code, do("maybe"), 400}, {"POST", code, url.Values{}, 400}, {"POST", code, url.Values{"List-Unsubscribe": {"One-Click"}}, 400}, {"PUT", code, do("yes"), 405}, {"GET", code + "?do=yes", nil, 200},
	} {
		if got, text := w.page(c.method, c.path, c.form); got != c.want {
			t.Errorf("%s %s: %d, want %d\n%s", c.method, c.path, got, c.want, text)
		}
	}
	if got := w.state(); got != "asked" {
		t.Error(got)
	}
	w.Clock.Add((DefaultAskDays + 1) * aDay)
	if err := w.book.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.page("POST", code, do("yes")); got != 404 {
		t.Errorf("after its time: %d", got)
	}
}

// TestAskBounds: nobody can be bombed: a mailbox gets one question an hour and three in a month, from
// whomever; one network and all together cause so many; who said never gets none.
func TestAskBounds(t *testing.T) {
	w := fresh(t, func(o *Options) { o.AsksNetwork, o.AsksTotal = 4, 6 })
	ask := func(o alias.Owner, network string) errs.Kind {
		t.Helper()
		if err := w.f.Ask(t.Context(), o, network); err != nil {
			return errs.KindOf(err)
		}
		return 255
	}
	w.reg.targets[berts] = w.reg.targets[annas] // two owners, one victim
	for i, c := range []struct {
		after time.Duration
		owner alias.Owner
		want  errs.Kind
	}{{0, annas, 255}, {0, annas, errs.Busy}, {0, berts, errs.Busy}, {time.Hour, berts, 255}, {2 * time.Hour, annas, 255}, {3 * time.Hour, annas, errs.Busy}, {20 * aDay, annas, errs.Busy}, {11 * aDay, annas, 255}} {
		w.Clock.Add(c.after)
		if got := ask(c.owner, ""); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if n := len(w.sent("home.example")); n != 4 {
		t.Errorf("%d questions", n)
	}
	w.Clock.Add(aDay)
	for i := range 5 {
		w.reg.targets[alias.Owner{9, byte(i)}] = w.Address(fmt.Sprintf("x%d@home.example", i))
		if got := ask(alias.Owner{9, byte(i)}, "192.0.2.0"); (got == 255) != (i < 4) || got != 255 && got != errs.Busy {
			t.Errorf("the %dth of a network: %v", i, got)
		}
	}
	for i := range 3 {
		w.reg.targets[alias.Owner{8, byte(i)}] = w.Address(fmt.Sprintf("y%d@home.example", i))
		if got := ask(alias.Owner{8, byte(i)}, "198.51.100.0"); (got == 255) != (i < 2) || got != 255 && got != errs.Busy {
			t.Errorf("the %dth of all: %v", i, got)
		}
	}
	pages := w.f.o.URL
	w.f.o.URL = func() string { return "" }
	if got := ask(berts, ""); got != errs.Unsupported {
		t.Errorf("without pages: %v", got)
	}
	w.f.o.URL = pages
	if got := ask(alias.Owner{7}, ""); got != errs.NotFound {
		t.Errorf("an owner with a mailbox here: %v", got)
	}
	code := ""
	for _, l := range w.sent("home.example") {
		if l.to == "y0@home.example" {
			code = l.code(t)
		}
	}
	if status, _ := w.page(http.MethodPost, "confirm/"+code, do("never")); status != 200 {
		t.Fatal(status)
	}
	w.Clock.Add(40 * aDay)
	w.reg.targets[alias.Owner{6}] = w.Address("Y0@home.example")
	if got := ask(alias.Owner{6}, ""); got != errs.Denied {
		t.Errorf("who wants none: %v", got)
	}
	if err := w.f.CheckTarget(t.Context(), w.Address("y0@HOME.example")); errs.KindOf(err) != errs.Denied {
		t.Error(err)
	}
}

// TestStop: a link in a mail stops its sender at its alias with one POST of RFC 8058, and opening it
// does not; it can be taken back; others are not stopped.
func TestStop(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Unsubscribe = UnsubscribeBlock })
	if got := w.forward("shop-1", shop, news); got != "250" {
		t.Fatal(got)
	}
	link := strings.Trim(w.one("home.example").h.Get("List-Unsubscribe"), "<>")
	path := strings.TrimPrefix(link, w.f.o.URL())
	if status, text := w.page(http.MethodGet, path, nil); status != 200 || !strings.Contains(text, "news@shop.example") {
		t.Errorf("%d %s", status, text)
	}
	for i, c := range []struct {
		form url.Values
		want string
	}{{nil, "250"}, {url.Values{"List-Unsubscribe": {"One-Click"}}, replyBlocked.String()}, {do("again"), "250"}, {do("stop"), replyBlocked.String()}} {
		if c.form != nil {
			if status, _ := w.page(http.MethodPost, path, c.form); status != 200 {
				t.Errorf("%v: %d", c.form, status)
			}
		}
		if got := w.forward("shop-1", shop, fmt.Sprint(news, i)); got != c.want {
			t.Errorf("%v: %s", c.form, got)
		}
		if got := w.forward("shop-1", "other@shop.example", fmt.Sprint(news, "other", i)); got != "250" {
			t.Errorf("another sender: %s", got)
		}
	}
	if status, _ := w.page(http.MethodPost, path, do("maybe")); status != 400 {
		t.Error(status)
	}
}
