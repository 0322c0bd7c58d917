package interop

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"postern.email/kit/tooltest"
)

// firefoxAddon is a Firefox with the add-on, driven by WebDriver BiDi.
type firefoxAddon struct {
	t    testing.TB
	conn *websocket.Conn
	n    int
	main string // context of the tab
	ui   string // context of the browser's own window
}

// addonOrigin is the add-on's in every Firefox of the tests: else each installation draws one.
const addonOrigin = "6d9e4f60-52b1-4e39-9d5c-2f1f3c7a8b10"

// startFirefoxAddon installs the add-on from its folder. The browser's questions about sites are answered with yes.
func startFirefoxAddon(t testing.TB) *firefoxAddon {
	t.Helper()
	return startFirefoxOn(t, "", addonCopy(t, nil), map[string]any{"extensions.webextOptionalPermissionPrompts": false})
}

// startFirefoxOn installs the add-on from a folder in a Firefox with a window on a display, or without one. Further
// preferences are set.
func startFirefoxOn(t testing.TB, display, dir string, more map[string]any) *firefoxAddon {
	t.Helper()
	tool := tooltest.Tool(t, "firefox-esr", "firefox")
	profile := t.TempDir()
	prefs := map[string]any{
		"extensions.webextensions.uuids":                  `{"addon@postern.email":"` + addonOrigin + `"}`,
		"browser.shell.checkDefaultBrowser":               false,
		"datareporting.policy.dataSubmissionEnabled":      false,
		"toolkit.telemetry.reportingpolicy.firstRun":      false,
		"app.update.disabledForTesting":                   true,
		"app.normandy.enabled":                            false,
		"extensions.update.enabled":                       false,
		"extensions.getAddons.cache.enabled":              false,
		"extensions.systemAddon.update.enabled":           false,
		"extensions.blocklist.enabled":                    false,
		"network.captive-portal-service.enabled":          false,
		"network.connectivity-service.enabled":            false,
		"network.dns.disablePrefetch":                     true,
		"browser.safebrowsing.malware.enabled":            false,
		"browser.safebrowsing.phishing.enabled":           false,
		"browser.safebrowsing.downloads.enabled":          false,
		"browser.safebrowsing.provider.mozilla.updateURL": "",
		"services.settings.server":                        "data:,#remote-settings-dummy/v1",
		"browser.region.network.url":                      "",
		"browser.newtabpage.enabled":                      false,
		"dom.input_events.security.minNumTicks":           0, // else what is done at once to a new page is dropped
		"dom.input_events.security.minTimeElapsedInMS":    0,
		"focusmanager.testmode":                           true, // its window has the keyboard, whatever the system says
		"browser.startup.page":                            0,
		"intl.locale.requested":                           "en-US",
	}
	maps.Copy(prefs, more)
	var user strings.Builder
	for k, v := range prefs {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&user, "user_pref(%q, %s);\n", k, raw)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(user.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "--remote-allow-system-access", "about:blank")
	cmd.Env = append(os.Environ(), "MOZ_HEADLESS_WIDTH=1100", "MOZ_HEADLESS_HEIGHT=900", "HOME="+t.TempDir(), "MOZ_DISABLE_CONTENT_SANDBOX=1")
	if display == "" {
		cmd.Args = append(cmd.Args, "--headless")
	} else {
		cmd.Args = append(cmd.Args, "--width", "1100", "--height", "850")
		cmd.Env = append(cmd.Env, "DISPLAY="+display, "GDK_BACKEND=x11", "LIBGL_ALWAYS_SOFTWARE=1")
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	where := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		line := regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)
		lines := bufio.NewScanner(errs)
		for lines.Scan() {
			if m := line.FindStringSubmatch(lines.Text()); m != nil {
				where <- m[1]
			}
		}
	}()
	f := &firefoxAddon{t: t}
	t.Cleanup(func() {
		if f.conn != nil {
			f.conn.CloseNow()
		}
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	select {
	case url := <-where:
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, _, err := websocket.Dial(ctx, url+"/session", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadLimit(64 << 20)
		f.conn = conn
	case <-drained:
		t.Fatal("Firefox ended")
	case <-time.After(patience):
		t.Fatal("Firefox did not say where it listens")
	}
	f.do(nil, "session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}})
	f.do(nil, "webExtension.install", map[string]any{"extensionData": map[string]any{"type": "path", "path": dir}})
	f.main = f.contexts("")
	f.ui = f.contexts("chrome")
	f.do(nil, "browsingContext.activate", map[string]any{"context": f.main}) // else the address bar has the keyboard
	return f
}

// contexts gives the first context of a scope: "" is tabs, "chrome" the browser's own windows.
func (f *firefoxAddon) contexts(scope string) string {
	f.t.Helper()
	p := map[string]any{"maxDepth": 0}
	if scope != "" {
		p["moz:scope"] = scope
	}
	var r struct {
		Contexts []struct{ Context, URL string }
	}
	f.do(&r, "browsingContext.getTree", p)
	for _, c := range r.Contexts {
		if scope == "" || strings.HasSuffix(c.URL, "/browser.xhtml") {
			return c.Context
		}
	}
	f.t.Fatalf("no context of %q: %v", scope, r)
	return ""
}

// do calls one method of the protocol.
func (f *firefoxAddon) do(out any, method string, params map[string]any) {
	f.t.Helper()
	if err := f.try(out, method, params); err != nil {
		f.t.Fatal(err)
	}
}

func (f *firefoxAddon) try(out any, method string, params map[string]any) error {
	f.n++
	raw, err := json.Marshal(map[string]any{"id": f.n, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if err := f.conn.Write(ctx, websocket.MessageText, raw); err != nil {
		return err
	}
	for {
		_, raw, err := f.conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var m struct {
			ID             int
			Type           string
			Error, Message string
			Result         json.RawMessage
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		switch {
		case m.ID != f.n:
		case m.Type == "error":
			return fmt.Errorf("%s: %s: %s", method, m.Error, m.Message)
		case out != nil:
			return json.Unmarshal(m.Result, out)
		default:
			return nil
		}
	}
}

func (f *firefoxAddon) tab() view { return firefoxView{f, f.main} }

// window is the browser's own window: its toolbar, menus and questions.
func (f *firefoxAddon) window() view { return firefoxView{f, f.ui} }

func (f *firefoxAddon) manage() { f.tab().open("moz-extension://" + addonOrigin + "/manage.html") }

func (f *firefoxAddon) toolbar() {
	f.t.Helper()
	press(f.t, f.window(), "#addon_postern_email-BAP")
}

// aliasButton looks where the button stands: closed shadow roots are closed to WebDriver, too.
func (f *firefoxAddon) aliasButton(field string) (x, y float64, ok bool) {
	f.t.Helper()
	left, top, right, bottom := box(f.t, f.tab(), field)
	y = (top + bottom) / 2
	for _, x := range []float64{right + 16, left - 16} {
		// What is there is no element of the page, and the size of the button.
		hit := f.tab().js(fmt.Sprintf(`(() => { const el = document.elementFromPoint(%f, %f); if (!el || el.parentElement !== document.body || el.localName !== 'div') return ''; const r = el.getBoundingClientRect(); return r.width === 24 && r.height === 24 ? 'button' : ''; })()`, x, y))
		if hit == "button" {
			return x, y, true
		}
	}
	return 0, 0, false
}

// firefoxView is one page, or the browser's window.
type firefoxView struct {
	f       *firefoxAddon
	context string
}

func (v firefoxView) js(expression string) string {
	v.f.t.Helper()
	out, err := v.evaluate(expression)
	if err != nil {
		v.f.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

func (v firefoxView) ask(expression string) string {
	out, _ := v.evaluate(expression)
	return out
}

func (v firefoxView) evaluate(expression string) (string, error) {
	var r struct {
		Type             string
		Result           jsValue
		ExceptionDetails struct{ Text string }
	}
	err := v.f.try(&r, "script.evaluate", map[string]any{"expression": expression, "target": map[string]any{"context": v.context}, "awaitPromise": true})
	if err == nil && r.Type == "exception" {
		err = errors.New(r.ExceptionDetails.Text)
	}
	if err != nil {
		return "", err
	}
	return r.Result.text(), nil
}

func (v firefoxView) act(kind string, actions ...map[string]any) {
	v.f.t.Helper()
	v.f.do(nil, "input.performActions", map[string]any{"context": v.context, "actions": []map[string]any{{"type": kind, "id": kind, "actions": actions}}})
}

func (v firefoxView) mouse(x, y float64) {
	v.f.t.Helper()
	v.click(x, y, 0)
}

func (v firefoxView) click(x, y float64, button int) {
	v.f.t.Helper()
	if v.context == v.f.ui { // WebDriver's actions are for pages alone: the window's own way to take a click
		v.js(fmt.Sprintf(`(async () => { const { event } = ChromeUtils.importESModule('chrome://remote/content/shared/webdriver/Event.sys.mjs');
 for (const type of ['mousemove', 'mousedown', 'mouseup']) await event.synthesizeMouseAtPoint(%f, %f, { type, button: %d, clickCount: 1 }, window); })()`, x, y, button))
		return
	}
	v.act("pointer", map[string]any{"type": "pointerMove", "x": int(x), "y": int(y)},
		map[string]any{"type": "pointerDown", "button": button}, map[string]any{"type": "pointerUp", "button": button})
}

// bidiKeys are the keys that have no character (WebDriver, table of normalised keys).
var bidiKeys = map[string]string{"Tab": "\ue004", "Enter": "\ue006", "Escape": "\ue00c", "ArrowDown": "\ue015", "ArrowUp": "\ue013", "shift": "\ue008", "ctrl": "\ue009", "alt": "\ue00a"}

func (v firefoxView) key(name string) {
	v.f.t.Helper()
	parts := strings.Split(name, "+")
	var down, up []map[string]any
	for _, p := range parts {
		if k := bidiKeys[p]; k != "" {
			p = k
		}
		down = append(down, map[string]any{"type": "keyDown", "value": p})
		up = append([]map[string]any{{"type": "keyUp", "value": p}}, up...)
	}
	v.act("key", append(down, up...)...)
}

func (v firefoxView) write(text string) {
	v.f.t.Helper()
	for _, r := range text {
		v.act("key", map[string]any{"type": "keyDown", "value": string(r)}, map[string]any{"type": "keyUp", "value": string(r)})
	}
}

func (v firefoxView) open(url string) {
	v.f.t.Helper()
	goTo(v.f.t, v, url, func() {
		v.f.do(nil, "browsingContext.navigate", map[string]any{"context": v.context, "url": url, "wait": "none"})
	})
}

func (v firefoxView) picture(path string) {
	v.f.t.Helper()
	var r struct{ Data string }
	v.f.do(&r, "browsingContext.captureScreenshot", map[string]any{"context": v.context})
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(path, png, 0o600)
	}
	if err != nil {
		v.f.t.Fatal(err)
	}
}
