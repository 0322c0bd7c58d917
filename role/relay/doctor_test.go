package relay

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// nameServer is a DNS server that knows one domain: its address 127.0.0.1 and, if
// mx is not empty, its mail server.
func nameServer(t *testing.T, domain, mx string) (addr string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { pc.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
			switch {
			case q.Name.String() != domain+".":
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			case q.Type == dnsmessage.TypeMX && mx != "":
				m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName(mx + ".")}}}
			}
			if out, err := m.Pack(); err == nil {
				pc.WriteTo(out, from)
			}
		}
	}()
	return pc.LocalAddr().String()
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
	good := nameServer(t, "example.org", "example.org")
	if got := words(inMemory(t, "network.resolver="+good, "tls.trusted_cas=/data/tls/cert.pem")); got != "address true; MX true; https true; imaps true; submissions true; " {
		t.Error(got)
	}
	if got := words(inMemory(t, "network.resolver="+good)); got != "address true; MX true; https false; imaps false; submissions false; " {
		t.Errorf("an unknown authority: %s", got)
	}
	other := nameServer(t, "other.example", "")
	if got := words(inMemory(t, "network.resolver="+other)); got != "address false; MX false; " {
		t.Errorf("a resolver that does not know us: %s", got)
	}
	if got := words(inMemory(t, "network.resolver="+nameServer(t, "example.org", "elsewhere.example"))); !strings.HasPrefix(got, "address true; MX false; ") {
		t.Errorf("mail goes elsewhere: %s", got)
	}
	fs := vfs.NewCrashDisk()
	if err := errors.Join(vfs.WriteFileAtomic(fs, "/empty", []byte("no certificate"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.trusted_cas=/empty"))
	if _, err := s.Doctor(t.Context()); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a file without certificate: %v", err)
	}
}
