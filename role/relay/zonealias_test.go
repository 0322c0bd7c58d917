package relay

import (
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/vfs"
	"postern.email/wire/dns/dnstest"
)

// TestZoneAliases: each further domain of aliases has the records by which its mail comes here and leaves as the
// relay's own, apart from those of the relay's domain; published, all are in order.
func TestZoneAliases(t *testing.T) {
	names := dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5")
	s := asACME(t, "network.resolver="+names.Addr, "network.addresses=127.0.0.1", "metadata.admin=mailto:ops@example.net", "aliases.domains=alias.example, example.org, second.example").s
	z := zoneOf(t, s, false)
	_, second, ok := strings.Cut(z.File(), "\n;;; alias.example, a domain of aliases\n")
	if !ok {
		t.Fatal(z.File())
	}
	second, third, ok := strings.Cut(second, "\n;;; second.example, a domain of aliases\n")
	if !ok {
		t.Fatal(z.File())
	}
	own, err := s.dkim.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := func(n int, domain string) string {
		list, err := dkimRecords(own[0], domain)
		if err != nil {
			t.Fatal(err)
		}
		return list[n].Name + ". TXT " + list[n].Text
	}
	for domain, part := range map[string]string{"alias.example": second, "second.example": third} {
		var got []string
		for _, rr := range parsed(t, part) {
			h := rr.Header()
			if !mdns.IsSubDomain(domain+".", h.Name) {
				t.Errorf("%s stands among those of %s", rr, domain)
			}
			value := strings.TrimPrefix(rr.String(), h.String())
			if txt, is := rr.(*mdns.TXT); is {
				value = strings.Join(txt.Txt, "")
			}
			got = append(got, h.Name+" "+mdns.TypeToString[h.Rrtype]+" "+value)
		}
		want := []string{domain + ". MX 10 example.org.", key(0, domain), key(1, domain), domain + ". TXT v=spf1 a:example.org ~all",
			"_dmarc." + domain + ". TXT v=DMARC1; p=reject; adkim=s; aspf=s", "_mta-sts." + domain + ". TXT " + record(t, z, "MTA-STS").Text,
			"mta-sts." + domain + ". CNAME example.org.", "_smtp._tls." + domain + ". TXT v=TLSRPTv1; rua=mailto:ops@example.net"}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q\nwant\n%q", got, want)
		}
	}
	for _, r := range zoneOf(t, s, true).Records {
		if r.Zone != "example.org" && (r.Verdict != RecordMissing || r.Required != (strings.HasPrefix(r.What, "MX ") || strings.Contains(r.What, "-rsa "))) {
			t.Errorf("nothing is published: %+v", r)
		}
	}
	publish(t, names, z)
	for _, r := range zoneOf(t, s, true).Records {
		if r.Zone != "example.org" && r.Verdict != RecordOK {
			t.Errorf("%s: %s: %s", r.What, r.Verdict, r.Says)
		}
	}
	if got := s.c.webNames(); !slices.Contains(got, "mta-sts.alias.example") || !slices.Contains(got, "mta-sts.second.example") || len(got) != 5 {
		t.Errorf("names for certificates: %q", got)
	}
	if n := len(zoneOf(t, asACME(t, "aliases.enabled=false", "aliases.domains=alias.example").s, false).Records); n != len(zoneOf(t, asACME(t).s, false).Records) {
		t.Errorf("%d records where there are no aliases", n)
	}
}

// TestZoneAliasVerdicts: what can be wrong of a further domain is found; its own addresses do not count.
func TestZoneAliasVerdicts(t *testing.T) {
	s := stopped(t, "network.addresses=127.0.0.1", "aliases.domains=alias.example")
	for _, x := range []struct {
		what    string
		records []string
		verdict Verdict
		says    string
	}{
		{"MX", []string{"alias.example 60 MX 10 example.org"}, RecordOK, ""},
		{"MX", nil, RecordMissing, "no such record"},
		{"MX", []string{"alias.example 60 MX 10 alias.example"}, RecordWrong, "mail goes to alias.example"},
		{"MX", []string{"alias.example 60 MX 10 example.org", "alias.example 60 MX 20 backup.example"}, RecordWrong, "mail goes to backup.example too"},
		{"SPF", []string{`alias.example 60 TXT "v=spf1 a -all"`}, RecordWrong, "does not name this machine"},
		{"SPF", []string{`alias.example 60 TXT "v=spf1 mx -all"`}, RecordOK, ""},
		{"SPF", []string{`alias.example 60 TXT "v=spf1 a:example.org -all"`}, RecordOK, ""},
		{"SPF", []string{`alias.example 60 TXT "v=spf1 include:example.org. ~all"`}, RecordOK, ""},
		{"SPF", []string{`alias.example 60 TXT "v=spf1 redirect=example.org"`}, RecordOK, ""},
		{"SPF", []string{`alias.example 60 TXT "v=spf1 include:other.example ~all"`}, RecordWrong, "does not name this machine"},
		{"DMARC", []string{`_dmarc.alias.example 60 TXT "v=DMARC1; p=none"`}, RecordWrong, "anybody can write"},
		{"TLSRPT", []string{`_smtp._tls.alias.example 60 TXT "v=TLSRPTv1;"`}, RecordWrong, "nobody to report to"},
	} {
		z := seenIn(t, s, dnstest.New(t, x.records...))
		r := record(t, z, x.what+" of alias.example")
		if r.Verdict != x.verdict || !strings.Contains(r.Says, x.says) || r.Zone != "alias.example" {
			t.Errorf("%s with %q: %s, %q", x.what, x.records, r.Verdict, r.Says)
		}
		if slices.ContainsFunc(z.Records, func(r Record) bool { return strings.HasPrefix(r.What, "MTA-STS") }) {
			t.Error("a policy with a certificate that nobody vouches for")
		}
	}
	key := record(t, seenIn(t, s, dnstest.New(t)), "MX of alias.example")
	if next := key.Advice(); next != "Add this record: alias.example. 3600 IN MX 10 example.org." {
		t.Error(next)
	}
	for _, r := range seenIn(t, s, dnstest.New(t)).Records {
		if strings.HasPrefix(r.What, "DKIM") && r.Zone == "alias.example" {
			other := dnstest.New(t)
			other.AddTXT(t, r.Name, "v=DKIM1; k=rsa; p=AAAA")
			if got := record(t, seenIn(t, s, other), r.What); got.Verdict != RecordWrong || r.Verdict != RecordMissing {
				t.Errorf("%s: %s, before %s", r.What, got.Verdict, r.Verdict)
			}
		}
	}
}

// TestDoctorAliases: doctor names what is wrong of the domains of aliases, and says when all is in order.
func TestDoctorAliases(t *testing.T) {
	names := nameServer(t, "example.org", "example.org")
	names.Add(t, "there.example 60 MX 10 other.example")
	s := inMemory(t, "network.resolver="+names.Addr, "aliases.domains=example.org,there.example,none.example")
	for what, want := range map[string]string{"MX of there.example": "In the DNS, put this in its place: there.example. 3600 IN MX 10 example.org.",
		"MX of none.example": "Add this record: none.example. 3600 IN MX 10 example.org."} {
		if found := diagnosed(t, s, what); len(found) != 1 || found[0].OK || found[0].Advice || found[0].Next != want {
			t.Errorf("%s: %+v", what, found)
		}
	}
	names.Remove("there.example.")
	publish(t, names, zoneOf(t, s, false))
	if found := diagnosed(t, s, "MX of there.example"); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

// TestZoneAliasFiles: with a certificate from files a further domain has an MTA-STS policy only where the
// certificate is for the name under which it is fetched.
func TestZoneAliasFiles(t *testing.T) {
	names := dnstest.New(t)
	for san, want := range map[string]Verdict{"mta-sts.alias.example": RecordMissing, "www.example.org": RecordNotNeeded} {
		fs := vfs.NewCrashDisk()
		now := time.Now()
		root := sign(t, nil, "Root", now.Add(-day), now.Add(900*day))
		cert, key := asPEM(t, sign(t, root, "leaf", now.Add(-day), now.Add(90*day), "example.org", san))
		if vfs.WriteFileAtomic(fs, "/cert.pem", cert, 0o644) != nil || vfs.WriteFileAtomic(fs, "/key.pem", key, 0o600) != nil {
			t.Fatal("no files")
		}
		s, _, err := Init(t.Context(), Deps{FS: fs, NoControl: true, NewRSA: someRSA}, testConfig(t, "/data", "tls.mode=files", "tls.cert=/cert.pem", "tls.key=/key.pem", "aliases.domains=alias.example", "network.resolver="+names.Addr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		z := zoneOf(t, s.s, true)
		for _, what := range []string{"MTA-STS of alias.example", "mta-sts of alias.example"} {
			if r := record(t, z, what); r.Verdict != want || (r.Aside != "") != (want == RecordNotNeeded) {
				t.Errorf("%s with %s: %+v", what, san, r)
			}
		}
	}
}
