package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// inBrowsers runs a test in Chromium and in Firefox, each with the add-on and a server that it is not connected to.
func inBrowsers(t *testing.T, run func(t *testing.T, b addonBrowser, s *aliasServer)) {
	t.Run("Chromium", func(t *testing.T) { run(t, startChromiumAddon(t, nil), newAliasServer(t)) })
	t.Run("Firefox", func(t *testing.T) { run(t, startFirefoxAddon(t), newAliasServer(t)) })
}

// connectOnly pastes the link into the add-on's page.
func connectOnly(t *testing.T, b addonBrowser, link string) {
	t.Helper()
	b.manage()
	v := b.tab()
	defer func() {
		if t.Failed() {
			t.Logf("%s: the field has %q, the focus is at %s\n%s", v.js("location.href"), value(v, "#link"), v.js("document.activeElement?.id"), words(v))
		}
	}()
	typeInto(t, v, "#link", link)
	v.key("Enter")
	until(t, "for the connection", func() bool {
		if e := text(v, "#error"); e != "" {
			t.Fatalf("not connected: %s; the field has %q", e, value(v, "#link"))
		}
		return strings.Contains(text(v, "#connected"), "Connected to")
	})
}

// connectByPaste pastes the link, and lets the button onto all sites where the browser asks.
func connectByPaste(t *testing.T, b addonBrowser, link string) {
	t.Helper()
	connectOnly(t, b, link)
	v := b.tab()
	if _, asks := b.(*firefoxAddon); asks {
		again := time.Time{} // the page may move below the pointer while it is being filled
		until(t, "for the permission", func() bool {
			if strings.Contains(text(v, "#siteList"), "all sites") {
				return true
			}
			if time.Now().After(again) {
				again = time.Now().Add(5 * time.Second)
				press(t, v, "#allSites")
			}
			return false
		})
	}
}

// filled waits until a field has a value, and gives it.
func filled(t *testing.T, v view, field string) (got string) {
	t.Helper()
	until(t, "for an alias in "+field, func() bool {
		got = value(v, field)
		return got != "" && got != "undefined"
	})
	return got
}

// pasted gives what is in the clipboard: it is pasted into the name field of the plain form.
func pasted(t *testing.T, v view) string {
	t.Helper()
	typeInto(t, v, "#who", "")
	v.key("ctrl+v")
	return filled(t, v, "#who")
}

// copiedWords are what the toolbar's click says once the address is in the clipboard.
const copiedWords = "It was automatically copied to your clipboard."

// TestAddonToolbar: one click on the toolbar makes an alias and puts it into the clipboard.
func TestAddonToolbar(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		shop := newShop(t)
		connectByPaste(t, b, s.link())
		v := b.tab()
		v.open(shop.URL + "/plain.html")
		b.toolbar()
		until(t, "for an alias at the server", func() bool { return s.latest().Address != "" })
		want := s.latest()
		if want.Site != "127.0.0.1" {
			t.Errorf("the alias is for the site %q, want the page's", want.Site)
		}
		p := b.popup()
		until(t, "for the copy", func() bool { return strings.Contains(words(p), copiedWords) })
		if got := value(p, "#address"); got != want.Address {
			t.Errorf("it shows %q, want %q", got, want.Address)
		}
		until(t, "for the address to be selected", func() bool {
			return look(p, "#address", "return document.activeElement === el && el.selectionEnd - el.selectionStart === el.value.length;") == "true"
		})
		picture(t, p, "popup")
		b.closePopup(p)
		if got := pasted(t, v); got != want.Address {
			t.Errorf("the clipboard has %q, want %q", got, want.Address)
		}
	})
}

// TestAddonForms: a click on the button beside the field fills it so that the site's own script takes it, and the form that
// is sent in has it. The second time the site's alias is offered.
func TestAddonForms(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		shop := newShop(t)
		connectByPaste(t, b, s.link())
		v := b.tab()
		first := ""
		for _, page := range []string{"plain", "react", "shadow"} {
			v.open(shop.URL + "/" + page + ".html")
			pressAlias(t, b, "#mail")
			if first != "" { // a menu: the first line is the alias that this site has
				until(t, "for the menu", func() bool { return v.js("document.activeElement?.localName") == "div" })
				picture(t, v, page+"-menu")
				v.key("Enter")
			}
			got := filled(t, v, "#mail")
			if first == "" {
				first = s.latest().Address
			}
			if got != first {
				t.Errorf("%s: the field has %q, want %q", page, got, first)
			}
			picture(t, v, page)
			press(t, v, "#go")
			if got := shop.signedUp(t, page); got != first {
				t.Errorf("%s: the site got %q, want %q", page, got, first)
			}
		}
		if n := s.count(); n != 1 {
			t.Errorf("%d aliases were made for one site, want 1", n)
		}
	})
}

// TestAddonKeyboard: Tab leads from the field to the button, Enter fills, Escape sends it away, and the order of the page's own
// fields stays.
func TestAddonKeyboard(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		shop := newShop(t)
		connectByPaste(t, b, s.link())
		v := b.tab()
		v.open(shop.URL + "/plain.html")
		until(t, "for the button", func() bool { _, _, ok := b.aliasButton("#mail"); return ok })
		active := func() string { return v.js("document.activeElement.id || document.activeElement.localName") }
		typeInto(t, v, "#mail", "")
		for _, step := range [][2]string{{"Tab", "div"}, {"Tab", "pass"}, {"shift+Tab", "mail"}, {"Tab", "div"}, {"shift+Tab", "mail"}, {"Tab", "div"}} {
			v.key(step[0])
			if got := active(); got != step[1] {
				t.Fatalf("%s leads to %q, want %q", step[0], got, step[1])
			}
		}
		v.key("Enter")
		if got := filled(t, v, "#mail"); got != s.latest().Address {
			t.Errorf("Enter filled %q, want %q", got, s.latest().Address)
		}
		if got := active(); got != "mail" {
			t.Errorf("the focus is at %q after filling, want the field", got)
		}
		v.key("Tab")
		v.key("Escape")
		if got := active(); got != "mail" {
			t.Errorf("Escape leads to %q, want the field", got)
		}
		until(t, "for the button to go", func() bool { _, _, ok := b.aliasButton("#mail"); return !ok })
		v.key("Tab")
		if got := active(); got != "pass" {
			t.Errorf("after Escape Tab leads to %q, want the next field", got)
		}
	})
}

// TestAddonCrowded: the button covers no other's button in or beside the field, and a script of the page cannot press it.
func TestAddonCrowded(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		shop := newShop(t)
		connectByPaste(t, b, s.link())
		v := b.tab()
		v.open(shop.URL + "/plain.html")
		x, y := 0.0, 0.0
		until(t, "for the button", func() (ok bool) { x, y, ok = b.aliasButton("#crowded"); return ok })
		for _, name := range []string{"theirs", "beside"} {
			press(t, v, "#"+name)
			if got := v.js("document.title"); got != name {
				t.Errorf("a click on the other's button %q did %q", name, got)
			}
		}
		v.js(fmt.Sprintf(`(() => { const el = document.elementFromPoint(%f, %f); for (const kind of ['pointerdown', 'mousedown', 'mouseup', 'click']) el.dispatchEvent(new MouseEvent(kind, { bubbles: true, composed: true, clientX: %f, clientY: %f })); el.click(); return String(el.shadowRoot); })()`, x, y, x, y))
		v.mouse(x, y) // a real one, which is counted after the others
		filled(t, v, "#crowded")
		if n := s.count(); n != 1 {
			t.Errorf("%d aliases were made by one click", n)
		}
	})
}

var derivedForm = regexp.MustCompile(`^[a-z2-7]{20}@example\.org$`)

// TestAddonOffline: without the server an alias is derived on this computer.
func TestAddonOffline(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		shop := newShop(t)
		connectByPaste(t, b, s.link())
		v := b.tab()
		v.open(shop.URL + "/plain.html")
		s.switchOff(true)
		pressAlias(t, b, "#mail")
		first := filled(t, v, "#mail")
		if !derivedForm.MatchString(first) {
			t.Fatalf("the field has %q, want a derived alias", first)
		}
		b.toolbar()
		p := b.popup()
		until(t, "for the copy", func() bool { return strings.Contains(words(p), "It was made on this computer, without the server.") })
		until(t, "for the aliases of this site", func() bool { return strings.Contains(text(p, "#hereList"), first) })
		picture(t, p, "offline")
		if got := value(p, "#address"); !derivedForm.MatchString(got) || got == first {
			t.Errorf("it shows %q, want another derived alias", got)
		}
	})
}

// TestAddonManage: the page of the add-on lists, searches, pauses, resumes, deletes with undo and takes a new token.
func TestAddonManage(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		s.with(func() {
			s.aliases = []*fakeAlias{
				{Address: "oak-river-12@example.org", Site: "shop.example", State: "active", Created: "2026-11-01", Received: 3, Leaked: true},
				{Address: "elm-hill-77@example.org", Site: "news.example", State: "active", Created: "2026-10-01"},
			}
		})
		connectByPaste(t, b, s.link())
		v := b.tab()
		until(t, "for the list", func() bool { return strings.Contains(text(v, "#list"), "elm-hill-77@example.org") })
		if !strings.Contains(text(v, "#list"), "passed on") {
			t.Error("the list does not say that an address was passed on")
		}
		picture(t, v, "list")
		typeInto(t, v, "#query", "shop")
		v.key("Enter")
		until(t, "for the search", func() bool { return !strings.Contains(text(v, "#list"), "elm-hill-77") })
		const oak = "oak-river-12@example.org"
		for _, step := range [][2]string{{"Pause " + oak, "paused"}, {"Resume " + oak, "active"}, {"Delete " + oak, "deleted"}, {"Undo", "active"}} {
			pressNamed(t, v, step[0])
			until(t, "for "+step[1], func() bool { return s.state(oak) == step[1] })
		}
		until(t, "for the alias to come back", func() bool { return strings.Contains(text(v, "#list"), oak) })
		var old, now string
		s.with(func() { old = s.token })
		pressNamed(t, v, "New token")
		until(t, "for the new token", func() bool { return strings.Contains(text(v, "#status"), "There is a new token") })
		s.with(func() { now = s.token })
		if now == old {
			t.Fatal("the token is the old one")
		}
		typeInto(t, v, "#query", "elm")
		v.key("Enter") // with the new token
		until(t, "for the search", func() bool { return strings.Contains(text(v, "#list"), "elm-hill-77") })
		s.with(func() { s.token = strings.Repeat("void", 16) })
		v.key("Enter")
		until(t, "for the refusal", func() bool { return strings.Contains(text(v, "#error"), "does not accept the token any more") })
	})
}

// TestAddonSecrets: the token is in no file of the browser; with a passphrase it is kept encrypted, and comes back with that
// alone.
func TestAddonSecrets(t *testing.T) {
	s := newAliasServer(t)
	c := startChromiumAddon(t, nil)
	connectByPaste(t, c, s.link())
	v := c.tab()
	stored := func() string {
		var r struct{ Data map[string]any }
		c.session = c.main
		c.do(&r, "Extensions.getStorageItems", map[string]any{"id": c.id, "storageArea": "local"})
		return fmt.Sprint(r.Data)
	}
	if got := stored(); strings.Contains(got, s.token[:8]) || strings.Contains(got, "sealed") {
		t.Errorf("without a passphrase the storage has %s", got)
	}
	typeInto(t, v, "#newPassphrase", "seven77")
	v.key("Enter")
	if got := stored(); strings.Contains(got, "sealed") {
		t.Error("a passphrase of 7 characters was taken")
	}
	typeInto(t, v, "#newPassphrase", "correct horse")
	v.key("Enter")
	until(t, "for the passphrase", func() bool { return strings.Contains(text(v, "#secretsNow"), "kept encrypted under") })
	if got := stored(); !strings.Contains(got, "sealed") || strings.Contains(got, s.token[:8]) || strings.Contains(got, "127.0.0.1") {
		t.Errorf("with a passphrase the storage has %s", got)
	}
	pressNamed(t, v, "Lock now")
	until(t, "for the lock", func() bool { return strings.Contains(text(v, "#connected"), "Locked") })
	for _, try := range [][2]string{{"wrong horse!", "This is not the passphrase."}, {"correct horse", "Connected to"}} {
		typeInto(t, v, "#passphrase", try[0])
		v.key("Enter")
		until(t, "for "+try[1], func() bool { return strings.Contains(words(v), try[1]) })
	}
	until(t, "for the list", func() bool { return strings.Contains(words(v), "No aliases here.") })

	var dirs []string
	for _, arg := range c.args {
		if dir, ok := strings.CutPrefix(arg, "--user-data-dir="); ok {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) != 1 {
		t.Fatal("no profile")
	}
	files := 0
	err := filepath.WalkDir(dirs[0], func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/History") || strings.Contains(path, "/Sessions/") {
			return nil // the address bar's own memory is not the add-on's
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil // gone meanwhile
		}
		files++
		if strings.Contains(string(raw), s.token) {
			t.Errorf("the token is in %s", strings.TrimPrefix(path, dirs[0]))
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
}

// TestAddonLink: the link is opened, and a click on the toolbar asks about the server by name before it takes it. Another
// server takes the place of the first no other way.
func TestAddonLink(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		v := b.tab()
		v.open(s.link())
		b.toolbar()
		p := b.popup()
		until(t, "for the question", func() bool { return strings.Contains(words(p), "Connect to "+strings.TrimPrefix(s.URL, "http://")+"?") })
		picture(t, p, "question")
		s.with(func() {
			if len(s.calls) != 0 {
				t.Errorf("the server was asked before the answer: %v", s.calls)
			}
		})
		press(t, p, "#confirmYes")
		until(t, "for the connection", func() bool { return look(p, "#start", "return el.hidden;") == "false" })
		if got := v.js("location.href"); strings.Contains(got, s.token) {
			t.Error("the token stays in the address bar")
		}
		if s.count() != 0 {
			t.Error("connecting made an alias")
		}
		press(t, p, "#makeNow")
		until(t, "for an alias", func() bool { return s.latest().Address != "" })
		pressNamed(t, p, "Undo")
		until(t, "for the undoing", func() bool { return s.latest().Address == "" })
		b.closePopup(p)
		for _, bad := range []string{"http://shop.example/aliases/connect#token=" + s.token, s.URL + "/aliases/connect#token=short", s.URL + "/other#token=" + s.token} {
			b.manage()
			typeInto(t, v, "#link", bad)
			v.key("Enter")
			until(t, "for the refusal of "+bad, func() bool { return strings.Contains(text(v, "#error"), "not a link that sets the add-on up") })
		}
	})
}

// TestAddonPopupPaste: the link is pasted into what the toolbar opens, on the page of the server that showed it. Nobody wants
// an alias for that page.
func TestAddonPopupPaste(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b addonBrowser, s *aliasServer) {
		b.tab().open(s.URL + "/aliases/connect")
		b.toolbar()
		p := b.popup()
		typeInto(t, p, "#link", s.link())
		p.key("Enter")
		until(t, "for the connection", func() bool {
			return strings.Contains(words(p), "Connected to "+strings.TrimPrefix(s.URL, "http://")+".")
		})
		picture(t, p, "connected")
		if s.count() != 0 {
			t.Error("connecting made an alias")
		}
	})
}
