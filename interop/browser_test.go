package interop

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"postern.email/kit/tooltest"
)

// browser is one page of a headless Chromium, driven by the DevTools protocol
// over a pipe (messages end with a NUL byte).
type browser struct {
	t       testing.TB
	to      *os.File
	in      chan browserMessage
	id      int
	session string
	events  []browserMessage // read while waiting for a reply
	args    []string         // that it was started with
}

type browserMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// startBrowser opens an empty page of the given size. Scripts are off.
func startBrowser(t testing.TB, width, height int, mobile bool) *browser {
	t.Helper()
	b := launchBrowser(t)
	b.newPage(width, height, mobile)
	b.do(nil, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	return b
}

// launchBrowser starts a Chromium without a page and without a window, with further flags.
func launchBrowser(t testing.TB, flags ...string) *browser {
	t.Helper()
	return launchBrowserOn(t, "", flags...)
}

// launchBrowserOn starts one with a window on a display.
func launchBrowserOn(t testing.TB, display string, flags ...string) *browser {
	t.Helper()
	tool := tooltest.Tool(t, "chromium", "chromium-browser", "google-chrome")
	toChild, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, fromChild, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, append([]string{"--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--ignore-certificate-errors", "--no-first-run", "--disable-background-networking",
		"--user-data-dir=" + t.TempDir()}, append(flags, "about:blank")...)...)
	if display == "" {
		cmd.Args = append(cmd.Args, "--headless=new")
	} else {
		cmd.Env = append(os.Environ(), "DISPLAY="+display)
		cmd.Args = append(cmd.Args, "--ozone-platform=x11", "--window-position=0,0", "--window-size=1100,850")
	}
	cmd.ExtraFiles = []*os.File{toChild, fromChild} // file descriptors 3 and 4
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toChild.Close()
	fromChild.Close()
	b := &browser{t: t, to: to, args: cmd.Args, in: make(chan browserMessage, 1024)}
	go func() {
		defer close(b.in)
		r := bufio.NewReaderSize(from, 1<<20)
		for {
			text, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m browserMessage
			if json.Unmarshal(text[:len(text)-1], &m) == nil {
				b.in <- m
			}
		}
	}()
	t.Cleanup(func() {
		to.Close() // the browser ends with its pipe
		timer := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		from.Close()
		for range b.in { //nolint:revive // until the reader has ended
		}
	})
	return b
}

// newPage opens an empty page and goes to it.
func (b *browser) newPage(width, height int, mobile bool) string {
	b.t.Helper()
	var target struct{ TargetID string }
	b.do(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	b.do(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	b.session = attached.SessionID
	b.do(nil, "Page.enable", nil)
	b.do(nil, "DOM.enable", nil)
	b.do(nil, "Security.setIgnoreCertificateErrors", map[string]any{"ignore": true})
	b.do(nil, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height,
		"deviceScaleFactor": 2, "mobile": mobile})
	return target.TargetID
}

func (b *browser) next(limit time.Duration) browserMessage {
	b.t.Helper()
	select {
	case m, ok := <-b.in:
		if !ok {
			b.t.Fatal("the browser ended")
		}
		return m
	case <-time.After(limit):
		b.t.Fatalf("the browser said nothing for %v", limit)
	}
	return browserMessage{}
}

// do calls one method of the protocol.
func (b *browser) do(out any, method string, params map[string]any) {
	b.t.Helper()
	if err := b.try(out, method, params); err != nil {
		b.t.Fatal(err)
	}
}

// try gives the browser's own error: some calls come between two pages.
func (b *browser) try(out any, method string, params map[string]any) error {
	b.t.Helper()
	b.id++
	req := map[string]any{"id": b.id, "method": method}
	if params != nil {
		req["params"] = params
	}
	if b.session != "" {
		req["sessionId"] = b.session
	}
	text, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return err
	}
	for {
		m := b.next(30 * time.Second)
		if m.ID != b.id {
			b.events = append(b.events, m)
			continue
		}
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if out != nil {
			return json.Unmarshal(m.Result, out)
		}
		return nil
	}
}

// loaded waits for the next page to be there.
func (b *browser) loaded() {
	b.t.Helper()
	for i, m := range b.events {
		if m.Method == "Page.loadEventFired" {
			b.events = b.events[i+1:]
			return
		}
	}
	b.events = nil
	for b.next(30*time.Second).Method != "Page.loadEventFired" {
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.events = nil
	var r struct{ ErrorText string }
	b.do(&r, "Page.navigate", map[string]any{"url": url})
	if r.ErrorText != "" {
		b.t.Fatalf("%s: %s", url, r.ErrorText)
	}
	b.loaded()
}

// find gives the node that a CSS selector names, or 0.
func (b *browser) find(selector string) int {
	b.t.Helper()
	var doc struct{ Root struct{ NodeID int } }
	b.do(&doc, "DOM.getDocument", nil)
	var node struct{ NodeID int }
	b.do(&node, "DOM.querySelector", map[string]any{"nodeId": doc.Root.NodeID, "selector": selector})
	return node.NodeID
}

func (b *browser) html() string {
	b.t.Helper()
	var r struct{ OuterHTML string }
	b.do(&r, "DOM.getOuterHTML", map[string]any{"nodeId": b.find("html")})
	return r.OuterHTML
}

// box gives the corners of a node: left, top, right, bottom in CSS pixels.
func (b *browser) box(node int) (left, top, right, bottom float64) {
	b.t.Helper()
	b.do(nil, "DOM.scrollIntoViewIfNeeded", map[string]any{"nodeId": node})
	var r struct{ Model struct{ Border []float64 } }
	b.do(&r, "DOM.getBoxModel", map[string]any{"nodeId": node})
	q := r.Model.Border
	return q[0], q[1], q[4], q[5]
}

// click presses the mouse in the middle of a node.
func (b *browser) click(node int) {
	b.t.Helper()
	left, top, right, bottom := b.box(node)
	b.events = nil
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.do(nil, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": (left + right) / 2, "y": (top + bottom) / 2,
			"button": "left", "clickCount": 1})
	}
}

// width gives the width of the page's content in CSS pixels.
func (b *browser) width() int {
	b.t.Helper()
	var r struct {
		CSSContentSize struct{ Width float64 } `json:"cssContentSize"`
	}
	b.do(&r, "Page.getLayoutMetrics", nil)
	return int(r.CSSContentSize.Width)
}

// screenshot writes the whole page to a file.
func (b *browser) screenshot(path string) {
	b.t.Helper()
	var r struct{ Data string }
	b.do(&r, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true})
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(path, png, 0o600)
	}
	if err != nil {
		b.t.Fatal(fmt.Errorf("screenshot: %w", err))
	}
}
