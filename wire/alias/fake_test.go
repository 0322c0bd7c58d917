package alias

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	goodToken = strings.Repeat("Ab3", 21) + "z" // all scopes
	makeToken = strings.Repeat("Cd4", 21) + "z" // create alone
)

const (
	login    = "ann@example.org"
	password = "correct horse battery"
)

// fake is a Backend of one owner, in memory.
type fake struct {
	mu      sync.Mutex
	aliases map[string]View
	names   []string // as they will be given out
	asked   []CreateRequest
	changes []ChangeRequest
	lists   []ListRequest
	who     Who // the last one
	tokens  map[string][]string
	fail    error // what every method says, if not nil
	none    int   // so many pages of lists are empty, and go on
	hook    func(ctx context.Context)
}

func newFake() *fake {
	return &fake{aliases: map[string]View{}, tokens: map[string][]string{goodToken: {ScopeCreate, ScopeList, ScopeManage}, makeToken: {ScopeCreate}}}
}

// enter checks the credential for a scope; "" is any.
func (f *fake) enter(ctx context.Context, w Who, scope string) error {
	if f.hook != nil {
		f.hook(ctx)
	}
	f.mu.Lock()
	f.who = w
	if f.fail != nil {
		return f.fail
	}
	scopes := f.tokens[w.Token]
	if w.Login == login && w.Password == password {
		scopes = f.tokens[goodToken]
	}
	switch {
	case scopes == nil:
		return errs.E("fake", errs.Auth, "", nil)
	case scope != "" && !slices.Contains(scopes, scope):
		return errs.E("fake", errs.Denied, "this token may not do that", nil)
	}
	return nil
}

func (f *fake) Account(ctx context.Context, w Who) (Account, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ""); err != nil {
		return Account{}, err
	}
	scopes := f.tokens[w.Token]
	if w.Login != "" {
		scopes = f.tokens[goodToken]
	}
	return Account{Name: login, Scopes: scopes, Domains: []string{"example.org", "alias.example"}, Style: StyleWords, Aliases: len(f.aliases), Max: 100}, nil
}

func (f *fake) Create(ctx context.Context, w Who, q CreateRequest) (View, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeCreate); err != nil {
		return View{}, err
	}
	f.asked = append(f.asked, q)
	name := q.Custom
	if name == "" {
		if len(f.names) == 0 {
			f.names = []string{"amber-falcon-4821"}
		}
		name, f.names = f.names[0], f.names[1:]
	}
	if q.Domain != "" && q.Domain != "example.org" && q.Domain != "alias.example" {
		return View{}, errs.E("fake", errs.Invalid, "there is no such domain of aliases", nil)
	}
	v := View{Address: name + "@" + cmp.Or(q.Domain, "example.org"), Site: q.Site, Label: q.Label, Note: q.Note, Mode: cmp.Or(q.Mode, ModeOpen), Class: cmp.Or(q.Class, ClassOpenMail),
		State: StateActive, Created: "2026-11-27", MaxMails: q.MaxMails, IdleDays: q.IdleDays}
	if q.Expires != "" {
		v.Expires = q.Expires + "T23:59:59Z"
	}
	if _, taken := f.aliases[v.Address]; taken {
		return View{}, errs.E("fake", errs.Exists, "this address is taken", nil)
	}
	f.aliases[v.Address] = v
	return v, nil
}

func (f *fake) List(ctx context.Context, w Who, q ListRequest) ([]View, string, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeList); err != nil {
		return nil, "", err
	}
	f.lists = append(f.lists, q)
	if f.none > 0 {
		f.none--
		return nil, q.Cursor + "+", nil
	}
	var all []View
	for _, v := range f.aliases {
		if strings.Contains(v.Address+v.Site+v.Label+v.Note, q.Search) && (q.Site == "" || v.Site == q.Site) && (v.State == StateDeleted) == q.Deleted && v.Address > q.Cursor {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b View) int { return cmp.Compare(a.Address, b.Address) })
	if len(all) > q.Limit {
		return all[:q.Limit], all[q.Limit-1].Address, nil
	}
	return all, "", nil
}

func (f *fake) find(address string) (View, error) {
	v, ok := f.aliases[address]
	if !ok {
		return v, errs.E("fake", errs.NotFound, "there is no such alias", nil)
	}
	return v, nil
}

func (f *fake) Get(ctx context.Context, w Who, address string) (View, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeList); err != nil {
		return View{}, err
	}
	return f.find(address)
}

func (f *fake) Change(ctx context.Context, w Who, address string, q ChangeRequest) (View, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeManage); err != nil {
		return View{}, err
	}
	v, err := f.find(address)
	if err != nil {
		return v, err
	}
	f.changes = append(f.changes, q)
	if q.Paused != nil {
		v.State = map[bool]string{true: StatePaused, false: StateActive}[*q.Paused]
	}
	if q.Note != nil {
		v.Note = *q.Note
	}
	for _, s := range q.Block {
		v.Correspondents = append(v.Correspondents, Correspondent{Address: s, State: SenderBlocked})
	}
	f.aliases[address] = v
	return v, nil
}

func (f *fake) Delete(ctx context.Context, w Who, address string) error {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeManage); err != nil {
		return err
	}
	v, err := f.find(address)
	v.State, v.RestorableTill = StateDeleted, "2026-12-27"
	if err == nil {
		f.aliases[address] = v
	}
	return err
}

func (f *fake) Restore(ctx context.Context, w Who, address string) (View, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeManage); err != nil {
		return View{}, err
	}
	v, err := f.find(address)
	v.State, v.RestorableTill = StateActive, ""
	if err == nil {
		f.aliases[address] = v
	}
	return v, err
}

func (f *fake) AliasKey(ctx context.Context, w Who) (key [32]byte, domains []string, err error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeCreate); err != nil {
		return key, nil, err
	}
	return [32]byte{1, 2, 3}, []string{"example.org"}, nil
}

func (f *fake) NewToken(ctx context.Context, w Who, scopes []string, name string) (string, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeManage); err != nil {
		return "", err
	}
	token := strings.Repeat("Ef5", 21) + "z"
	f.tokens[token] = scopes
	return token, nil
}

func (f *fake) Tokens(ctx context.Context, w Who) ([]Token, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeManage); err != nil {
		return nil, err
	}
	var out []Token
	for token, scopes := range f.tokens {
		out = append(out, Token{ID: "id-" + token[:3], Name: "name " + token[:3], Scopes: scopes, Created: "2026-11-01", LastUsed: "2026-11-02"})
	}
	slices.SortFunc(out, func(a, b Token) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (f *fake) RevokeToken(ctx context.Context, w Who, id string) error {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ScopeManage); err != nil {
		return err
	}
	for token := range f.tokens {
		if id == "id-"+token[:3] {
			delete(f.tokens, token)
			return nil
		}
	}
	return errs.E("fake", errs.NotFound, "there is no such token", nil)
}

func (f *fake) RotateToken(ctx context.Context, w Who) (string, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx, w, ""); err != nil {
		return "", err
	}
	token := strings.Repeat("Gh6", 21) + "z"
	f.tokens[token] = f.tokens[w.Token]
	delete(f.tokens, w.Token)
	return token, nil
}

// serverOf makes a Server for tests that is asked without TLS.
func serverOf(t testing.TB, f Backend, o Options) *Server {
	t.Helper()
	o.Backend, o.Private = f, true
	if o.Domain == "" {
		o.Domain = "example.org"
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends one request, with headers "Name: value".
func ask(s *Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://example.org"+path, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// TestOptions: what cannot be served is refused; the defaults are there.
func TestOptions(t *testing.T) {
	if _, err := New(Options{}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("without a backend: %v", err)
	}
	for _, path := range []string{"incognitomail", "/a b", "/{x}", "/a?b", "/a#b", "/api/x", "/aliases", "/aliases/x", "/"} {
		if _, err := New(Options{Backend: newFake(), WebSocketPath: path}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", path, err)
		}
	}
	s := serverOf(t, newFake(), Options{WebSocketPath: "/ws"})
	for path, want := range map[string]bool{"/ws": true, "/ws/": false, "/incognitomail": false, "/aliases": true, "/aliases/a@b": true, "/aliasesx": false, "/api/x": true, "/api": false, "/": false, "/new": false} {
		if s.Owns(path) != want {
			t.Errorf("owns %s: %v", path, !want)
		}
	}
	if s := serverOf(t, newFake(), Options{Root: true}); !s.Owns("/") || s.Owns("/x") || ask(s, "GET", "/", "").Code != http.StatusUpgradeRequired || ask(s, "GET", "/x", "").Code != http.StatusNotFound {
		t.Error("the root is not the WebSocket")
	}
	if s := serverOf(t, newFake(), Options{}); !s.Owns("/incognitomail") || s.o.Sessions != DefaultSessions || s.o.Idle != DefaultIdle {
		t.Error("the defaults are not there")
	}
}

// TestNoSecretInClear: without TLS nothing is taken, unless the operator says that the listener is private.
func TestNoSecretInClear(t *testing.T) {
	f := newFake()
	s, err := New(Options{Backend: f})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range [][2]string{{"GET", "/api/postern/v1/aliases"}, {"GET", "/aliases"}, {"POST", "/aliases/login"}, {"GET", "/incognitomail"}} {
		if w := ask(s, x[0], x[1], "", bearer(goodToken)); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "HTTPS") {
			t.Errorf("%v: %d %s", x, w.Code, w.Body)
		}
	}
	if f.who.Token != "" {
		t.Error("the backend was asked")
	}
	r := httptest.NewRequest("GET", "https://example.org/api/postern/v1/aliases", nil) // TLS
	r.Header.Set("Authorization", "Bearer "+goodToken)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("with TLS: %d", w.Code)
	}
	s, err = New(Options{Backend: f, Local: func(r *http.Request) bool { return r.URL.Path == "/api/postern/v1/aliases" }})
	if err != nil {
		t.Fatal(err)
	}
	if ask(s, "GET", "/api/postern/v1/aliases", "", bearer(goodToken)).Code != 200 || ask(s, "GET", "/api/postern/v1/account", "", bearer(goodToken)).Code != http.StatusForbidden {
		t.Error("a request that crosses no network, and one that does")
	}
	if s := serverOf(t, f, Options{}); ask(s, "GET", "/api/postern/v1/aliases", "", bearer(goodToken)).Code != 200 {
		t.Error("a private listener is not served")
	}
}

// TestPeer: the backend is told who asks, for its limits.
func TestPeer(t *testing.T) {
	f := newFake()
	peer := limits.Peer{Exempt: true}
	s := serverOf(t, f, Options{PeerOf: func(*http.Request) limits.Peer { return peer }})
	ask(s, "GET", "/api/postern/v1/account", "", bearer(goodToken))
	if f.who.Peer != peer {
		t.Error("our own call")
	}
	for _, x := range [][3]string{{"POST", "/api/alias/random/new", "Authentication: " + goodToken}, {"POST", "/api/v1/aliases", bearer(goodToken)}} {
		f.who = Who{}
		ask(s, x[0], x[1], "{}", x[2])
		if f.who.Peer != peer || f.who.Token != goodToken {
			t.Errorf("%v", x)
		}
	}
	f.who = Who{}
	ask(s, "POST", "/aliases/login", "address=&password="+goodToken, "Content-Type: application/x-www-form-urlencoded")
	if f.who.Peer != peer {
		t.Error("the page")
	}
}
