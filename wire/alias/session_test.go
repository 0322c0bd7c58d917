package alias

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
)

// TestSessions: a session lives while it is used, ends after the idle time and at the latest after
// sessionEnd; the longest unused one goes when there are too many.
func TestSessions(t *testing.T) {
	c := clocktest.New(time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))
	s := newSessions(3, 30*time.Minute, c.Now, rand.Reader)
	who := Who{Login: "ann@example.org", Password: "p w", Token: ""}
	a, err := s.begin(who)
	if err != nil {
		t.Fatal(err)
	}
	open := func(value string) bool {
		t.Helper()
		w, mark, ok := s.open(value)
		if ok && (w.Login != who.Login || w.Password != who.Password || len(mark) != 43) {
			t.Errorf("%q %q", w.Login, mark)
		}
		return ok
	}
	for range 20 { // 10 h, never idle for long
		c.Add(30 * time.Minute)
		if !open(a) {
			t.Fatal("it ended while it was used")
		}
	}
	if c.Add(31 * time.Minute); open(a) {
		t.Error("it lives after the idle time")
	}
	if s.len() != 0 {
		t.Error("it is kept")
	}
	b, _ := s.begin(who)
	for range 23 {
		c.Add(30 * time.Minute)
		open(b)
	}
	if c.Add(29 * time.Minute); !open(b) {
		t.Error("it ended before its time")
	}
	if c.Add(2 * time.Minute); open(b) {
		t.Error("it lives for ever")
	}
	var all []string
	for i := range 4 {
		v, _ := s.begin(who)
		all = append(all, v)
		if c.Add(time.Second); i == 0 && s.len() != 1 {
			t.Errorf("%d are kept", s.len())
		}
	}
	if s.len() != 3 || open(all[0]) || !open(all[1]) || !open(all[3]) {
		t.Error("the bound")
	}
	s.end(all[1])
	if s.end("nonsense"); open(all[1]) || !open(all[2]) {
		t.Error("the end")
	}
	if len(a) != 43 || a == b {
		t.Error("the cookies")
	}
}

// TestSessionsOfOne: one login has as many sessions as it may and drives out its own alone; those
// whose time is over are forgotten.
func TestSessionsOfOne(t *testing.T) {
	c := clocktest.New(time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))
	s := newSessions(perLogin+4, 30*time.Minute, c.Now, rand.Reader)
	other, err := s.begin(Who{Login: "bob@example.org", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for i := range 3 * perLogin {
		c.Add(time.Second)
		v, err := s.begin(Who{Login: []string{"ann@example.org", "Ann@Example.org"}[i%2], Password: "x"})
		if err != nil {
			t.Fatal(err)
		}
		mine = append(mine, v)
	}
	if s.len() != perLogin+1 {
		t.Errorf("%d are kept", s.len())
	}
	for i, v := range mine {
		if _, _, ok := s.open(v); ok != (i >= 2*perLogin) {
			t.Errorf("session %d: %v", i, ok)
		}
	}
	if _, _, ok := s.open(other); !ok {
		t.Error("another's is gone")
	}
	c.Add(31 * time.Minute)
	if _, err := s.begin(Who{Token: goodToken}); err != nil || s.len() != 1 {
		t.Errorf("%d are kept after their time, %v", s.len(), err)
	}
	c.Add(31 * time.Minute)
	if s.open(other); s.len() != 0 { // whoever comes, also with a cookie that has ended
		t.Errorf("%d are kept after their time", s.len())
	}
}

// TestSessionSealed: what is kept shows neither the credential nor the cookie, and cannot be
// opened without it; nothing prints it.
func TestSessionSealed(t *testing.T) {
	s := newSessions(10, time.Hour, time.Now, rand.Reader)
	value, err := s.begin(Who{Token: goodToken})
	if err != nil {
		t.Fatal(err)
	}
	cookie, _ := parseCookie(value)
	for name, x := range s.list.All() {
		if bytes.Contains(x.sealed, []byte(goodToken[:8])) || bytes.Contains(x.sealed, cookie[:8]) || bytes.Equal(name[:], cookie) {
			t.Error("it is readable")
		}
		if text := fmt.Sprintf("%v %+v %d", x, x, x); strings.Contains(text, fmt.Sprint(x.sealed[0], " ", x.sealed[1])) || !strings.Contains(text, "[secret]") {
			t.Errorf("it prints: %s", text)
		}
	}
	_, mark, _ := s.open(value)
	if mark == value {
		t.Error("the mark of forms is the cookie")
	}
	if _, err := newSessions(1, time.Hour, time.Now, iotest.ErrReader(fmt.Errorf("no"))).begin(Who{}); errs.KindOf(err) != errs.Internal {
		t.Errorf("without randomness: %v", err)
	}
}

// TestCookie: nothing but the one form is looked up.
func TestCookie(t *testing.T) {
	good := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, cookieLen))
	for value, want := range map[string]bool{good: true, good + "=": false, good[:42]: false, good + "A": false, "": false, good[:42] + "B": false /* bits beyond the bytes */, "+" + good[1:]: false, good[:20] + "\n" + good[21:]: false} {
		if _, ok := parseCookie(value); ok != want {
			t.Errorf("%q: %v", value, ok)
		}
	}
}

func FuzzCookie(f *testing.F) {
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, cookieLen)))
	f.Add(strings.Repeat("A", 43))
	s := newSessions(2, time.Hour, time.Now, rand.Reader)
	f.Fuzz(func(t *testing.T, value string) {
		if b, ok := parseCookie(value); ok && base64.RawURLEncoding.EncodeToString(b) != value {
			t.Fatalf("%q is a second form", value)
		}
		if _, _, ok := s.open(value); ok {
			t.Fatalf("%q opens a session that nobody began", value)
		}
		s.end(value)
	})
}

func FuzzForm(f *testing.F) {
	f.Add("site=a&max_mails=5&idle_days=9&expires=2026-12-31&mode=ask", "/aliases/a@b")
	f.Add("max_mails=-1&expires=2026-02-30", "//evil")
	f.Add("idle_days=99999999999999999999", "/aliases/\\x")
	f.Fuzz(func(t *testing.T, body, next string) {
		if to := safeNext(next); to != PagePath && !strings.HasPrefix(to, PagePath+"/") || strings.ContainsAny(to, "\r\n\\ ") {
			t.Fatalf("%q leads to %q", next, to)
		}
		v, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		fm := form{Expires: v.Get("expires"), MaxMails: v.Get("max_mails"), IdleDays: v.Get("idle_days"), Mode: v.Get("mode"), Note: v.Get("note")}
		q, err := fm.create()
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if n, _ := strconv.ParseUint(fm.MaxMails, 10, 64); fm.MaxMails != "" && n != uint64(q.MaxMails) {
			t.Fatalf("%q: %d mails", body, q.MaxMails)
		}
		old := View{Note: "x", Mode: ModeOpen}
		c, err := fm.change(old)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if (c.Note == nil) != (fm.Note == "x") || c.Mode != nil && *c.Mode != fm.Mode {
			t.Fatalf("%q: %+v", body, c)
		}
	})
}

// luminance is the relative luminance of a colour (WCAG 2.2, "relative luminance").
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	hex = strings.TrimPrefix(hex, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || len(hex) != 6 {
		t.Fatalf("#%s is no colour", hex)
	}
	part := func(shift uint) float64 {
		c := float64(n>>shift&255) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}

// contrast is the contrast ratio of two colours.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return math.Round(100*(max(x, y)+0.05)/(min(x, y)+0.05)) / 100
}
