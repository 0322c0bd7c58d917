package interop

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// windowAddon is a browser with the add-on and a window on a display. What a person does outside of pages is done with the
// mouse and the keyboard of the display.
type windowAddon interface {
	addonBrowser
	desk() *desktop
	// menu chooses an item of the add-on's own menu in the menu that is open; the menu has that many items below
	// the add-on's, and index counts those of the add-on from 0.
	menu(below, index int, name string)
	// refuse says no to the browser's question whether the add-on may work on sites, once it is asked; refused tells whether the
	// add-on has the answer.
	refuse(refused func() bool)
	// pages gives the addresses of all pages that are open.
	pages() []string
}

// inWindows runs a test in Chromium and in Firefox, each with a window and the add-on as people install it.
func inWindows(t *testing.T, run func(t *testing.T, b windowAddon, s *aliasServer)) {
	t.Run("Chromium", func(t *testing.T) { run(t, startChromiumWindow(t), newAliasServer(t)) })
	t.Run("Firefox", func(t *testing.T) { run(t, startFirefoxWindow(t), newAliasServer(t)) })
}

// onScreen gives the middle of an element on the screen.
func onScreen(t testing.TB, v view, selector string) (x, y float64) {
	t.Helper()
	left, top, right, bottom := box(t, v, selector)
	var origin [2]float64
	out := v.js(`JSON.stringify([window.mozInnerScreenX ?? screenX + (outerWidth - innerWidth) / 2, window.mozInnerScreenY ?? screenY + outerHeight - innerHeight])`)
	if err := json.Unmarshal([]byte(out), &origin); err != nil {
		t.Fatal(out, err)
	}
	return origin[0] + (left+right)/2, origin[1] + (top+bottom)/2
}

func startChromiumWindow(t testing.TB) *chromiumWindow {
	t.Helper()
	d := newDesktop(t)
	c := &chromiumWindow{chromiumAddon{browser: launchBrowserOn(t, d.display, addonFlags...)}, d}
	c.load(addonCopy(t, nil))
	for id := range c.tabs() {
		c.page = id
	}
	var r struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	c.do(&r, "Target.getTargets", nil)
	for _, i := range r.TargetInfos {
		if i.Type == "page" {
			var a struct{ SessionID string }
			c.do(&a, "Target.attachToTarget", map[string]any{"targetId": i.TargetID, "flatten": true})
			c.main = a.SessionID
		}
	}
	c.session = c.main
	c.do(nil, "Page.enable", nil)
	c.do(nil, "DOM.enable", nil)
	d.focus("chromium")
	return c
}

type chromiumWindow struct {
	chromiumAddon
	d *desktop
}

func (c *chromiumWindow) desk() *desktop { return c.d }

func (c *chromiumWindow) pages() (all []string) {
	c.t.Helper()
	var r struct{ TargetInfos []struct{ URL string } }
	c.session = ""
	c.do(&r, "Target.getTargets", nil)
	for _, i := range r.TargetInfos {
		all = append(all, i.URL)
	}
	return all
}

// menu goes by the keyboard: upwards from the end, and then down in what opens.
func (c *chromiumWindow) menu(below, index int, _ string) {
	c.t.Helper()
	n := c.d.windows()
	for range below + 1 {
		c.d.key("Up")
	}
	c.d.key("Right")
	until(c.t, "for the add-on's menu", func() bool { return c.d.windows() > n })
	for range index {
		c.d.key("Down")
	}
	c.d.picture(fmt.Sprintf("menu-%d", index))
	c.d.key("Return")
}

// refuse goes by the keyboard, which the question has.
func (c *chromiumWindow) refuse(refused func() bool) {
	c.t.Helper()
	until(c.t, "for the question", c.d.dimmed)
	c.d.picture("question")
	again := time.Time{}
	until(c.t, "for the answer to be taken", func() bool {
		if refused() {
			return true
		}
		if time.Now().After(again) { // the question fades in, and hears nothing meanwhile
			again = time.Now().Add(time.Second)
			c.d.key("Escape")
		}
		return false
	})
}

func startFirefoxWindow(t testing.TB) *firefoxWindow {
	t.Helper()
	d := newDesktop(t)
	f := &firefoxWindow{startFirefoxOn(t, d.display, addonCopy(t, nil), nil), d}
	d.focus("firefox")
	return f
}

type firefoxWindow struct {
	*firefoxAddon
	d *desktop
}

func (f *firefoxWindow) desk() *desktop { return f.d }

func (f *firefoxWindow) pages() (all []string) {
	f.t.Helper()
	var r struct{ Contexts []struct{ URL string } }
	f.do(&r, "browsingContext.getTree", map[string]any{"maxDepth": 0})
	for _, c := range r.Contexts {
		all = append(all, c.URL)
	}
	return all
}

// menu looks in the browser's window where the items are, and clicks there.
func (f *firefoxWindow) menu(_, _ int, name string) {
	f.t.Helper()
	for _, label := range []string{"Postern aliases", name} {
		script := fmt.Sprintf(`(() => { for (const el of document.querySelectorAll('#contentAreaContextMenu menu, #contentAreaContextMenu menuitem')) {
 if (el.label !== %q || el.closest('menupopup').state !== 'open') continue; const r = el.getBoundingClientRect();
 if (r.width) return JSON.stringify([el.screenX + r.width / 2, el.screenY + r.height / 2]); } })()`, label)
		var at [2]float64
		until(f.t, "to see "+label, func() bool { return json.Unmarshal([]byte(f.window().js(script)), &at) == nil })
		f.d.picture("menu-" + strings.ReplaceAll(label, " ", "-"))
		f.d.click(at[0], at[1], 1)
	}
}

func (f *firefoxWindow) refuse(refused func() bool) {
	f.t.Helper()
	f.answer("#notification-popup .popup-notification-secondary-button")
	until(f.t, "for the answer to be taken", refused)
}

func (f *firefoxWindow) allow() {
	f.t.Helper()
	f.answer("#notification-popup .popup-notification-primary-button")
}

// answer clicks a button of the browser's question.
func (f *firefoxWindow) answer(button string) {
	f.t.Helper()
	there := func() bool { return look(f.window(), button, "return el.getClientRects().length > 0;") == "true" }
	until(f.t, "for the question", there)
	f.d.picture("question")
	until(f.t, "for the answer to be taken", func() bool { // not in its first half second, in which people mean something else
		if there() {
			x, y := onScreen(f.t, f.window(), button)
			f.d.click(x, y, 1)
		}
		return !there()
	})
}

// chooseFrom opens the menu of an element with the right button of the mouse and chooses an item of the add-on's.
func chooseFrom(t testing.TB, b windowAddon, selector string, below, index int, name string) {
	t.Helper()
	n := b.desk().windows()
	x, y := onScreen(t, b.tab(), selector)
	b.desk().click(x, y, 3)
	until(t, "for the menu", func() bool { return b.desk().windows() > n })
	b.menu(below, index, name)
}

// TestAddonMenu: the menu of a field fills in a new alias, or the one that the site has; that of the page copies one, and both
// lead to the add-on's page. No site was allowed for that.
func TestAddonMenu(t *testing.T) {
	inWindows(t, func(t *testing.T, b windowAddon, s *aliasServer) {
		shop := newShop(t)
		connectOnly(t, b, s.link())
		v := b.tab()
		v.open(shop.URL + "/plain.html")
		chooseFrom(t, b, "#mail", 1, 0, "Fill in a new alias")
		first := filled(t, v, "#mail")
		if first != s.latest().Address {
			t.Errorf("the field has %q, want %q", first, s.latest().Address)
		}
		chooseFrom(t, b, "#crowded", 1, 1, "Fill in the alias of this site")
		if got := filled(t, v, "#crowded"); got != first {
			t.Errorf("the second field has %q, want %q", got, first)
		}
		chooseFrom(t, b, "h1", 2, 0, "Copy a new alias")
		until(t, "for another alias", func() bool { return s.count() == 2 })
		// The alias is at the server before it is in the clipboard, so it is pasted until it is there.
		until(t, "for the copy", func() bool {
			typeInto(t, v, "#who", "")
			v.key("ctrl+v")
			return value(v, "#who") == s.latest().Address
		})
		chooseFrom(t, b, "h1", 2, 1, "Manage aliases")
		until(t, "for the add-on's page", func() bool { return strings.Contains(strings.Join(b.pages(), "\n"), "/manage.html") })
	})
}

// TestAddonShortcuts: one shortcut fills the field that has the keyboard, one is the click on the toolbar, and one opens the
// add-on's page.
func TestAddonShortcuts(t *testing.T) {
	inWindows(t, func(t *testing.T, b windowAddon, s *aliasServer) {
		shop := newShop(t)
		connectOnly(t, b, s.link())
		v := b.tab()
		v.open(shop.URL + "/plain.html")
		x, y := onScreen(t, v, "#crowded")
		b.desk().click(x, y, 1)
		until(t, "for the keyboard", func() bool { return v.js("document.hasFocus() && document.activeElement.id") == "crowded" })
		b.desk().key("alt+shift+j")
		if got := filled(t, v, "#crowded"); got != s.latest().Address {
			t.Errorf("the field has %q, want %q", got, s.latest().Address)
		}
		b.desk().key("alt+shift+u")
		until(t, "for a second alias", func() bool { return s.count() == 2 })
		p := b.popup()
		until(t, "for the copy", func() bool { return strings.Contains(words(p), copiedWords) })
		b.closePopup(p)
		if got := pasted(t, v); got != s.latest().Address {
			t.Errorf("the clipboard has %q, want %q", got, s.latest().Address)
		}
		b.desk().key("alt+shift+k")
		until(t, "for the add-on's page", func() bool { return strings.Contains(strings.Join(b.pages(), "\n"), "/manage.html") })
	})
}

// TestAddonQuestion: the browser asks a person whether the add-on may work on sites. After a no the add-on says what that means (that it
// works without is in TestAddonMenu); after a yes, in Firefox, its button is beside the field and fills it. Chromium's question
// does not take a yes reliably from a keyboard that is not a person's.
func TestAddonQuestion(t *testing.T) {
	inWindows(t, func(t *testing.T, b windowAddon, s *aliasServer) {
		shop := newShop(t)
		connectOnly(t, b, s.link())
		v := b.tab()
		press(t, v, "#allSites")
		refused := func() bool {
			return strings.Contains(text(v, "#status"), "Not allowed: there is no button beside fields. The toolbar, the menu of a field and the shortcuts work as before.")
		}
		b.refuse(refused)
		if got := text(v, "#siteList"); got != "" {
			t.Errorf("after a no it works on %q", got)
		}
		f, ok := b.(*firefoxWindow)
		if !ok {
			return
		}
		until(t, "for the first question to be gone", func() bool {
			return f.window().js("PopupNotifications.panel.state + ' ' + (Services.focus.activeWindow === window)") == "closed true"
		})
		press(t, v, "#allSites")
		f.allow()
		until(t, "for the sites", func() bool { return strings.Contains(text(v, "#siteList"), "all sites") })
		v.open(shop.URL + "/plain.html")
		pressAlias(t, b, "#mail")
		if got := filled(t, v, "#mail"); got != s.latest().Address {
			t.Errorf("the field has %q, want %q", got, s.latest().Address)
		}
	})
}
