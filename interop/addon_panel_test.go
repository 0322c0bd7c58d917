package interop

import (
	"encoding/json"
	"fmt"
	"strings"
)

// firefoxPanel is what the add-on's button on Firefox's toolbar opens. It is no page that WebDriver knows: it is looked at
// through the browser's own window, and the mouse and the keyboard are those of that window.
type firefoxPanel struct{ f *firefoxAddon }

// panelSilent is said of a script that nobody answers: its page was moved into the panel meanwhile.
const panelSilent = "the panel is silent"

const panelElement = `document.querySelector('.webextension-popup-browser')`

// popup is what the button on the toolbar has opened.
func (f *firefoxAddon) popup() view {
	f.t.Helper()
	p := firefoxPanel{f}
	until(f.t, "for what the toolbar opens", func() bool {
		return f.window().ask(panelElement+`?.closest('panel')?.state`) == "open" && p.ask("document.readyState") == "complete"
	})
	return p
}

// closePopup clicks elsewhere.
func (f *firefoxAddon) closePopup(view) {
	f.t.Helper()
	f.window().mouse(300, 60)
	until(f.t, "for the panel to close", func() bool { return f.window().ask(`!`+panelElement) == "true" })
}

// script evaluates in the panel, whose policy forbids eval: the expression is a script of its own there.
func (p firefoxPanel) script(expression string) string {
	const run = `new Promise((yes, no) => { const from = %s?.messageManager; if (!from) { no(new Error('no panel')); return; }
 const name = 'looked' + Math.random(), text = %s;
 setTimeout(() => no(new Error('%s')), 3000);
 from.addMessageListener(name, function hear(m) { from.removeMessageListener(name, hear); m.data.error ? no(new Error(m.data.error)) : yes(m.data.value); });
 from.loadFrameScript('data:text/javascript;charset=utf-8,' + encodeURIComponent('{ let answer; try { const value = ((document, window, location) => (' + text + '))(content.document, content, content.location);'
 + ' answer = { value: value === undefined ? "undefined" : String(value) }; } catch (e) { answer = { error: String(e) }; } sendAsyncMessage("' + name + '", answer); }'), false); })`
	quoted, _ := json.Marshal(expression) // a string always can be
	return fmt.Sprintf(run, panelElement, quoted, panelSilent)
}

func (p firefoxPanel) js(expression string) string {
	p.f.t.Helper()
	var out string
	var err error
	until(p.f.t, "for the panel", func() bool {
		out, err = firefoxView{p.f, p.f.ui}.evaluate(p.script(expression))
		return err == nil || !strings.Contains(err.Error(), panelSilent)
	})
	if err != nil {
		p.f.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

func (p firefoxPanel) ask(expression string) string { return p.f.window().ask(p.script(expression)) }

func (p firefoxPanel) mouse(x, y float64) {
	p.f.t.Helper()
	var at [2]float64
	if err := json.Unmarshal([]byte(p.f.window().js(`(() => { const r = `+panelElement+`.getBoundingClientRect(); return JSON.stringify([r.left, r.top]); })()`)), &at); err != nil {
		p.f.t.Fatal(err)
	}
	p.f.window().mouse(at[0]+x, at[1]+y)
}

// windowKey has names and codes of the keys that the tests press in the window (UI Events, KeyboardEvent).
func windowKey(name string) map[string]any {
	codes := map[string]int{"ctrl": 17, "shift": 16, "Enter": 13, "Tab": 9, "Escape": 27, "a": 65, "c": 67, "v": 86}
	key := map[string]string{"ctrl": "Control", "shift": "Shift"}[name]
	if key == "" {
		key = name
	}
	return map[string]any{"key": key, "keyCode": codes[name]}
}

// press holds the keys down, the first one first, and lets them go.
func (p firefoxPanel) press(chords ...[]map[string]any) {
	p.f.t.Helper()
	raw, err := json.Marshal(chords)
	if err != nil {
		p.f.t.Fatal(err)
	}
	p.f.window().js(fmt.Sprintf(`(() => { const tip = Cc['@mozilla.org/text-input-processor;1'].createInstance(Ci.nsITextInputProcessor);
 if (!tip.beginInputTransactionForTests(window)) throw new Error('the window has no keyboard');
 for (const chord of %s) { const keys = chord.map((k) => new KeyboardEvent('', k)); for (const k of keys) tip.keydown(k); for (const k of keys.reverse()) tip.keyup(k); } })()`, raw))
}

func (p firefoxPanel) key(name string) {
	p.f.t.Helper()
	var chord []map[string]any
	for part := range strings.SplitSeq(name, "+") {
		chord = append(chord, windowKey(part))
	}
	p.press(chord)
}

func (p firefoxPanel) write(text string) {
	p.f.t.Helper()
	var chords [][]map[string]any
	for _, r := range text {
		chords = append(chords, []map[string]any{windowKey(string(r))})
	}
	p.press(chords...)
}

func (p firefoxPanel) open(url string) {
	p.f.t.Helper()
	p.f.t.Fatalf("the panel opens no %s", url)
}

func (p firefoxPanel) picture(path string) {
	p.f.t.Helper()
	p.f.window().js(fmt.Sprintf(`(async () => { const bitmap = await %s.browsingContext.currentWindowGlobal.drawSnapshot(null, 2, 'white');
 const canvas = new OffscreenCanvas(bitmap.width, bitmap.height); canvas.getContext('2d').drawImage(bitmap, 0, 0);
 const blob = await canvas.convertToBlob(); await IOUtils.write(%q, new Uint8Array(await blob.arrayBuffer())); })()`, panelElement, path))
}
