package road

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"postern.email/kit/limits"
	"postern.email/kit/serve"
	"postern.email/mail"
	"postern.email/wire/dns"
	"postern.email/wire/dns/dnstest"
	"postern.email/wire/mtasts"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/sasl"
	"postern.email/wire/smtp"
)

// world is a DNS, an authority, and hosts that take mail. All hosts of a world listen on the
// same ports, each on an address of its own.
type world struct {
	t     testing.TB
	dns   *dnstest.Server
	names *dns.Resolver
	roots *x509.CertPool
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	smtp  uint16
	https uint16
	last  byte
}

func newWorld(t testing.TB, records ...string) *world {
	t.Helper()
	w := &world{t: t, dns: dnstest.New(t, records...), roots: x509.NewCertPool()}
	var err error
	if w.names, err = dns.New(dns.Options{Server: w.dns.Addr}); err != nil {
		t.Fatal(err)
	}
	w.ca, w.caKey = w.certify(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	w.roots.AddCert(w.ca)
	w.smtp, w.https = freePort(t), freePort(t)
	return w
}

// freePort finds a port that is free on all of this machine's addresses.
func freePort(t testing.TB) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func (w *world) certify(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := w.ca, w.caKey
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		w.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return made, key
}

// host is a mail host. Its fields may be set before serve.
type host struct {
	addr string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	noTLS     bool
	rcptMax   int
	refuse    map[string]*smtp.Reply // by local part
	webAnswer string                 // answers every POST with this, status in webStatus
	webStatus int
	taking    func() // called when all of a mail is there; nil: nothing is

	mu     sync.Mutex
	conns  int
	posts  int
	got    []string // "smtp to,to: text" or "https to,to: text"
	secure []bool   // REQUIRETLS of each mail
}

// newHost makes a host with a certificate for names (one for itself where there are none).
func (w *world) newHost(names ...string) *host {
	w.t.Helper()
	w.last++
	h := &host{addr: net.IPv4(127, 0, 9, w.last).String(), refuse: map[string]*smtp.Reply{}}
	c := &x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	ca, caKey := w.ca, w.caKey
	if len(names) == 0 {
		w.ca, w.caKey = nil, nil
	}
	h.cert, h.key = w.certify(c)
	w.ca, w.caKey = ca, caKey
	return h
}

func (h *host) tls(protocols ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{h.cert.Raw}, PrivateKey: h.key}}, NextProtos: protocols}
}

// tlsa is a DANE-EE record of the host's key.
func (h *host) tlsa() string {
	sum := sha256.Sum256(h.cert.RawSubjectPublicKeyInfo)
	return "3 1 1 " + hex.EncodeToString(sum[:])
}

// serveSMTP makes the host take mail by SMTP until the test ends.
func (w *world) serveSMTP(h *host) {
	w.t.Helper()
	l := w.listen(h, w.smtp)
	o := smtp.Options{Hostname: "host", Backend: h, MaxRecipients: h.rcptMax, Grace: time.Millisecond, PeerOf: serve.PeerOf}
	if !h.noTLS {
		o.TLS = h.tls()
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = smtp.Serve(ctx, l, o)
	}()
	w.t.Cleanup(func() { stop(); <-done })
}

// serveWeb makes the host take mail over HTTPS.
func (w *world) serveWeb(h *host) {
	w.t.Helper()
	l := w.listen(h, w.https)
	take := mxdeliv.New(mxdeliv.Options{Backend: webHost{h}})
	srv := &http.Server{TLSConfig: h.tls("h2", "http/1.1"), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.posts++
		h.mu.Unlock()
		if h.webStatus != 0 {
			rw.WriteHeader(h.webStatus)
			rw.Write([]byte(h.webAnswer))
			return
		}
		take.ServeHTTP(rw, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	w.t.Cleanup(func() { srv.Close(); <-done })
}

func (w *world) listen(h *host, port uint16) net.Listener {
	w.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(h.addr, strconv.Itoa(int(port))))
	if err != nil {
		w.t.Skip("this machine has no address " + h.addr)
	}
	return l
}

func (h *host) NewSession(_ context.Context, i smtp.Info) (smtp.Session, error) {
	h.mu.Lock()
	h.conns++
	h.mu.Unlock()
	return &hostSession{h: h}, nil
}

type hostSession struct {
	h       *host
	to      string
	require bool
}

func (*hostSession) Auth(context.Context, sasl.Credentials) error { return nil }
func (s *hostSession) Mail(_ context.Context, _ mail.Address, o smtp.MailOptions) error {
	s.Reset()
	s.require = o.RequireTLS
	return nil
}

func (s *hostSession) Rcpt(_ context.Context, to mail.Address, _ smtp.RcptOptions) error {
	if r := s.h.refuse[to.Local]; r != nil {
		return r
	}
	if s.to != "" {
		s.to += ","
	}
	s.to += to.Local
	return nil
}
func (s *hostSession) Data(context.Context) (smtp.Transfer, error) { return s, nil }
func (s *hostSession) Abort()                                      {}
func (s *hostSession) Reset()                                      { s.to, s.require = "", false }
func (s *hostSession) Close()                                      {}
func (s *hostSession) Commit(_ context.Context, raw []byte) error {
	if r := s.h.refuse["(data)"]; r != nil {
		return r
	}
	s.h.took("smtp "+s.to+": "+string(raw), s.require)
	return nil
}

func (h *host) took(what string, require bool) {
	if h.taking != nil {
		h.taking()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got, h.secure = append(h.got, what), append(h.secure, require)
}

func (h *host) mails() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.got...)
}

// webHost is the host behind HTTPS.
type webHost struct{ h *host }

func (webHost) Admit(context.Context, limits.Peer) (string, bool) { return "", true }
func (b webHost) Deliver(ctx context.Context, m mxdeliv.Mail) (mxdeliv.Outcome, string) {
	s := &hostSession{h: b.h}
	refused := 0
	last := error(nil)
	for _, to := range m.To {
		if err := s.Rcpt(ctx, to, smtp.RcptOptions{}); err != nil {
			refused++
			last = err
		}
	}
	switch {
	case refused > 0 && refused < len(m.To):
		return mxdeliv.Split, "451 4.5.3 not all recipients are accepted"
	case refused > 0:
		return mxdeliv.Refused, last.Error()
	}
	b.h.took("https "+s.to+": "+string(m.Raw), false)
	return mxdeliv.Accepted, "250 2.0.0 OK"
}

// roads makes Roads in the world. Nothing is where the usual ports are.
func (w *world) roads(change func(*Options)) *Roads {
	o := Options{Hostname: "us.example", Names: w.names, Roots: w.roots, SMTPPort: w.smtp, HTTPSPort: w.https, Connect: 5 * time.Second, Reach: 10 * time.Second}
	if change != nil {
		change(&o)
	}
	r := New(o)
	w.t.Cleanup(r.Close)
	return r
}

// job is a mail for local parts at a domain.
func job(domain string, to ...string) Job {
	j := Job{From: mail.Address{Local: "anna", Domain: "us.example"}, Body: bytes.NewReader([]byte("Subject: x\r\n\r\nbody\r\n"))}
	for _, l := range to {
		j.Rcpts = append(j.Rcpts, smtp.Recipient{To: mail.Address{Local: l, Domain: domain}})
	}
	return j
}

// send is one mail over a session of its own.
func send(t testing.TB, r *Roads, j Job) Outcome {
	t.Helper()
	s := r.Session(j.Rcpts[0].To.Domain)
	defer s.Close()
	return s.Send(t.Context(), j)
}

// noPolicies has none but those given.
type fixedPolicies map[string]mtasts.Policy

func (f fixedPolicies) Policy(_ context.Context, domain string) (mtasts.Policy, error) {
	if p, ok := f[domain]; ok {
		return p, nil
	}
	return mtasts.Policy{}, errNoPolicy
}
