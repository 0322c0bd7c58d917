package alias

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

const jsonBody = "Content-Type: application/json"

// TestOwnCalls: the life of an alias by our own calls.
func TestOwnCalls(t *testing.T) {
	f := newFake()
	s := serverOf(t, f, Options{})
	good := bearer(goodToken)
	w := ask(s, "POST", "/api/postern/v1/aliases", `{"site":"shop.example","label":"a label","note":"n","mode":"pinned","class":"strict","expires":"2026-12-31","max_mails":5,"idle_days":7,"style":"site","domain":"alias.example"}`, good, jsonBody)
	want := CreateRequest{Site: "shop.example", Label: "a label", Note: "n", Mode: ModePinned, Class: ClassStrict, Expires: "2026-12-31", MaxMails: 5, IdleDays: 7, Style: StyleSite, Domain: "alias.example"}
	if w.Code != 201 || len(f.asked) != 1 || f.asked[0] != want {
		t.Fatalf("%d %s; %+v", w.Code, w.Body, f.asked)
	}
	var v View
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.Address != "amber-falcon-4821@alias.example" || v.Label != "a label" || v.State != StateActive {
		t.Errorf("%s %v", w.Body, err)
	}
	path := "/api/postern/v1/aliases/" + v.Address
	if w := ask(s, "PATCH", path, `{"paused":true,"note":"","block":["x@evil.example"],"extend_days":30}`, good, jsonBody); w.Code != 200 || !strings.Contains(w.Body.String(), `"state":"paused"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if c := f.changes[0]; !*c.Paused || *c.Note != "" || c.Block[0] != "x@evil.example" || *c.Extend != 30 || c.Label != nil || c.Mode != nil || c.Expires != nil || c.MaxMails != nil || c.Pin != nil {
		t.Errorf("%+v", c)
	}
	if w := ask(s, "GET", strings.Replace(path, "@", "%40", 1), "", good); w.Code != 200 || !strings.Contains(w.Body.String(), "x@evil.example") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "DELETE", path, "", good); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", path, "", good); !strings.Contains(w.Body.String(), `"state":"deleted"`) {
		t.Errorf("%s", w.Body)
	}
	if w := ask(s, "POST", path+"/restore", "", good); w.Code != 200 || !strings.Contains(w.Body.String(), `"state":"active"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/api/postern/v1/key", "", good); w.Body.String() != `{"domains":["example.org"],"key":"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","version":1}`+"\n" {
		t.Errorf("%s", w.Body)
	}
	if w := ask(s, "GET", "/api/postern/v1/account", "", "Authorization: Basic YW5uQGV4YW1wbGUub3JnOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ=="); w.Code != 200 || f.who.Login != login || f.who.Password != password {
		t.Errorf("by password: %d %s", w.Code, w.Body)
	}
	w = ask(s, "POST", "/api/postern/v1/token/rotate", "", good)
	var token tokenAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &token); err != nil || len(token.Token) != 64 {
		t.Fatalf("%s", w.Body)
	}
	if ask(s, "GET", path, "", good).Code != 401 || ask(s, "GET", path, "", bearer(token.Token)).Code != 200 {
		t.Error("the old token is not void, or the new one does not count")
	}
}

// TestTokens: tokens are made with scopes, listed without themselves, and made void.
func TestTokens(t *testing.T) {
	f := newFake()
	s := serverOf(t, f, Options{})
	good := bearer(goodToken)
	w := ask(s, "POST", "/api/postern/v1/tokens", `{"name":"my phone","scopes":["create"]}`, good, jsonBody)
	var made tokenAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != 201 || len(f.tokens[made.Token]) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	w = ask(s, "GET", "/api/postern/v1/tokens", "", good)
	if w.Code != 200 || strings.Contains(w.Body.String(), made.Token) || !strings.Contains(w.Body.String(), `"id":"id-Ef5"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "DELETE", "/api/postern/v1/tokens/id-Ef5", "", good); w.Code != 204 || f.tokens[made.Token] != nil {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "DELETE", "/api/postern/v1/tokens/id-Ef5", "", good); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, x := range [][2]string{{"GET", "tokens"}, {"POST", "tokens"}, {"DELETE", "tokens/id-Ab3"}} {
		if w := ask(s, x[0], "/api/postern/v1/"+x[1], "{}", bearer(makeToken)); w.Code != 403 {
			t.Errorf("%v: %d", x, w.Code)
		}
	}
	// An empty list is nobody's wish for all of them.
	for _, body := range []string{`{"scope":"all"}`, `{"scopes":[]}`} {
		if w := ask(s, "POST", "/api/postern/v1/tokens", body, good); w.Code != 400 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

// TestOwnList: pages, search, site, and their bounds.
func TestOwnList(t *testing.T) {
	f := newFake()
	for i := range 7 {
		a := fmt.Sprintf("a%d@example.org", i)
		f.aliases[a] = View{Address: a, Site: []string{"x.example", "y.example"}[i%2]}
	}
	s := serverOf(t, f, Options{})
	read := func(query string) (a listAnswer) {
		t.Helper()
		w := ask(s, "GET", "/api/postern/v1/aliases"+query, "", bearer(goodToken))
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		return a
	}
	var all []string
	for cursor, n := "", 0; ; n++ {
		a := read("?limit=3&cursor=" + cursor)
		for _, v := range a.Aliases {
			all = append(all, v.Address)
		}
		if cursor = a.Next; cursor == "" {
			break
		}
		if n > 5 {
			t.Fatal("no end")
		}
	}
	if len(all) != 7 || all[6] != "a6@example.org" {
		t.Errorf("%v", all)
	}
	if a := read("?search=a3"); len(a.Aliases) != 1 || f.lists[len(f.lists)-1] != (ListRequest{Limit: MaxPage, Search: "a3"}) {
		t.Errorf("%+v", f.lists)
	}
	if a := read("?site=y.example"); len(a.Aliases) != 3 {
		t.Errorf("%d", len(a.Aliases))
	}
	f.aliases["a6@example.org"] = View{Address: "a6@example.org", State: StateDeleted}
	if a, b := read(""), read("?deleted=true"); len(a.Aliases) != 6 || len(b.Aliases) != 1 || len(read("?deleted=false").Aliases) != 6 {
		t.Errorf("%d and %d", len(a.Aliases), len(b.Aliases))
	}
	if w := ask(s, "GET", "/api/postern/v1/aliases?search=nothing", "", bearer(goodToken)); w.Body.String() != `{"aliases":[],"next":""}`+"\n" {
		t.Errorf("%s", w.Body)
	}
	long := strings.Repeat("x", maxSearch+1)
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?limit=-1", "?deleted=yes", "?search=" + long, "?site=" + long, "?cursor=" + long} {
		if w := ask(s, "GET", "/api/postern/v1/aliases"+query, "", bearer(goodToken)); w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"invalid"`) {
			t.Errorf("%.20s: %d %s", query, w.Code, w.Body)
		}
	}
	if w := ask(s, "GET", "/api/postern/v1/aliases?limit=100&search="+long[1:], "", bearer(goodToken)); w.Code != 200 {
		t.Errorf("the longest: %d", w.Code)
	}
}

// TestScopes: a token that may only make aliases learns nothing.
func TestScopes(t *testing.T) {
	f := newFake()
	f.aliases["a@example.org"] = View{Address: "a@example.org", Note: "private"}
	s := serverOf(t, f, Options{})
	for _, x := range [][3]string{{"GET", "", ""}, {"GET", "/a@example.org", ""}, {"PATCH", "/a@example.org", "{}"}, {"DELETE", "/a@example.org", ""}, {"POST", "/a@example.org/restore", ""}} {
		if w := ask(s, x[0], "/api/postern/v1/aliases"+x[1], x[2], bearer(makeToken)); w.Code != 403 || strings.Contains(w.Body.String(), "private") || !strings.Contains(w.Body.String(), `{"error":{"code":"denied","message":"this token may not do that"}}`) {
			t.Errorf("%v: %d %s", x, w.Code, w.Body)
		}
	}
	if ask(s, "POST", "/api/postern/v1/aliases", "{}", bearer(makeToken)).Code != 201 {
		t.Error("it may not make one")
	}
}

// TestCredentials: what is no credential is answered before the backend is asked.
func TestCredentials(t *testing.T) {
	f := newFake()
	s := serverOf(t, f, Options{})
	for _, h := range []string{"", "Authorization: ", "Authorization: Bearer", "Authorization: Bearer ", "Authorization: Token x", "Authorization: " + goodToken, "Authorization: Basic !!", "Authorization: Basic Og==",
		"Authorization: Bearer " + strings.Repeat("x", maxCredential+1), "Cookie: __Host-postern-aliases=x", "Authentication: " + goodToken} {
		w := ask(s, "GET", "/api/postern/v1/aliases", "", nonEmpty(h)...)
		if w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" || !strings.Contains(w.Body.String(), `"code":"auth"`) {
			t.Errorf("%.40s: %d %s", h, w.Code, w.Body)
		}
	}
	if f.who != (Who{}) {
		t.Error("the backend was asked")
	}
	for _, h := range []string{"Authorization: bearer " + goodToken, "Authorization: BEARER  " + goodToken + " "} {
		if w := ask(s, "GET", "/api/postern/v1/aliases", "", h); w.Code != 200 {
			t.Errorf("%s: %d", h, w.Code)
		}
	}
	if w := ask(s, "GET", "/api/postern/v1/aliases", "", bearer(strings.Repeat("x", 64))); w.Code != 401 || w.Header().Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("a wrong one: %d %v", w.Code, w.Header())
	}
}

// TestKinds: each kind of error has its status and code, and shows its public text alone.
func TestKinds(t *testing.T) {
	f := newFake()
	s := serverOf(t, f, Options{})
	for k, want := range map[errs.Kind]string{errs.Auth: "401 auth", errs.Denied: "403 denied", errs.NotFound: "404 not-found", errs.Invalid: "400 invalid", errs.Exists: "409 exists", errs.Full: "409 full",
		errs.Busy: "429 busy", errs.TooLarge: "413 too-large", errs.Unsupported: "501 unsupported", errs.Unavailable: "503 unavailable", errs.NoSpace: "503 unavailable", errs.Conflict: "503 unavailable",
		errs.Canceled: "503 unavailable", errs.Internal: "500 internal", errs.Corrupt: "500 internal"} {
		f.fail = errs.E("x", k, "said", fmt.Errorf("ann@example.org at /var/lib"))
		w := ask(s, "GET", "/api/postern/v1/aliases", "", bearer(goodToken))
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || fmt.Sprint(w.Code, " ", p.Error.Code) != want || p.Error.Message != "said" {
			t.Errorf("%v: %d %s", k, w.Code, w.Body)
		}
		wait := k == errs.Busy || k == errs.Unavailable || k == errs.NoSpace || k == errs.Conflict
		if (w.Header().Get("Retry-After") == retrySeconds) != wait {
			t.Errorf("%v: retry after %q", k, w.Header().Get("Retry-After"))
		}
	}
}

// TestJSON: our own calls take one strict object, of a bounded length.
func TestJSON(t *testing.T) {
	f := newFake()
	s := serverOf(t, f, Options{})
	pad := func(n int) string { return `{"note":"` + strings.Repeat("x", n-len(`{"note":""}`)) + `"}` }
	for _, x := range []struct {
		body, kind string
		status     int
		want       string
	}{
		{"", "application/json", 400, "the body is no JSON object"},
		{"null", "application/json", 400, "the body is no JSON object"},
		{"[]", "application/json", 400, "the body is no JSON object"},
		{`"x"`, "application/json", 400, "the body is no JSON object"},
		{`{"note":"x"} {}`, "application/json", 400, "something follows the JSON object"},
		{`{"note":"x"}x`, "application/json", 400, "something follows the JSON object"},
		{`{"nota":"x"}`, "application/json", 400, `the body is not what is asked for: there is no \"nota\"`},
		{`{"note":5}`, "application/json", 400, `the body is not what is asked for: \"note\" has the wrong type`},
		{`{"max_mails":-1}`, "application/json", 400, `the body is not what is asked for: \"max_mails\" has the wrong type`},
		{`{"idle_days":65536}`, "application/json", 400, `the body is not what is asked for: \"idle_days\" has the wrong type`},
		{`{"note":"x"`, "application/json", 400, "the body is not what is asked for: it is no JSON"},
		{`{}`, "text/plain", 400, "the body must be JSON, with Content-Type: application/json"},
		{`{}`, "application/x-www-form-urlencoded", 400, "the body must be JSON, with Content-Type: application/json"},
		{pad(MaxBody + 1), "application/json", 413, "the body is longer than 16384 bytes"},
		{pad(10 * MaxBody), "application/json", 413, "the body is longer than 16384 bytes"},
	} {
		w := ask(s, "POST", "/api/postern/v1/aliases", x.body, bearer(goodToken), "Content-Type: "+x.kind)
		if w.Code != x.status || !strings.Contains(w.Body.String(), `"message":"`+x.want+`"`) {
			t.Errorf("%.40s: %d %s", x.body, w.Code, w.Body)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("asked for %+v", f.asked)
	}
	f.names = []string{"a", "b", "c"}
	for _, x := range [][2]string{{pad(MaxBody), "application/json"}, {`{}`, "application/json; charset=utf-8"}, {" \r\n{}\n", ""}} {
		h := []string{bearer(goodToken)}
		if x[1] != "" {
			h = append(h, "Content-Type: "+x[1])
		}
		if w := ask(s, "POST", "/api/postern/v1/aliases", x[0], h...); w.Code != 201 {
			t.Errorf("%.20s: %d %s", x[0], w.Code, w.Body)
		}
	}
}

// TestCORS: scripts of allowed origins may read answers; credentials of browsers are never asked for.
func TestCORS(t *testing.T) {
	open, closed := serverOf(t, newFake(), Options{}), serverOf(t, newFake(), Options{Origins: []string{"chrome-extension://abc", "null"}})
	for _, x := range []struct {
		s      *Server
		origin string
		status int
		allow  string
	}{
		{open, "https://anything.example", 200, "*"}, {open, "null", 200, "*"}, {open, "", 200, "*"},
		{closed, "chrome-extension://abc", 200, "chrome-extension://abc"}, {closed, "null", 200, "null"}, {closed, "", 200, ""}, {closed, "http://example.org", 200, "http://example.org"},
		{closed, "chrome-extension://abcd", 403, ""}, {closed, "https://anything.example", 403, ""},
	} {
		h := []string{bearer(goodToken)}
		if x.origin != "" {
			h = append(h, "Origin: "+x.origin)
		}
		w := ask(x.s, "GET", "/api/postern/v1/aliases", "", h...)
		if w.Code != x.status || w.Header().Get("Access-Control-Allow-Origin") != x.allow || w.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%q: %d %v", x.origin, w.Code, w.Header())
		}
		if x.s == closed && w.Header().Get("Vary") != "Origin" {
			t.Error("a cache would mix the answers up")
		}
		w = ask(x.s, "OPTIONS", "/api/postern/v1/aliases/a@b", "", append(h[1:], "Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: authorization,content-type")...)
		if x.status == 200 && (w.Code != 204 || !strings.Contains(w.Header().Get("Access-Control-Allow-Methods"), "PATCH") || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authorization") ||
			!strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authentication") || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "X-Requested-With")) {
			t.Errorf("%q: preflight %d %v", x.origin, w.Code, w.Header())
		}
		if x.status == 403 && w.Code != 403 {
			t.Errorf("%q: preflight %d", x.origin, w.Code)
		}
	}
	// The pages are for no script at all.
	if w := ask(open, "GET", "/aliases", "", "Origin: https://anything.example"); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("a page may be read by scripts of others")
	}
}

// TestMatchOrigin: a star does not cross the slashes between scheme and host.
func TestMatchOrigin(t *testing.T) {
	for _, x := range []struct {
		pattern, origin string
		want            bool
	}{{"https://*.example", "https://a.example", true}, {"https://*.example", "https://a.example.evil", false}, {"*", "null", true}, {"*", "https://a", false},
		{"moz-extension://*", "moz-extension://0-1", true}, {"HTTPS://A.example", "https://a.EXAMPLE", true}, {"[", "[", false}} {
		if matchOrigin(x.pattern, x.origin) != x.want {
			t.Errorf("%+v", x)
		}
	}
}

// TestUnknownCalls: what is not there says so in JSON.
func TestUnknownCalls(t *testing.T) {
	s := serverOf(t, newFake(), Options{})
	for _, x := range [][2]string{{"GET", "/api/"}, {"GET", "/api/postern/v2/aliases"}, {"GET", "/api/postern/v1/aliases/a@b/c"}} {
		if w := ask(s, x[0], x[1], "", bearer(goodToken)); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "there is no such call") {
			t.Errorf("%v: %d %s", x, w.Code, w.Body)
		}
	}
}

// TestWrongMethod: a call of another method says which there are.
func TestWrongMethod(t *testing.T) {
	s := serverOf(t, newFake(), Options{})
	for _, x := range [][3]string{{"PUT", "/api/postern/v1/aliases", "GET, POST"}, {"POST", "/api/postern/v1/aliases/a@b", "GET, PATCH, DELETE"}, {"GET", "/api/alias/random/new", "POST"}, {"DELETE", "/api/v1/aliases", "POST"}} {
		if w := ask(s, x[0], x[1], "", bearer(goodToken)); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != x[2] || !strings.Contains(w.Body.String(), `"code":"invalid"`) {
			t.Errorf("%v: %d %q %s", x, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{"", "{}", "null", `{"note":"x"}`, `{"note":"x"}{}`, `{"max_mails":1e3}`, `{"paused":true,"block":["@x"],"extend_days":3}`, `{"note":"\ud800"}`, "{" + strings.Repeat(`"a":{`, 50)} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, strict bool) {
		for _, v := range []any{new(CreateRequest), new(ChangeRequest)} {
			err := parseJSON(b, v, strict)
			if k := errs.KindOf(err); err != nil && k != errs.Invalid && k != errs.TooLarge {
				t.Fatalf("%q: %v", b, err)
			}
			if err == nil && !json.Valid(b) {
				t.Fatalf("%q was taken", b)
			}
			if err != nil && strings.Contains(errs.Public(err), "Go ") {
				t.Fatalf("%q: %s", b, errs.Public(err))
			}
		}
	})
}
