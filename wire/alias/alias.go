// Package alias serves aliases to their owners over HTTP: the WebSocket of IncognitoMail
// (one frame in, one out), the calls by which password managers make aliases at SimpleLogin
// and addy.io, an interface of our own (openapi.json), and pages that need no JavaScript.
//
// It keeps no aliases and decides nothing about them; a Backend does. What it keeps is the
// sessions of the pages, in memory, sealed so that only the browser's cookie opens them.
package alias

import (
	"crypto/rand"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/wire/sasl"
	"postern.email/wire/web"
)

// Paths of the server, beside that of the WebSocket.
const (
	PagePath    = "/aliases"
	APIPath     = "/api/"
	ConnectPath = PagePath + "/connect" // sets the add-on up: #token=… follows
)

// DefaultWebSocketPath is that of IncognitoMail.
const DefaultWebSocketPath = "/incognitomail"

// Defaults of Options, and fixed limits.
const (
	DefaultSockets           = 256 // WebSockets open at once
	DefaultSocketsPerNetwork = 16
	DefaultSessions          = 10_000 // sessions of pages at once
	DefaultIdle              = 30 * time.Minute

	MaxBody  = 16 << 10 // bytes of a call's body
	MaxForm  = 64 << 10 // bytes of a page's form, which takes three for most signs
	MaxFrame = 1 << 10  // bytes of a WebSocket's frame
	MaxPage  = 100      // aliases on one page of a list
)

// Options of a Server. Backend is needed.
type Options struct {
	Backend Backend
	Domain  string // what the pages are headed with
	// Base is where the pages are found, "https://example.org" with a port if it is not the
	// usual one; for the links that set clients up.
	Base          string
	WebSocketPath string // "": DefaultWebSocketPath
	Root          bool   // the WebSocket is at "/", too, which is then no other page
	// Origins are the origins whose scripts may ask, as browsers name them
	// ("https://example.org", "moz-extension://…", "null"; a "*" stands for any characters).
	// Empty: all, since a browser gives each installed add-on an origin of its own, or none; no
	// call is answered by a cookie, so an origin alone gives nobody anything. The pages' own is
	// always allowed, as is a request that names none.
	Origins []string
	// PeerOf gives who sent a request; nil: nobody knows, and nobody is limited.
	PeerOf func(*http.Request) limits.Peer
	// Private says that the listener is private, or that what stands before it ends TLS: else
	// no secret is taken that did not come by TLS.
	Private bool
	// Local reports whether a request crosses no network, so that it needs no TLS; nil: all do.
	Local    func(*http.Request) bool
	HSTS     bool          // the certificate is vouched for: browsers may insist on HTTPS
	Sockets  *limits.Conns // nil: the defaults
	Sessions int           // 0: DefaultSessions
	Idle     time.Duration // after which a session of the pages ends; 0: DefaultIdle
	Now      func() time.Time
	Rand     io.Reader
	Logger   *slog.Logger
}

// Server is the handlers. Its methods may be called by many goroutines.
type Server struct {
	o        Options
	mux      *http.ServeMux
	calls    []string // patterns of the calls; each is in openapi.json
	pages    *template.Template
	sessions *sessions
	cross    *http.CrossOriginProtection // forms from other sites
}

// New makes a Server. errs.Invalid for Options that cannot be served.
func New(o Options) (*Server, error) {
	const op = "wire/alias.New"
	if o.Backend == nil {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	if o.WebSocketPath == "" {
		o.WebSocketPath = DefaultWebSocketPath
	}
	if why := badPath(o.WebSocketPath); why != "" {
		return nil, errs.E(op, errs.Invalid, why, nil)
	}
	if o.Sockets == nil {
		o.Sockets = limits.NewConns(DefaultSockets, DefaultSocketsPerNetwork)
	}
	if o.Sessions <= 0 {
		o.Sessions = DefaultSessions
	}
	if o.Idle <= 0 {
		o.Idle = DefaultIdle
	}
	if o.PeerOf == nil {
		o.PeerOf = func(*http.Request) limits.Peer { return limits.Peer{} }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Domain == "" {
		o.Domain = "this server"
	}
	s := &Server{o: o, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(), sessions: newSessions(o.Sessions, o.Idle, o.Now, o.Rand)}
	s.mux.HandleFunc("GET "+o.WebSocketPath, s.socket)
	if o.Root {
		s.mux.HandleFunc("GET /{$}", s.socket)
	}
	s.routesAPI()
	if err := s.routesPages(); err != nil {
		return nil, err
	}
	return s, nil
}

// badPath says why the WebSocket cannot be at path; "": it can.
func badPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "{} \t?#") {
		return "the path of the WebSocket begins with a slash and has no braces, spaces, ? or #"
	}
	if strings.HasPrefix(path, APIPath) || path == PagePath || strings.HasPrefix(path, PagePath+"/") || path == "/" {
		return "the path of the WebSocket is taken by other pages"
	}
	return ""
}

// ValidPath reports whether the WebSocket can be at path.
func ValidPath(path string) bool { return badPath(path) == "" }

// Owns reports whether a request for path belongs here.
func (s *Server) Owns(path string) bool {
	return path == s.o.WebSocketPath || s.o.Root && path == "/" || path == PagePath || strings.HasPrefix(path, PagePath+"/") || strings.HasPrefix(path, APIPath)
}

// Handler answers the requests that Owns names.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	web.SetHeaders(w.Header(), s.o.HSTS)
	api := strings.HasPrefix(r.URL.Path, APIPath)
	most := int64(MaxForm)
	if api {
		most = MaxBody + 1 // one more, so that it is told from the longest
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	if !sasl.MayAuth(sasl.Conn{TLS: r.TLS != nil, Private: s.o.Private || s.o.Local != nil && s.o.Local(r)}) {
		const text = "this needs HTTPS: a token or password must not cross the network in clear"
		if api {
			fail(w, http.StatusForbidden, codeDenied, text)
		} else {
			http.Error(w, text, http.StatusForbidden)
		}
		return
	}
	if api && !s.cors(w, r) {
		return
	}
	s.mux.ServeHTTP(w, r)
}
