package interop

import (
	"encoding/json"
	"html"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// aliasPages is a browser at the pages about aliases.
type aliasPages struct{ *browser }

// view is the page as tests of the add-on press its keys.
func (b aliasPages) view() chromiumView { return chromiumView{b.browser, b.session} }

// tabTo presses Tab until what the selector names has the focus.
func (b aliasPages) tabTo(selector string) {
	b.t.Helper()
	for range 60 {
		if b.find(selector+":focus") != 0 {
			return
		}
		b.view().key("Tab")
	}
	b.t.Fatalf("the keyboard does not reach %s", selector)
}

// must finds a node.
func (b aliasPages) must(selector string) int {
	b.t.Helper()
	node := b.find(selector)
	if node == 0 {
		b.t.Fatalf("no %s:\n%s", selector, b.html())
	}
	return node
}

// clickThrough clicks and waits for the page behind.
func (b aliasPages) clickThrough(selector string) {
	b.t.Helper()
	b.click(b.must(selector))
	b.loaded()
}

// text gives the words of the page.
func (b aliasPages) text() string {
	b.t.Helper()
	return html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(b.html(), " "))
}

func wantText(t *testing.T, b aliasPages, words ...string) {
	t.Helper()
	text := b.text()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not on the page:\n%s", w, text)
		}
	}
}

// TestAliasPages: a user without JavaScript makes, finds, shows, pauses, deletes and restores an
// alias, on a phone by touch and at a desk by the keyboard alone.
func TestAliasPages(t *testing.T) {
	zbar := needTool(t, "zbarimg")
	s := start(t)
	shots := t.TempDir()
	if dir := os.Getenv("POSTERN_SCREENSHOTS"); dir != "" {
		shots = dir
	}
	for _, screen := range []struct {
		name          string
		width, height int
		phone, dark   bool
	}{{"phone", 390, 844, true, true}, {"desk", 1280, 800, false, false}} {
		t.Run(screen.name, func(t *testing.T) {
			u := s.created(t, 1)[0]
			b := aliasPages{startBrowser(t, screen.width, screen.height, screen.phone)}
			if screen.dark {
				b.do(nil, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}})
			}
			n := 0
			look := func() {
				t.Helper()
				n++
				b.screenshot(filepath.Join(shots, "alias-"+screen.name+"-"+string(rune('0'+n))+".png"))
				if w := b.width(); w > screen.width {
					t.Errorf("page %d is %d px wide on a screen of %d", n, w, screen.width)
				}
				if screen.phone {
					return
				}
				size := func(width, height int) {
					b.do(nil, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
				}
				if size(screen.width/4, screen.height/4); b.width() > screen.width/4 { // WCAG 2.2, 1.4.10
					t.Errorf("page %d must be scrolled sideways at four times the size", n)
				}
				size(screen.width, screen.height)
			}
			// activate is a click, or the keyboard where there is no finger.
			activate := func(selector string) {
				t.Helper()
				if screen.phone {
					left, top, right, bottom := b.box(b.must(selector))
					if bottom-top < 24 || right-left < 24 {
						t.Errorf("%s is %.0f x %.0f px", selector, right-left, bottom-top)
					}
					b.clickThrough(selector)
					return
				}
				b.events = nil
				b.tabTo(selector)
				b.view().key("Enter")
				b.loaded()
			}
			fill := func(selector, text string) {
				t.Helper()
				if screen.phone {
					b.click(b.must(selector))
				} else {
					b.tabTo(selector)
				}
				b.view().write(text)
			}
			b.open(s.url(t, "https", s.HTTPS, "/aliases"))
			look()
			fill("#address", u.addr)
			fill("#password", u.password)
			activate("main button[type=submit]")
			wantText(t, b, "You have no aliases.")
			fill("#site", "shop.example")
			activate("form[action='/aliases'] button[type=submit]:not(.quiet)")
			look()
			wantText(t, b, "The alias is made.", "shop.example", "Nobody yet.")
			address := regexp.MustCompile(`[a-z0-9._-]+@` + regexp.QuoteMeta(s.Domain)).FindString(b.text())
			if address == "" || address == u.addr {
				t.Fatalf("the alias is %q", address)
			}
			activate("a[href$='/big']")
			shot := filepath.Join(shots, "alias-big-"+screen.name+".png")
			b.screenshot(shot)
			if w := b.width(); w > screen.width {
				t.Errorf("the big view is %d px wide", w)
			}
			if qr := command(t, nil, zbar, "--quiet", "--raw", shot).out; !strings.Contains(qr, address) {
				t.Errorf("the QR code says %q, want %s", qr, address)
			}
			activate("main a")
			activate("button[value=pause]")
			wantText(t, b, "Paused: mail to it is refused")
			fill("form input#sender", "@spam.example")
			activate("form:has(#sender) button[value=block]")
			wantText(t, b, "Blocked: mail from there is refused.", "@spam.example")
			look()
			activate("button[value=delete]")
			wantText(t, b, "is deleted", "Undo")
			look()
			activate(".note button[value=restore]")
			activate("footer a")
			fill("#q", "shop.ex")
			activate(".search button")
			wantText(t, b, address)
			look()
			fill("#q", "-nothing")
			activate(".search button")
			wantText(t, b, "No alias fits.")
			activate("header button")
			wantText(t, b, "Log in")
			b.open(s.url(t, "https", s.HTTPS, "/aliases/"+address))
			wantText(t, b, "Log in")
		})
	}
}

// aliasToken logs in at the pages by curl and makes a token there, as a user does who sets an add-on up.
func (s *server) aliasToken(t *testing.T, u user) string {
	t.Helper()
	curl, jar := needTool(t, "curl"), filepath.Join(t.TempDir(), "jar")
	base := append(s.curlBase(t, s.HTTPS), "--cookie", jar, "--cookie-jar", jar, "--location")
	page := command(t, nil, curl, append(base, "--data-urlencode", "address="+u.addr, "--data-urlencode", "password="+u.password, s.url(t, "https", s.HTTPS, "/aliases/login"))...)
	page.want(t, 0, `name="mark"`)
	mark := regexp.MustCompile(`name="mark" value="([^"]+)"`).FindStringSubmatch(page.out)
	if mark == nil {
		t.Fatal("not logged in")
	}
	page = command(t, nil, curl, append(base, "--data-urlencode", "mark="+mark[1], s.url(t, "https", s.HTTPS, "/aliases/connect"))...)
	m := regexp.MustCompile(`href="(https://[^"]+/aliases/connect#token=([A-Za-z0-9]{64}))"`).FindStringSubmatch(page.out)
	if m == nil {
		t.Fatalf("no link:\n%s", page.out)
	}
	_, port := hostPort(t, s.HTTPS)
	if link, err := url.Parse(m[1]); err != nil || link.Port() != port {
		t.Errorf("the link leads to %s", m[1])
	}
	return m[2]
}

// TestAliasCalls: a token makes aliases by the calls of SimpleLogin and addy.io, as Bitwarden sends
// them, and by our own, which lists them all; a wrong token is told so.
func TestAliasCalls(t *testing.T) {
	curl := needTool(t, "curl")
	s := start(t)
	token := s.aliasToken(t, s.created(t, 1)[0])
	ask := func(path string, args ...string) (status string, v map[string]any) {
		t.Helper()
		r := command(t, nil, curl, append(append(s.curlBase(t, s.HTTPS), "--write-out", "\n%{http_code}", s.url(t, "https", s.HTTPS, path)), args...)...)
		r.want(t, 0)
		i := strings.LastIndexByte(r.out, '\n')
		if err := json.Unmarshal([]byte(r.out[:i]), &v); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, r.out)
		}
		return r.out[i+1:], v
	}
	kind := []string{"--header", "Content-Type: application/json"}
	status, v := ask("/api/alias/random/new?hostname=shop.example", append(kind, "--header", "Authentication: "+token, "--data", `{"note":"Website: shop.example. Generated by Bitwarden."}`)...)
	one, _ := v["alias"].(string)
	if status != "201" || !strings.HasSuffix(one, "@"+s.Domain) {
		t.Errorf("SimpleLogin: %s %v", status, v)
	}
	bearer := append(kind, "--header", "Authorization: Bearer "+token)
	status, v = ask("/api/v1/aliases", append(bearer, "--header", "X-Requested-With: XMLHttpRequest", "--data", `{"domain":"`+s.Domain+`","description":"Website: forum.example. Generated by Bitwarden."}`)...)
	data, _ := v["data"].(map[string]any)
	two, _ := data["email"].(string)
	if status != "201" || !strings.HasSuffix(two, "@"+s.Domain) {
		t.Errorf("addy.io: %s %v", status, v)
	}
	if status, v = ask("/api/v1/aliases", append(bearer, "--data", `{"domain":"elsewhere.example"}`)...); status != "422" {
		t.Errorf("a domain of others: %s %v", status, v)
	}
	status, v = ask("/api/postern/v1/aliases?search=example", bearer...)
	list, _ := json.Marshal(v)
	for _, want := range []string{one, two, `"site":"shop.example"`, `"site":"forum.example"`} {
		if status != "200" || want == "" || !strings.Contains(string(list), want) {
			t.Errorf("the list: %s, without %q: %s", status, want, list)
		}
	}
	if status, v = ask("/api/postern/v1/key", bearer...); status != "200" || len(v["key"].(string)) != 44 {
		t.Errorf("key: %s %v", status, v)
	}
	status, v = ask("/api/postern/v1/token/rotate", append(bearer, "--request", "POST")...)
	next, _ := v["token"].(string)
	if status != "200" || len(next) != 64 || next == token {
		t.Fatalf("rotate: %s", status)
	}
	if status, v = ask("/api/postern/v1/aliases", bearer...); status != "401" {
		t.Errorf("the old token: %s %v", status, v)
	}
	if status, _ = ask("/api/postern/v1/account", "--header", "Authorization: Bearer "+next); status != "200" {
		t.Errorf("the new token: %s", status)
	}
}

// socketScript sends its argument as one frame and prints what comes until the server closes.
const socketScript = `
const ws = new WebSocket(process.argv[1]);
ws.onopen = () => ws.send(process.argv[2]);
ws.onmessage = m => console.log("message " + m.data);
ws.onclose = c => console.log("closed " + c.code);
ws.onerror = () => console.log("failed");
`

// TestAliasSocket: IncognitoMail's exchange, with Node's WebSocket: one frame in, one out, closed.
func TestAliasSocket(t *testing.T) {
	node := needTool(t, "node")
	if command(t, nil, node, "--experimental-websocket", "-e", "new WebSocket('ws://127.0.0.1:1').onerror = () => {}").code != 0 {
		missing(t, "a node with WebSocket")
	}
	s := start(t)
	token := s.aliasToken(t, s.created(t, 1)[0])
	_, port := hostPort(t, s.HTTPS)
	for frame, want := range map[string]string{
		"new handle " + token:                   `message [a-z0-9._-]+@` + regexp.QuoteMeta(s.Domain),
		"new handle " + strings.Repeat("x", 64): `message error account not found`,
		"new account ann@example.org":           `message error invalid permission to do this`,
		"list " + token:                         `message error unknown command received`,
	} {
		r := command(t, []string{"NODE_NO_WARNINGS=1", "NODE_TLS_REJECT_UNAUTHORIZED=0"}, node, "--experimental-websocket", "-e", socketScript, "wss://127.0.0.1:"+port+"/incognitomail", frame)
		if !regexp.MustCompile(`^` + want + `\nclosed 1000\n$`).MatchString(r.out) {
			t.Errorf("%.20q: %q", frame, r.out)
		}
	}
}
