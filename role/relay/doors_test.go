package relay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
	"postern.email/kit/logs"
	"postern.email/kit/vfs"
	"postern.email/wire/dns/dnstest"
)

// signed is a certificate with its key.
type signed struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate for names, or an authority where there are none, signed by
// another one (nil: by itself).
func sign(t *testing.T, by *signed, called string, from, until time.Time, names ...string) *signed {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: called}, NotBefore: from, NotAfter: until,
		DNSNames: names, BasicConstraintsValid: true, IsCA: len(names) == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	made := &signed{c, key}
	if by == nil {
		by = made
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err == nil {
		made.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// asPEM gives the files of a chain, whose first certificate has the key.
func asPEM(t *testing.T, chain ...*signed) (cert, key []byte) {
	t.Helper()
	for _, s := range chain {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(chain[0].key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestChainFault: what a stranger finds wrong with certificates, in words.
func TestChainFault(t *testing.T) {
	now := time.Now()
	long, short := now.Add(90*day), now.Add(5*day)
	root := sign(t, nil, "Root", now.Add(-day), now.Add(900*day))
	middle := sign(t, root, "Middle", now.Add(-day), long)
	over := sign(t, root, "Middle", now.Add(-9*day), now.Add(-day))
	over.key = middle.key
	leaf := func(by *signed, from, until time.Time, names ...string) *x509.Certificate {
		return sign(t, by, "leaf", from, until, names...).cert
	}
	good := leaf(middle, now.Add(-day), long, "example.org")
	old := sign(t, root, "Middle", now.Add(-9*day), now.Add(-day))
	fromOld := leaf(old, now.Add(-day), long, "example.org")
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	stranger := sign(t, nil, "Own CA", now.Add(-day), long)
	for what, x := range map[string]struct {
		chain      []*x509.Certificate
		text, next string
	}{
		"in order":                 {[]*x509.Certificate{good, middle.cert}, "", ""},
		"with its root":            {[]*x509.Certificate{good, middle.cert, root.cert}, "", ""},
		"straight from the root":   {[]*x509.Certificate{leaf(root, now.Add(-day), long, "example.org")}, "", ""},
		"without its intermediate": {[]*x509.Certificate{good}, "by Middle, whose own certificate is not sent along", "The certificate file holds only the last certificate; use the full chain"},
		"with another one":         {[]*x509.Certificate{good, root.cert}, "by Middle, whose own certificate is not sent along", "use the full chain"},
		"self-signed":              {[]*x509.Certificate{leaf(nil, now.Add(-day), long, "example.org")}, "that is self-signed", "tls.mode"},
		"another authority":        {[]*x509.Certificate{leaf(stranger, now.Add(-day), long, "example.org"), stranger.cert}, "by Own CA: it is not trusted", "tls.trusted_cas"},
		"another name":             {[]*x509.Certificate{leaf(middle, now.Add(-day), long, "a.example", "b.example", "c.example", "d.example"), middle.cert}, "for a.example, b.example, c.example and others, not for example.org", "example.org"},
		"over":                     {[]*x509.Certificate{leaf(middle, now.Add(-90*day), now.Add(-day), "example.org"), middle.cert}, "no longer valid since " + now.Add(-day).UTC().Format(time.DateOnly), "postern status"},
		"not begun":                {[]*x509.Certificate{leaf(middle, now.Add(day), long, "example.org"), middle.cert}, "valid only from", "clock"},
		"soon over":                {[]*x509.Certificate{leaf(middle, now.Add(-85*day), short, "example.org"), middle.cert}, "valid until", "Renew"},
		"short, but not soon over": {[]*x509.Certificate{leaf(middle, now.Add(-day), short, "example.org"), middle.cert}, "", ""},
		"a part is over":           {[]*x509.Certificate{fromOld, old.cert}, "a part is no longer valid", "present chain"},
		"nothing":                  {nil, "cannot be read", ""},
	} {
		text, next := chainFault(x.chain, "example.org", roots, now)
		if (text == "") != (x.text == "") || !strings.Contains(text, x.text) || !strings.Contains(next, x.next) {
			t.Errorf("%s: %q, %q", what, text, next)
		}
	}
}

// TestHalfChain: doctor fetches what strangers are shown, on every port, and names the
// missing intermediate; the whole chain is in order.
func TestHalfChain(t *testing.T) {
	now := time.Now()
	root := sign(t, nil, "Root", now.Add(-day), now.Add(900*day))
	middle := sign(t, root, "Middle", now.Add(-day), now.Add(90*day))
	leaf := sign(t, middle, "leaf", now.Add(-day), now.Add(90*day), "example.org")
	ca, _ := asPEM(t, root)
	names := nameServer(t, "example.org", "example.org")
	for _, whole := range []bool{false, true} {
		fs := vfs.NewCrashDisk()
		cert, key := asPEM(t, leaf)
		if whole {
			cert, _ = asPEM(t, leaf, middle)
		}
		for name, text := range map[string][]byte{"/cert": cert, "/key": key, "/ca": ca} {
			allowed(t, vfs.WriteFileAtomic(fs, name, text, 0o600))
		}
		s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.mode=files", "tls.cert=/cert", "tls.key=/key", "tls.trusted_cas=/ca", "network.resolver="+names.Addr))
		all, err := s.Doctor(t.Context(), DoctorArgs{})
		allowed(t, err)
		n := 0
		for _, d := range all {
			switch {
			case !strings.Contains(d.Text, " answers with a certificate "):
			case whole && d.OK:
				n++
			case !whole && !d.OK && strings.Contains(d.Text, "by Middle, whose own certificate is not sent along") && strings.Contains(d.Next, "holds only the last certificate; use the full chain"):
				n++
			default:
				t.Errorf("whole chain %v: %+v", whole, d)
			}
		}
		if n != len(publicDoors) {
			t.Errorf("whole chain %v: %d of %d ports", whole, n, len(publicDoors))
		}
	}
}

// TestWhoAnswers: nobody, something without TLS, another server.
func TestWhoAnswers(t *testing.T) {
	names := dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5", "example.org 60 A 127.0.0.9")
	s := inMemory(t, "network.resolver="+names.Addr)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), uint16(s.portOf("imaps")))
	if d := diagnosis(t, s, "imaps"); d.OK || d.Text != at.String()+" does not answer" {
		t.Errorf("nobody: %+v", d)
	}
	answer := func(greeting string, tlsOf *tls.Config) net.Listener {
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if tlsOf != nil {
					c = tls.Server(c, tlsOf)
				}
				io.WriteString(c, greeting)
				c.Close()
			}
		}()
		return l
	}
	l := answer("hello\r\n", nil)
	if d := diagnosis(t, s, "imaps"); d.OK || !strings.Contains(d.Text, "answers, but there is no TLS") {
		t.Errorf("no TLS: %+v", d)
	}
	l.Close()
	cert, key := asPEM(t, sign(t, nil, "other", time.Now().Add(-day), time.Now().Add(90*day), "example.org"))
	pair, err := tls.X509KeyPair(cert, key)
	allowed(t, err)
	l = answer("", &tls.Config{Certificates: []tls.Certificate{pair}})
	defer l.Close()
	if d := diagnosis(t, s, "imaps"); d.OK || !strings.Contains(d.Text, "another program answers there, or another machine") {
		t.Errorf("another server: %+v", d)
	}
}

// TestStartTLSAsked: TLS begins after a yes only.
func TestStartTLSAsked(t *testing.T) {
	for _, x := range []struct {
		protocol, says string
		ok             bool
	}{
		{"imap", "* OK hello\r\na OK begin\r\n", true}, {"imap", "* OK hello\r\n* CAPABILITY X\r\na OK begin\r\n", true},
		{"imap", "* OK hello\r\na BAD no\r\n", false}, {"imap", "* OK hello\r\na NO no\r\n", false}, {"imap", "* OK hello\r\n", false},
		{"imap", "* OK hello\r\na OK begin\r\n* more\r\n", false}, {"imap", "* OK hello\r\n" + strings.Repeat("* x\r\n", 30), false},
		{"imap", strings.Repeat("x", 5000), false},
		{"pop3", "+OK hello\r\n+OK begin\r\n", true}, {"pop3", "+OK hello\r\n-ERR no\r\n", false}, {"pop3", "", false},
	} {
		if err := startTLS(scripted{Reader: strings.NewReader(x.says)}, x.protocol); (err == nil) != x.ok {
			t.Errorf("%s %q: %v", x.protocol, x.says, err)
		}
	}
}

// scripted is a connection on which somebody says what was planned, whatever he is told.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(p []byte) (int, error)    { return s.Reader.Read(p) }
func (scripted) Write(p []byte) (int, error)     { return len(p), nil }
func (scripted) SetReadDeadline(time.Time) error { return nil }

// TestMachine: what the machine is short of is told with what it means and the option.
func TestMachine(t *testing.T) {
	for _, x := range []struct {
		what, set, load, memory string
		space                   int64
		files, inodes           uint64
		ok, advice              bool
		text, next              string
	}{
		{what: "disk", ok: true, text: "9G are free"},
		{what: "disk", space: 50 << 20, text: "only 50M are free: no mail is taken", next: "mail.min_free_space"},
		{what: "disk", space: 500 << 20, text: "only 500M are free: no new addresses", next: "accounts.min_free_disk_space"},
		{what: "inodes", inodes: 20, text: "only 20 more files", next: "inodes"},
		{what: "memory", ok: true, text: "976M are available"},
		{what: "memory", memory: "1000", text: "only 1000K are available: no new addresses", next: "accounts.min_available_memory"},
		{what: "load", load: "7.5", advice: true, text: "the load average is 7.5: no new addresses", next: "accounts.max_load"},
		{what: "load", load: "7.5", set: "accounts.max_load=0"},
		{what: "open files", ok: true, text: "100000 are allowed, about 14500 can be needed"},
		{what: "open files", files: 1024, advice: true, text: "the system allows 1024", next: "LimitNOFILE=14500"},
	} {
		or := func(a, b string) string {
			if a == "" {
				return b
			}
			return a
		}
		disk := vfs.NewFaults(vfs.NewCrashDisk())
		if x.space == 0 {
			x.space = 9 << 30
		}
		m := machine(disk, or(x.load, "0.1"), or(x.memory, "1000000"))
		m.FileLimit = func() (uint64, error) {
			if x.files > 0 {
				return x.files, nil
			}
			return 100_000, nil
		}
		m.Statfs = func(_ string, s *unix.Statfs_t) error {
			s.Files, s.Ffree = 1_000_000, 500_000
			if x.inodes > 0 {
				s.Ffree = x.inodes
			}
			return nil
		}
		s := begin(t, Deps{FS: disk, NoControl: true, System: m}, testConfig(t, "/data", "domain=127.0.0.1", "accounts.max_load=5", "accounts.min_available_memory=200M", "accounts.min_free_disk_space=1G", or(x.set, "log.level=info")))
		disk.SetSpace(x.space)
		what := x.what
		if what == "inodes" {
			what = "disk"
		}
		found := diagnosed(t, s, what)
		if x.text == "" {
			if len(found) != 0 {
				t.Errorf("%+v", found)
			}
			continue
		}
		d := found[len(found)-1]
		if d.OK != x.ok || d.Advice != x.advice || !strings.Contains(d.Text, x.text) || !strings.Contains(d.Next, x.next) {
			t.Errorf("%s: %+v", x.what, d)
		}
	}
}

// TestNoCertificateYet: what the authority says of the domain is told, and not once more for
// every other name.
func TestNoCertificateYet(t *testing.T) {
	s := newRefuser(t).relay(t)
	until(t, "the authority's word", func() bool { return s.Status().TLS.Certs[0].Error != "" })
	if d := diagnosis(t, s, "certificate"); d.OK || d.Advice || !strings.HasPrefix(d.Text, "example.org: ") || !strings.Contains(d.Next, "postern status") {
		t.Errorf("%+v", d)
	}
}

// TestAccountInRecord: once there is an account with the authority, the CAA record names it,
// under the name that the authority goes by.
func TestAccountInRecord(t *testing.T) {
	a := newRefuser(t)
	s := a.relay(t)
	until(t, "an account", func() bool { _, account := s.certs.Authority(t.Context()); return account != "" })
	if r := record(t, zoneOf(t, s, false), "CAA"); r.Value != `0 issue "ca.example; accounturi=`+a.URL+`/account/1"` {
		t.Errorf("%+v", r)
	}
	for _, r := range zoneOf(t, s, false).Records {
		if r.What == "TLSA" {
			t.Errorf("the key of a stopgap certificate: %+v", r)
		}
	}
}

// TestRough: sizes are told in units that people count in.
func TestRough(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 9: "9", 50<<20 + 7: "50M", 9<<30 + 5: "9G", 70_764 << 20: "69G", 5 << 40: "5T", 11 << 10: "11K"} {
		if got := rough(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// TestPort25Out: a host that is ready is named; none that answers means that the port may be
// closed; without a domain nobody is connected to.
func TestPort25Out(t *testing.T) {
	there := inMemory(t)
	_, port, _ := net.SplitHostPort(there.Info().SMTP)
	s := inMemory(t, "domain=127.0.0.1", "delivery.routes=good.example host=127.0.0.1 smtp="+port+" tls=any,strict.example host=127.0.0.1 smtp="+port+",closed.example host=127.0.0.1 smtp=1")
	for try, want := range map[string]Diagnosis{
		"":               {OK: true, Text: "not tried. To try it: postern doctor --try DOMAIN"},
		"good.example":   {OK: true, Text: "127.0.0.1, a mail host of good.example, is ready for mail"},
		"Good.Example":   {OK: true, Text: "127.0.0.1, a mail host of good.example, is ready for mail"},
		"strict.example": {Text: "the mail hosts of strict.example take no mail from here: 451 4.7.5 The TLS certificate", Next: "another domain"},
		"closed.example": {Text: "no mail host of closed.example answers", Next: "Many hosters keep port 25 closed"},
	} {
		d := diagnosis(t, s, "port 25 out", try)
		if d.OK != want.OK || d.Advice || !strings.Contains(d.Text, want.Text) || !strings.Contains(d.Next, want.Next) {
			t.Errorf("%s: %+v", try, d)
		}
	}
	if _, err := s.Doctor(t.Context(), DoctorArgs{Try: "no domain"}); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if d := diagnosis(t, inMemory(t, "domain=127.0.0.1", "delivery.remote=false"), "port 25 out", "good.example"); !d.OK || !strings.Contains(d.Text, "delivery.remote is off") {
		t.Errorf("%+v", d)
	}
}

// TestSMTPPort: mail from others comes to port 25 and nowhere else.
func TestSMTPPort(t *testing.T) {
	s := inMemory(t, "domain=127.0.0.1")
	if d := diagnosed(t, s, "smtp")[0]; !d.Advice || !strings.Contains(d.Text, "listens on port "+strconv.Itoa(s.portOf("smtp"))) {
		t.Errorf("%+v", d)
	}
	if d := diagnosis(t, inMemory(t, "domain=127.0.0.1", "listen.smtp=off"), "smtp"); !d.Advice || !strings.Contains(d.Text, "it is off") {
		t.Errorf("%+v", d)
	}
}

// TestWarnRecords: a log line for each record that is not in order, without any address;
// one for a resolver that is silent; none for a domain without records.
func TestWarnRecords(t *testing.T) {
	said := func(s *State) string {
		var b bytes.Buffer
		s.s.d.Logger = logs.New(&b, logs.Options{Level: new(slog.LevelVar)})
		s.s.warnRecords(t.Context())
		return b.String()
	}
	set := []string{"network.addresses=127.0.0.1", "metadata.admin=mailto:ops@example.net"}
	names := dnstest.New(t)
	s := stopped(t, append(set, "network.resolver="+names.Addr)...)
	got := said(s)
	z := zoneOf(t, s.s, true)
	bad := 0
	for _, r := range z.Records {
		if r.Bad() {
			bad++
		}
	}
	if n := strings.Count(got, "\n"); n != bad || strings.Count(got, "level=WARN") != n || bad < 10 {
		t.Errorf("%d lines for %d records:\n%s", n, bad, got)
	}
	if strings.Contains(got, "127.0.0.1") || strings.Contains(got, "ops@") || strings.Contains(got, "hidden") ||
		!strings.Contains(got, "example.org. 3600 IN MX 10 example.org.") || strings.Count(got, `next="postern dns prints the line"`) != 2 {
		t.Errorf("%s", got)
	}
	publish(t, names, z)
	if got := said(s); strings.Contains(got, "WARN") || !strings.Contains(got, "the DNS records are in order") {
		t.Errorf("%s", got)
	}
	names.Fail("", "", dnstest.ServFail)
	if got := said(s); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "the resolver does not answer") {
		t.Errorf("%s", got)
	}
	if got := said(stopped(t, "domain=127.0.0.1")); got != "" {
		t.Errorf("%s", got)
	}
}

// TestCheckNames: the start looks when it is asked to, and serves whatever it finds.
func TestCheckNames(t *testing.T) {
	for _, on := range []bool{false, true} {
		names := dnstest.New(t)
		s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, CheckNames: on}, testConfig(t, "/data", "network.resolver="+names.Addr))
		allowed(t, login(s, anna, annas))
		if on {
			until(t, "a look at the records", func() bool { return names.Asked("example.org", "MX") > 0 })
		}
		allowed(t, s.Close())
		if asked := names.Asked("example.org", "MX") > 0; asked != on {
			t.Errorf("asked: %v, want %v", asked, on)
		}
	}
}
