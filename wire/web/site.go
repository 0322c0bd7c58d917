// Package web serves the relay's pages over HTTPS: one that makes an address in
// one click without JavaScript, the account interface of chat-mail apps (/new),
// autoconfiguration for mail programs, and the switch that lets IMAP and
// submission share the port (ALPN, RFC 7301).
//
// Nothing about a client is logged or kept, but a counter for its network.
package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	pages "postern.email/web"
)

// Ports are where clients reach the services; 0 = not offered.
type Ports struct{ HTTPS, IMAPS, IMAP, Submissions, Submission, POP3S, POP3 int }

// Options for New.
type Options struct {
	// Domain is what stands behind the @ of addresses here: a domain, or an address
	// literal in brackets (RFC 5321 §4.1.3).
	Domain string
	Host   string // the name or address that clients connect to; empty: that of Domain
	Ports  Ports
	// Policy is the text of the MTA-STS policy (RFC 8461 §3.2); empty: none is
	// published.
	Policy string
	// SelfSigned says that clients must be told to accept the certificate.
	SelfSigned                    bool
	NameLength, PasswordMinLength int
	// Limit bounds how often one network may ask for credentials; nil = no limit.
	Limit *limits.GCRA
	// Closed gives why no new addresses are made now, nil when they are.
	Closed func() error
	Mix    MixClients // nil: this relay is in no mix network
	// AliasPath is the page about aliases, which every page leads to; empty: there is none.
	AliasPath string
	Admin     string // URI of the operator's contact, or empty
	// DeleteAfter and InactiveAfter are told to users in words, "20 days"; empty: never.
	DeleteAfter, InactiveAfter string
	Rand                       io.Reader
	Logger                     *slog.Logger
}

// maxBody bounds what a request may bring: the longest is the registration of a mail proxy.
const maxBody = maxMixJSON + 1

// Site is the pages. All methods may be called by many goroutines.
type Site struct {
	o     Options
	site  string // the host in this site's own links, without port
	pages *template.Template
	mux   *http.ServeMux
}

// New prepares the pages.
func New(o Options) (*Site, error) {
	const op = "wire/web.New"
	if o.Domain == "" {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	if o.Host == "" {
		o.Host = HostOf(o.Domain)
	}
	if o.NameLength <= 0 {
		o.NameLength = 9
	}
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Logger)
	if o.Closed == nil {
		o.Closed = func() error { return nil }
	}
	t, err := template.ParseFS(pages.Files, "*.html")
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	s := &Site{o: o, site: HostOf(o.Domain), pages: t, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /{$}", s.index)
	s.mux.HandleFunc("POST /{$}", s.makePage)
	for _, path := range []string{"/new", "/cgi-bin/newemail.py"} {
		s.mux.HandleFunc("POST "+path, s.makeJSON)
	}
	s.mux.HandleFunc("POST "+MixPath, s.mixClient)
	s.mux.HandleFunc("DELETE "+MixPath, s.mixClient)
	s.mux.HandleFunc("GET /new", s.getNew)
	s.mux.HandleFunc("GET /cgi-bin/newemail.py", s.makeJSON) // never a redirect: old clients follow none
	s.mux.HandleFunc("GET /info", s.page("info.html", "How it works"))
	s.mux.HandleFunc("GET /info.html", s.page("info.html", "How it works"))
	s.mux.HandleFunc("GET /privacy", s.page("privacy.html", "Privacy"))
	s.mux.HandleFunc("GET /privacy.html", s.page("privacy.html", "Privacy"))
	s.mux.HandleFunc("GET /.well-known/autoconfig/mail/config-v1.1.xml", s.autoconfig)
	s.mux.HandleFunc("GET /mail/config-v1.1.xml", s.autoconfig)
	if o.Policy != "" {
		s.mux.HandleFunc("GET "+PolicyPath, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			io.WriteString(w, o.Policy)
		})
	}
	s.mux.HandleFunc("GET /robots.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "User-agent: *\nDisallow: /\n")
	})
	s.mux.HandleFunc("GET /style.css", s.file("style.css", "text/css; charset=utf-8"))
	s.mux.HandleFunc("GET /favicon.svg", s.file("favicon.svg", "image/svg+xml"))
	s.mux.HandleFunc("GET /favicon.ico", s.file("favicon.svg", "image/svg+xml"))
	s.mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		s.fail(w, http.StatusNotFound, "Not here", "There is no such page.")
	})
	return s, nil
}

// ServeHTTP answers one request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	SetHeaders(w.Header(), !s.o.SelfSigned)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	switch requestHost(r) {
	case policyHost + s.site:
		if r.URL.Path == PolicyPath { // senders follow no redirection (RFC 8461 §3.3)
			break
		}
		fallthrough
	case wwwHost + s.site:
		redirect(w, r, s.site, s.o.Ports.HTTPS)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// SetHeaders sets what every page of this program says about itself: nothing from elsewhere, no
// scripts, no frames, no traces. vouched: authorities vouch for the certificate, so that browsers
// may insist on HTTPS from now on (RFC 6797).
func SetHeaders(h http.Header, vouched bool) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if vouched {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	// Credentials must not stay anywhere; the rest is small.
	h.Set("Cache-Control", "no-store")
}

// server is a row of the settings table.
type server struct {
	What, Host string
	Port       int
	Security   string
}

// view is what the templates show.
type view struct {
	Title, Domain, Admin, Closed, Message string
	SelfSigned                            bool
	Servers                               []server
	DeleteAfter, InactiveAfter            string
	Email, Password, QR                   string
	AliasPath                             string
	AccountLink, LoginLink                template.URL // made here, safe: html/template drops their schemes otherwise
}

func (s *Site) view(title string) view {
	v := view{Title: title + " – " + s.o.Domain, Domain: s.o.Domain, Admin: s.o.Admin, SelfSigned: s.o.SelfSigned,
		DeleteAfter: s.o.DeleteAfter, InactiveAfter: s.o.InactiveAfter, AliasPath: s.o.AliasPath}
	p := s.o.Ports
	for _, x := range []struct {
		what     string
		port     int
		security string
	}{{"Incoming, IMAP", p.IMAPS, "TLS"}, {"Incoming, IMAP", p.IMAP, "STARTTLS"}, {"Incoming, POP3", p.POP3S, "TLS"},
		{"Incoming, POP3", p.POP3, "STARTTLS"}, {"Outgoing, SMTP", p.Submissions, "TLS"}, {"Outgoing, SMTP", p.Submission, "STARTTLS"}} {
		// One row a protocol, the one with TLS from the first byte where there is one.
		if n := len(v.Servers); x.port != 0 && (n == 0 || v.Servers[n-1].What != x.what) {
			v.Servers = append(v.Servers, server{x.what, s.o.Host, x.port, x.security})
		}
	}
	return v
}

func (s *Site) render(w http.ResponseWriter, status int, name string, v view) {
	Render(w, s.o.Logger, s.pages, status, name, v)
}

// Render answers with a page: the template of that name, shown v. One that cannot be made is said
// in the log, and answered with 500.
func Render(w http.ResponseWriter, log *slog.Logger, t *template.Template, status int, name string, v any) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, v); err != nil {
		log.Error("a page cannot be made", "page", name, "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

func (s *Site) fail(w http.ResponseWriter, status int, title, message string) {
	v := s.view(title)
	v.Title, v.Message = title, message
	s.render(w, status, "error.html", v)
}

func (s *Site) page(name, title string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { s.render(w, http.StatusOK, name, s.view(title)) }
}

func (s *Site) file(name, mime string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := pages.Files.ReadFile(name)
		if err != nil {
			http.NotFound(w, nil)
			return
		}
		w.Header().Set("Content-Type", mime)
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Write(b)
	}
}

func (s *Site) index(w http.ResponseWriter, _ *http.Request) {
	v := s.view("Private mail")
	if err := s.o.Closed(); err != nil {
		v.Closed = errs.Public(err)
	}
	if link := s.AccountLink(); link != "" && v.Closed == "" {
		png, err := QR(link)
		if err == nil {
			v.AccountLink, v.QR = template.URL(link), base64.StdEncoding.EncodeToString(png)
		}
	}
	s.render(w, http.StatusOK, "index.html", v)
}

// peerKey is the key of the connection's peer in a request's context.
type peerKey struct{}

// allowed says whether this request may make credentials, and how long to wait if not.
func (s *Site) allowed(r *http.Request) (ok bool, wait time.Duration) {
	peer, _ := r.Context().Value(peerKey{}).(limits.Peer)
	ok, next := s.o.Limit.Allow(peer.Network())
	return ok, time.Until(next)
}

// create is what all roads to new credentials share: rate, switch, the draw.
func (s *Site) create(w http.ResponseWriter, r *http.Request) (c Credentials, status int, reason string) {
	if ok, wait := s.allowed(r); !ok {
		retryAfter(w, wait)
		return c, http.StatusTooManyRequests, "Too many new addresses from your network; please wait a moment."
	}
	if err := s.o.Closed(); err != nil {
		return c, http.StatusServiceUnavailable, errs.Public(err)
	}
	c, err := s.fresh()
	if err != nil {
		return c, http.StatusInternalServerError, "internal error"
	}
	return c, http.StatusOK, ""
}

func (s *Site) makePage(w http.ResponseWriter, r *http.Request) {
	c, status, reason := s.create(w, r)
	if reason != "" {
		s.fail(w, status, "Not now", reason)
		return
	}
	v := s.view("Your address")
	link := s.LoginURL(c.Email, c.Password)
	png, err := QR(link)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, "Not now", "internal error")
		return
	}
	v.Email, v.Password, v.LoginLink, v.QR = c.Email, c.Password, template.URL(link), base64.StdEncoding.EncodeToString(png)
	s.render(w, http.StatusOK, "new.html", v)
}

// makeJSON answers chat-mail apps. A refusal carries its reason, which they show.
func (s *Site) makeJSON(w http.ResponseWriter, r *http.Request) {
	c, status, reason := s.create(w, r)
	w.Header().Set("Content-Type", "application/json")
	if reason != "" {
		writeJSON(w, status, map[string]string{"reason": reason})
		return
	}
	writeJSON(w, status, c)
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v)
}

// retryAfter tells when to ask again (RFC 9110 §10.2.3).
func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(max(wait, 0)/time.Second)+1))
}

// getNew leads a browser into the app. Where the app could not come back over
// HTTPS, because the certificate is self-signed, it gives credentials at once.
func (s *Site) getNew(w http.ResponseWriter, r *http.Request) {
	if s.o.SelfSigned {
		s.makeJSON(w, r)
		return
	}
	w.Header().Set("Location", "dcaccount:"+s.base()+"/new")
	w.WriteHeader(http.StatusMovedPermanently)
}

// clientConfig is Mozilla's autoconfiguration format, version 1.1.
type clientConfig struct {
	XMLName  xml.Name `xml:"clientConfig"`
	Version  string   `xml:"version,attr"`
	Provider struct {
		ID       string       `xml:"id,attr"`
		Domain   string       `xml:"domain"`
		Name     string       `xml:"displayName"`
		Short    string       `xml:"displayShortName"`
		Incoming []mailServer `xml:"incomingServer"`
		Outgoing []mailServer `xml:"outgoingServer"`
	} `xml:"emailProvider"`
}

type mailServer struct {
	Type     string `xml:"type,attr"`
	Host     string `xml:"hostname"`
	Port     int    `xml:"port"`
	Socket   string `xml:"socketType"`
	Auth     string `xml:"authentication"`
	Username string `xml:"username"`
}

func (s *Site) autoconfig(w http.ResponseWriter, _ *http.Request) {
	c := clientConfig{Version: "1.1"}
	c.Provider.ID, c.Provider.Domain, c.Provider.Name, c.Provider.Short = s.o.Domain, s.o.Domain, s.o.Domain, s.o.Domain
	list := func(kind string, ports ...int) (l []mailServer) {
		for i, port := range ports {
			if port != 0 {
				l = append(l, mailServer{kind, s.o.Host, port, []string{"SSL", "STARTTLS", "SSL"}[i], "password-cleartext", "%EMAILADDRESS%"})
			}
		}
		return l
	}
	p := s.o.Ports
	c.Provider.Incoming = append(list("imap", p.IMAPS, p.IMAP, p.HTTPS), list("pop3", p.POP3S, p.POP3)...)
	c.Provider.Outgoing = list("smtp", p.Submissions, p.Submission, p.HTTPS)
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	io.WriteString(w, xml.Header)
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	e.Encode(c)
}

// withPeer puts who is on the other end into the request's context, for limits only.
func withPeer(peerOf func(net.Conn) limits.Peer) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, peerKey{}, peerOf(c))
	}
}
