package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/dkim"
	"postern.email/mail/dsn"
	"postern.email/mail/pgpmime"
	"postern.email/wire/dns/dnstest"
)

// emptyDNS is a DNS server that knows nothing yet.
func emptyDNS(t *testing.T) *dnstest.Server { return dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5") }

// dkimCommand runs a command as the control socket does.
func dkimCommand(t *testing.T, s *Server, name string) DKIMKeys {
	t.Helper()
	got, err := s.commands()["dkim."+name](t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var k DKIMKeys
	if err := json.Unmarshal(text, &k); err != nil || k.Domain != s.c.Domain {
		t.Fatalf("%s, %v", text, err)
	}
	return k
}

// announce puts what the command shows into the DNS, as a zone file would have it.
func announce(t *testing.T, names *dnstest.Server, p DKIMPair) {
	t.Helper()
	for _, r := range p.Records {
		names.Add(t, r.Line)
	}
}

// TestDKIM: what the relay signs is valid by the records that it shows, and by both; the
// commands tell what is seen, and a rotation goes by itself once the records are there.
func TestDKIM(t *testing.T) {
	names := emptyDNS(t)
	var c clock
	fs := vfs.NewCrashDisk()
	config := testConfig(t, "/data", "network.resolver="+names.Addr)
	s := begin(t, Deps{FS: fs, NoControl: true, Now: c.now}, config)
	if k := dkimCommand(t, s, "list"); len(k.Pairs) != 0 {
		t.Errorf("keys before they were needed: %+v", k)
	}
	m, _ := sealedMail(anna, 1000)
	valid := func(selectors ...string) {
		t.Helper()
		n := bytes.Index(m, []byte("\r\n\r\n")) + 4
		fields, err := s.signer()(m[:n], m[n:])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range selectors {
			v := &dkim.Verifier{Lookup: func(ctx context.Context, name string) ([]string, bool, error) {
				if name != dkim.RecordName(want, "example.org") {
					return nil, false, errs.E("test", errs.NotFound, "", nil)
				}
				return s.freshTXT(ctx, name)
			}}
			if got := v.Verify(t.Context(), append(bytes.Clone(fields), m...), "example.org"); got.Verdict != dkim.Valid {
				t.Errorf("%s: %+v", want, got)
			}
		}
	}
	seen := func(p DKIMPair) string { return p.State + " " + p.Records[0].Seen + " " + p.Records[1].Seen }
	first := dkimCommand(t, s, "show").Pairs[0]
	if got := seen(first); got != "active absent absent" {
		t.Error(got)
	}
	announce(t, names, first)
	if got := seen(dkimCommand(t, s, "show").Pairs[0]); got != "active found found" {
		t.Error(got)
	}
	valid(first.Records[0].Selector, first.Records[1].Selector)

	next := dkimCommand(t, s, "rotate").Pairs[0]
	if next.State != "new" || len(next.Records) != 2 {
		t.Errorf("%+v", next)
	}
	if _, err := s.commands()["dkim.rotate"](t.Context(), nil, nil); errs.KindOf(err) != errs.Exists {
		t.Errorf("a second new pair: %v", err)
	}
	valid(first.Records[0].Selector)
	announce(t, names, next)
	allowed(t, s.Close())
	s = begin(t, Deps{FS: fs, NoControl: true, Now: c.now}, config)
	until(t, "the change of pairs", func() bool { return dkimCommand(t, s, "list").Pairs[1].State == "active" })
	valid(next.Records[0].Selector, next.Records[1].Selector)
	all := dkimCommand(t, s, "show").Pairs
	if len(all) != 2 || seen(all[0]) != "retiring found found" || seen(all[1]) != "active found found" || all[0].MayGo == "" || all[1].MayGo != "" {
		t.Errorf("%+v", all)
	}
	names.Remove(next.Records[1].Name)
	names.Add(t, next.Records[1].Name+`. 60 TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`)
	names.Fail(next.Records[0].Name, "TXT", dnstest.ServFail)
	if got := seen(dkimCommand(t, s, "show").Pairs[1]); got != "active unknown other" {
		t.Error(got)
	}
	if r := revealed(t, s); strings.Count(r, "dkim-key: pair ") != 2 || strings.Contains(r, "PRIVATE") {
		t.Errorf("revealed: %s", r)
	}
	if err := s.Check(t.Context(), func(f Finding) { t.Errorf("%+v", f) }); err != nil {
		t.Error(err)
	}
}

// TestDKIMForAddress: a relay whose domain is an IP address signs nothing, and says why.
func TestDKIMForAddress(t *testing.T) {
	s := inMemory(t, "domain=192.0.2.1")
	if s.signer() != nil {
		t.Error("it signs")
	}
	for _, name := range []string{"show", "list", "rotate"} {
		if _, err := s.commands()["dkim."+name](t.Context(), nil, nil); errs.KindOf(err) != errs.Unsupported || !strings.Contains(errs.Public(err), "is not signed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, _ := fetchKey(t, s, "p2026a-rsa"); got != http.StatusNotFound {
		t.Errorf("a key: %d", got)
	}
}

// strangers hands a mail to port 25.
func strangers(s *Server, from, to string, m []byte) error {
	c, err := connect(s.Info().SMTP)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, cmd := range []string{"", "EHLO mx.example.org", "STARTTLS"} {
		if reply, err := c.smtp(cmd); err != nil || reply[0] != '2' {
			return fmt.Errorf("%s: %s, %w", cmd, reply, err)
		}
	}
	if err := c.secure(&tls.Config{}); err != nil {
		return err
	}
	if reply, err := c.smtp("EHLO mx.example.org"); err != nil || reply[0] != '2' {
		return fmt.Errorf("%s, %w", reply, err)
	}
	return c.send(from, []string{to}, m)
}

// TestReportPasses: a delivery report is the exception for bounces, and with our signature
// another relay takes it; without, or changed, it does not.
func TestReportPasses(t *testing.T) {
	names := emptyDNS(t)
	ours := inMemory(t, "network.resolver="+names.Addr)
	theirs := inMemory(t, "domain=other.example", "network.resolver="+names.Addr)
	const ben = "ben@other.example"
	allowed(t, login(theirs, ben, annas))
	announce(t, names, dkimCommand(t, ours, "show").Pairs[0])

	raw, err := dsn.Report{Domain: ours.c.Domain, To: mail.Address{Local: "ben", Domain: "other.example"}, Now: time.Now(), Header: []byte("From: <ben@other.example>\r\nMessage-ID: <m1@other.example>\r\n\r\n"),
		Recipients: []dsn.Recipient{{Final: addr("anna"), Action: dsn.Failed, Status: "5.2.2", Remote: "example.org", Diagnostic: "552 5.2.2 Full"}}}.Build()
	if err != nil {
		t.Fatal(err)
	}
	if v := pgpmime.Check(raw, pgpmime.Incoming, nil); v.Exception != pgpmime.Bounce || !v.Allowed() {
		t.Errorf("%+v", v)
	}
	n := bytes.Index(raw, []byte("\r\n\r\n")) + 4
	fields, err := ours.signer()(raw[:n], raw[n:])
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, strangers(theirs, "", ben, raw), "554 5.7.1 No DKIM signature found")
	refusedWith(t, strangers(theirs, "", ben, append(fields, bytes.Replace(raw, []byte("552"), []byte("550"), 1)...)), "554 5.7.1 No valid DKIM signature found")
	allowed(t, strangers(theirs, "", ben, append(fields, raw...)))
	c, err := reader(theirs, ben, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if reply, err := c.imap("STATUS INBOX (MESSAGES)"); err != nil || !strings.Contains(reply, "MESSAGES 1") {
		t.Errorf("%s, %v", reply, err)
	}
}

// fetchKey asks the web port for a published key.
func fetchKey(t *testing.T, s *Server, selector string) (status int, body []byte) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr}).Get("https://" + s.Info().HTTPS + keysPath + selector + ".pem")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err = io.ReadAll(r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, body
}

// oldPair rotates until the first pair's overlap is over, and gives that pair and its state.
func oldPair(t *testing.T, overlap time.Duration, set ...string) (s *Server, old DKIMPair, state func() DKIMPair) {
	t.Helper()
	names := emptyDNS(t)
	var c clock
	s = begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data", append(set, "network.resolver="+names.Addr)...))
	look := func() { allowed(t, s.dkim.Look(t.Context(), s.freshTXT)) }
	old = dkimCommand(t, s, "rotate").Pairs[0]
	announce(t, names, dkimCommand(t, s, "rotate").Pairs[0])
	look()
	c.move(overlap)
	look()
	c.move(day)
	look()
	return s, old, func() DKIMPair { return dkimCommand(t, s, "list").Pairs[0] }
}

// testRotateOverlap: the option says how long a pair retires.
func testRotateOverlap(t *testing.T) {
	for set, want := range map[string]string{"dkim.rotate_overlap=3d": "removed", "dkim.rotate_overlap=5d": "retiring"} {
		_, _, state := oldPair(t, 3*day, set)
		if got := state(); got.State != want {
			t.Errorf("%s: after 4 days %s", set, got.State)
		}
	}
}

// testPublishOldKeys: with the option anybody gets the private halves of a removed pair,
// without it nobody does, and those of the active pair never.
func testPublishOldKeys(t *testing.T) {
	for set, want := range map[string]int{"dkim.publish_old_keys=true": http.StatusOK, "dkim.publish_old_keys=false": http.StatusNotFound} {
		s, old, state := oldPair(t, 7*day, set)
		if p := state(); p.State != "removed" || p.Published != (want == http.StatusOK) {
			t.Errorf("%s: %+v", set, p)
		}
		for _, r := range old.Records {
			status, body := fetchKey(t, s, r.Selector)
			if status != want {
				t.Errorf("%s: %s: %d", set, r.Selector, status)
			}
			block, _ := pem.Decode(body)
			if (block != nil) != (want == http.StatusOK) {
				t.Errorf("%s: %s", set, body)
			}
			if block == nil {
				continue
			}
			if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
				t.Errorf("%T, %v", key, err)
			}
		}
		for _, r := range dkimCommand(t, s, "show").Pairs[0].Records {
			if status, _ := fetchKey(t, s, r.Selector); status != http.StatusNotFound {
				t.Errorf("%s: %s, which signs: %d", set, r.Selector, status)
			}
		}
	}
}
