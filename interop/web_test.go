package interop

import (
	"html"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// screens are the sizes at which the page must be usable.
var screens = []struct {
	name          string
	width, height int
	mobile        bool
}{{"phone", 360, 740, true}, {"desktop", 1280, 800, false}}

// TestWebPage opens the page with scripts switched off, clicks once, and logs in
// with what it shows; the QR code holds the same account.
func TestWebPage(t *testing.T) {
	s := start(t)
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			b := startBrowser(t, screen.width, screen.height, screen.mobile)
			b.open(s.url(t, "https", s.HTTPS, "/"))
			shots := t.TempDir()
			if dir := os.Getenv("POSTERN_SCREENSHOTS"); dir != "" {
				shots = dir
			}
			b.screenshot(filepath.Join(shots, screen.name+"-1.png"))
			if w := b.width(); w > screen.width {
				t.Errorf("the page is %d px wide on a screen of %d: it must be scrolled sideways", w, screen.width)
			}
			button := b.find("form button, form input[type=submit]")
			if button == 0 {
				t.Fatalf("no button:\n%s", b.html())
			}
			left, top, right, bottom := b.box(button)
			if screen.mobile && (bottom-top < 40 || right-left < 40) {
				t.Errorf("the button is %.0f x %.0f px: too small for a finger", right-left, bottom-top)
			}
			b.click(button)
			b.loaded()
			page := b.html()
			shot := filepath.Join(shots, screen.name+"-2.png")
			b.screenshot(shot)
			if w := b.width(); w > screen.width {
				t.Errorf("the second page is %d px wide on a screen of %d", w, screen.width)
			}
			text := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, "\x00"))
			addr := regexp.MustCompile(`[a-z0-9._-]{9}@` + regexp.QuoteMeta(s.Domain)).FindString(text)
			if addr == "" {
				t.Fatalf("no address on the page after the click:\n%s", page)
			}

			qr := strings.TrimSpace(command(t, nil, needTool(t, "zbarimg"), "--quiet", "--raw", shot).out)
			qr = qr[strings.LastIndexByte(qr, '\n')+1:] // it complains of a missing D-Bus first
			if !strings.HasPrefix(strings.ToLower(qr), "dclogin:") {
				t.Fatalf("the QR code says %q, want dclogin:", qr)
			}
			u, err := url.Parse(qr[:8] + "//" + strings.TrimLeft(qr[8:], "/"))
			if err != nil {
				t.Fatal(err)
			}
			if got := u.User.Username() + "@" + u.Hostname(); !strings.EqualFold(got, addr) {
				t.Errorf("the QR code is for %s, the page for %s", got, addr)
			}
			password := u.Query().Get("p")
			if !strings.Contains(text, password) {
				t.Error("the page does not show the password that is in the QR code")
			}
			s.mustLogin(t, user{addr, password})
			s.mustSubmit(t, user{addr, password})
		})
	}
}

// TestWebPageNeedsNothingElse: the pages name no other host, no script and no
// cookie.
func TestWebPageNeedsNothingElse(t *testing.T) {
	curl := needTool(t, "curl")
	s := start(t)
	r := command(t, nil, curl, append(s.curlBase(t, s.HTTPS), "--include", "--fail", s.url(t, "https", s.HTTPS, "/"))...)
	r.want(t, 0, "ontent-", "<form")
	lower := strings.ToLower(r.out)
	for _, bad := range []string{"<script", "set-cookie", " onclick=", "src=\"http", "src=\"//", "@import"} {
		if strings.Contains(lower, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(lower, "content-security-policy:") {
		t.Error("no Content-Security-Policy")
	}
}
