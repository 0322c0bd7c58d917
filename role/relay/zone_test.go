package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"unicode"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/wire/dns/dnstest"
)

// parsed reads a zone file as name servers do.
func parsed(t *testing.T, file string) (all []mdns.RR) {
	t.Helper()
	p := mdns.NewZoneParser(strings.NewReader(file), "", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		all = append(all, rr)
	}
	if err := p.Err(); err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	return all
}

// zoneOf gives the checked records of a relay.
func zoneOf(t *testing.T, s *Server, check bool) Zone {
	t.Helper()
	z, err := s.Zone(t.Context(), check)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// record finds one record.
func record(t *testing.T, z Zone, what string) Record {
	t.Helper()
	for _, r := range z.Records {
		if r.What == what {
			return r
		}
	}
	t.Fatalf("no record %q", what)
	return Record{}
}

// publish puts a relay's zone file into a DNS server, and what stands aside of it.
func publish(t *testing.T, names *dnstest.Server, z Zone) {
	t.Helper()
	for _, rr := range parsed(t, z.File()) {
		names.Add(t, rr.String())
	}
	for _, r := range z.Records {
		if r.Type == "PTR" {
			names.Add(t, r.Line)
		}
	}
}

// asACME is a stopped relay that expects its certificate from an authority, which it has
// not got yet.
func asACME(t *testing.T, set ...string) *State {
	t.Helper()
	return stopped(t, append([]string{"tls.mode=acme"}, set...)...)
}

// stopped is a fresh relay that does not run.
func stopped(t *testing.T, set ...string) *State {
	t.Helper()
	c := testConfig(t, "/data", set...)
	s, made, err := Init(t.Context(), Deps{FS: vfs.NewCrashDisk(), NoControl: true, NewRSA: someRSA}, c)
	if err != nil || !made {
		t.Fatalf("%v, made %v", err, made)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// seenIn gives the checked records of a stopped relay with another DNS server.
func seenIn(t *testing.T, s *State, names *dnstest.Server) Zone {
	t.Helper()
	s.s.c.Network.Resolver = names.Addr
	if err := s.s.openNames(); err != nil {
		t.Fatal(err)
	}
	return zoneOf(t, s.s, true)
}

// realPorts are the ports of a relay that is not under test.
func realPorts() []string {
	var set []string
	for name, port := range map[string]string{"imaps": "993", "imap": "143", "smtp": "25", "submissions": "465", "submission": "587", "pop3s": "995"} {
		set = append(set, "listen."+name+"=:"+port)
	}
	return append(set, "listen.pop3=off")
}

// TestZoneFile: the file as it is printed, but for the keys.
func TestZoneFile(t *testing.T) {
	names := dnstest.New(t)
	s := asACME(t, append(realPorts(), "network.resolver="+names.Addr, "network.addresses=198.51.100.7, 2001:db8::7", "metadata.admin=mailto:ops@example.net")...)
	z, err := s.Zone(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	file := z.File()
	for _, r := range z.Records {
		if key, ok := strings.CutPrefix(r.What, "DKIM "); ok {
			file = strings.ReplaceAll(file, r.Value, "KEY")
			file = strings.ReplaceAll(file, key[:6], "p2026a")
		}
	}
	const golden = "testdata/zone.golden"
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != file {
		if os.Getenv("POSTERN_GOLDEN") != "" {
			err = os.WriteFile(golden, []byte(file), 0o644)
		}
		t.Errorf("%s differs (%v); POSTERN_GOLDEN=1 writes it:\n%s", golden, err, file)
	}
	if n := len(parsed(t, z.File())); n != len(z.Records)-2 { // without the two PTR records
		t.Errorf("%d records in the file, %d in the list", n, len(z.Records))
	}
	text, err := json.Marshal(z)
	var back Zone
	if err != nil || json.Unmarshal(text, &back) != nil || len(back.Records) != len(z.Records) || back.File() != z.File() {
		t.Errorf("what crosses the control socket is not the same: %v", err)
	}
}

// TestZoneGreen: what is printed, published, is found to be in order, by the running relay and
// by one that is stopped.
func TestZoneGreen(t *testing.T) {
	names := dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5")
	names.Secure(".")
	fs := vfs.NewCrashDisk()
	c := testConfig(t, "/data", "network.resolver="+names.Addr, "network.addresses=127.0.0.1, ::1", "metadata.admin=mailto:ops@example.net", "tls.trusted_cas=/data/tls/cert.pem")
	s := begin(t, Deps{FS: fs, NoControl: true}, c)
	z := zoneOf(t, s, true)
	for _, r := range z.Records {
		if r.Verdict != RecordMissing && r.Verdict != RecordNotNeeded {
			t.Errorf("nothing is published: %s is %s", r.What, r.Verdict)
		}
	}
	publish(t, names, z)
	green := func(z Zone) {
		t.Helper()
		for _, r := range z.Records {
			if r.Verdict != RecordOK || r.Bad() {
				t.Errorf("%s: %s: %s", r.What, r.Verdict, r.Says)
			}
		}
	}
	green(zoneOf(t, s, true))
	for _, d := range diagnosed(t, s, "DNS") {
		if !d.OK || !strings.Contains(d.Text, fmt.Sprintf("all %d records", len(z.Records))) {
			t.Errorf("%+v", d)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := Open(t.Context(), Deps{FS: fs, NoControl: true}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	if z, err = left.Zone(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	green(z)
}

// TestZoneVerdicts: each thing that can be wrong is found, and said.
func TestZoneVerdicts(t *testing.T) {
	s := stopped(t, append(realPorts(), "network.addresses=127.0.0.1, ::1")...)
	for _, x := range []struct {
		what    string
		records []string
		verdict Verdict
		says    string
		need    bool // it keeps mail away
	}{
		{"A", []string{"example.org 60 A 127.0.0.9"}, RecordWrong, "leads to 127.0.0.9, which is not this machine", true},
		{"A", []string{"example.org 60 A 127.0.0.9", "example.org 60 A 127.0.0.1"}, RecordWrong, "leads to 127.0.0.9, which is not this machine", true},
		{"A", []string{"example.org 60 A 127.0.0.1"}, RecordOK, "", true},
		{"AAAA", []string{"example.org 60 A 127.0.0.1"}, RecordMissing, "no such record", false},
		{"PTR 127.0.0.1", []string{"1.0.0.127.in-addr.arpa 60 PTR host.example.net"}, RecordWrong, "called host.example.net", false},
		{"MX", []string{"example.org 60 MX 10 other.example"}, RecordWrong, "mail goes to other.example", true},
		{"MX", []string{"example.org 60 MX 10 example.org", "example.org 60 MX 20 backup.example"}, RecordWrong, "mail goes to backup.example too", true},
		{"MX", []string{"example.org 60 MX 0 ."}, RecordWrong, "null MX", true},
		{"SPF", []string{`example.org 60 TXT "v=spf1 ip4:192.0.2.1 -all"`}, RecordWrong, "does not name this machine", false},
		{"SPF", []string{`example.org 60 TXT "v=spf1 -all a"`}, RecordWrong, "does not name this machine", false},
		{"SPF", []string{`example.org 60 TXT "v=spf1 a -all"`, `example.org 60 TXT "v=spf1 mx -all"`}, RecordWrong, "several", false},
		{"SPF", []string{`example.org 60 TXT "v=spf10 a"`, `example.org 60 TXT "hello"`}, RecordMissing, "no such record", false},
		{"SPF", []string{`example.org 60 TXT "V=SPF1 +mx ?all"`}, RecordOK, "", false},
		{"SPF", []string{`example.org 60 TXT "v=spf1 ip4:127.0.0.0/8 ip6:::1 -all"`}, RecordOK, "", false},
		{"SPF", []string{`example.org 60 TXT "v=spf1 a:example.org/24 -all"`}, RecordOK, "", false},
		{"SPF", []string{`example.org 60 TXT "v=spf1 a:other.example -all"`}, RecordWrong, "does not name this machine", false},
		{"DMARC", []string{`_dmarc.example.org 60 TXT "v=DMARC1; p=none"`}, RecordWrong, "anybody can write", false},
		{"DMARC", []string{`_dmarc.example.org 60 TXT "v=DMARC1; p=none"`, `_dmarc.example.org 60 TXT "v=DMARC1; p=reject"`}, RecordWrong, "several", false},
		{"DMARC", []string{`_dmarc.example.org 60 TXT "v=DMARC1; p = Quarantine; sp=none"`}, RecordOK, "", false},
		{"ADSP", []string{`_adsp._domainkey.example.org 60 TXT "dkim=all"`}, RecordWrong, "another one: dkim=all", false},
		{"ADSP", []string{`_adsp._domainkey.example.org 60 TXT "dkim=Discardable "`}, RecordOK, "", false},
		{"TLSRPT", []string{`_smtp._tls.example.org 60 TXT "v=TLSRPTv1;"`}, RecordWrong, "nobody to report to", false},
		{"TLSRPT", []string{`_smtp._tls.example.org 60 TXT "v=TLSRPTv1; rua=https://reports.example/x"`}, RecordOK, "", false},
		{"TLSRPT", nil, RecordNotNeeded, "no address for reports", false},
		{"www", []string{"www.example.org 60 CNAME other.example", "other.example 60 A 192.0.2.9"}, RecordWrong, "leads to 192.0.2.9", false},
		{"www", []string{"www.example.org 60 AAAA ::1"}, RecordOK, "", false},
		{"autoconfig", nil, RecordMissing, "no such record", false},
		{"TLSA", nil, RecordNotNeeded, "DNSSEC is not seen", false},
		{"TLSA", []string{"_25._tcp.example.org 60 TLSA 3 1 1 " + strings.Repeat("00", 32)}, RecordWrong, "not the key", false},
		{"SRV imaps", []string{"_imaps._tcp.example.org 60 SRV 0 1 994 example.org"}, RecordWrong, "sent to example.org port 994", false},
		{"SRV imaps", []string{"_imaps._tcp.example.org 60 SRV 0 0 0 ."}, RecordWrong, "sent to none", false},
		{"SRV imaps", nil, RecordMissing, "no such record", false},
		{"SRV autodiscover", []string{"_autodiscover._tcp.example.org 60 SRV 0 1 443 other.example"}, RecordWrong, "sent to other.example port 443", false},
		{"SRV autodiscover", nil, RecordNotNeeded, "nothing is offered", false},
	} {
		r := record(t, seenIn(t, s, dnstest.New(t, x.records...)), x.what)
		if r.Verdict != x.verdict || !strings.Contains(r.Says, x.says) || r.Required != x.need || r.Line == "" {
			t.Errorf("%s with %q: %s, %q, required %v", x.what, x.records, r.Verdict, r.Says, r.Required)
		}
	}
}

// TestZoneSigned: where DNSSEC vouches for the domain the key of the certificate is asked
// for, and a wrong one keeps mail away.
func TestZoneSigned(t *testing.T) {
	names := dnstest.New(t, "example.org 60 A 127.0.0.1")
	names.Secure("example.org", "_25._tcp.example.org")
	s := stopped(t, "network.resolver="+names.Addr).s
	r := record(t, zoneOf(t, s, true), "TLSA")
	if r.Verdict != RecordMissing || r.Required {
		t.Errorf("%+v", r)
	}
	sum := sha256.Sum256(s.leaf().RawSubjectPublicKeyInfo)
	if r.Value != "3 1 1 "+hex.EncodeToString(sum[:]) {
		t.Error(r.Value)
	}
	names.Add(t, "_25._tcp.example.org 60 TLSA 3 1 1 "+strings.Repeat("00", 32))
	if r = record(t, zoneOf(t, s, true), "TLSA"); r.Verdict != RecordWrong || !r.Required || !strings.Contains(r.Says, "refuse to deliver") || len(r.Found) != 1 {
		t.Errorf("%+v", r)
	}
	names.Add(t, r.Line) // a second one beside it is enough (RFC 7671 §8)
	if r = record(t, zoneOf(t, s, true), "TLSA"); r.Verdict != RecordOK {
		t.Errorf("%+v", r)
	}
}

// TestZoneACME: with an authority in use, what it needs is in the list, and what would keep
// it from giving out certificates is found.
func TestZoneACME(t *testing.T) {
	state := asACME(t)
	for _, x := range []struct {
		records []string
		verdict Verdict
		says    string
		need    bool
	}{
		{nil, RecordMissing, "no such record", false},
		{[]string{`example.org 60 CAA 0 iodef "mailto:x@example.net"`}, RecordMissing, "any authority", false},
		{[]string{`example.org 60 CAA 0 issue "letsencrypt.org"`}, RecordOK, "", false},
		{[]string{`org 60 CAA 0 issue "LetsEncrypt.org ; x=y"`}, RecordOK, "", false},
		{[]string{`org 60 CAA 0 issue ";"`}, RecordWrong, "may not give out", true},
		{[]string{`example.org 60 CAA 0 issue "other.example"`, `org 60 CAA 0 issue "letsencrypt.org"`}, RecordWrong, "may not give out", true},
		{[]string{`example.org 60 CAA 0 issue "letsencrypt.org"`, `example.org 60 CAA 128 tbs "x"`}, RecordWrong, "no authority understands", true},
	} {
		z := seenIn(t, state, dnstest.New(t, x.records...))
		r := record(t, z, "CAA")
		if r.Verdict != x.verdict || !strings.Contains(r.Says, x.says) || r.Required != x.need || r.Value != `0 issue "letsencrypt.org"` {
			t.Errorf("%q: %+v", x.records, r)
		}
		for _, what := range []string{"MTA-STS", "mta-sts"} {
			if r := record(t, z, what); r.Verdict != RecordMissing {
				t.Errorf("%+v", r)
			}
		}
	}
	// With an account, the record names it.
	s := state.s
	const own = "https://acme-v02.api.letsencrypt.org/acme/acct/7"
	for value, want := range map[string]Verdict{"letsencrypt.org; accounturi=" + own: RecordOK, "letsencrypt.org;AccountURI = " + own: RecordOK,
		"letsencrypt.org; accounturi=https://elsewhere/8": RecordWrong, "letsencrypt.org": RecordOK} {
		seenIn(t, state, dnstest.New(t, `example.org 60 CAA 0 issue "`+value+`"`))
		f := s.checkAuthority("letsencrypt.org", own)(t.Context())
		if f.verdict != want || (value == "letsencrypt.org") != strings.Contains(f.says, "which account") {
			t.Errorf("%s: %+v", value, f)
		}
	}
}

// TestZonePolicy: the announcement of another policy is wrong.
func TestZonePolicy(t *testing.T) {
	s := asACME(t)
	for _, x := range []struct {
		text    string
		verdict Verdict
	}{{"v=STSv1; id=20260101;", RecordWrong}, {"v=spf1", RecordWrong}, {"", RecordMissing}} {
		names := dnstest.New(t)
		if x.text != "" {
			names.AddTXT(t, "_mta-sts.example.org", x.text)
		}
		r := record(t, seenIn(t, s, names), "MTA-STS")
		if r.Verdict != x.verdict {
			t.Errorf("%s: %+v", x.text, r)
		}
		names = dnstest.New(t)
		names.AddTXT(t, "_mta-sts.example.org", r.Text)
		if r := record(t, seenIn(t, s, names), "MTA-STS"); r.Verdict != RecordOK {
			t.Errorf("%+v", r)
		}
	}
}

// TestZoneKeys: keys that come and go are in the list as long as they are needed.
func TestZoneKeys(t *testing.T) {
	names := dnstest.New(t)
	var c clock
	s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data", "network.resolver="+names.Addr))
	keys := func() (all []Record) {
		for _, r := range zoneOf(t, s, true).Records {
			if strings.HasPrefix(r.What, "DKIM ") {
				all = append(all, r)
			}
		}
		return all
	}
	first := keys()
	if len(first) != 2 || !first[0].Required || first[1].Required || !strings.Contains(first[0].Text, "k=rsa") || first[0].Verdict != RecordMissing {
		t.Fatalf("%+v", first)
	}
	names.AddTXT(t, first[0].Name, first[1].Text)
	if r := keys()[0]; r.Verdict != RecordWrong {
		t.Errorf("the record of another key: %+v", r)
	}
	if _, err := s.dkim.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	both := keys()
	if len(both) != 4 || both[2].Required || !strings.Contains(both[2].Why, "the next key") {
		t.Errorf("%+v", both)
	}
	for _, r := range both[2:] {
		names.AddTXT(t, r.Name, r.Text)
	}
	allowed(t, s.dkim.Look(t.Context(), s.freshTXT))
	if turned := keys(); len(turned) != 4 || !strings.Contains(turned[0].Why, "the last key") || !turned[2].Required {
		t.Errorf("%+v", turned)
	}
	c.move(8 * day)
	if left := keys(); len(left) != 2 || left[0].What != both[2].What {
		t.Errorf("%+v", left)
	}
}

// TestZoneUnknown: a resolver without answer is not taken for records that are missing.
func TestZoneUnknown(t *testing.T) {
	names := dnstest.New(t)
	names.Fail("", "", dnstest.ServFail)
	s := inMemory(t, "network.resolver="+names.Addr, "network.addresses=127.0.0.1")
	for _, r := range zoneOf(t, s, true).Records {
		if r.Verdict != RecordUnknown || r.Bad() != r.Required {
			t.Errorf("%s: %s", r.What, r.Verdict)
		}
	}
	if d := diagnosis(t, s, "DNS"); d.OK || !strings.Contains(d.Text, "records cannot be looked at: the resolver has no answer now") {
		t.Errorf("a silent resolver is told once, not for every record: %+v", d)
	}
}

// testAddresses: the option says where this machine is; without it that is what the DNS says.
func testAddresses(t *testing.T) {
	names := dnstest.New(t, "example.org 60 A 192.0.2.5")
	r := record(t, zoneOf(t, stopped(t, "network.resolver="+names.Addr, "network.addresses=192.0.2.6").s, true), "A")
	if r.Value != "192.0.2.6" || r.Verdict != RecordWrong {
		t.Errorf("%+v", r)
	}
	s := stopped(t, "network.resolver="+names.Addr).s
	m := machine(s.d.FS, "0", "0")
	m.Interfaces = func() ([]net.Addr, error) { return []net.Addr{&net.IPNet{IP: net.IPv4(9, 9, 9, 9)}}, nil }
	s.d.System = m
	if r = record(t, zoneOf(t, s, true), "A"); r.Value != "9.9.9.9" || r.Verdict != RecordWrong {
		t.Errorf("%+v", r)
	}
	m.Interfaces = func() ([]net.Addr, error) { return nil, nil }
	if r = record(t, zoneOf(t, s, true), "A"); r.Value != "192.0.2.5" || r.Verdict != RecordOK {
		t.Errorf("%+v", r)
	}
	names.Remove("example.org")
	s.names.Forget("example.org")
	r = record(t, zoneOf(t, s, true), "A")
	if r.Value != "" || r.Verdict != RecordMissing || r.Aside == "" || !strings.Contains(r.Advice(), "network.addresses") {
		t.Errorf("%+v", r)
	}
	parsed(t, zoneOf(t, s, true).File())
}

// TestNameless: a relay without a name in the DNS has no records, and says what it lacks.
func TestNameless(t *testing.T) {
	for domain, says := range map[string]string{"192.0.2.1": "IP address", "2001:db8::1": "IP address", "postern.localhost": "the machine itself"} {
		s := stopped(t, "domain="+domain).s
		z := zoneOf(t, s, true)
		if len(z.Records) != 0 || !strings.Contains(z.Note, says) || len(parsed(t, z.File())) != 0 {
			t.Errorf("%s: %+v", domain, z)
		}
	}
	lacks := func(set ...string) string {
		return strings.Join(testConfig(t, "/data", append([]string{"tls.mode=auto"}, set...)...).Lacks(), "\n")
	}
	for _, x := range []struct{ domain, says, not string }{
		{"192.0.2.1", "@[192.0.2.1]", "do not deliver"},
		{"_x.example.org", "begin with _ all the same", "do not deliver"},
		{"x.test", "do not deliver to it", "begin with _"},
	} {
		if got := lacks("domain=" + x.domain); !strings.Contains(got, x.says) || strings.Contains(got, x.not) || !strings.Contains(got, "self-signed") {
			t.Errorf("%s: %s", x.domain, got)
		}
	}
	if got := lacks("domain=mail.example.org"); got != "" {
		t.Error(got)
	}
	// A name that begins with "_" has records like any other, but nothing that asks for a
	// certificate that is vouched for.
	z := seenIn(t, stopped(t, "domain=_x.example.org", "tls.mode=auto"), dnstest.New(t))
	for _, r := range z.Records {
		if r.What == "MTA-STS" || r.What == "mta-sts" || r.What == "CAA" {
			t.Errorf("%+v", r)
		}
	}
	record(t, z, "MX")
}

// TestZoneText: what the DNS says cannot end a line or reach the terminal.
func TestZoneText(t *testing.T) {
	names := dnstest.New(t)
	names.AddTXT(t, "_dmarc.example.org", "v=DMARC1; p=none; \x1b[31m\r\nexample.org. 1 IN A 192.0.2.66")
	s := stopped(t, "network.addresses=127.0.0.1")
	file := seenIn(t, s, names).File()
	if strings.ContainsAny(file, "\x1b\r") || strings.Contains(file, "\nexample.org. 1 ") || !strings.Contains(file, "192.0.2.66") {
		t.Errorf("%q", file)
	}
	if got := quoted(strings.Repeat("a", 300) + `"\`); got != `"`+strings.Repeat("a", 255)+`" "`+strings.Repeat("a", 45)+`\"\\"` {
		t.Error(got)
	}
}

// TestInit: what fails leaves nothing behind, what is there stays.
func TestInit(t *testing.T) {
	fs := vfs.NewCrashDisk()
	c := testConfig(t, "/data")
	broken := Deps{FS: fs, NoControl: true, Rand: strings.NewReader("")}
	if _, _, err := Init(t.Context(), broken, c); err == nil {
		t.Fatal("without randomness keys were made")
	}
	if ok, _ := vfs.Exists(fs, "/data"); ok {
		t.Error("a half-made directory is left")
	}
	allowed(t, vfs.MkdirAll(fs, "/data", 0o700))
	allowed(t, vfs.WriteFileAtomic(fs, "/data/mine", []byte("x"), 0o600))
	if _, _, err := Init(t.Context(), broken, c); err == nil {
		t.Fatal("without randomness keys were made")
	}
	if names, _ := fs.List("/data"); len(names) != 1 || names[0] != "mine" {
		t.Errorf("left: %v", names)
	}
	good := Deps{FS: fs, NoControl: true, NewRSA: someRSA}
	s, made, err := Init(t.Context(), good, c)
	if err != nil || !made {
		t.Fatal(err)
	}
	first, err := s.Zone(t.Context(), false)
	allowed(t, err)
	allowed(t, s.Close())
	s, made, err = Init(t.Context(), good, c)
	if err != nil || made {
		t.Fatalf("%v, made again: %v", err, made)
	}
	if again, err := s.Zone(t.Context(), false); err != nil || again.File() != first.File() {
		t.Errorf("the keys are others: %v", err)
	}
	allowed(t, s.Close())
	// A store whose key is gone is not given a new one.
	allowed(t, fs.Remove("/data/root.key"))
	if _, _, err := Init(t.Context(), good, c); errs.KindOf(err) != errs.Corrupt || !strings.Contains(errs.Public(err), "root.key") {
		t.Errorf("%v", err)
	}
	if _, _, err := Init(context.Background(), good, testConfig(t, "/data/mine/below")); err == nil {
		t.Error("a directory under a file")
	}
}

// FuzzZoneFile: whatever the DNS says, the list with its verdicts is a zone file of the same
// records.
func FuzzZoneFile(f *testing.F) {
	f.Add("it leads elsewhere", "a\x1b[31m", "Add it.")
	f.Add("\r\nexample.org. 1 IN A 192.0.2.66\n", "\u2028$INCLUDE /etc/passwd\u0085", "(\n")
	f.Fuzz(func(t *testing.T, says, found, next string) {
		z := Zone{Domain: "example.org", Checked: true}
		for _, aside := range []string{"", "not here"} {
			z.Records = append(z.Records, Record{What: "MX", Name: "example.org.", Type: "MX", Value: "10 example.org.", Line: "example.org. 3600 IN MX 10 example.org.",
				Why: "mail", Aside: aside, Verdict: RecordWrong, Says: says, Found: []string{found}, Next: next})
		}
		file := z.File()
		if n := len(parsed(t, file)); n != 1 {
			t.Errorf("%d records in %q", n, file)
		}
		for _, r := range strings.ReplaceAll(file, "\n", "") {
			if unicode.IsControl(r) {
				t.Fatalf("%q in %q", r, file)
			}
		}
	})
}

// FuzzSPF: a policy that names nobody's addresses does not name this machine.
func FuzzSPF(f *testing.F) {
	for _, s := range []string{" a -all", " ip4:127.0.0.0/8", " mx:example.org/24//64 ~all", " +all", " include:x redirect=y", " a: ip4: ip6:/ ip4:1/"} {
		f.Add(s)
	}
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	f.Fuzz(func(t *testing.T, s string) {
		named := spfNames("v=spf1"+s, "example.org", "example.org", own)
		if named && !strings.ContainsAny(strings.ToLower(s), "amp") { // a, all, mx, ip4, ip6
			t.Errorf("%q names this machine", s)
		}
		if spfNames("v=spf1 -all "+s, "example.org", "example.org", own) {
			t.Errorf("what stands behind -all counts: %q", s)
		}
	})
}
