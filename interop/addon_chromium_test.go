package interop

import (
	"errors"
	"strings"
	"testing"
)

// chromiumAddon is a Chromium with the add-on.
type chromiumAddon struct {
	*browser
	id   string // of the add-on
	page string // target of the tab
	main string // session of the tab
}

// startChromiumAddon loads the add-on from its folder. It may put its button on pages of this machine, as after the
// question whether it may, which nobody can answer in a browser without a window.
func startChromiumAddon(t testing.TB, change func(dir string, manifest map[string]any), flags ...string) *chromiumAddon {
	t.Helper()
	c := &chromiumAddon{browser: launchBrowser(t, append(flags, addonFlags...)...)}
	c.load(addonCopy(t, func(dir string, manifest map[string]any) {
		manifest["host_permissions"] = []string{"http://127.0.0.1/*"}
		if change != nil {
			change(dir, manifest)
		}
	}))
	before := c.tabs()
	c.newPage(1000, 800, false)
	c.main = c.session
	for id := range c.tabs() {
		if !before[id] {
			c.page = id
		}
	}
	return c
}

var addonFlags = []string{"--enable-unsafe-extension-debugging", "--lang=en-US"}

func (c *chromiumAddon) load(dir string) {
	c.t.Helper()
	var loaded struct{ ID string }
	c.do(&loaded, "Extensions.loadUnpacked", map[string]any{"path": dir})
	c.id = loaded.ID
}

// tabs gives the targets of the browser's tabs.
func (c *chromiumAddon) tabs() map[string]bool {
	c.t.Helper()
	var r struct{ TargetInfos []struct{ TargetID string } }
	c.session = ""
	c.do(&r, "Target.getTargets", map[string]any{"filter": []map[string]any{{"type": "tab"}}})
	ids := map[string]bool{}
	for _, i := range r.TargetInfos {
		ids[i.TargetID] = true
	}
	return ids
}

func (c *chromiumAddon) tab() view { return chromiumView{c.browser, c.main} }

func (c *chromiumAddon) manage() { c.tab().open("chrome-extension://" + c.id + "/manage.html") }

func (c *chromiumAddon) toolbar() {
	c.t.Helper()
	c.session = ""
	c.do(nil, "Extensions.triggerAction", map[string]any{"id": c.id, "targetId": c.page})
}

// popup is what the button on the toolbar has opened.
func (c *chromiumAddon) popup() view {
	c.t.Helper()
	v := chromiumView{b: c.browser}
	until(c.t, "for what the toolbar opens", func() bool {
		var r struct {
			TargetInfos []struct {
				TargetID, URL string
				Attached      bool
			}
		}
		c.session = ""
		c.do(&r, "Target.getTargets", nil)
		for _, i := range r.TargetInfos {
			if strings.HasSuffix(i.URL, "/popup.html") && !i.Attached {
				var a struct{ SessionID string }
				c.do(&a, "Target.attachToTarget", map[string]any{"targetId": i.TargetID, "flatten": true})
				v.session = a.SessionID
				return true
			}
		}
		return false
	})
	return v
}

// closePopup ends what the toolbar opened.
func (c *chromiumAddon) closePopup(v view) {
	c.t.Helper()
	v.js("setTimeout(() => close())")
}

func (c *chromiumAddon) aliasButton(field string) (x, y float64, ok bool) {
	c.t.Helper()
	left, top, right, bottom := box(c.t, c.tab(), field)
	c.session = c.main
	var tree struct {
		Nodes []struct {
			Role, Name       struct{ Value any }
			BackendDOMNodeID int `json:"backendDOMNodeId"`
			Ignored          bool
		}
	}
	c.do(&tree, "Accessibility.getFullAXTree", nil)
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role.Value != "button" || n.Name.Value != "Alias for this field" {
			continue
		}
		var r struct{ Model struct{ Border []float64 } }
		c.do(&r, "DOM.getBoxModel", map[string]any{"backendNodeId": n.BackendDOMNodeID})
		q := r.Model.Border
		x, y = (q[0]+q[4])/2, (q[1]+q[5])/2
		if y > top && y < bottom && x > left-40 && x < right+40 {
			return x, y, true
		}
	}
	return 0, 0, false
}

// chromiumView is one page.
type chromiumView struct {
	b       *browser
	session string
}

func (v chromiumView) do(out any, method string, params map[string]any) {
	v.b.t.Helper()
	v.b.session = v.session
	v.b.do(out, method, params)
}

func (v chromiumView) js(expression string) string {
	v.b.t.Helper()
	out, err := v.evaluate(expression)
	if err != nil {
		v.b.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

func (v chromiumView) ask(expression string) string {
	v.b.t.Helper()
	out, _ := v.evaluate(expression)
	return out
}

func (v chromiumView) evaluate(expression string) (string, error) {
	v.b.t.Helper()
	var r struct {
		Result           jsValue
		ExceptionDetails *struct{ Text string }
	}
	v.b.session = v.session
	err := v.b.try(&r, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if err == nil && r.ExceptionDetails != nil {
		err = errors.New(r.ExceptionDetails.Text)
	}
	if err != nil {
		return "", err
	}
	return r.Result.text(), nil
}

func (v chromiumView) mouse(x, y float64) {
	v.b.t.Helper()
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		v.do(nil, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": map[bool]string{true: "none", false: "left"}[kind == "mouseMoved"], "clickCount": 1})
	}
}

func (v chromiumView) key(name string) {
	v.b.t.Helper()
	modifiers := 0
	for prefix, bit := range map[string]int{"shift+": 8, "ctrl+": 2} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name, modifiers = rest, modifiers|bit
		}
	}
	codes := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "a": 65, "v": 86, "c": 67}
	p := map[string]any{"key": name, "code": name, "windowsVirtualKeyCode": codes[name], "modifiers": modifiers}
	if name == "Enter" {
		p["text"] = "\r"
	}
	if modifiers == 2 { // the editor's own commands, which a system without a window does not send
		p["commands"] = map[string][]string{"a": {"selectAll"}, "v": {"paste"}, "c": {"copy"}}[name]
	}
	p["type"] = "keyDown"
	v.do(nil, "Input.dispatchKeyEvent", p)
	delete(p, "commands")
	p["type"] = "keyUp"
	v.do(nil, "Input.dispatchKeyEvent", p)
}

func (v chromiumView) write(text string) {
	v.b.t.Helper()
	v.do(nil, "Input.insertText", map[string]any{"text": text})
}

func (v chromiumView) open(url string) {
	v.b.t.Helper()
	goTo(v.b.t, v, url, func() {
		var r struct{ ErrorText string }
		v.do(&r, "Page.navigate", map[string]any{"url": url})
		if r.ErrorText != "" {
			v.b.t.Fatalf("%s: %s", url, r.ErrorText)
		}
	})
}

func (v chromiumView) picture(path string) {
	v.b.t.Helper()
	v.b.session = v.session
	v.b.screenshot(path)
}
