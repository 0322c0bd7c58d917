package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused asks for an error of a kind whose public text holds some words.
func refused(t testing.TB, err error, kind errs.Kind, words string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), words) {
		t.Errorf("%v (%v, %q), want %v with %q", err, errs.KindOf(err), errs.Public(err), kind, words)
	}
}

// Domains of the two relays of a test.
const (
	one = "one.example"
	two = "two.example"
)

// relays is the page of two relays of a small network, whose links nobody answers.
type relays struct {
	*httptest.Server
	net   *dirtest.Authorities
	cons  *directory.Consensus
	names map[string]*directory.PrivateKey

	mu    sync.Mutex
	seen  []map[string]any // registrations
	users []string         // name:password
	link  string           // where the link is; "": nowhere
}

var (
	theNet  *dirtest.Authorities
	theCons *directory.Consensus
	netOnce sync.Once
)

// newRelays makes the network once for all tests: it is costly, and nothing changes in it.
func newRelays(t *testing.T) *relays {
	t.Helper()
	netOnce.Do(func() {
		theNet = dirtest.New(t, "small-net", time.Hour, 2)
		epoch := theNet.Network.Epoch(time.Now())
		at := theNet.Network.Begin(epoch)
		var nodes []*directory.Descriptor
		for i, domain := range []string{one, two} {
			nodes = append(nodes, theNet.Mix(t, "of "+domain, at, func(d *directory.Descriptor) {
				d.Nickname, d.Mode, d.Mixing = fmt.Sprint("relay", i+1), directory.Relay|directory.Mailbox, ""
				d.NameKey, d.LetterKey, d.Domains = agenttest.NameKey(t, domain).Public(), agenttest.RelayLetterKey(t, domain).Public().Bytes(), []string{domain}
				if domain == one { // an exit that takes what nobody has encrypted
					d.Parameters = directory.Parameters{{Name: directory.ExitParameter, Value: directory.ExitMail | directory.ExitCleartext}}
				}
			}))
		}
		theCons = theNet.Agree(t, epoch, nil, append(nodes, theNet.Mix(t, "mix", at))...)
	})
	r := &relays{net: theNet, cons: theCons, names: map[string]*directory.PrivateKey{one: agenttest.NameKey(t, one), two: agenttest.NameKey(t, two)}}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(r.register))
	t.Cleanup(r.Close)
	return r
}

// register answers a registration as a relay does (docs/mix-relay.md).
func (r *relays) register(w http.ResponseWriter, q *http.Request) {
	name, password, _ := q.BasicAuth()
	a, err := mail.ParseAddress(name)
	if err != nil || password == "wrong" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"reason":"name or password is wrong"}`)
		return
	}
	var in struct {
		Letter []byte `json:"letter_key"`
		Verify []byte `json:"verify_key"`
	}
	var all map[string]any
	b := new(bytes.Buffer)
	b.ReadFrom(q.Body)
	if json.Unmarshal(b.Bytes(), &in) != nil || json.Unmarshal(b.Bytes(), &all) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key, err := letter.ParsePublicKey(in.Letter)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	sign, err := directory.NewPublicKey(in.Verify[:32], in.Verify[32:])
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	node := r.node(a.Domain)
	mailbox := mailboxOf(name)
	now := time.Now().Truncate(time.Second)
	cert, err := vouch.Issue(vouch.Certificate{Identity: vouch.Identity{Relay: node, Mailbox: mailbox, Letter: key, Key: sign}, Address: a, Serial: 1, From: now.Add(-time.Hour), Until: now.Add(6 * 24 * time.Hour)},
		r.names[a.Domain])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.mu.Lock()
	r.seen, r.users = append(r.seen, all), append(r.users, name+":"+password)
	link := r.link
	r.mu.Unlock()
	if link == "" {
		link = "127.0.0.1:1"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"network": string(r.net.Network.Bytes()), "node": hex.EncodeToString(node[:]), "link_key": strings.Repeat("2e", 32),
		"addresses": []string{link}, "mailbox": hex.EncodeToString(mailbox[:]), "certificate": cert.Bytes(), "consensus": r.cons.Bytes()})
}

func (r *relays) node(domain string) packet.ID {
	for _, e := range r.cons.Nodes {
		if len(e.Domains) > 0 && e.Domains[0] == domain {
			return e.ID
		}
	}
	return packet.ID{1}
}

func mailboxOf(name string) packet.ID { return sha256.Sum256([]byte("mailbox of " + name)) }

// setup is a configuration file for accounts at the relays, as text.
type setup struct {
	dir      string
	relays   *relays
	accounts []string // addresses
	perUser  string   // lines in each account
	top      string   // lines in [Proxy]
	rest     string   // other sections
}

func newSetup(t *testing.T, r *relays, accounts ...string) *setup {
	t.Helper()
	dir, err := os.MkdirTemp("", "px") // short, for its sockets
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}), 0o600))
	return &setup{dir: dir, relays: r, accounts: accounts}
}

// data is the proxy's DataDir.
func (c *setup) data(name ...string) string {
	return filepath.Join(append([]string{c.dir, "data"}, name...)...)
}

func (c *setup) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Proxy]\nDataDir = %q\nTrustedCAs = [%q]\n", c.data(), filepath.Join(c.dir, "ca.pem"))
	for _, k := range []string{"SMTPAddress", "POP3Address", "IMAPAddress", "PageAddress"} {
		if !strings.Contains(c.top, k) {
			fmt.Fprintf(&b, "%s = \"127.0.0.1:0\"\n", k)
		}
	}
	b.WriteString(c.top + "\n" + c.rest + "\n")
	for _, a := range c.accounts {
		user, domain, _ := strings.Cut(a, "@")
		fmt.Fprintf(&b, "[[Account]]\nUser = %q\nProvider = %q\nRelayURL = %q\n%s\n", user, domain, c.relays.URL, c.perUser)
	}
	return b.String()
}

func (c *setup) load(t testing.TB) Config {
	t.Helper()
	cfg, err := LoadText("t.toml", []byte(c.text()), nil)
	must(t, err)
	return cfg
}

// register registers all accounts.
func (c *setup) register(t testing.TB) *setup {
	t.Helper()
	cfg := c.load(t)
	accounts, err := cfg.Accounts()
	must(t, err)
	for _, a := range accounts {
		_, err := Register(t.Context(), Deps{}, cfg, a, "relay password", "")
		must(t, err)
	}
	return c
}

const localPassword = "local password"

// start runs the proxy; deps may be nil. It is closed when the test ends.
func (c *setup) start(t *testing.T, set func(*Deps)) *Server {
	t.Helper()
	d := Deps{StopGrace: 50 * time.Millisecond, Cost: passhash.Cost{Time: 1, Memory: 8, Threads: 1}}
	if set != nil {
		set(&d)
	}
	s, err := Start(t.Context(), d, c.load(t))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// passwords gives every account its password.
func passwords(t testing.TB, s *Server) {
	t.Helper()
	for _, u := range s.users {
		_, err := s.passwd(t.Context(), PasswordArgs{Account: u.Address.String(), Password: localPassword})
		must(t, err)
	}
}

// mixUser makes the account as agenttest carries letters to and from it.
func mixUser(t testing.TB, s *Server, address string) *agenttest.MixUser {
	t.Helper()
	u, err := s.find(address)
	must(t, err)
	c := u.opened()
	if c == nil {
		t.Fatalf("%s is not registered", address)
	}
	return &agenttest.MixUser{Address: u.Address.Canonical(), Relay: c.Relay(), Identity: c.Identity(), Store: c.Store(), Home: c.Address()}
}

// conn speaks a line protocol.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func reach(t testing.TB, addr string) *conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	x := &conn{Conn: c, r: bufio.NewReader(c)}
	return x
}

func (c *conn) line(t testing.TB) string {
	t.Helper()
	s, err := c.r.ReadString('\n')
	must(t, err)
	return strings.TrimRight(s, "\r\n")
}

// smtp sends a command (none if empty) and gives the last line of the reply, and all of it.
func (c *conn) smtp(t testing.TB, format string, args ...any) (last, all string) {
	t.Helper()
	if format != "" {
		fmt.Fprintf(c, format+"\r\n", args...)
	}
	for {
		l := c.line(t)
		all += l + "\n"
		if len(l) < 4 || l[3] != '-' {
			return l, all
		}
	}
}

// submitter is a session that has said EHLO, and logged in where name is not empty.
func submitter(t testing.TB, s *Server, name string) *conn {
	t.Helper()
	c := reach(t, s.at("SMTPAddress"))
	c.smtp(t, "")
	c.smtp(t, "EHLO x")
	if name != "" {
		login := base64.StdEncoding.EncodeToString([]byte("\x00" + name + "\x00" + localPassword))
		if l, _ := c.smtp(t, "AUTH PLAIN %s", login); !strings.HasPrefix(l, "235") {
			t.Fatal(l)
		}
	}
	return c
}

// send hands a mail in and gives the reply to its end, or the first refusal.
func (c *conn) send(t testing.TB, from, to, mail string) string {
	t.Helper()
	for _, x := range []struct{ cmd, code string }{{"MAIL FROM:<" + from + ">", "250"}, {"RCPT TO:<" + to + ">", "250"}, {"DATA", "354"}} {
		if l, _ := c.smtp(t, "%s", x.cmd); !strings.HasPrefix(l, x.code) {
			return l
		}
	}
	l, _ := c.smtp(t, "%s.", mail)
	return l
}

// letterFrom is a mail.
func letterFrom(from, to, subject, body string) string {
	return fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Thu, 26 Nov 2026 20:00:00 +0000\r\nMessage-ID: <%s@example>\r\n\r\n%s\r\n", from, to, subject, subject, body)
}

// pop3Mails logs in and gives all mails.
func pop3Mails(t testing.TB, s *Server, name string) []string {
	t.Helper()
	c := reach(t, s.at("POP3Address"))
	c.line(t)
	var n, size int
	for _, cmd := range []string{"USER " + name, "PASS " + localPassword} {
		fmt.Fprintf(c, "%s\r\n", cmd)
		if l := c.line(t); !strings.HasPrefix(l, "+OK") {
			t.Fatalf("%s: %s", cmd, l)
		}
	}
	fmt.Fprint(c, "STAT\r\n")
	_, err := fmt.Sscanf(c.line(t), "+OK %d %d", &n, &size)
	must(t, err)
	var out []string
	for i := range n {
		fmt.Fprintf(c, "RETR %d\r\n", i+1)
		c.line(t)
		var b strings.Builder
		for {
			l := c.line(t)
			if l == "." {
				break
			}
			b.WriteString(l + "\n")
		}
		out = append(out, b.String())
	}
	fmt.Fprint(c, "QUIT\r\n")
	c.line(t)
	return out
}

// until asks again until ok says so, or fails the test.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(10*time.Millisecond), time.NewTimer(time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("%s: not in time", what)
		}
	}
}

// logged is a logger that keeps what it is told.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// identity is that of somebody elsewhere.
func identity(t testing.TB, name string) *vouch.Identity {
	t.Helper()
	return &vouch.Identity{Relay: agenttest.Relay(t, two), Mailbox: mailboxOf(name), Letter: agenttest.RelayLetterKey(t, name).Public(), Key: dirtest.Key(t, name).Public()}
}
