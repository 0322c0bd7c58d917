package exit

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// linkIn gives the path of the link of the last mail.
func (w *world) linkIn() string {
	w.t.Helper()
	h, _, _ := strings.Cut(w.last().text, "\r\n\r\n")
	_, link, ok := strings.Cut(strings.ReplaceAll(h, "\r\n ", ""), "List-Unsubscribe:<https://exit.example")
	if !ok {
		_, link, ok = strings.Cut(strings.ReplaceAll(h, "\r\n ", " "), "List-Unsubscribe: <https://exit.example")
	}
	if !ok {
		w.t.Fatal(h)
	}
	link, _, _ = strings.Cut(link, ">")
	return link
}

// ask does one request.
func (w *world) ask(method, path, contentType, body string) (int, string) {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	h := rec.Header()
	if h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") {
		w.t.Errorf("headers %v", h)
	}
	return rec.Code, rec.Body.String()
}

const form = "application/x-www-form-urlencoded"

// TestOneClick: a recipient blocks itself with one POST of its mail program (RFC 8058) or a button,
// for good, and can take it back; looking at the page does nothing.
func TestOneClick(t *testing.T) {
	w := begin(t)
	send := func() error { return w.Send(ctx, w.anonymous("x", "bob+list@world.example")) }
	must(t, send())
	link := w.linkIn()
	if strings.Contains(link, "bob") || strings.Contains(link, "world") {
		t.Error("the link tells whose it is:", link)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if code, body := w.ask(method, link, "", ""); code != 200 || method == http.MethodGet && !strings.Contains(body, "Block my address") {
			t.Errorf("%s: %d %s", method, code, body)
		}
	}
	must(t, send())

	code, body := w.ask(http.MethodPost, link, form, "List-Unsubscribe=One-Click")
	if code != 200 || !strings.Contains(body, "You get no more") {
		t.Errorf("%d %s", code, body)
	}
	refused(t, send(), errs.Denied, "take no mail")
	must(t, w.Close())
	w.open()
	refused(t, send(), errs.Denied, "take no mail")
	refused(t, w.Send(ctx, w.anonymous("x", "BOB@world.example")), errs.Denied, "take no mail")
	must(t, w.Send(ctx, w.anonymous("x", "bob@world.example", "eve@world.example"))) // the others get it
	if got := w.last().To.String(); got != "eve@world.example" {
		t.Error(got)
	}

	if code, body = w.ask(http.MethodPost, link, form, "do=unblock"); code != 200 || !strings.Contains(body, "Block my address") {
		t.Errorf("%d %s", code, body)
	}
	must(t, send())
	if code, body = w.ask(http.MethodPost, link, form, "do=block"); code != 200 || !strings.Contains(body, "You get no more") {
		t.Errorf("%d %s", code, body)
	}
	refused(t, send(), errs.Denied, "take no mail")

	// Mail programs may send the form in parts.
	must(t, w.Block(link[strings.LastIndexByte(link, '/')+1:], false))
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	must(t, m.WriteField("List-Unsubscribe", "One-Click"))
	must(t, m.Close())
	if code, body = w.ask(http.MethodPost, link, m.FormDataContentType(), b.String()); code != 200 || !strings.Contains(body, "You get no more") {
		t.Errorf("%d %s", code, body)
	}
	refused(t, send(), errs.Denied, "take no mail")
}

// TestWrongLinks: nobody blocks whom the exit made no link for, and what is no request changes
// nothing.
func TestWrongLinks(t *testing.T) {
	w := begin(t)
	must(t, w.Send(ctx, w.anonymous("x", "bob@world.example")))
	link := w.linkIn()
	other := begin(t, func(o *Options) { o.Secret = []byte(strings.Repeat("t", 32)) })
	must(t, other.Send(ctx, other.anonymous("x", "bob@world.example")))
	flip := func(i int) string {
		c := byte('A')
		if link[i] == c {
			c = 'B'
		}
		return link[:i] + string(c) + link[i+1:]
	}
	for name, path := range map[string]string{"another exit's": other.linkIn(), "cut off": link[:len(link)-4], "changed": flip(len(link) - 20), "its nonce changed": flip(len("/block/") + 2),
		"empty": "/block/", "too long": "/block/" + strings.Repeat("A", maxLink+1), "no base64": "/block/%25"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if code, body := w.ask(method, path, form, "List-Unsubscribe=One-Click"); code != 404 || !strings.Contains(body, "not whole") {
				t.Errorf("%s: %d %s", name, code, body)
			}
		}
	}
	for name, r := range map[string][4]string{"another word": {"POST", form, "do=remove", "400"}, "no word": {"POST", form, "", "400"}, "no form": {"POST", "text/plain", "do=block", "400"},
		"a long one": {"POST", form, "do=" + strings.Repeat("x", 5000), "400"}, "another method": {"PUT", form, "do=block", "405"}} {
		if code, _ := w.ask(r[0], link, r[1], r[2]); http.StatusText(code) == "" || r[3] != map[int]string{400: "400", 405: "405"}[code] {
			t.Errorf("%s: %d", name, code)
		}
	}
	must(t, w.Send(ctx, w.anonymous("y", "bob@world.example")))
}

// TestBlockFull: a list without room says so, and a bad disk does not pretend.
func TestBlockFull(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	w := begin(t, func(o *Options) { o.MaxBlocked, o.FS = 1, faults })
	var links []string
	for _, r := range []string{"bob@world.example", "eve@world.example"} {
		must(t, w.Send(ctx, w.anonymous("x", r)))
		links = append(links, w.linkIn())
	}
	if code, _ := w.ask(http.MethodPost, links[0], form, "do=block"); code != 200 {
		t.Error(code)
	}
	if code, body := w.ask(http.MethodPost, links[1], form, "do=block"); code != 503 || !strings.Contains(body, "write to the operator") {
		t.Error(code, body)
	}
	faults.FailFrom(vfs.OpSync, 1, io.ErrShortWrite)
	if code, _ := w.ask(http.MethodPost, links[0], form, "do=unblock"); code != 503 {
		t.Error(code)
	}
	if !w.isBlocked(to(t, "bob@world.example")) {
		t.Error("unblocked although that could not be written")
	}
}

// FuzzLink: no text opens as a link but those that were made.
func FuzzLink(f *testing.F) {
	w := begin(f)
	good := w.links.to(to(f, "bob@world.example"))
	f.Add(good)
	f.Add("")
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := w.links.open(s); err == nil && w.links.to(p) != s {
			t.Fatalf("%q opens as %v", s, p)
		}
	})
}
