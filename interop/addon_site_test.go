package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// shop is a web site with forms in which people leave their address.
type shop struct {
	*httptest.Server
	signups chan [2]string // page, address
}

func newShop(t testing.TB) *shop {
	t.Helper()
	react := reactScript(t)
	s := &shop{signups: make(chan [2]string, 64)}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(filepath.Join("testdata", "addon"))))
	mux.HandleFunc("GET /react.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Write(react)
	})
	mux.HandleFunc("POST /signup", func(w http.ResponseWriter, r *http.Request) {
		s.signups <- [2]string{r.PostFormValue("page"), r.PostFormValue("mail")}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>Thanks</title><p id="thanks">Look into your mailbox.</p>`)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// signedUp waits for the next form that is sent in.
func (s *shop) signedUp(t testing.TB, page string) string {
	t.Helper()
	select {
	case got := <-s.signups:
		if got[0] != page {
			t.Fatalf("a form of %q was sent in, want %q", got[0], page)
		}
		return got[1]
	case <-time.After(patience):
		t.Fatal("no form was sent in")
	}
	return ""
}

// reactScript is React as npm brings it, for pages without a bundler.
func reactScript(t testing.TB) []byte {
	t.Helper()
	var b strings.Builder
	b.WriteString("const modules = {}, process = { env: {} };\nfunction require(name) { return modules[name]; }\n")
	for _, m := range [][2]string{{"react", "react/cjs/react.production.js"}, {"scheduler", "scheduler/cjs/scheduler.production.js"},
		{"react-dom", "react-dom/cjs/react-dom.production.js"}, {"react-dom/client", "react-dom/cjs/react-dom-client.production.js"}} {
		raw, err := os.ReadFile(filepath.Join("node_modules", m[1]))
		if err != nil {
			missing(t, "react (npm ci in interop)")
		}
		fmt.Fprintf(&b, "(() => { const exports = {}, module = { exports };\n%s\nmodules[%q] = module.exports; })();\n", raw, m[0])
	}
	return []byte(b.String())
}

// aliasServer has the calls that the add-on makes, for one token. It can be switched off.
type aliasServer struct {
	*httptest.Server
	mu      sync.Mutex
	off     bool
	token   string
	made    int
	aliases []*fakeAlias
	calls   []string // method and path
}

// fakeAlias is one, as the server shows it.
type fakeAlias struct {
	Address  string `json:"address"`
	Site     string `json:"site"`
	Label    string `json:"label"`
	State    string `json:"state"`
	Derived  bool   `json:"derived"`
	Created  string `json:"created"`
	Last     string `json:"last"`
	Received int    `json:"received"`
	Refused  int    `json:"refused"`
	Leaked   bool   `json:"leaked"`
}

// aliasKey is 32 bytes, 0 to 31: that of most vectors of mail/aliasname.
const aliasKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func newAliasServer(t testing.TB) *aliasServer {
	t.Helper()
	s := &aliasServer{token: strings.Repeat("aB3x", 16)}
	mux := http.NewServeMux()
	const own = "/api/postern/v1/"
	mux.HandleFunc("GET /aliases/connect", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>Browser add-on</title><p>Click the button on the toolbar.</p>`)
	})
	mux.HandleFunc("GET "+own+"key", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"key": aliasKey, "domains": []string{"example.org"}, "version": 1})
	})
	mux.HandleFunc("POST "+own+"aliases", func(w http.ResponseWriter, r *http.Request) {
		var q map[string]any
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			refuse(w, http.StatusBadRequest, "invalid")
			return
		}
		s.made++
		site, _ := q["site"].(string)
		a := &fakeAlias{Address: fmt.Sprintf("amber-falcon-%d@example.org", 1000+s.made), Site: site, State: "active", Created: time.Now().UTC().Format(time.DateOnly)}
		s.aliases = append([]*fakeAlias{a}, s.aliases...)
		answer(w, http.StatusCreated, a)
	})
	mux.HandleFunc("GET "+own+"aliases", func(w http.ResponseWriter, r *http.Request) {
		q, page := r.URL.Query(), []*fakeAlias{}
		for _, a := range s.aliases {
			if a.State != "deleted" && strings.Contains(a.Address+a.Site+a.Label, q.Get("search")) && (q.Get("site") == "" || a.Site == q.Get("site")) {
				page = append(page, a)
			}
		}
		answer(w, http.StatusOK, map[string]any{"aliases": page, "next": ""})
	})
	one := func(change func(a *fakeAlias, q map[string]any) int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var q map[string]any
			_ = json.NewDecoder(r.Body).Decode(&q)
			for _, a := range s.aliases {
				if a.Address == r.PathValue("address") {
					if status := change(a, q); status == http.StatusNoContent {
						w.WriteHeader(status)
					} else {
						answer(w, status, a)
					}
					return
				}
			}
			refuse(w, http.StatusNotFound, "not-found")
		}
	}
	mux.HandleFunc("PATCH "+own+"aliases/{address}", one(func(a *fakeAlias, q map[string]any) int {
		if paused, ok := q["paused"].(bool); ok {
			a.State = map[bool]string{true: "paused", false: "active"}[paused]
		}
		return http.StatusOK
	}))
	mux.HandleFunc("DELETE "+own+"aliases/{address}", one(func(a *fakeAlias, _ map[string]any) int {
		a.State = "deleted"
		return http.StatusNoContent
	}))
	mux.HandleFunc("POST "+own+"aliases/{address}/restore", one(func(a *fakeAlias, _ map[string]any) int {
		a.State = "active"
		return http.StatusOK
	}))
	mux.HandleFunc("POST "+own+"token/rotate", func(w http.ResponseWriter, _ *http.Request) {
		s.token = strings.Repeat("cD4y", 16)
		answer(w, http.StatusOK, map[string]string{"token": s.token})
	})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.off {
			panic(http.ErrAbortHandler)
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		if r.Method == http.MethodOptions {
			return
		}
		if strings.HasPrefix(r.URL.Path, own) {
			s.calls = append(s.calls, r.Method+" "+strings.TrimPrefix(r.URL.Path, own))
			if r.Header.Get("Authorization") != "Bearer "+s.token {
				refuse(w, http.StatusUnauthorized, "auth")
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": "no"}})
}

// link is the one link that sets the add-on up.
func (s *aliasServer) link() string { return s.URL + "/aliases/connect#token=" + s.token }

func (s *aliasServer) switchOff(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
}

// latest gives the alias that was made last and is not deleted; "" if there is none.
func (s *aliasServer) latest() fakeAlias {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.aliases {
		if a.State != "deleted" {
			return *a
		}
	}
	return fakeAlias{}
}

func (s *aliasServer) state(address string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.aliases {
		if a.Address == address {
			return a.State
		}
	}
	return ""
}

// with does something to the server between two requests.
func (s *aliasServer) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// count gives how many aliases it made.
func (s *aliasServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}
