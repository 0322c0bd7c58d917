package alias

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	pages "postern.email/web"
)

// surfer is a browser without JavaScript: a cookie, and forms that are sent as they are found.
type surfer struct {
	t      *testing.T
	s      *Server
	cookie string
	from   string // what the Sec-Fetch-Site field says
	header []string
}

func (b *surfer) send(method, path, body string) *httptest.ResponseRecorder {
	b.t.Helper()
	h := append([]string{"Sec-Fetch-Site: " + b.from}, b.header...)
	if b.cookie != "" {
		h = append(h, "Cookie: "+cookieName+"="+b.cookie)
	}
	if method == "POST" {
		h = append(h, "Content-Type: application/x-www-form-urlencoded")
	}
	w := ask(b.s, method, path, body, h...)
	for _, c := range w.Result().Cookies() {
		if c.Name == cookieName {
			b.cookie = c.Value
		}
	}
	return w
}

// get reads a page, which must be there.
func (b *surfer) get(path string) string {
	b.t.Helper()
	w := b.send("GET", path, "")
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		b.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

var (
	formTag  = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)"[^>]*>(.*?)</form>`)
	inputTag = regexp.MustCompile(`<input[^>]*>`)
	areaTag  = regexp.MustCompile(`(?s)<textarea[^>]* name="([^"]+)"[^>]*>(.*?)</textarea>`)
	pickTag  = regexp.MustCompile(`(?s)<select[^>]* name="([^"]+)"[^>]*>(.*?)</select>`)
	optTag   = regexp.MustCompile(`<option value="([^"]*)"( selected)?>`)
	attrName = regexp.MustCompile(` name="([^"]*)"`)
	attrVal  = regexp.MustCompile(` value="([^"]*)"`)
)

func attr(re *regexp.Regexp, tag string) string {
	if m := re.FindStringSubmatch(tag); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// fields gives what the first form of page sends whose text has the mark word.
func fields(t *testing.T, page, word string) (action string, v url.Values) {
	t.Helper()
	for _, m := range formTag.FindAllStringSubmatch(page, -1) {
		if !strings.Contains(m[0], word) {
			continue
		}
		v = url.Values{}
		for _, tag := range inputTag.FindAllString(m[2], -1) {
			v.Set(attr(attrName, tag), attr(attrVal, tag))
		}
		for _, a := range areaTag.FindAllStringSubmatch(m[2], -1) {
			v.Set(a[1], html.UnescapeString(a[2]))
		}
		for _, p := range pickTag.FindAllStringSubmatch(m[2], -1) {
			for i, o := range optTag.FindAllStringSubmatch(p[2], -1) {
				if i == 0 || o[2] != "" {
					v.Set(p[1], html.UnescapeString(o[1]))
				}
			}
		}
		return html.UnescapeString(m[1]), v
	}
	t.Fatalf("no form with %q on the page:\n%s", word, page)
	return "", nil
}

// press sends the form with the given word, with values set, and follows to the next page.
func (b *surfer) press(page, word string, set ...string) string {
	b.t.Helper()
	action, v := fields(b.t, page, word)
	for i := 0; i < len(set); i += 2 {
		v.Set(set[i], set[i+1])
	}
	w := b.send("POST", action, v.Encode())
	if w.Code != http.StatusSeeOther {
		return w.Body.String()
	}
	return b.get(w.Header().Get("Location"))
}

func (b *surfer) must(page string, want ...string) {
	b.t.Helper()
	for _, x := range want {
		if !strings.Contains(html.UnescapeString(page), x) {
			b.t.Errorf("%q is not on the page:\n%s", x, page)
		}
	}
}

func surf(t *testing.T, f *fake, o Options) *surfer {
	return &surfer{t: t, s: serverOf(t, f, o), from: "same-origin"}
}

// TestPagesTour: log in by password, make an alias, look at it, pause, block, set, delete, undo,
// search, show big, log out: with forms alone.
func TestPagesTour(t *testing.T) {
	f := newFake()
	b := surf(t, f, Options{})
	page := b.get("/aliases")
	b.must(page, "Log in")
	page = b.press(page, "password", "address", login, "password", password)
	b.must(page, "You have no aliases.", "Make an alias")
	page = b.press(page, "Make an alias", "site", "shop.example", "mode", ModePinned, "note", "two\r\nlines", "expires", "2026-12-31", "max_mails", "5", "idle_days", "9", "domain", "alias.example")
	b.must(page, "The alias is made.", "amber-falcon-4821@alias.example", "shop.example", "Ends on 2026-12-31, or after 5 mails, or after 9 days without mail.")
	want := CreateRequest{Site: "shop.example", Mode: ModePinned, Note: "two\nlines", Expires: "2026-12-31", MaxMails: 5, IdleDays: 9, Domain: "alias.example"}
	if f.asked[0] != want || f.who.Login != login {
		t.Errorf("%+v", f.asked)
	}
	page = b.press(page, "Pause", "do", "pause")
	b.must(page, "Paused: mail to it is refused", "Resume")
	page = b.press(page, "Resume", "do", "resume")
	b.must(page, "Resumed", ">Pause<")
	page = b.press(page, "Extend", "do", "extend")
	if c := f.changes[len(f.changes)-1]; *c.Extend != extendDays {
		t.Errorf("%+v", c)
	}
	b.must(page, "Extended by 30 days.")
	page = b.press(page, "A sender or a whole domain", "sender", " @spam.example ", "do", "block")
	b.must(page, "Blocked: mail from there is refused.", "@spam.example", "Take off the list")
	page = b.press(page, `value="@spam.example"`, "do", "allow")
	if c := f.changes[len(f.changes)-1]; c.Allow[0] != "@spam.example" {
		t.Errorf("%+v", c)
	}
	page = b.press(page, `value="@spam.example"`, "do", "forget")
	if c := f.changes[len(f.changes)-1]; c.Forget[0] != "@spam.example" {
		t.Errorf("%+v", c)
	}
	n := len(f.changes)
	page = b.press(page, "Save", "do", "save", "note", "changed")
	b.must(page, "Saved.", "changed")
	if c := f.changes[n]; *c.Note != "changed" || c.Site != nil || c.Label != nil || c.Mode != nil || c.Class != nil || c.Expires != nil || c.MaxMails != nil || c.IdleDays != nil {
		t.Errorf("more than the note was changed: %+v", c)
	}
	big := b.get("/aliases/amber-falcon-4821@alias.example/big")
	b.must(big, "<b>a</b> Alfa", "<b>@</b> at", "<b>4</b> four", "<b>-</b> hyphen")
	checkQR(t, big)
	page = b.press(page, "Delete", "do", "delete")
	b.must(page, "is deleted: mail to it is refused. The address is never given out again.", "Undo")
	if f.aliases["amber-falcon-4821@alias.example"].State != StateDeleted {
		t.Error("it is not deleted")
	}
	b.must(b.get("/aliases/amber-falcon-4821@alias.example"), "You can undo this until 2026-12-27.")
	if strings.Contains(b.get("/aliases"), "amber-falcon-4821@alias.example") {
		t.Error("a deleted one is among the others")
	}
	b.must(b.get("/aliases?deleted=1"), "Deleted aliases", "amber-falcon-4821@alias.example", "Undo deletion")
	b.must(b.get("/aliases?deleted=1&q=nothing"), "No alias fits.")
	page = b.press(page, ">Undo<", "do", "restore")
	b.must(page, "Restored")
	if f.aliases["amber-falcon-4821@alias.example"].State != StateActive {
		t.Error("it is not restored")
	}
	b.must(b.get("/aliases?q=shop"), "amber-falcon-4821@alias.example", "Show all")
	b.must(b.get("/aliases?q=nothing"), "No alias fits.")
	b.must(b.get("/aliases?deleted=1"), "There is no deleted alias that can be restored.")
	page = b.press(b.get("/aliases"), `name="back"`, "do", "pause")
	b.must(page, "Paused: mail to it is refused", "Your aliases")
	page = b.press(page, "Log out")
	b.must(page, "Log in")
	if b.cookie != "" || b.s.sessions.len() != 0 {
		t.Error("the session is still there")
	}
	b.must(b.get("/aliases"), "Log in")
}

// checkQR: the page has a picture of a QR code.
func checkQR(t *testing.T, page string) {
	t.Helper()
	m := regexp.MustCompile(`data:image/png;base64,([^"]+)`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal("no QR code")
	}
	raw, err := base64.StdEncoding.DecodeString(html.UnescapeString(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(raw)); err != nil || img.Bounds().Dx() < 150 {
		t.Errorf("the QR code is no image: %v", err)
	}
}

// TestConnect: the link with the token is shown once; its page looks the same to every guest.
func TestConnect(t *testing.T) {
	f := newFake()
	b := surf(t, f, Options{Base: "https://mail.example.org:8443"})
	guest := b.get(ConnectPath)
	b.must(guest, "Click the add-on’s button")
	if guest != b.get(ConnectPath+"?token="+goodToken) || b.cookie != "" {
		t.Error("the page depends on who asks")
	}
	page := b.press(guest, "password", "password", "wrong", "address", login)
	b.must(page, "Address, password or token is wrong.")
	page = b.press(page, "password", "password", goodToken, "address", "") // leads back to where the link is made
	page = b.press(page, "Make a link")
	link := "https://mail.example.org:8443/aliases/connect#token=" + strings.Repeat("Ef5", 21) + "z"
	b.must(page, `href="`+link+`"`, "It is shown once.")
	checkQR(t, page)
	if got := f.tokens[strings.Repeat("Ef5", 21)+"z"]; len(got) != 3 {
		t.Errorf("scopes %v", got)
	}
	if ConnectLink("https://a.example/", "x") != "https://a.example/aliases/connect#token=x" {
		t.Error(ConnectLink("https://a.example/", "x"))
	}
	b = surf(t, f, Options{})
	b.press(b.get("/aliases"), "password", "password", makeToken)
	if page := b.press(b.get(ConnectPath), "Make a link"); strings.Contains(page, "#token=") {
		t.Error("a token that may only make aliases made one that may more")
	} else {
		b.must(page, "This token may not do that.")
	}
}

// TestRevoke: the page lists the tokens that count, without themselves, and ends them; who may not see them sees none.
func TestRevoke(t *testing.T) {
	f := newFake()
	b := surf(t, f, Options{})
	b.press(b.get("/aliases"), "password", "address", login, "password", password)
	page := b.get(ConnectPath)
	b.must(page, "Tokens that count", "name Cd4", "It may make aliases. Made on 2026-11-01, last used on 2026-11-02.", "It may make aliases, see them, change them.")
	if strings.Contains(page, makeToken) {
		t.Error("a token is shown")
	}
	page = b.press(page, `value="id-Cd4"`)
	b.must(page, "The token is void.")
	if f.tokens[makeToken] != nil || strings.Contains(page, "name Cd4") {
		t.Error("it is there")
	}
	action, v := fields(t, page, `value="id-Ab3"`)
	v.Set("id", "other")
	if w := b.send("POST", action, v.Encode()); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
	f.tokens[makeToken] = []string{ScopeCreate}
	b = surf(t, f, Options{})
	b.press(b.get("/aliases"), "password", "password", makeToken)
	if page := b.get(ConnectPath); strings.Contains(page, "Tokens that count") {
		t.Error("a token that may only make aliases sees the others")
	}
	if got := showToken(Token{Created: "2026-11-01"}); got.Title != "Token without a name" || !strings.HasSuffix(got.May, "never used.") {
		t.Errorf("%+v", got)
	}
}

// TestLogin: what is wrong is said, alike for all that can be wrong; nothing is kept of it.
func TestLogin(t *testing.T) {
	f := newFake()
	b := surf(t, f, Options{})
	page := b.get("/aliases")
	for _, x := range [][2]string{{login, "wr0ng-one"}, {"nobody@example.org", password}, {"", strings.Repeat("x", 64)}, {"", ""}, {login, ""}, {login, strings.Repeat("x", maxCredential)}, {login, "a\x00b"}} {
		action, v := fields(t, page, "password")
		v.Set("address", x[0])
		v.Set("password", x[1])
		w := b.send("POST", action, v.Encode())
		if w.Code != http.StatusForbidden || b.cookie != "" {
			t.Errorf("%.30q: %d", x, w.Code)
		}
		b.must(w.Body.String(), "Address, password or token is wrong.", `value="`+x[0]+`"`)
		if x[1] != "" && strings.Contains(w.Body.String(), x[1]) {
			t.Error("the password is on the page")
		}
	}
	f.fail = errs.E("x", errs.Busy, "", nil)
	action, v := fields(t, page, "password")
	v.Set("password", goodToken)
	if w := b.send("POST", action, v.Encode()); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d", w.Code)
	} else {
		b.must(w.Body.String(), "That was too often in a short time.", "Aliases and mail are as they were.")
	}
	f.fail = nil
	v.Set("password", " "+goodToken+"\n")
	w := b.send("POST", action, v.Encode())
	c := w.Result().Cookies()
	if w.Code != 303 || len(c) != 1 || !c[0].HttpOnly || !c[0].Secure || c[0].SameSite != http.SameSiteStrictMode || c[0].Path != "/" || c[0].Domain != "" || c[0].MaxAge != 0 || !c[0].Expires.IsZero() {
		t.Errorf("%d %+v", w.Code, c)
	}
	if f.who.Token != goodToken {
		t.Error("a pasted token is taken with its line end")
	}
	before := b.cookie
	if b.send("POST", action, v.Encode()); b.cookie == before || b.s.sessions.len() != 1 {
		t.Errorf("logged in again: %d sessions", b.s.sessions.len())
	}
}

// TestNext: the log-in leads to the page that was asked for, and nowhere else.
func TestNext(t *testing.T) {
	for in, want := range map[string]string{"/aliases/a@b": "/aliases/a@b", "/aliases/a@b/big": "/aliases/a@b/big", "/aliases": "/aliases", "": "/aliases", "//evil.example/aliases/x": "/aliases",
		"https://evil.example/aliases/x": "/aliases", "/aliases/\\evil": "/aliases", "/other": "/aliases", "/aliases/a%0d%0ab": "/aliases/a%0d%0ab", "/aliases/a\r\nb": "/aliases", "/aliasesx/y": "/aliases", "/aliases/%zz": "/aliases", "/aliases/x?y=z": "/aliases/x"} {
		if got := safeNext(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", State: StateActive}
	b := surf(t, f, Options{})
	page := b.press(b.get("/aliases/a@example.org"), "password", "password", goodToken)
	b.must(page, "<title>a@example.org")
}

// TestForgery: a form from another site, without the session's mark, or with another's, changes nothing.
func TestForgery(t *testing.T) {
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", State: StateActive}
	b := surf(t, f, Options{})
	b.press(b.get("/aliases"), "password", "password", goodToken)
	other := surf(t, f, Options{})
	other.s = b.s
	other.press(other.get("/aliases"), "password", "password", goodToken)
	_, mine := fields(t, b.get("/aliases/a@example.org"), "Delete")
	_, theirs := fields(t, other.get("/aliases/a@example.org"), "Delete")
	if mine.Get("mark") == "" || mine.Get("mark") == theirs.Get("mark") {
		t.Fatal("two sessions have one mark")
	}
	for _, path := range []string{"/aliases", "/aliases/a@example.org", "/aliases/connect", "/aliases/connect/revoke", "/aliases/logout"} {
		for name, mark := range map[string]string{"none": "", "another's": theirs.Get("mark"), "part": mine.Get("mark")[:20]} {
			if w := b.send("POST", path, url.Values{"do": {"delete"}, "mark": {mark}}.Encode()); w.Code != 403 {
				t.Errorf("%s with mark %s: %d", path, name, w.Code)
			} else {
				b.must(w.Body.String(), "so nothing was changed")
			}
		}
		for _, from := range []string{"cross-site", "same-site"} {
			b.from = from
			if w := b.send("POST", path, url.Values{"do": {"delete"}, "mark": {mine.Get("mark")}}.Encode()); w.Code != 403 {
				t.Errorf("%s from %s: %d", path, from, w.Code)
			}
		}
		b.from = "same-origin"
	}
	b.from, b.header = "", []string{"Origin: https://evil.example"} // a browser that sends no Sec-Fetch-Site
	if w := b.send("POST", "/aliases/login", "password="+goodToken); w.Code != 403 {
		t.Errorf("log-in from another site: %d", w.Code)
	}
	if f.aliases["a@example.org"].State != StateActive || len(f.asked) != 0 || len(f.tokens) != 2 || b.s.sessions.len() != 2 {
		t.Error("something was changed")
	}
	b.from, b.header = "same-origin", nil
	if w := b.send("POST", "/aliases/a@example.org", url.Values{"do": {"delete"}, "mark": {mine.Get("mark")}}.Encode()); w.Code != 303 {
		t.Errorf("the right mark: %d", w.Code)
	}
}

// TestVoidSession: a password that was changed, or a token that was revoked, ends the session.
func TestVoidSession(t *testing.T) {
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", State: StateActive}
	for _, path := range []string{"/aliases", "/aliases/a@example.org", "/aliases/a@example.org/big"} {
		b := surf(t, f, Options{})
		f.tokens["short-lived"] = []string{ScopeList, ScopeManage}
		b.press(b.get("/aliases"), "password", "password", "short-lived")
		delete(f.tokens, "short-lived")
		w := b.send("GET", path, "")
		if w.Code != 403 || b.cookie != "" || b.s.sessions.len() != 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
		b.must(w.Body.String(), "does not count any more", "Log in")
	}
	b := surf(t, f, Options{})
	f.tokens["short-lived"] = []string{ScopeCreate, ScopeList, ScopeManage}
	page := b.press(b.get("/aliases"), "password", "password", "short-lived")
	delete(f.tokens, "short-lived")
	b.must(b.press(page, "Make an alias"), "does not count any more")
}

// TestPageErrors: each kind of error says what happened and what to do, and keeps what was typed.
func TestPageErrors(t *testing.T) {
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", State: StateActive}
	b := surf(t, f, Options{})
	page := b.press(b.get("/aliases"), "password", "password", goodToken)
	w := b.press(page, "Make an alias", "custom", "a", "note", "<b>typed</b>", "site", "shop.example")
	b.must(w, "This address is taken.", "Change it and send the form again.", `value="a"`, `value="shop.example"`, "<b>typed</b>", "<details class=\"more\" open>")
	if strings.Contains(w, "<b>typed") {
		t.Error("what was typed is taken for the page's own")
	}
	b.must(b.press(page, "Make an alias", "max_mails", "-1"), "Mails and days are numbers from 0 to 4294967295.")
	b.must(b.press(page, "Make an alias", "idle_days", "65536"), "Mails and days are numbers from 0 to 65535.")
	b.must(b.press(page, "Make an alias", "expires", "31.12.2026"), "The end is a day, as 2026-12-31.")
	one := b.get("/aliases/a@example.org")
	b.must(b.press(one, "A sender or a whole domain", "do", "block", "sender", " "), "A sender is needed.")
	b.must(b.press(one, "Delete", "do", "odd"), "There is no such button.")
	b.must(b.press(one, "Save", "do", "save", "expires", "x"), "The end is a day")
	if w := b.send("GET", "/aliases/other@example.org", ""); w.Code != 404 {
		t.Errorf("%d", w.Code)
	} else {
		b.must(w.Body.String(), "You have no such alias.", "Look for it in the list.")
	}
	if w := b.send("GET", "/aliases?q="+strings.Repeat("x", maxSearch+1), ""); w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	if w := b.send("GET", "/aliases/a@example.org/other", ""); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
	if w := b.send("POST", "/aliases", "note="+strings.Repeat("x", MaxForm)); w.Code != 400 {
		t.Errorf("a form that is too long: %d", w.Code)
	}
	if w := b.send("POST", "/aliases", "note="+strings.Repeat("x", MaxForm-5)); w.Code != 403 { // it was read: the mark is missing
		t.Errorf("the longest form: %d", w.Code)
	}
	if w := b.send("POST", "/aliases", "a=%zz"); w.Code != 400 {
		t.Errorf("a form that is malformed: %d", w.Code)
	}
	for err, want := range map[error]string{
		errs.E("x", errs.Full, "you have 100 aliases already", nil):      "You have 100 aliases already.|Ask whoever runs this server for more.",
		errs.E("x", errs.Unavailable, "", fmt.Errorf("/var/lib of ann")): "Something went wrong here: unavailable.|Mail to your aliases is safe.",
		errs.E("x", errs.Denied, "policy says no", nil):                  "Policy says no.|Log in with your address and password",
		fmt.Errorf("/var/lib of ann"):                                    "Something went wrong here: internal error.|Try again in a minute.",
		errs.E("x", errs.NotFound, "the owner has no such alias", nil):   "You have no such alias.",
		errs.E("x", errs.Busy, "too many aliases in a minute", nil):      "That was too often in a short time.",
	} {
		f.fail = err
		w := b.send("GET", "/aliases", "")
		b.must(w.Body.String(), strings.Split(want, "|")...)
		if strings.Contains(w.Body.String(), "/var/lib") {
			t.Error("a private cause is shown")
		}
	}
}

// TestFewScopes: a token that may only make aliases makes them, and sees no others.
func TestFewScopes(t *testing.T) {
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", State: StateActive}
	b := surf(t, f, Options{})
	page := b.press(b.get("/aliases"), "password", "password", makeToken)
	b.must(page, "may make aliases, but not list them", "Make an alias")
	if strings.Contains(page, "a@example.org") || strings.Contains(page, ">Search<") {
		t.Error("it sees others")
	}
	b.must(b.press(page, "Make an alias"), "amber-falcon-4821@example.org", "Spelled")
	f.tokens["reader"] = []string{ScopeList}
	b = surf(t, f, Options{})
	page = b.press(b.get("/aliases"), "password", "password", "reader")
	one := b.get("/aliases/a@example.org")
	for _, no := range []string{"Make an alias", ">Pause", ">Delete<", "Settings", "Block"} {
		if strings.Contains(page+one, no) {
			t.Errorf("a token that may only list is offered %q", no)
		}
	}
}

// TestPager: more than a page of aliases are reached by a link, the newest of a page come first,
// and a page of a search that found nothing yet leads on.
func TestPager(t *testing.T) {
	f := newFake()
	for i := range pageLimit + 5 {
		a := fmt.Sprintf("a%03d@example.org", i)
		f.aliases[a] = View{Address: a, State: StateActive, Created: fmt.Sprintf("2026-%02d-01", 1+i/10)}
	}
	b := surf(t, f, Options{})
	page := b.press(b.get("/aliases"), "password", "password", goodToken)
	if strings.Contains(page, "a100@") || !strings.Contains(page, "a099@") || strings.Index(page, ">a095@") > strings.Index(page, ">a000@") {
		t.Error("the first page")
	}
	more := regexp.MustCompile(`href="([^"]+)">More<`)
	m := more.FindStringSubmatch(page)
	if m == nil {
		t.Fatal("no link")
	}
	page = b.get(html.UnescapeString(m[1]))
	if !strings.Contains(page, "a104@") || strings.Contains(page, "a099@") || more.MatchString(page) {
		t.Error("the second page")
	}
	// What the first looks do not reach is found by the same click, within a bound.
	f.none, f.lists = maxLooks-1, nil
	b.must(b.get("/aliases?q=a104"), "a104@")
	if n := len(f.lists); n != maxLooks || f.lists[n-1].Cursor != strings.Repeat("+", maxLooks-1) || f.lists[n-1].Search != "a104" {
		t.Errorf("%+v", f.lists)
	}
	f.none = maxLooks
	b.must(b.get("/aliases?q=a104"), "None of those that were looked through so far.", ">More<")
}

// TestHostileText: what owners and senders write is text on every page.
func TestHostileText(t *testing.T) {
	f := newFake()
	const evil = `"><script>alert(1)</script><img src=//evil.example>`
	f.aliases["a@example.org"] = View{Address: "a@example.org", Site: evil, Label: evil, Note: "</textarea>" + evil, Mode: evil, Class: evil, State: evil, Created: evil, Last: evil, Expires: evil,
		Correspondents: []Correspondent{{Address: evil, State: evil, First: evil, Last: "x" + evil}}}
	b := surf(t, f, Options{Domain: evil})
	page := b.press(b.get("/aliases?q="+url.QueryEscape(evil)), "password", "password", goodToken)
	for _, p := range []string{page, b.get("/aliases?gone=" + url.QueryEscape(evil) + "&done=" + url.QueryEscape(evil) + "&site=" + url.QueryEscape(evil)), b.get("/aliases/a@example.org"), b.get("/aliases/a@example.org/big")} {
		if strings.Contains(p, "<script") || strings.Contains(p, "<img src=//") {
			t.Error("a script")
		}
	}
}

// TestPageHeaders: no scripts, no frames, nothing from elsewhere, nothing kept; no cookie before the log-in.
func TestPageHeaders(t *testing.T) {
	b := surf(t, newFake(), Options{HSTS: true})
	first := b.get("/aliases")
	for _, path := range []string{"/aliases", "/aliases/connect", "/aliases/style.css", "/aliases/favicon.svg", "/aliases/x@y"} {
		w := b.send("GET", path, "")
		h := w.Header()
		if w.Code != 200 || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'") || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("Strict-Transport-Security") == "" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
		if html := strings.HasPrefix(h.Get("Content-Type"), "text/html"); html != (h.Get("Cache-Control") == "no-store") {
			t.Errorf("%s: %v", path, h)
		}
	}
	if first != b.get("/aliases") {
		t.Error("the page differs from one guest to the next")
	}
	if s := serverOf(t, newFake(), Options{}); ask(s, "GET", "/aliases", "").Header().Get("Strict-Transport-Security") != "" {
		t.Error("HSTS without a certificate that is vouched for")
	}
}

// TestPageForm: each field has a label, each page a language, one heading of the first rank and a
// main part; no scripts; nothing says something by colour alone.
func TestPageForm(t *testing.T) {
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", State: StateActive, Expires: "2026-12-31T00:00:00Z", Leaked: true, Correspondents: []Correspondent{{Address: "x@y.example", State: SenderBlocked}}}
	b := surf(t, f, Options{})
	list := []string{b.get("/aliases"), b.get(ConnectPath)}
	list = append(list, b.press(b.get("/aliases"), "password", "password", goodToken), b.get("/aliases/a@example.org"), b.get("/aliases/a@example.org/big"), b.get(ConnectPath))
	for _, p := range list {
		title := regexp.MustCompile(`<title>[^<]+</title>`).FindString(p)
		if title == "" || !strings.Contains(p, `<html lang="en">`) || strings.Count(p, "<h1") != 1 || strings.Count(p, "<main") != 1 || strings.Contains(p, "<script") || strings.Contains(p, " style=") || strings.Contains(p, " on") && regexp.MustCompile(`<[^>]* on[a-z]+=`).MatchString(p) {
			t.Errorf("%s is malformed:\n%s", title, p)
		}
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(p, -1) {
			if ids[m[1]] {
				t.Errorf("%s: two of id %s", title, m[1])
			}
			ids[m[1]] = true
		}
		for _, tag := range regexp.MustCompile(`<(input|select|textarea)[^>]*>`).FindAllString(p, -1) {
			if strings.Contains(tag, `type="hidden"`) {
				continue
			}
			id := attr(regexp.MustCompile(` id="([^"]*)"`), tag)
			if id == "" || !strings.Contains(p, `<label for="`+id+`"`) {
				t.Errorf("%s: no label for %s", title, tag)
			}
		}
		for _, m := range regexp.MustCompile(`<img[^>]*>`).FindAllString(p, -1) {
			if !strings.Contains(m, " alt=") {
				t.Errorf("%s: no words for %.60s", title, m)
			}
		}
	}
	b.must(list[3], "Unexpected sender", "Blocked", "Takes mail")
}

// TestContrast: text and the borders of fields stand out as WCAG 2.2 asks for at level AA (1.4.3, 1.4.11), in both schemes.
func TestContrast(t *testing.T) {
	colours := [2]map[string]string{{}, {}}
	for _, name := range []string{"style.css", "alias.css"} {
		css, err := pages.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(css)
		for _, m := range regexp.MustCompile(`(?s)(@media \(prefers-color-scheme: dark\) \{\s*)?:root \{(.*?)\}`).FindAllStringSubmatch(text, -1) {
			scheme := 0
			if m[1] != "" {
				scheme = 1
			}
			for _, v := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]+)`).FindAllStringSubmatch(m[2], -1) {
				colours[scheme][v[1]] = v[2]
			}
		}
	}
	for scheme, c := range colours {
		for _, x := range []struct {
			front, back string
			least       float64
		}{{"ink", "card", 4.5}, {"ink", "ground", 4.5}, {"soft", "card", 4.5}, {"soft", "ground", 4.5}, {"green", "card", 4.5}, {"green", "ground", 4.5}, {"green-ink", "green", 4.5},
			{"red", "card", 4.5}, {"red", "ground", 4.5}, {"ink", "code", 4.5}} {
			if c[x.front] == "" || c[x.back] == "" {
				t.Fatalf("scheme %d has no %s or %s", scheme, x.front, x.back)
			}
			if got := contrast(t, c[x.front], c[x.back]); got < x.least {
				t.Errorf("scheme %d: %s on %s is %.2f", scheme, x.front, x.back, got)
			}
		}
	}
	if got := contrast(t, "#fff", "#000000"); got != 21 {
		t.Errorf("white on black is %v", got)
	}
}

// TestSpell: each sign has its word.
func TestSpell(t *testing.T) {
	var got []string
	for _, s := range spell("aZ09.-_+@é!") {
		got = append(got, s.Sign+" "+s.Word)
	}
	if want := "a Alfa|Z Zulu|0 zero|9 nine|. dot|- hyphen|_ underscore|+ plus|@ at|é letter|! sign"; strings.Join(got, "|") != want {
		t.Error(got)
	}
}

// TestViewWords: what an alias's page says of each state.
func TestViewWords(t *testing.T) {
	for state, want := range map[string]string{
		StateActive:  "Takes mail|Who may write: ask me about each one. What is taken: encrypted mail only.|pause",
		StatePaused:  "Paused|Mail to it is refused, and the sender is told that there is no such address.|resume",
		StateExpired: "Ended|Its time is over: mail to it is refused. Extend it, or choose another end below.|extend",
		StateDeleted: "Deleted|Mail to it is refused. The address is never given to anybody again.|restore",
	} {
		a := showAlias(View{Address: "a@b", State: state, Mode: ModeAsk, Class: ClassStrict})
		can := map[string]bool{"pause": a.CanPause, "resume": a.CanResume, "extend": a.CanExtend, "restore": a.CanRestore}
		p := strings.Split(want, "|")
		if a.StateText != p[0] || a.StateLong != p[1] {
			t.Errorf("%s: %q, %q", state, a.StateText, a.StateLong)
		}
		for what, is := range can {
			if is != (what == p[2]) {
				t.Errorf("%s: %s is %v", state, what, is)
			}
		}
	}
	if got := ends(View{MaxMails: 1, IdleDays: 1}); got != "Ends after 1 mail, or after 1 day without mail." {
		t.Error(got)
	}
	if got := idleText(90*time.Second) + ", " + idleText(30*time.Minute); got != "1m30s, 30 minutes" {
		t.Error(got)
	}
	for c, want := range map[Correspondent]string{{Mails: 1, First: "a", Last: "a"}: "1 mail, on a", {Mails: 2, First: "a", Last: "b"}: "2 mails, from a to b", {}: "0 mails"} {
		if got := showSender(c, ModeOpen).History; got != want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	// Only where the pin decides does a page say that it does.
	for mode, want := range map[string]string{ModePinned: "Pinned: the one who may write", ModeOpen: "Expected", ModeAllow: "Expected", ModeAsk: "Expected"} {
		if got := showSender(Correspondent{State: SenderPinned}, mode).StateText; got != want {
			t.Errorf("%s: %s", mode, got)
		}
	}
}
