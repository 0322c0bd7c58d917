package receive

import (
	"net/netip"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/mail"
	"postern.email/mail/sanitize"
	"postern.email/mail/spf"
)

const vouchLater = "451 4.7.5 what the sender's domain says of its mail (DKIM, SPF, DMARC) cannot be looked up now, try again later"

// TestAliasDMARC: where the domain in From asks for strict alignment only the very domain vouches; the record of
// its organization counts where it has none. What cannot be looked up is put off, and nothing is asked where the
// very domain vouches.
func TestAliasDMARC(t *testing.T) {
	const record, above = "_dmarc.news.shop.example", "_dmarc.shop.example"
	plain := unsigned("a@news.shop.example", "x")
	own, org := agenttest.Signed(t, "news.shop.example", plain), agenttest.Signed(t, "shop.example", plain)
	for name, c := range map[string]struct {
		records       map[string]string
		down          string
		raw, envelope string
		want, vouched string
	}{
		"no record":                  {raw: org, want: "250", vouched: "dkim:shop.example"},
		"relaxed":                    {records: map[string]string{record: "v=DMARC1; p=reject; adkim=r; aspf=r"}, raw: org, want: "250", vouched: "dkim:shop.example"},
		"strict":                     {records: map[string]string{record: "v=DMARC1; p=reject; adkim=s"}, raw: org, want: notAligned},
		"strict, signed itself":      {records: map[string]string{record: "v=DMARC1; p=reject; adkim=s"}, raw: own, want: "250", vouched: "dkim:news.shop.example"},
		"strict, signed by both":     {records: map[string]string{record: "v=DMARC1; p=reject; adkim=s"}, raw: agenttest.Signed(t, "shop.example", own), want: "250", vouched: "dkim:news.shop.example"},
		"strict by the organization": {records: map[string]string{above: "v=DMARC1; p=none; adkim=s"}, raw: org, want: notAligned},
		"the own record first":       {records: map[string]string{above: "v=DMARC1; p=reject; adkim=s", record: "v=DMARC1; p=reject"}, raw: org, want: "250", vouched: "dkim:shop.example"},
		"strict SPF":                 {records: map[string]string{record: "v=DMARC1; p=reject; aspf=s"}, raw: plain, envelope: "b@bounce.shop.example", want: notAligned},
		"strict SPF, itself":         {records: map[string]string{record: "v=DMARC1; p=reject; aspf=s"}, raw: plain, envelope: "b@news.shop.example", want: "250", vouched: "spf:news.shop.example"},
		"strict DKIM, relaxed SPF":   {records: map[string]string{record: "v=DMARC1; p=reject; adkim=s"}, raw: org, envelope: "b@bounce.shop.example", want: "250", vouched: "spf:bounce.shop.example"},
		"a border below":             {records: map[string]string{record: "v=DMARC1; psd=n"}, raw: org, want: notAligned},
		"it cannot be asked":         {down: record, raw: org, want: vouchLater},
		"nor the organization":       {down: above, raw: plain, envelope: "b@shop.example", want: vouchLater},
		"it need not be asked":       {down: record, raw: own, want: "250", vouched: "dkim:news.shop.example"},
		"nor of others":              {down: record, raw: agenttest.Signed(t, "other.example", plain), envelope: "b@other.example", want: notAligned},
	} {
		w := newAliasWorld(t)
		w.alias("fox-1", nil)
		for n, txt := range c.records {
			w.keys[n] = txt
		}
		w.down = map[string]bool{c.down: true}
		if c.envelope == "" {
			c.envelope = "srs@forwarder.example"
		}
		w.r.o.SPF = passing(spf.Pass)
		if got := w.send(c.envelope, c.raw, "fox-1"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		if all := w.Inbox("anna"); c.want == "250" {
			if f, _, _ := sanitize.ReadAlias([]byte(all[0])); f.Vouched != c.vouched {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// TestMadeDMARC: the same holds for who answers from a mailbox elsewhere.
func TestMadeDMARC(t *testing.T) {
	w := newWorld(t)
	f := &forwards{}
	w.r.o.Forwards = f
	w.keys["_dmarc.shop.example"] = "v=DMARC1; p=reject; adkim=s"
	raw := agenttest.Signed(t, "mail.shop.example", unsigned("a@shop.example", "x"))
	if got := w.send("a@mail.shop.example", raw, "made-1"); got != "250" || strings.Join(f.took, "") != "[made-1@mail.example] a@shop.example false false" {
		t.Errorf("%s, %q", got, f.took)
	}
}

// TestAliasHello: for a report with the null sender that nobody signed, SPF of the name in EHLO vouches where it is
// aligned with From.
func TestAliasHello(t *testing.T) {
	report := "From: <mailer-daemon@host.example>\r\nAuto-Submitted: auto-replied\r\nSubject: failed\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; host.example\r\n\r\n--b--\r\n"
	for name, c := range map[string]struct {
		from, hello   string
		spf           spf.Verdict
		exempt        bool
		record        string
		want, vouched string
	}{
		"by its name":           {hello: "mx1.host.example", spf: spf.Pass, want: "250", vouched: "spf:mx1.host.example"},
		"by the very domain":    {hello: "Host.example", spf: spf.Pass, record: "v=DMARC1; aspf=s", want: "250", vouched: "spf:host.example"},
		"strict":                {hello: "mx1.host.example", spf: spf.Pass, record: "v=DMARC1; aspf=s", want: notAligned},
		"of another":            {hello: "mx1.other.example", spf: spf.Pass, want: notAligned},
		"not that host":         {hello: "mx1.host.example", spf: spf.NoPass, want: notAligned},
		"not now":               {hello: "mx1.host.example", spf: spf.Temporary, want: vouchLater},
		"no name":               {hello: "[192.0.2.7]", spf: spf.Pass, want: notAligned},
		"nothing said":          {spf: spf.Pass, want: notAligned},
		"for whom a proxy does": {hello: "mx1.host.example", spf: spf.Pass, exempt: true, want: notAligned},
		"with another sender":   {from: "x@other.example", hello: "mx1.host.example", spf: spf.Pass, want: notAligned},
	} {
		w := newAliasWorld(t)
		al := w.alias("fox-1", nil)
		w.r.o.SPF, w.hello, w.peer.Exempt = passing(c.spf), c.hello, c.exempt
		w.peer.Addr = netip.MustParseAddr("192.0.2.7")
		if c.record != "" {
			w.keys["_dmarc.host.example"] = c.record
		}
		if err := w.aliases.Record(t.Context(), w.aliases.WroteTo(w.aliases.Now(al), []mail.Address{w.Address("somebody@host.example")})); err != nil {
			t.Fatal(err)
		}
		if got := w.send(c.from, report, "fox-1"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		if all := w.Inbox("anna"); c.want == "250" {
			if f, raw, _ := sanitize.ReadAlias([]byte(all[0])); f.Vouched != c.vouched || !f.ReturnPath.IsZero() || string(raw) != report {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}
