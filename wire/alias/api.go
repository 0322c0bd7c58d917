package alias

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/wire/web"
)

// OpenAPI describes every call below APIPath (OpenAPI 3.1).
//
//go:embed openapi.json
var OpenAPI []byte

// Paths of our own interface.
const (
	ownPath  = APIPath + "postern/v1/"
	listPath = ownPath + "aliases"
	onePath  = ownPath + "aliases/{address}"
)

// maxSearch bounds what is searched for, in bytes; maxCredential a token or password.
const (
	maxSearch     = 200
	maxCredential = 1024
)

// Codes of errors, by kind.
const (
	codeAuth        = "auth"
	codeDenied      = "denied"
	codeNotFound    = "not-found"
	codeInvalid     = "invalid"
	codeExists      = "exists"
	codeFull        = "full"
	codeBusy        = "busy"
	codeTooLarge    = "too-large"
	codeUnsupported = "unsupported"
	codeUnavailable = "unavailable"
	codeInternal    = "internal"
)

func codeOf(k errs.Kind) string {
	switch k {
	case errs.Auth:
		return codeAuth
	case errs.Denied:
		return codeDenied
	case errs.NotFound:
		return codeNotFound
	case errs.Invalid:
		return codeInvalid
	case errs.Exists:
		return codeExists
	case errs.Full:
		return codeFull
	case errs.Busy:
		return codeBusy
	case errs.TooLarge:
		return codeTooLarge
	case errs.Unsupported:
		return codeUnsupported
	case errs.NoSpace, errs.Unavailable, errs.Canceled, errs.Conflict:
		return codeUnavailable
	}
	return codeInternal
}

// routesAPI adds the calls.
func (s *Server) routesAPI() {
	s.call("GET "+listPath, s.own(s.ownList))
	s.call("POST "+listPath, s.own(s.ownCreate))
	s.call("GET "+onePath, s.own(s.ownGet))
	s.call("PATCH "+onePath, s.own(s.ownChange))
	s.call("DELETE "+onePath, s.own(s.ownDelete))
	s.call("POST "+onePath+"/restore", s.own(s.ownRestore))
	s.call("GET "+ownPath+"account", s.own(s.ownAccount))
	s.call("GET "+ownPath+"key", s.own(s.ownKey))
	s.call("GET "+ownPath+"tokens", s.own(s.ownTokens))
	s.call("POST "+ownPath+"tokens", s.own(s.ownNewToken))
	s.call("DELETE "+ownPath+"tokens/{id}", s.own(s.ownRevoke))
	s.call("POST "+ownPath+"token/rotate", s.own(s.ownRotate))
	s.call("GET "+ownPath+"openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(OpenAPI)
	})
	s.routesSimpleLogin()
	s.routesAddy()
	s.mux.HandleFunc(APIPath, s.noCall)
}

// noCall answers what is no call: 405 where there are calls of other methods (RFC 9110 §15.5.6).
func (s *Server) noCall(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if _, pattern := s.mux.Handler(&http.Request{Method: method, Host: r.Host, URL: r.URL}); pattern != APIPath && pattern != "" {
			allow = append(allow, method)
		}
	}
	if allow == nil {
		fail(w, http.StatusNotFound, codeNotFound, "there is no such call")
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	fail(w, http.StatusMethodNotAllowed, codeInvalid, "this call has another method")
}

// call adds a call, by method and path.
func (s *Server) call(pattern string, h http.HandlerFunc) {
	s.calls = append(s.calls, pattern)
	s.mux.HandleFunc(pattern, h)
}

// own is one of our own calls: who asks, then what to answer. A nil answer is 204.
func (s *Server) own(call func(r *http.Request, w Who) (status int, answer any, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.bearer(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750 §3
			fail(w, http.StatusUnauthorized, codeAuth, "a token is needed: Authorization: Bearer TOKEN")
			return
		}
		status, answer, err := call(r, who)
		switch {
		case err != nil:
			s.failErr(w, err)
		case answer == nil:
			w.WriteHeader(status)
		default:
			writeJSON(w, status, answer)
		}
	}
}

// bearer gives the token of a request (RFC 6750 §2.1), or address and password (RFC 7617).
func (s *Server) bearer(r *http.Request) (Who, bool) {
	w := Who{Peer: s.o.PeerOf(r)}
	if name, password, ok := r.BasicAuth(); ok && name != "" && len(name)+len(password) <= maxCredential {
		w.Login, w.Password = name, password
		return w, true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	w.Token = strings.TrimSpace(token)
	return w, strings.EqualFold(scheme, "Bearer") && w.Token != "" && len(w.Token) <= maxCredential
}

// problem is the body of an error.
type problem struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func fail(w http.ResponseWriter, status int, code, message string) {
	var p problem
	p.Error.Code, p.Error.Message = code, message
	writeJSON(w, status, p)
}

func (s *Server) failErr(w http.ResponseWriter, err error) {
	k := errs.KindOf(err)
	s.noteErr(w, err)
	if k == errs.Auth {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	fail(w, web.Status(k), codeOf(k), errs.Public(err))
}

// noteErr sets when to come again, and logs what should not happen.
func (s *Server) noteErr(w http.ResponseWriter, err error) {
	switch errs.KindOf(err) {
	case errs.Busy, errs.NoSpace, errs.Unavailable, errs.Conflict:
		w.Header().Set("Retry-After", retrySeconds)
	case errs.Internal, errs.Corrupt:
		s.o.Logger.Error("a request about aliases failed", "why", errs.Public(err))
		s.o.Logger.Debug("a request about aliases failed", "err", err)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// readJSON reads one JSON value into v: an object, and nothing after it. strict refuses keys that
// v does not know.
func readJSON(r *http.Request, v any, strict bool) error {
	const op = "wire/alias.readJSON"
	if t := r.Header.Get("Content-Type"); t != "" {
		if kind, _, err := mime.ParseMediaType(t); err != nil || kind != "application/json" && kind != "text/json" {
			return errs.E(op, errs.Invalid, "the body must be JSON, with Content-Type: application/json", err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return errs.E(op, errs.Invalid, "the body cannot be read", err)
	}
	return parseJSON(b, v, strict)
}

func parseJSON(b []byte, v any, strict bool) error {
	const op = "wire/alias.parseJSON"
	if len(b) > MaxBody {
		return errs.E(op, errs.TooLarge, "the body is longer than "+strconv.Itoa(MaxBody)+" bytes", nil)
	}
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' { // "null" would be taken for an empty object
		return errs.E(op, errs.Invalid, "the body is no JSON object", nil)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return errs.E(op, errs.Invalid, "the body is not what is asked for: "+jsonFault(err), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errs.E(op, errs.Invalid, "something follows the JSON object", err)
	}
	return nil
}

// jsonFault says what is wrong without the library's names.
func jsonFault(err error) string {
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "there is no " + field
	}
	if t, ok := err.(*json.UnmarshalTypeError); ok && t.Field != "" {
		return strconv.Quote(t.Field) + " has the wrong type"
	}
	return "it is no JSON"
}

func (s *Server) ownCreate(r *http.Request, w Who) (int, any, error) {
	var q CreateRequest
	if err := readJSON(r, &q, true); err != nil {
		return 0, nil, err
	}
	v, err := s.o.Backend.Create(r.Context(), w, q)
	return http.StatusCreated, shown(v), err
}

// listAnswer is one page of a list.
type listAnswer struct {
	Aliases []View `json:"aliases"`
	Next    string `json:"next"` // cursor of the next page; "" at the end
}

func (s *Server) ownList(r *http.Request, w Who) (int, any, error) {
	q, err := listRequest(r)
	if err != nil {
		return 0, nil, err
	}
	page, next, err := s.o.Backend.List(r.Context(), w, q)
	a := listAnswer{Aliases: make([]View, len(page)), Next: next}
	for i, v := range page {
		a.Aliases[i] = shown(v)
	}
	return http.StatusOK, a, err
}

// listRequest reads the query of a list: cursor, limit, search, site, deleted.
func listRequest(r *http.Request) (q ListRequest, err error) {
	const op = "wire/alias.listRequest"
	v := r.URL.Query()
	q = ListRequest{Cursor: v.Get("cursor"), Limit: MaxPage, Search: v.Get("search"), Site: v.Get("site")}
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > MaxPage {
			return q, errs.E(op, errs.Invalid, "limit is a number from 1 to "+strconv.Itoa(MaxPage), err)
		}
	}
	if text := v.Get("deleted"); text != "" {
		if q.Deleted, err = strconv.ParseBool(text); err != nil {
			return q, errs.E(op, errs.Invalid, "deleted is true or false", err)
		}
	}
	if len(q.Cursor) > maxSearch || len(q.Search) > maxSearch || len(q.Site) > maxSearch {
		return q, errs.E(op, errs.Invalid, "cursor, search and site are at most "+strconv.Itoa(maxSearch)+" bytes long", nil)
	}
	return q, nil
}

// shown is v as it is sent: a list is never null.
func shown(v View) View {
	if v.Correspondents == nil {
		v.Correspondents = []Correspondent{}
	}
	return v
}

func (s *Server) ownGet(r *http.Request, w Who) (int, any, error) {
	v, err := s.o.Backend.Get(r.Context(), w, r.PathValue("address"))
	return http.StatusOK, shown(v), err
}

func (s *Server) ownChange(r *http.Request, w Who) (int, any, error) {
	var q ChangeRequest
	if err := readJSON(r, &q, true); err != nil {
		return 0, nil, err
	}
	v, err := s.o.Backend.Change(r.Context(), w, r.PathValue("address"), q)
	return http.StatusOK, shown(v), err
}

func (s *Server) ownDelete(r *http.Request, w Who) (int, any, error) {
	return http.StatusNoContent, nil, s.o.Backend.Delete(r.Context(), w, r.PathValue("address"))
}

func (s *Server) ownRestore(r *http.Request, w Who) (int, any, error) {
	v, err := s.o.Backend.Restore(r.Context(), w, r.PathValue("address"))
	return http.StatusOK, shown(v), err
}

func (s *Server) ownAccount(r *http.Request, w Who) (int, any, error) {
	a, err := s.o.Backend.Account(r.Context(), w)
	a.Scopes, a.Domains = append([]string{}, a.Scopes...), append([]string{}, a.Domains...)
	return http.StatusOK, a, err
}

func (s *Server) ownKey(r *http.Request, w Who) (int, any, error) {
	key, domains, err := s.o.Backend.AliasKey(r.Context(), w)
	return http.StatusOK, Key{Key: key, Domains: domains}, err
}

func (s *Server) ownTokens(r *http.Request, w Who) (int, any, error) {
	list, err := s.o.Backend.Tokens(r.Context(), w)
	return http.StatusOK, tokensAnswer{append([]Token{}, list...)}, err
}

// tokensAnswer is a list of tokens.
type tokensAnswer struct {
	Tokens []Token `json:"tokens"`
}

func (s *Server) ownNewToken(r *http.Request, w Who) (int, any, error) {
	var q TokenRequest
	if err := readJSON(r, &q, true); err != nil {
		return 0, nil, err
	}
	if q.Scopes != nil && len(q.Scopes) == 0 {
		return 0, nil, errs.E("wire/alias.ownNewToken", errs.Invalid, "scopes names at least one, or is left out", nil)
	}
	t, err := s.o.Backend.NewToken(r.Context(), w, q.Scopes, q.Name)
	return http.StatusCreated, tokenAnswer{t}, err
}

func (s *Server) ownRevoke(r *http.Request, w Who) (int, any, error) {
	return http.StatusNoContent, nil, s.o.Backend.RevokeToken(r.Context(), w, r.PathValue("id"))
}

// tokenAnswer is a new token.
type tokenAnswer struct {
	Token string `json:"token"`
}

func (s *Server) ownRotate(r *http.Request, w Who) (int, any, error) {
	t, err := s.o.Backend.RotateToken(r.Context(), w)
	return http.StatusOK, tokenAnswer{t}, err
}
