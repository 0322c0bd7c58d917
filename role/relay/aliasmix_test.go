package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/agent/aliases"
	"postern.email/agent/vouch"
	"postern.email/mail/sanitize"
	"postern.email/mixnet/link"
	"postern.email/wire/dns/dnstest"
)

// TestAliasMailToAProxy: what other hosts write to an alias reaches the owner's proxy as it came, behind the fields that
// say for which alias it is, who vouches for it, and with which key.
func TestAliasMailToAProxy(t *testing.T) {
	names := dnstest.New(t)
	record, _, err := agenttest.SigningKeys(t.Context(), "s1._domainkey.shop.example")
	if err != nil {
		t.Fatal(err)
	}
	names.AddTXT(t, "s1._domainkey.shop.example", record[0])
	_, s, cons := relayIn(t, "network.resolver="+names.Addr)
	p := newProxy(t, "annas proxy")
	p.register(t, s, anna, annas, false)
	v := makes(t, s, aliases.Who{Login: anna, Password: annas}, aliases.CreateRequest{})
	raw := agenttest.Signed(t, "shop.example", "From: <news@shop.example>\r\nTo: <"+v.Address+">\r\nSubject: offers\r\n\r\nhello\r\n")
	c := exchange(t, s, "")
	for _, x := range []struct{ say, want string }{{"MAIL FROM:<news@shop.example>", "250"}, {"RCPT TO:<" + v.Address + ">", "250"}, {"DATA", "354"}, {raw + ".", "250"}} {
		says(t, c, x.say, x.want)
	}
	got := p.mails(t, s, cons)
	if len(got) != 1 || got[0].Kind != vouch.Relay || got[0].Mail.Flags != vouch.FromOrdinary|vouch.FromWorld|vouch.ForAlias || got[0].Mail.Recipients[0].String() != anna {
		t.Fatalf("%+v", got)
	}
	front, mail, forged, err := sanitize.ArrivalForAlias(got[0].Mail.Raw, "x")
	f, _, ok := sanitize.ReadAlias(append(front, mail...))
	want := sanitize.AliasFields{ReturnPath: f.ReturnPath, Alias: addr(v.Address), Sender: sanitize.SenderFirst, Vouched: "dkim:shop.example", KeyName: "s1._domainkey.shop.example", KeyRecord: record[0]}
	if err != nil || forged || !ok || f != want || f.ReturnPath.String() != "news@shop.example" || !strings.HasSuffix(string(mail), raw) {
		t.Errorf("%+v, %v, %v\n%s", f, ok, err, mail)
	}
	if n := inboxOf(t, s, anna, annas); n != "0" {
		t.Errorf("%s mails in the mailbox of the relay", n)
	}
}

// TestAliasMailFromAProxy: mail of a proxy through the network reaches aliases in the relay's own and in a further
// domain, by the rules of each; the descriptor names both domains, so that it goes straight.
func TestAliasMailFromAProxy(t *testing.T) {
	n, s, cons := relayIn(t, "aliases.domains=example.org, alias.example")
	if got := cons.Find(s.mix.node.ID()).Domains; !slices.Equal(got, []string{"alias.example", "example.org"}) {
		t.Errorf("the descriptor names %q", got)
	}
	p := newProxy(t, "annas proxy")
	_, cert := p.register(t, s, anna, annas, false)
	allowed(t, login(s, carl, carls))
	who := aliases.Who{Login: carl, Password: carls}
	var to []string
	for _, d := range []string{"example.org", "alias.example"} {
		to = append(to, makes(t, s, who, aliases.CreateRequest{Domain: d}).Address)
	}
	shut := makes(t, s, who, aliases.CreateRequest{Domain: "alias.example", Mode: "allow-list"}).Address
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
	raw, mark := sealedMail(anna, 500)
	p.sendMail(t, n, s, cons, mix, cert, raw, append(to, shut)...)
	until(t, "the mails are in carl's mailbox", func() bool { return inboxOf(t, s, carl, carls) == "2" })
	box, err := reader(s, carl, carls)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if _, err := box.imap("SELECT INBOX"); err != nil {
		t.Fatal(err)
	}
	text, err := box.imap("FETCH 1:* BODY[]")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range to {
		if !strings.Contains(text, "X-Postern-Alias: "+a+"; sender=first; vouched=end-to-end") {
			t.Errorf("no mail for %s:\n%s", a, text)
		}
	}
	if strings.Count(text, "<"+mark+"@localhost>") != 2 {
		t.Error("the mail was changed")
	}
	got := p.mails(t, s, cons)
	if len(got) != 1 || !strings.Contains(string(got[0].Mail.Raw), shut) || strings.Contains(string(got[0].Mail.Raw), carl) {
		t.Errorf("%d reports of the one that refuses", len(got))
	}
}

// TestNamedDomains: a descriptor names no more domains than it may, and the relay's own always.
func TestNamedDomains(t *testing.T) {
	c := testConfig(t, "/data")
	for i := range 20 {
		c.Aliases.Domains = append(c.Aliases.Domains, fmt.Sprintf("a%02d.example", i))
	}
	if got := c.namedDomains(); len(got) != 8 || !slices.IsSorted(got) || !slices.Contains(got, "example.org") || !slices.Contains(got, "a00.example") {
		t.Errorf("%q", got)
	}
	c.Aliases.Enabled = false
	if got := c.namedDomains(); !slices.Equal(got, []string{"example.org"}) {
		t.Errorf("without aliases: %q", got)
	}
}
