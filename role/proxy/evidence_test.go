package proxy

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/evidence"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/sanitize"
	"postern.email/mixnet/letter"
)

// TestEvidence: mail that the relay took for an alias lies in the mailbox as it came, behind the fields of relay and
// proxy; the file that the proxy makes of it shows to anybody who passed the alias on.
func TestEvidence(t *testing.T) {
	s, n, anna, _ := between(t)
	al := mail.Address{Local: "amber-falcon-4821", Domain: one}
	sent := make(map[string]string)
	for _, x := range []struct{ from, sender string }{{"shop.example", sanitize.SenderFirst}, {"spam.example", sanitize.SenderUnexpected}} {
		raw := agenttest.Signed(t, x.from, "From: <news@"+x.from+">\r\nTo: <"+al.String()+">\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\nSubject: of "+x.from+"\r\n\r\nhello\r\n")
		name := "s1._domainkey." + x.from
		record, _, err := agenttest.SigningKeys(t.Context(), name)
		must(t, err)
		fields, err := sanitize.Alias(sanitize.AliasFields{Alias: al, Sender: x.sender, Vouched: "dkim:" + x.from, KeyName: name, KeyRecord: record[0]})
		must(t, err)
		m := vouch.Mail{Flags: vouch.FromOrdinary | vouch.FromWorld | vouch.ForAlias, Recipients: []mail.Address{anna.Address}, Raw: append(fields, raw...)}
		l, err := letter.Seal(anna.Home.Key, letter.Message{Content: m.Append(nil), Date: time.Now().Truncate(time.Second), Signer: agenttest.NameKey(t, one), Sender: one}, letter.Options{Room: letter.RoomPlain})
		must(t, err)
		n.Give(anna, l.Bodies...)
		sent[x.from] = raw
	}
	u, err := s.find("anna@" + one)
	must(t, err)
	u.ring()
	var mails []string
	until(t, "both mails are in the mailbox", func() bool {
		mails = pop3Mails(t, s, "anna@"+one)
		return len(mails) == 2
	})
	for _, m := range mails {
		if !strings.Contains(m, "X-Postern-Sender: one.example; world") || !strings.Contains(m, "X-Postern-Alias: "+al.String()+"; sender=") {
			t.Errorf("%s", m)
		}
	}
	ask := func(a EvidenceArgs) (*evidence.File, error) {
		t.Helper()
		args, err := json.Marshal(a)
		must(t, err)
		got, err := s.commands()["evidence"](t.Context(), args, nil)
		if err != nil {
			return nil, err
		}
		return evidence.Parse(got.(json.RawMessage))
	}
	f, err := ask(EvidenceArgs{Account: "anna@" + one, Password: localPassword, Alias: al.String(), Stranger: "news@spam.example"})
	must(t, err)
	if string(f.Expected.Raw) != sent["shop.example"] || string(f.Stranger.Raw) != sent["spam.example"] {
		t.Error("the mails are not as they were received")
	}
	r := evidence.Verify(t.Context(), f, func(ctx context.Context, name string) ([]string, bool, error) {
		return agenttest.SigningKeys(ctx, name)
	})
	if !r.Holds || r.Expected.Domain != "shop.example" || r.Stranger.Domain != "spam.example" || r.Stranger.Key != evidence.KeyPublished {
		t.Errorf("%+v", r)
	}
	for _, x := range []struct {
		a     EvidenceArgs
		kind  errs.Kind
		words string
	}{
		{EvidenceArgs{Account: "anna@" + one, Password: "wrong", Alias: al.String()}, errs.Auth, ""},
		{EvidenceArgs{Account: "nobody@" + one, Password: localPassword, Alias: al.String()}, errs.Auth, "wrong name or password"},
		{EvidenceArgs{Account: "anna@" + one, Password: localPassword, Alias: "amber-falcon-4821"}, errs.Invalid, "the whole address"},
		{EvidenceArgs{Account: "anna@" + one, Password: localPassword, Alias: al.String(), Stranger: "<"}, errs.Invalid, "the stranger is no address"},
		{EvidenceArgs{Account: "anna@" + one, Password: localPassword, Alias: "other@" + one}, errs.NotFound, "no mail of whom the alias was given to"},
		{EvidenceArgs{Account: "anna@" + one, Password: localPassword, Alias: al.String(), Stranger: "x@y.example"}, errs.NotFound, "no mail of a stranger"},
	} {
		_, err := ask(x.a)
		refused(t, err, x.kind, x.words)
	}
}
