package interop

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
)

// dnsRecord is a record as postern dns --json shows it.
type dnsRecord struct {
	What, Zone, Line, Aside, Verdict, Says string
}

// records gives what a relay prints for the DNS, with what it sees there.
func (s *server) records(t *testing.T) (list []dnsRecord) {
	t.Helper()
	out, err := exec.Command(binary(t), "dns", "--json", "--dir", s.dir).Output() // the exit code tells of records that lack
	var z struct{ Records []dnsRecord }
	if json.Unmarshal(out, &z) != nil || len(z.Records) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return z.Records
}

// TestAliasDomain: a further domain of aliases is nothing but the records that the relay prints. With them Postfix finds
// the relay by MX and believes its certificate; what is answered as the alias is signed by that domain, as OpenDKIM
// finds, and by no other.
func TestAliasDomain(t *testing.T) {
	w := newWorld(t)
	p := w.Postfix(t, smallworld.PostfixOptions{Domain: "c.example", Users: []string{"bob"}})
	a := w.relay(t, "a.example", append([]string{"aliases.domains=a.example, second.example"}, noSendLimit...)...)
	me := a.withAliases(t, a.created(t, 1)[0])
	n := 0
	for _, r := range a.records(t) {
		if r.Zone == "second.example" && r.Aside == "" && !strings.HasPrefix(r.What, "DKIM ") { // these are there
			w.DNS.Add(t, r.Line)
			n++
		}
	}
	if n != 3 { // MX, SPF, DMARC
		t.Errorf("%d records to publish: %+v", n, a.records(t))
	}
	for _, r := range a.records(t) {
		if r.Zone == "second.example" && r.Verdict != "ok" && r.Verdict != "not needed" {
			t.Errorf("%+v", r)
		}
	}
	al := me.run(t, "new", "handle", "--domain", "second.example")
	if !strings.HasSuffix(al, "@second.example") {
		t.Fatal(al)
	}

	maker := mailclient.NewMaker(8)
	raw := maker.Mail("bob@c.example", 2000)
	hand(t, p.Submission, "bob@c.example", al, "", raw)
	m := awaitMail(t, func() ([]string, error) { return a.tryMails(me.user) }, "X-Postern-Alias: "+al+"; sender=first; vouched=dkim:c.example")
	if mailclient.BodyHash([]byte(m)) != mailclient.BodyHash(raw) {
		t.Error("the body was altered")
	}
	if log := p.Log(); !strings.Contains(log, "Verified TLS connection established to a.example") {
		t.Errorf("Postfix did not verify our certificate:\n%s", log)
	}

	if err := a.mustSubmit(t, me.user).Send(al, []string{"bob@c.example"}, maker.Mail(al, 2000)); err != nil {
		t.Fatal(err)
	}
	m = awaitMail(t, func() ([]string, error) { return p.Mails("bob") }, "From: <"+al+">")
	if n := strings.Count(m, "dkim=pass"); n != 2 || strings.Count(m, "header.d=second.example") != 2 || strings.Contains(m, "header.d=a.example") || strings.Contains(m, "dkim=fail") || !strings.Contains(m, "Return-Path: <"+al+">") {
		t.Errorf("OpenDKIM finds %d signatures good, want 2 of the alias's domain:\n%.2000s", n, m)
	}
	a.emptyQueue(t)
}
