package relay

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/wire/dns"
	"postern.email/wire/dns/dnstest"
)

// nameServer is a DNS server that knows the root, which it has validated, and one
// domain: its address 127.0.0.1 and, if mx is not empty, its mail server.
func nameServer(t *testing.T, domain, mx string) *dnstest.Server {
	t.Helper()
	s := dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5", domain+" 60 A 127.0.0.1")
	if mx != "" {
		s.Add(t, domain+" 60 MX 10 "+mx)
	}
	s.Secure(".")
	return s
}

// diagnosed gives what doctor says of one thing; all of it must be said in full.
func diagnosed(t *testing.T, s *Server, what string, try ...string) (found []Diagnosis) {
	t.Helper()
	all, err := s.Doctor(t.Context(), DoctorArgs{Try: strings.Join(try, "")})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Text == "" || d.OK != (d.Next == "") || d.OK && d.Advice {
			t.Errorf("%+v", d)
		}
		if d.What == what {
			found = append(found, d)
		}
	}
	return found
}

// diagnosis is diagnosed of something that is said once.
func diagnosis(t *testing.T, s *Server, what string, try ...string) Diagnosis {
	t.Helper()
	found := diagnosed(t, s, what, try...)
	if len(found) != 1 {
		t.Fatalf("%s: %+v", what, found)
	}
	return found[0]
}

// testDNSSEC: doctor says whether the resolver validates and is believed.
func testDNSSEC(t *testing.T) {
	names := nameServer(t, "example.org", "example.org")
	for _, c := range []struct {
		believe   string
		validates bool
		ok        bool
		says      string
	}{
		{"auto", true, true, "the resolver validates DNSSEC"},
		{"yes", true, true, "the resolver validates DNSSEC"},
		{"no", true, true, "the resolver validates DNSSEC; network.resolver_dnssec says not to believe it, so TLSA records (DANE) are not used"},
		{"auto", false, false, "the resolver does not validate DNSSEC: forged answers are not noticed, and TLSA records (DANE) not used"},
	} {
		if !c.validates {
			names = dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5")
		}
		s := inMemory(t, "network.resolver="+names.Addr, "network.resolver_dnssec="+c.believe)
		if d := diagnosis(t, s, "DNSSEC"); d.OK != c.ok || d.Text != c.says {
			t.Errorf("%s: %+v", c.believe, d)
		}
		// All look-ups of the server are under the option, not doctor's alone.
		if h, err := s.names.Addresses(t.Context(), "example.org"); c.validates && (err != nil || h.Authentic != (c.believe != dns.TrustNo)) {
			t.Errorf("%s: %+v, %v", c.believe, h, err)
		}
	}
	names.Fail("", "", dnstest.ServFail)
	if d := diagnosis(t, inMemory(t, "network.resolver="+names.Addr), "DNSSEC"); d.OK || d.Text != "it cannot be told whether the resolver validates: the resolver has no answer now" || !strings.Contains(d.Next, names.Addr) {
		t.Errorf("%+v", d)
	}
	// A resolver behind a network is not believed as it is.
	s := inMemory(t)
	var err error
	s.names, err = dns.New(dns.Options{Server: "192.0.2.1:53", Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, nameServer(t, "example.org", "").Addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if d := diagnosis(t, s, "DNSSEC"); d.OK || !strings.Contains(d.Text, "crosses a network") || !strings.Contains(d.Next, "network.resolver_dnssec") {
		t.Errorf("%+v", d)
	}
}

// testDoctor shows both options: only with the resolver the name leads here, and
// only with the certificate among the trusted ones it is believed.
func testDoctor(t *testing.T) {
	words := func(s *Server) string {
		t.Helper()
		var b strings.Builder
		for _, what := range []string{"A", "MX", "smtp", "https", "imaps", "imap", "submissions", "submission", "pop3s", "pop3"} {
			for _, d := range diagnosed(t, s, what) {
				fmt.Fprintf(&b, "%s %v; ", d.What, d.OK || d.Advice)
			}
		}
		return b.String()
	}
	good := nameServer(t, "example.org", "example.org").Addr
	if got := words(inMemory(t, "network.addresses=127.0.0.1", "network.resolver="+good, "tls.trusted_cas=/data/tls/cert.pem")); got != "smtp true; smtp true; https true; imaps true; imap true; submissions true; submission true; pop3s true; pop3 true; " {
		t.Error(got)
	}
	if got := words(inMemory(t, "network.addresses=127.0.0.1", "network.resolver="+good)); got != "smtp true; smtp false; https false; imaps false; imap false; submissions false; submission false; pop3s false; pop3 false; " {
		t.Errorf("an unknown authority: %s", got)
	}
	other := nameServer(t, "other.example", "").Addr
	if got := words(inMemory(t, "network.addresses=127.0.0.1", "network.resolver="+other)); got != "A false; MX false; smtp true; " {
		t.Errorf("a resolver that does not know us: %s", got)
	}
	if got := words(inMemory(t, "network.addresses=127.0.0.1", "network.resolver="+nameServer(t, "example.org", "elsewhere.example").Addr)); !strings.HasPrefix(got, "MX false; smtp true; smtp false; ") {
		t.Errorf("mail goes elsewhere: %s", got)
	}
	fs := vfs.NewCrashDisk()
	if err := vfs.WriteFileAtomic(fs, "/empty", []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.trusted_cas=/empty")); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a file without certificate: %v", err)
	}
}
