package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// view is one page of a browser: a tab, or what the add-on's button on the toolbar opens. What a person does is done
// with the mouse and the keyboard; js only looks.
type view interface {
	js(expression string) string  // its value as text; "undefined" if there is none
	ask(expression string) string // as js; "" also between two pages, where nobody answers
	mouse(x, y float64)           // one click, in CSS pixels of the page
	key(name string)              // "Tab", "Enter", "Escape", "a" …, with "shift+" or "ctrl+" before it
	write(text string)
	open(url string)
	picture(path string)
}

// goTo goes to a page and waits until it is there. The page is asked for that: what browsers say of pages that are loaded
// may be of the one before, such as that behind a form just sent in, and Firefox may never say it of the one after.
func goTo(t testing.TB, v view, url string, navigate func()) {
	t.Helper()
	const mark = "theTestLeavesThisPage"
	v.ask("window." + mark + " = true")
	navigate()
	until(t, "for "+url, func() bool {
		return v.ask("window."+mark+" ? '' : document.readyState + ' ' + location.href") == "complete "+url
	})
}

// jsValue is what a script gave, as both browsers' protocols write it.
type jsValue struct {
	Type  string
	Value json.RawMessage
}

// text is as in view.js.
func (v jsValue) text() string {
	var s string
	if json.Unmarshal(v.Value, &s) == nil {
		return s
	}
	if len(v.Value) == 0 {
		return v.Type
	}
	return string(v.Value)
}

// addonBrowser is a browser with the add-on installed.
type addonBrowser interface {
	tab() view
	// toolbar clicks the add-on's button on the toolbar.
	toolbar()
	// popup is what that has opened.
	popup() view
	closePopup(popup view)
	// manage opens the add-on's own page in the tab.
	manage()
	// aliasButton gives the middle of the add-on's button beside a field of the tab; ok is false while there is none.
	aliasButton(field string) (x, y float64, ok bool)
}

// deepJS finds an element, also in open shadow roots.
const deepJS = `(() => { const deep = (root) => { const hit = root.querySelector(%q); if (hit) return hit;
 for (const el of root.querySelectorAll('*')) if (el.shadowRoot) { const inner = deep(el.shadowRoot); if (inner) return inner; } return null; };
 const el = deep(document); if (!el) return undefined; %s })()`

func look(v view, selector, body string) string { return v.js(fmt.Sprintf(deepJS, selector, body)) }

func value(v view, selector string) string { return look(v, selector, "return el.value;") }

func text(v view, selector string) string { return look(v, selector, "return el.innerText;") }

// box gives the place of an element in the page's pixels.
func box(t testing.TB, v view, selector string) (left, top, right, bottom float64) {
	t.Helper()
	out := look(v, selector, "el.scrollIntoView({block: 'nearest'}); const r = el.getBoundingClientRect(); if (!r.width) return undefined; return JSON.stringify([r.left, r.top, r.right, r.bottom]);")
	var r [4]float64
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%s has no place on the page: %s\n%s", selector, out, v.js("document.body.innerText"))
	}
	return r[0], r[1], r[2], r[3]
}

// press clicks an element, once it is to be seen.
func press(t testing.TB, v view, selector string) {
	t.Helper()
	until(t, "to see "+selector, func() bool {
		return v.ask(fmt.Sprintf(deepJS, selector, "return el.getClientRects().length > 0 && !el.disabled;")) == "true"
	})
	left, top, right, bottom := box(t, v, selector)
	v.mouse((left+right)/2, (top+bottom)/2)
}

// typeInto writes into a field. A click gives a page the keyboard only once its browser has come so far, so both are
// repeated until the field has the text.
func typeInto(t testing.TB, v view, selector, text string) {
	t.Helper()
	until(t, "to write into "+selector, func() bool {
		press(t, v, selector)
		if look(v, selector, "return el.getRootNode().activeElement === el;") != "true" {
			return false
		}
		if text == "" {
			return true
		}
		v.key("ctrl+a")
		v.write(text)
		return value(v, selector) == text
	})
}

// pressNamed clicks the button with a name.
func pressNamed(t testing.TB, v view, name string) {
	t.Helper()
	script := fmt.Sprintf(`(() => { for (const b of document.querySelectorAll('button')) if (b.getClientRects().length && (b.textContent === %q || b.ariaLabel === %q)) {
 b.scrollIntoView({block: 'nearest'}); const r = b.getBoundingClientRect(); return JSON.stringify([r.left + r.width / 2, r.top + r.height / 2]); } })()`, name, name)
	var at [2]float64
	until(t, "to see the button "+name, func() bool { return json.Unmarshal([]byte(v.js(script)), &at) == nil })
	v.mouse(at[0], at[1])
}

// until waits for something that happens soon.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-limit.C:
			t.Fatalf("waited in vain %s", what)
		}
	}
}

// pressAlias clicks the add-on's button beside a field.
func pressAlias(t testing.TB, b addonBrowser, field string) {
	t.Helper()
	var x, y float64
	until(t, "for the add-on's button at "+field, func() (ok bool) {
		x, y, ok = b.aliasButton(field)
		return ok
	})
	b.tab().mouse(x, y)
}

// addonCopy is the built add-on in a folder of its own, changed by change. Its path is given.
func addonCopy(t testing.TB, change func(dir string, manifest map[string]any)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "addon")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "addon", "dist"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "manifest.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var manifest map[string]any
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(dir, manifest)
	}
	if raw, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// picture keeps a picture of a page, if POSTERN_SCREENSHOTS says where.
func picture(t testing.TB, v view, name string) {
	t.Helper()
	pictureOf(t, name, v.picture)
}

func pictureOf(t testing.TB, name string, take func(path string)) {
	t.Helper()
	if dir := os.Getenv("POSTERN_SCREENSHOTS"); dir != "" {
		take(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".png"))
	}
}

// words gives all that a page says.
func words(v view) string { return v.js("document.body?.innerText ?? ''") }
