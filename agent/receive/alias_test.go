package receive

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/aliasmail"
	"postern.email/agent/forward"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/mail/sanitize"
	"postern.email/mail/spf"
	"postern.email/post/alias"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/smtp"
)

const (
	unknown     = "550 5.1.1 Recipient address rejected: User unknown"
	notAccepted = "550 5.7.1 Recipient address rejected: this sender is not accepted here"
	asked       = "450 4.7.1 Recipient address rejected: the recipient is asked, try again later"
	separate    = "452 4.5.3 send separately"
	notAligned  = "550 5.7.26 neither DKIM nor SPF vouches for the domain in the From field"
	aliasDomain = "alias.example"
)

// aliasWorld is a post office with aliases.
type aliasWorld struct {
	*world
	aliases *agenttest.Aliases
	o       aliasmail.Options
}

func newAliasWorld(t *testing.T) *aliasWorld {
	w := &aliasWorld{world: newWorld(t)}
	w.Create("anna", nil)
	w.aliases = w.Office.Aliases(domain, aliasDomain)
	w.o = aliasmail.Options{Register: w.aliases, Accounts: w.Accounts, Rooms: w.Boxes, Deliver: w.r.o.Deliver, Domain: domain, Cleartext: true, Now: w.Clock.Now}
	w.set(nil)
	w.peer = limits.Peer{Addr: netip.MustParseAddr("192.0.2.7")}
	return w
}

// set changes the options.
func (w *aliasWorld) set(fn func(*aliasmail.Options)) {
	if fn != nil {
		fn(&w.o)
	}
	w.r.o.Aliases = aliasmail.New(w.o)
}

// alias makes one of anna's, of class open-mail.
func (w *aliasWorld) alias(local string, set func(*alias.New)) mail.Address {
	w.t.Helper()
	return w.aliases.Create("anna", local, func(n *alias.New) {
		n.Class = alias.OpenMail
		if set != nil {
			set(n)
		}
	})
}

// letter is an ordinary mail that is signed by the domain of its sender.
func letter(t testing.TB, from, subject string) string {
	t.Helper()
	_, d, _ := strings.Cut(from, "@")
	return agenttest.Signed(t, d, unsigned(from, subject))
}

func unsigned(from, subject string) string {
	return "From: Shop <" + from + ">\r\nTo: <somebody@mail.example>\r\nSubject: " + subject + "\r\n\r\nhello\r\n"
}

// encrypted is one that is encrypted.
func encrypted(t testing.TB, from, signer string) string {
	t.Helper()
	_, raw, _ := strings.Cut(sample(t, "mailauth-rsa-relaxed-relaxed-enc"), "\r\nMIME-Version")
	return agenttest.Signed(t, signer, "MIME-Version"+strings.Replace(raw, "alice@remote.example", from, 1))
}

// TestAliasTaken: ordinary mail whose sender's domain vouches for it lies in the owner's mailbox as it came,
// behind our fields; who writes first is pinned, and who writes later is not expected. A mail that comes again
// is stored and counted once.
func TestAliasTaken(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("amber-falcon-4821", nil)
	first := "Received: from x.example\r\n" + letter(t, "news@shop.example", "one")
	for range 2 {
		if got := w.send("bounce@mail.shop.example", first, "Amber-Falcon-4821"); got != "250" {
			t.Fatal(got)
		}
	}
	all := w.Inbox("anna")
	if len(all) != 1 {
		t.Fatalf("%d mails", len(all))
	}
	f, raw, ok := sanitize.ReadAlias([]byte(all[0]))
	record, _, _ := agenttest.SigningKeys(t.Context(), "s1._domainkey.shop.example")
	want := sanitize.AliasFields{Alias: al, Sender: sanitize.SenderFirst, Vouched: "dkim:shop.example", KeyName: "s1._domainkey.shop.example", KeyRecord: record[0]}
	if !ok || f != want || string(raw) != first {
		t.Errorf("%+v, %v\n%s", f, ok, all[0])
	}
	for i, c := range []struct{ from, signer, sender string }{
		{"news@shop.example", "shop.example", sanitize.SenderExpected},
		{"eve@spam.example", "mail.spam.example", sanitize.SenderUnexpected}, // aligned, as DMARC has it
		{"news@mail.shop.example", "shop.example", sanitize.SenderUnexpected},
	} {
		if got := w.send(c.from, agenttest.Signed(t, c.signer, unsigned(c.from, "more")), al.String()); got != "250" {
			t.Fatal(got)
		}
		f, _, _ := sanitize.ReadAlias([]byte(w.Inbox("anna")[i+1]))
		if f.Sender != c.sender || f.Vouched != "dkim:"+c.signer || f.ReturnPath.String() != c.from {
			t.Errorf("%+v", f)
		}
	}
	if now := w.aliases.Now(al); now.Received != 4 || now.Refused != 0 {
		t.Errorf("received %d, refused %d", now.Received, now.Refused)
	}
	if got := w.aliases.People("anna", al); !strings.Contains(got, "news@shop.example: pinned") || !strings.Contains(got, "eve@spam.example: seen") {
		t.Error(got)
	}
}

// TestAliasForged: fields that only we write do not get into a mailbox from outside, and do not count
// behind ours.
func TestAliasForged(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", nil)
	forged := "X-Postern-DKIM-Key: s._domainkey.bank.example;\r\n v=DKIM1; p=AAAA\r\nX-Postern-Alias: fox-1@mail.example; sender=expected; vouched=dkim:bank.example\r\n"
	if got := w.send(sender, forged+sample(t, "mailauth-both-enc"), "anna"); got != "250" {
		t.Fatal(got)
	}
	if got := w.Inbox("anna")[0]; strings.Contains(got, "X-Postern-") {
		t.Errorf("%s", got)
	}
	w.r.o.SPF = passing(spf.Pass)
	if got := w.send("eve@x.example", forged+unsigned("eve@x.example", "x"), al.String()); got != "250" {
		t.Fatal(got)
	}
	f, raw, ok := sanitize.ReadAlias([]byte(w.Inbox("anna")[1]))
	if !ok || f.Vouched != "spf:x.example" || f.KeyRecord != "" || !strings.HasPrefix(string(raw), forged) {
		t.Errorf("%+v", f)
	}
}

// passing is a DNS in which SPF comes to one verdict for 192.0.2.7.
func passing(v spf.Verdict) spf.Lookups {
	txt := func(context.Context, string) ([]string, bool, error) {
		switch v {
		case spf.Pass:
			return []string{"v=spf1 ip4:192.0.2.7 -all"}, false, nil
		case spf.Temporary:
			return nil, false, errors.New("timeout")
		}
		return []string{"v=spf1 -all"}, false, nil
	}
	none := errs.E("test", errs.NotFound, "", nil)
	return spf.Lookups{TXT: txt, MX: func(context.Context, string) ([]string, error) { return nil, none },
		Addresses: func(context.Context, string) ([]netip.Addr, error) { return nil, none },
		PTR:       func(context.Context, netip.Addr) ([]string, bool, error) { return nil, false, none }}
}

// TestAliasVouched: DKIM or SPF of the sender's organization, and nothing else, vouches for ordinary
// mail; what cannot be looked up now is put off.
func TestAliasVouched(t *testing.T) {
	const later = "451 4.7.5 what the sender's domain says of its mail (DKIM, SPF, DMARC) cannot be looked up now, try again later"
	plain := unsigned("news@shop.example", "x")
	for name, c := range map[string]struct {
		raw, envelope string
		spf           spf.Lookups
		exempt        bool
		dns           error // of look-ups of keys
		want, vouched string
	}{
		"signed":                        {raw: agenttest.Signed(t, "shop.example", plain), want: "250", vouched: "dkim:shop.example"},
		"signed below":                  {raw: agenttest.Signed(t, "mail.shop.example", plain), want: "250", vouched: "dkim:mail.shop.example"},
		"signed by another":             {raw: agenttest.Signed(t, "other.example", plain), want: notAligned},
		"signed by a suffix":            {raw: agenttest.Signed(t, "example", plain), want: notAligned},
		"signed, and changed":           {raw: strings.Replace(agenttest.Signed(t, "shop.example", plain), "hello", "hullo", 1), want: notAligned},
		"not signed":                    {raw: plain, want: notAligned},
		"SPF":                           {raw: plain, envelope: "b@bounce.shop.example", spf: passing(spf.Pass), want: "250", vouched: "spf:bounce.shop.example"},
		"SPF of another":                {raw: plain, envelope: "b@other.example", spf: passing(spf.Pass), want: notAligned},
		"SPF says no":                   {raw: plain, envelope: "b@shop.example", spf: passing(spf.NoPass), want: notAligned},
		"SPF cannot be asked":           {raw: plain, envelope: "b@shop.example", spf: passing(spf.Temporary), want: later},
		"SPF of another cannot be":      {raw: plain, envelope: "b@other.example", spf: passing(spf.Temporary), want: notAligned},
		"SPF for whom a proxy speaks":   {raw: plain, envelope: "b@shop.example", spf: passing(spf.Pass), exempt: true, want: notAligned},
		"DKIM cannot be asked":          {raw: agenttest.Signed(t, "shop.example", plain), dns: errors.New("timeout"), want: later},
		"DKIM cannot be asked, SPF can": {raw: agenttest.Signed(t, "shop.example", plain), dns: errors.New("timeout"), envelope: "b@shop.example", spf: passing(spf.Pass), want: "250", vouched: "spf:shop.example"},
	} {
		w := newAliasWorld(t)
		w.alias("fox-1", nil)
		w.r.o.SPF, w.peer.Exempt, w.fails = c.spf, c.exempt, c.dns
		if c.envelope == "" {
			c.envelope = "srs@forwarder.example"
		}
		if got := w.send(c.envelope, c.raw, "fox-1"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		all := w.Inbox("anna")
		if c.want != "250" {
			if len(all) != 0 || w.aliases.Now(w.Address("fox-1")).Received != 0 {
				t.Errorf("%s: it was delivered or counted", name)
			}
			continue
		}
		f, _, _ := sanitize.ReadAlias([]byte(all[0]))
		path := ""
		if strings.HasPrefix(c.vouched, "spf:") {
			path = c.envelope
		}
		if f.Vouched != c.vouched || f.ReturnPath.String() != path || (f.KeyRecord != "") != strings.HasPrefix(c.vouched, "dkim:") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestAliasStrict: an alias of class strict takes what an account takes, and so do all while the operator
// allows no cleartext. Ordinary mail need not be UTF-8.
func TestAliasStrict(t *testing.T) {
	w := newAliasWorld(t)
	strict := w.alias("strict-1", func(n *alias.New) { n.Class = alias.Strict })
	open := w.alias("open-1", nil)
	latin := agenttest.Signed(t, "shop.example", "From: <a@shop.example>\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ngr\xfc\xdfe\r\n")
	for _, c := range []struct {
		to   mail.Address
		off  bool // aliases.cleartext
		raw  string
		want string
	}{
		{strict, false, letter(t, "a@shop.example", "x"), cleartext},
		{strict, false, encrypted(t, "a@shop.example", "shop.example"), "250"},
		{strict, false, encrypted(t, "a@shop.example", "mail.shop.example"), "554 5.7.1 No valid DKIM signature found"},
		{strict, false, unsigned("a@shop.example", "x"), cleartext},
		{strict, false, latin, "554 Non-UTF-8 message"},
		{open, false, letter(t, "a@shop.example", "x"), "250"},
		{open, false, latin, "250"},
		{open, false, encrypted(t, "a@shop.example", "mail.shop.example"), "250"},
		{open, true, letter(t, "a@shop.example", "y"), cleartext},
		{open, true, latin, "554 Non-UTF-8 message"},
		{open, true, encrypted(t, "b@shop.example", "shop.example"), "250"},
		{open, false, "hello\r\n\r\n", "500 Failed to parse message: malformed message header"},
		{open, false, "Subject: x\r\n\r\n", "500 Invalid FROM header: no From header"},
	} {
		w.set(func(o *aliasmail.Options) { o.Cleartext = !c.off })
		if got := w.send("a@shop.example", c.raw, c.to.String()); got != c.want {
			t.Errorf("%s, off %v, %.80q: %q, want %q", c.to, c.off, c.raw, got, c.want)
		}
	}
}

// TestAliasUnknown: nobody can tell a paused, ended or deleted alias, or that of a blocked account, from a name
// that there never was.
func TestAliasUnknown(t *testing.T) {
	w := newAliasWorld(t)
	w.r.o.Unknown = limits.NewGCRA(1, 3, 10, w.Clock.Now)
	w.Create("bert", nil)
	paused, deleted := w.alias("paused-1", nil), w.alias("deleted-1", nil)
	ended := w.alias("ended-1", func(n *alias.New) { n.Expires = w.Clock.Now().Add(time.Hour) })
	counted := w.alias("counted-1", func(n *alias.New) { n.MaxMails = 1 })
	blocked := w.aliases.Create("bert", "blocked-1", nil)
	w.aliases.Alter("anna", paused, func(c *alias.Change) { c.Paused = true })
	if err := w.aliases.Delete(t.Context(), w.aliases.Vault("anna"), deleted); err != nil {
		t.Fatal(err)
	}
	if err := w.Accounts.Block(t.Context(), w.Address("bert")); err != nil {
		t.Fatal(err)
	}
	if got := w.send("a@shop.example", letter(t, "a@shop.example", "x"), counted.String()); got != "250" {
		t.Fatal(got)
	}
	w.Clock.Add(time.Hour)
	for _, to := range []string{paused.String(), deleted.String(), ended.String(), counted.String(), blocked.String(), "nobody-1", "nobody@" + aliasDomain} {
		w.Clock.Add(3 * time.Minute) // for Unknown
		if got := w.send("a@shop.example", letter(t, "a@shop.example", "x"), to); got != unknown {
			t.Errorf("%s: %q", to, got)
		}
	}
	// They count as names that were tried out.
	for range 3 {
		w.send("a@shop.example", "", paused.String())
	}
	if got := w.send("a@shop.example", "", w.alias("good-1", nil).String()); !strings.HasPrefix(got, "451 4.7.1 too many refused recipients") {
		t.Error(got)
	}
}

// TestAliasRules: block, pin and list decide by the sender that is vouched for.
func TestAliasRules(t *testing.T) {
	w := newAliasWorld(t)
	open := w.alias("open-1", nil)
	pinned := w.alias("pinned-1", func(n *alias.New) { n.Mode = alias.ModePinned })
	listed := w.alias("listed-1", func(n *alias.New) { n.Mode = alias.ModeAllowList })
	w.aliases.Alter("anna", open, func(c *alias.Change) { c.Block = []string{"eve@spam.example", "@bad.example"} })
	w.aliases.Alter("anna", listed, func(c *alias.Change) { c.Allow = []string{"@shop.example"} })
	for _, c := range []struct {
		to         mail.Address
		from, want string
	}{
		{open, "eve@spam.example", notAccepted},
		{open, "x@bad.example", notAccepted},
		{open, "x@mail.bad.example", notAccepted},
		{open, "bob@spam.example", "250"},
		{pinned, "a@shop.example", "250"},
		{pinned, "b@shop.example", notAccepted},
		{pinned, "A@shop.example", "250"},
		{listed, "x@spam.example", notAccepted},
		{listed, "x@shop.example", "250"},
	} {
		if got := w.send("srs@x.example", letter(t, c.from, "x"), c.to.String()); got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
	if now := w.aliases.Now(pinned); now.Received != 2 {
		t.Errorf("received %d", now.Received)
	}
}

// TestAliasAsks: a new sender is put off, the owner is told once, and what the owner says counts from the next
// try on; without an answer it ends after four days.
func TestAliasAsks(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("ask-1", func(n *alias.New) { n.Mode = alias.ModeAsk })
	send := func(from string) string { return w.send(from, letter(t, from, "x"), al.String()) }
	for range 3 {
		if got := send("bob@shop.example"); got != asked {
			t.Fatal(got)
		}
		w.Clock.Add(time.Hour)
	}
	all := w.Inbox("anna")
	if len(all) != 1 || !strings.Contains(all[0], "postern alias allow ask-1@mail.example bob@shop.example\r\n") || !strings.Contains(all[0], "To: <ask-1@mail.example>") ||
		strings.Contains(all[0], "anna") {
		t.Fatalf("%d notes, %q", len(all), all)
	}
	if got := send("carl@shop.example"); got != asked || len(w.Inbox("anna")) != 2 {
		t.Errorf("another sender: %s", got)
	}
	w.aliases.Alter("anna", al, func(c *alias.Change) { c.Allow = []string{"bob@shop.example"} })
	if got := send("bob@shop.example"); got != "250" || len(w.Inbox("anna")) != 3 {
		t.Error(got)
	}
	w.Clock.Add(5 * 24 * time.Hour)
	if got := send("carl@shop.example"); got != notAccepted || len(w.Inbox("anna")) != 3 {
		t.Error(got)
	}
}

// TestAliasAlone: an alias shares a mail with nobody, so that what happens to others does not tell whose
// it is; over HTTPS the mail is split.
func TestAliasAlone(t *testing.T) {
	w := newAliasWorld(t)
	a, b := w.alias("a-1", nil).String(), w.alias("b-1", nil).String()
	for _, to := range [][]string{{a, "anna"}, {"anna", a}, {a, b}, {a, a}} {
		if got := w.send("x@shop.example", letter(t, "x@shop.example", "x"), to...); got != separate {
			t.Errorf("%v: %s", to, got)
		}
	}
	post := func(to ...string) (mxdeliv.Outcome, string) {
		m := mxdeliv.Mail{From: w.Address("x@shop.example"), Raw: []byte(letter(t, "x@shop.example", "x")), Peer: w.peer}
		for _, s := range to {
			m.To = append(m.To, w.Address(s))
		}
		return w.r.Web().Deliver(t.Context(), m)
	}
	if got, text := post(a, "anna"); got != mxdeliv.Split {
		t.Error(got, text)
	}
	if got, text := post(a); got != mxdeliv.Accepted || len(w.Inbox("anna")) != 1 {
		t.Error(got, text)
	}
	w.aliases.Alter("anna", w.Address(a), func(c *alias.Change) { c.Block = []string{"x@shop.example"} })
	if got, text := post(a); got != mxdeliv.Refused || text != notAccepted {
		t.Error(got, text)
	}
}

// TestAliasAsksNoShell: an address in which a shell would find a command, or an option, stands in no command
// line that the owner is told to copy.
func TestAliasAsksNoShell(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("ask-1", func(n *alias.New) { n.Mode = alias.ModeAsk })
	for i, from := range []string{"`id`@evil.example", `"$(id)"@evil.example`, `"x;id"@evil.example`, "a$HOME@evil.example", "a&b@evil.example", "x'y@evil.example", "--json@evil.example", "~root@evil.example"} {
		if got := w.send(from, letter(t, from, "x"), al.String()); got != asked {
			t.Fatalf("%s: %s", from, got)
		}
		all := w.Inbox("anna")
		if len(all) != i+1 || strings.Contains(all[i], "postern alias allow") || strings.Contains(all[i], "postern alias block") || !strings.Contains(all[i], "    "+from+"\r\n") {
			t.Errorf("%s: %d notes, %q", from, len(all), all)
		}
	}
}

// report is a delivery report of a host about the mail with a Message-ID.
func report(t *testing.T, from, id string) string {
	t.Helper()
	return agenttest.Signed(t, from, "From: <MAILER-DAEMON@"+from+">\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n"+
		"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx."+from+"\r\n\r\nFinal-Recipient: rfc822; bob@"+from+"\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"+
		"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: x\r\nMessage-ID: "+id+"\r\n\r\n--b--\r\n")
}

// wrote has a mail with a Message-ID leave as an alias.
func (w *aliasWorld) wrote(al mail.Address, id string) {
	w.t.Helper()
	if err := w.aliases.Record(w.t.Context(), w.aliases.WroteTo(w.aliases.Now(al), []mail.Address{w.Address("bob@shop.example")}).Remember(id)); err != nil {
		w.t.Fatal(err)
	}
}

// TestAliasBlockedReports: who is blocked does not get in with the form of a delivery report.
func TestAliasBlockedReports(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", nil)
	w.aliases.Alter("anna", al, func(c *alias.Change) { c.Block = []string{"@evil.example"} })
	w.wrote(al, "<1@alias.example>")
	for from, want := range map[string]string{"evil.example": notAccepted, "sub.evil.example": notAccepted, "remote.example": "250"} {
		raw := report(t, from, "<1@alias.example>")
		if got := w.send("", raw, al.String()); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
}

// TestAliasReports: what has the null sender is taken only where something was sent that can come back; a
// delivery report on it then passes whatever the mode is, and changes nothing.
func TestAliasReports(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", func(n *alias.New) { n.Mode = alias.ModePinned })
	if got := w.send("bob@shop.example", letter(t, "bob@shop.example", "x"), al.String()); got != "250" {
		t.Fatal(got)
	}
	bounce := report(t, "remote.example", "<1@alias.example>")
	vacation := letter(t, "bob@shop.example", "I am away")
	for _, raw := range []string{bounce, vacation} {
		if got := w.send("", raw, al.String()); got != notAccepted {
			t.Errorf("nothing was sent: %s", got)
		}
	}
	w.wrote(al, "<1@alias.example>")
	before := w.aliases.Now(al).Received
	if got := w.send("", bounce, al.String()); got != "250" {
		t.Error(got)
	}
	if now := w.aliases.Now(al); now.Received != before || strings.Contains(strings.ToLower(w.aliases.People("anna", al)), "mailer-daemon") {
		t.Errorf("a report counts: %d", now.Received)
	}
	if got := w.send("", vacation, al.String()); got != "250" {
		t.Error(got)
	}
	if got := w.send("", letter(t, "eve@spam.example", "x"), al.String()); got != notAccepted {
		t.Errorf("the null sender is a way round the rules: %s", got)
	}
	w.aliases.Alter("anna", al, func(c *alias.Change) { c.Paused = true })
	if got := w.send("", bounce, al.String()); got != unknown {
		t.Error(got)
	}
}

// TestAliasReportsAnswer: a delivery report that quotes no mail which was sent as the alias is a way round no rule, and
// makes nobody a correspondent.
func TestAliasReportsAnswer(t *testing.T) {
	for mode, want := range map[alias.Mode]string{alias.ModeOpen: "250", alias.ModePinned: notAccepted, alias.ModeAllowList: notAccepted, alias.ModeAsk: notAccepted} {
		w := newAliasWorld(t)
		al, other := w.alias("fox-1", func(n *alias.New) { n.Mode = mode }), w.alias("fox-2", nil)
		w.wrote(al, "<1@alias.example>")
		w.wrote(other, "<2@alias.example>")
		before := w.aliases.People("anna", al)
		without := agenttest.Signed(t, "remote.example", "From: <MAILER-DAEMON@remote.example>\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; boundary=\"b\"\r\n\r\n--b--\r\n")
		for name, raw := range map[string]string{"of another alias": report(t, "remote.example", "<2@alias.example>"), "of nothing": report(t, "remote.example", "<3@alias.example>"),
			"without an id": report(t, "remote.example", ""), "without a quotation": without} {
			if got := w.send("", raw, al.String()); got != want {
				t.Errorf("%v, %s: %s", mode, name, got)
			}
		}
		if got := w.aliases.People("anna", al); got != before {
			t.Errorf("%v: %s, before %s", mode, got, before)
		}
		if got := w.send("", report(t, "remote.example", " <1@alias.example> "), al.String()); got != "250" {
			t.Errorf("%v, one on what was sent: %s", mode, got)
		}
		w.Clock.Add((alias.DefaultSentDays + 1) * 24 * time.Hour)
		if got := w.send("", report(t, "remote.example", "<1@alias.example>"), al.String()); got != want {
			t.Errorf("%v, long after: %s", mode, got)
		}
		w.aliases.Alter("anna", al, func(c *alias.Change) { c.Allow = []string{"@remote.example"} })
		if got := w.send("", report(t, "remote.example", ""), al.String()); got != "250" {
			t.Errorf("%v, whom the owner allowed: %s", mode, got)
		}
	}
}

// TestAliasRace: of two senders who come at once only the first is pinned: the other's mail is judged anew
// when it is written.
func TestAliasRace(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", func(n *alias.New) { n.Mode = alias.ModePinned })
	s, ctx := w.session(), t.Context()
	if err := s.Mail(ctx, w.Address("late@shop.example"), smtp.MailOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rcpt(ctx, al, smtp.RcptOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := w.send("early@shop.example", letter(t, "early@shop.example", "x"), al.String()); got != "250" {
		t.Fatal(got)
	}
	transfer, err := s.Data(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := say(transfer.Commit(ctx, []byte(letter(t, "late@shop.example", "x")))); got != notAccepted {
		t.Error(got)
	}
	if n := len(w.Inbox("anna")); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// TestAliasDerived: an address that its owner's client made is an alias from its first mail on; a guess is
// unknown, and guessing is limited.
func TestAliasDerived(t *testing.T) {
	w := newAliasWorld(t)
	key := w.aliases.Vault("anna").AliasKey()
	made := aliasname.Derive(&key, aliasDomain, "shop.example", 0) + "@" + aliasDomain
	if got := w.send("a@shop.example", encrypted(t, "a@shop.example", "shop.example"), strings.ToUpper(made)); got != "250" {
		t.Fatal(got)
	}
	if al := w.aliases.Now(w.Address(made)); !al.Derived || !al.Stored || al.Received != 1 {
		t.Errorf("%+v", al)
	}
	other := [32]byte{1}
	tries := 0
	for n := uint32(0); n < 20; n++ {
		got := w.send("a@shop.example", "", aliasname.Derive(&other, aliasDomain, "x", n)+"@"+aliasDomain)
		if strings.HasPrefix(got, "451 4.7.1 too many recipients of this form") {
			break
		}
		if got != unknown {
			t.Fatal(got)
		}
		tries++
	}
	if tries > alias.DefaultTriesNetwork+1 {
		t.Errorf("%d guesses in a moment", tries)
	}
	// What is known is not tried out.
	if got := w.send("a@shop.example", encrypted(t, "b@shop.example", "shop.example"), made); got != "250" {
		t.Error(got)
	}
}

// elsewhere takes mail for owners whose mailbox is elsewhere.
type elsewhere struct {
	owner  alias.Owner
	full   bool
	denied atomic.Int32 // so often Forward says that the alias has changed
	got    []forward.Mail
	asked  string // by the last network
}

func (e *elsewhere) Elsewhere(_ context.Context, o alias.Owner, network string) (bool, error) {
	e.asked = network
	if e.full {
		return true, &smtp.Reply{Code: 450, Enhanced: "4.2.1", Text: "not now"}
	}
	return o == e.owner, nil
}

func (e *elsewhere) Forward(_ context.Context, m forward.Mail) error {
	if e.denied.Add(-1) >= 0 {
		return errs.E("test", errs.Denied, "", nil)
	}
	e.got = append(e.got, m)
	return nil
}

// TestAliasElsewhere: what an alias takes whose owner has no mailbox here goes on, with its mark; the rules
// are the same.
func TestAliasElsewhere(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", nil)
	e := &elsewhere{owner: w.aliases.Now(al).Owner}
	w.set(func(o *aliasmail.Options) { o.Forward = e })
	w.aliases.Alter("anna", al, func(c *alias.Change) { c.Block = []string{"@spam.example"} })
	raw := letter(t, "a@shop.example", "x")
	if got := w.send("a@shop.example", letter(t, "a@spam.example", "x"), al.String()); got != notAccepted {
		t.Error(got)
	}
	if e.asked != "192.0.2.7" {
		t.Errorf("by the network %q a mailbox elsewhere may be asked", e.asked)
	}
	e.denied.Store(1)
	if got := w.send("a@shop.example", raw, al.String()); got != "250" || len(e.got) != 1 {
		t.Fatal(got)
	}
	m := e.got[0]
	if string(m.Raw) != raw || m.From.String() != "a@shop.example" || m.Mark != al.String()+"; sender=first; vouched=dkim:shop.example" || m.Verdict.Action != alias.Take || len(m.Proof) == 0 || m.Alias.Address != al {
		t.Errorf("%+v", m)
	}
	if n := len(w.Inbox("anna")); n != 0 {
		t.Errorf("%d mails here as well", n)
	}
	e.denied.Store(2)
	if got := w.send("a@shop.example", raw, al.String()); got != "451 4.3.0 the recipient has just changed, try again later" {
		t.Error(got)
	}
	e.full = true
	if got := w.send("a@shop.example", raw, al.String()); got != "450 4.2.1 not now" {
		t.Error(got)
	}
}

// TestAliasNoEvidence: with the option off nothing is kept with which the sender could be shown to others.
func TestAliasNoEvidence(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", nil)
	w.set(func(o *aliasmail.Options) { o.NoEvidence = true })
	if got := w.send("a@shop.example", "Received: from x\r\n"+letter(t, "a@shop.example", "x"), al.String()); got != "250" {
		t.Fatal(got)
	}
	got := w.Inbox("anna")[0]
	if !strings.HasPrefix(got, "Return-Path: <a@shop.example>\r\nX-Postern-Alias: fox-1@mail.example; sender=first; vouched=dkim:shop.example\r\nFrom: ") || strings.Count(got, "Return-Path") != 1 || strings.Contains(got, "DKIM") || strings.Contains(got, "Received") {
		t.Errorf("%s", got)
	}
}

// TestAliasFull: that a mailbox has no room is told of an alias after the whole mail, in the words for an account,
// and only to who would be let in: RCPT tells nothing, whatever SIZE says, so that nobody sees by comparing the
// two that an alias shares a mailbox with an account.
func TestAliasFull(t *testing.T) {
	w := newAliasWorld(t)
	al := w.alias("fox-1", nil)
	const fullText = "452 4.2.2 Recipient address rejected: mailbox full"
	w.aliases.Alter("anna", al, func(c *alias.Change) { c.Block = []string{"@spam.example"} })
	w.set(func(o *aliasmail.Options) { o.Rooms = full{} })
	w.r.o.Rooms = full{}
	s := w.session()
	if err := s.Mail(t.Context(), w.Address("a@shop.example"), smtp.MailOptions{Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rcpt(t.Context(), w.Address("anna"), smtp.RcptOptions{}); err == nil || smtp.ReplyFor(err).String() != fullText {
		t.Errorf("the account: %v", err)
	}
	if err := s.Rcpt(t.Context(), al, smtp.RcptOptions{}); err != nil {
		t.Errorf("the alias: %v", err)
	}
	if got := w.send("a@shop.example", letter(t, "a@shop.example", "x"), al.String()); got != fullText {
		t.Error(got)
	}
	if got := w.send("a@spam.example", letter(t, "a@spam.example", "x"), al.String()); got != notAccepted {
		t.Errorf("who is blocked: %s", got)
	}
	if n := len(w.Inbox("anna")); n != 0 {
		t.Errorf("%d mails", n)
	}
}

type full struct{}

func (full) Room(context.Context, alias.Owner, int64, int64) error {
	return errs.E("test", errs.Full, "", nil)
}
