package relay

import (
	"context"
	"errors"
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
		all, err := s.Doctor(t.Context())
		if err != nil || all[0].What != "DNSSEC" || all[0].OK != c.ok || all[0].Text != c.says {
			t.Errorf("%s: %+v, %v", c.believe, all, err)
		}
		// All look-ups of the server are under the option, not doctor's alone.
		if h, err := s.names.Addresses(t.Context(), "example.org"); c.validates && (err != nil || h.Authentic != (c.believe != dns.TrustNo)) {
			t.Errorf("%s: %+v, %v", c.believe, h, err)
		}
	}
	names.Fail("", "", dnstest.ServFail)
	all, err := inMemory(t, "network.resolver="+names.Addr).Doctor(t.Context())
	if err != nil || all[0].OK || all[0].Text != "it cannot be told whether the resolver validates: the resolver has no answer now" || !strings.Contains(all[0].Next, names.Addr) {
		t.Errorf("%+v, %v", all, err)
	}
	// A resolver behind a network is not believed as it is.
	s := inMemory(t)
	s.names, err = dns.New(dns.Options{Server: "192.0.2.1:53", Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, nameServer(t, "example.org", "").Addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.Doctor(t.Context()); err != nil || all[0].OK || !strings.Contains(all[0].Text, "crosses a network") || !strings.Contains(all[0].Next, "network.resolver_dnssec") {
		t.Errorf("%+v, %v", all, err)
	}
}

// testDoctor shows both options: only with the resolver the name leads here, and
// only with the certificate among the trusted ones it is believed.
func testDoctor(t *testing.T) {
	words := func(s *Server) string {
		t.Helper()
		all, err := s.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, d := range all {
			fmt.Fprintf(&b, "%s %v; ", d.What, d.OK)
			if d.Text == "" || d.OK != (d.Next == "") {
				t.Errorf("%+v", d)
			}
		}
		return b.String()
	}
	good := nameServer(t, "example.org", "example.org").Addr
	if got := words(inMemory(t, "network.resolver="+good, "tls.trusted_cas=/data/tls/cert.pem")); got != "DNSSEC true; address true; MX true; https true; imaps true; submissions true; " {
		t.Error(got)
	}
	if got := words(inMemory(t, "network.resolver="+good)); got != "DNSSEC true; address true; MX true; https false; imaps false; submissions false; " {
		t.Errorf("an unknown authority: %s", got)
	}
	other := nameServer(t, "other.example", "").Addr
	if got := words(inMemory(t, "network.resolver="+other)); got != "DNSSEC true; address false; MX false; " {
		t.Errorf("a resolver that does not know us: %s", got)
	}
	if got := words(inMemory(t, "network.resolver="+nameServer(t, "example.org", "elsewhere.example").Addr)); !strings.HasPrefix(got, "DNSSEC true; address true; MX false; ") {
		t.Errorf("mail goes elsewhere: %s", got)
	}
	fs := vfs.NewCrashDisk()
	if err := errors.Join(vfs.WriteFileAtomic(fs, "/empty", []byte("no certificate"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.trusted_cas=/empty")); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a file without certificate: %v", err)
	}
}
