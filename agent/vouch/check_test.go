package vouch

import (
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
)

// doors are the three: what differs is whether a relay's own letters are taken.
func doors(t testing.TB) map[string]Door {
	return map[string]Door{"mailbox": {}, "exit": {Transit: DoorTransit}, "proxy": {Home: relayID(t, "one"), Transit: InboxTransit}}
}

// TestCheckUser: each reason for which a signed mail is refused, at each door, and that the mail
// is taken without it.
func TestCheckUser(t *testing.T) {
	w := begin(t)
	bob := "bob@two.example"
	type change = func(m *Mail, l *letter.Letter)
	header := func(fields ...string) change { return func(m *Mail, _ *letter.Letter) { m.Raw = mailOf(fields...) } }
	cert := func(f func(c *Certificate), name string) change {
		return func(m *Mail, _ *letter.Letter) {
			c := w.draft(t, "one", alice)
			f(&c)
			m.Certificate = issue(t, c, name).Bytes()
		}
	}
	for _, tt := range []struct {
		name   string
		change change
		kind   errs.Kind
		words  string
	}{
		{"as it should be", func(*Mail, *letter.Letter) {}, 0, ""},
		{"other capitals", header("From: Alice <ALICE@One.Example>"), 0, ""},
		{"a comment behind the address", header("From: alice@one.example (Alice)"), 0, ""},
		{"a display name that is an address", header(`From: "bob@two.example" <alice@one.example>`), 0, ""},
		{"null envelope sender", func(m *Mail, _ *letter.Letter) { m.Sender = mail.Address{} }, 0, ""},
		{"her own Sender field", header("From: "+alice, "Sender: Alice <"+alice+">"), 0, ""},
		{"From folded", header("From:\r\n Alice\r\n <alice@one.example>"), 0, ""},

		{"forged From", header("From: " + bob), errs.Denied, "From field names another"},
		{"same name at a subdomain", header("From: alice@mail.one.example"), errs.Denied, "From field names another"},
		{"two From fields", header("From: "+alice, "From: "+bob), errs.Denied, "more than one From header"},
		{"two From fields, in other capitals", header("From: "+alice, "fRoM : "+alice), errs.Denied, "more than one From header"},
		{"no From field", header("To: " + bob), errs.Denied, "no From header"},
		{"two addresses", header("From: " + alice + ", " + bob), errs.Denied, "exactly one address"},
		{"the address twice", header("From: " + alice + ", " + alice), errs.Denied, "exactly one address"},
		{"a group", header("From: friends: " + alice + ";"), errs.Denied, "exactly one address"},
		{"an empty group", header("From: nobody:;"), errs.Denied, "exactly one address"},
		{"a route", header("From: <@two.example:" + alice + ">"), errs.Denied, "ambiguous"},
		{"white space in the address", header("From: alice @one.example"), errs.Denied, "ambiguous"},
		{"a malformed From", header("From: <alice@one.example"), errs.Denied, "malformed From"},
		{"bare CR before another From", func(m *Mail, _ *letter.Letter) {
			m.Raw = []byte("From: " + alice + "\r\nX: y\rFrom: " + bob + "\r\n\r\nx\r\n")
		}, errs.Invalid, "CRLF"},
		{"bare LF in the body", func(m *Mail, _ *letter.Letter) { m.Raw = append(mailOf("From: "+alice), "a\nb\r\n"...) }, errs.Invalid, "CRLF"},
		{"NUL", func(m *Mail, _ *letter.Letter) { m.Raw = append(mailOf("From: "+alice), "a\x00b\r\n"...) }, errs.Invalid, "CRLF"},
		{"CR at the end", func(m *Mail, _ *letter.Letter) { m.Raw = append(mailOf("From: "+alice), '\r') }, errs.Invalid, "CRLF"},
		{"a line that is no field", header("From: "+alice, "no field"), errs.Invalid, "malformed message header"},
		{"another's Sender field", header("From: "+alice, "Sender: "+bob), errs.Denied, "Sender field names another"},
		{"another's Resent-From", header("From: "+alice, "Resent-From: "+bob), errs.Denied, "Resent-From field"},
		{"another's Resent-Sender", header("From: "+alice, "resent-sender: x: "+alice+";"), errs.Denied, "Resent-Sender field"},
		{"another's envelope", func(m *Mail, _ *letter.Letter) { m.Sender = address(t, bob) }, errs.Denied, "envelope names another"},

		{"no certificate", func(m *Mail, _ *letter.Letter) { m.Certificate = nil }, errs.Denied, "nobody vouches"},
		{"half a certificate", func(m *Mail, _ *letter.Letter) { m.Certificate = m.Certificate[:100] }, errs.Invalid, "certificate is malformed"},
		{"a certificate of a later version", func(m *Mail, _ *letter.Letter) {
			m.Certificate = append([]byte{2}, m.Certificate[1:]...)
		}, errs.Unsupported, "another version"},
		{"expired", cert(func(c *Certificate) {
			c.From, c.Until = w.now.Add(-48*time.Hour), w.now.Add(-time.Minute-directory.MaxSkew)
		}, "one"), errs.Denied, "has expired"},
		{"just not expired", cert(func(c *Certificate) {
			c.From, c.Until = w.now.Add(-48*time.Hour), w.now.Add(-time.Minute-directory.MaxSkew+time.Second)
		}, "one"), 0, ""},
		{"not yet valid", cert(func(c *Certificate) {
			c.From = w.now.Add(-time.Minute + directory.MaxSkew + time.Second)
		}, "one"), errs.Denied, "is valid from"},
		{"just valid", cert(func(c *Certificate) { c.From = w.now.Add(-time.Minute + directory.MaxSkew) }, "one"), 0, ""},
		{"certificate of another relay", cert(func(c *Certificate) { c.Relay = relayID(t, "two") }, "two"), errs.Denied, "does not vouch for addresses of this domain"},
		{"signed by another relay", cert(func(*Certificate) {}, "two"), errs.Auth, "not signed by its relay"},
		{"signed by herself", func(m *Mail, _ *letter.Letter) {
			c, err := Issue(w.draft(t, "one", alice), dirtest.Key(t, alice))
			must(t, err)
			m.Certificate = c.Bytes()
		}, errs.Auth, "not signed by its relay"},
		{"signed with the relay's other key", func(m *Mail, _ *letter.Letter) {
			c, err := Issue(w.draft(t, "one", alice), dirtest.Key(t, "node one"))
			must(t, err)
			m.Certificate = c.Bytes()
		}, errs.Auth, "not signed by its relay"},
		{"a relay that is not in the consensus", cert(func(c *Certificate) { c.Relay = relayID(t, "three") }, "three"), errs.Denied, "not in the network"},
		{"a mix vouches", cert(func(c *Certificate) { c.Relay = relayID(t, "mix") }, "one"), errs.Denied, "not in the network"},
		{"a domain that the relay does not name", cert(func(c *Certificate) { c.Address = address(t, "alice@three.example") }, "one"), errs.Denied, "of this domain"},
		{"an address that nobody may have", cert(func(c *Certificate) { c.Address = address(t, "anonymous@one.example") }, "one"), errs.Denied, "nobody may have"},
		{"certificate of another account", cert(func(c *Certificate) { c.Address = address(t, "eve@one.example") }, "one"), errs.Denied, "letter names another"},
		{"signed with another key", func(_ *Mail, l *letter.Letter) { l.From = dirtest.Key(t, "eve").Public() }, errs.Auth, "another key"},
		{"the letter says another sender", func(_ *Mail, l *letter.Letter) { l.Sender = bob }, errs.Denied, "letter names another"},
		{"the letter says no sender", func(_ *Mail, l *letter.Letter) { l.Sender = "" }, errs.Denied, "letter names another"},
		{"a flag without a relay", func(m *Mail, _ *letter.Letter) { m.Flags = FromOrdinary }, errs.Invalid, ""},

		{"no date", func(_ *Mail, l *letter.Letter) { l.Date = time.Time{} }, errs.Denied, "when it was written"},
		{"from the future", func(_ *Mail, l *letter.Letter) { l.Date = w.now.Add(directory.MaxSkew + time.Second) }, errs.Denied, "in the future"},
		{"a clock that is a little wrong", func(_ *Mail, l *letter.Letter) { l.Date = w.now.Add(directory.MaxSkew) }, 0, ""},
		{"no mail at all", func(_ *Mail, l *letter.Letter) { l.Content = []byte("Hello.") }, errs.Invalid, "no mail"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for door, d := range doors(t) {
				m := w.fromAlice(t)
				l := w.letterOf(t, m, alice, alice)
				before := string(l.Content)
				tt.change(&m, l)
				if string(l.Content) == before {
					l.Content = w.letterOf(t, m, "", "").Content
				}
				v, err := Check(w.cons, w.now, l, d)
				switch {
				case tt.words == "" && tt.kind == 0:
					if err != nil || v.Kind != User || v.Address != address(t, alice) {
						t.Errorf("%s: %+v, %v", door, v, err)
					}
				case tt.name == "a flag without a relay" && door != "proxy":
					if err == nil {
						t.Error("taken")
					}
				default:
					refused(t, err, tt.kind, tt.words)
				}
			}
		})
	}
}

// TestCheckTransit: a letter counts by the date that its sender signed, and for so long as it may be
// under way to the door.
func TestCheckTransit(t *testing.T) {
	w := begin(t)
	for name, d := range doors(t) {
		transit := DoorTransit
		if name == "proxy" {
			transit = InboxTransit
		}
		c := w.draft(t, "one", alice)
		c.From, c.Until = w.now.Add(-transit-time.Hour).Truncate(time.Second), w.now.Add(-transit+time.Hour).Truncate(time.Second)
		m := w.fromAlice(t)
		m.Certificate = issue(t, c, "one").Bytes()
		l := w.letterOf(t, m, alice, alice)
		l.Date = w.now.Add(-transit)
		if _, err := Check(w.cons, w.now, l, d); err != nil {
			t.Errorf("%s: a letter that was under way for as long as it may: %v", name, err)
		}
		l.Date = l.Date.Add(-time.Second)
		_, err := Check(w.cons, w.now, l, d)
		refused(t, err, errs.Denied, "under way for too long")
	}
}

// TestCheckIDNA: a domain counts as the same in both of its forms.
func TestCheckIDNA(t *testing.T) {
	w := begin(t)
	for _, written := range []string{"olga@bücher.example", "olga@BÜCHER.example", "olga@xn--bcher-kva.example", "Olga@XN--BCHER-KVA.EXAMPLE"} {
		c := issue(t, w.draft(t, "one", written), "one")
		if c.Address.Domain != "xn--bcher-kva.example" {
			t.Fatal(c.Address)
		}
		m := Mail{Certificate: c.Bytes(), Sender: address(t, written), Raw: mailOf("From: Olga <olga@bücher.example>")}
		v, err := Check(w.cons, w.now, w.letterOf(t, m, written, written), Door{})
		if err != nil || v.Kind != User {
			t.Errorf("%s: %v", written, err)
		}
		m.Raw = mailOf("From: Olga <olga@buecher.example>")
		_, err = Check(w.cons, w.now, w.letterOf(t, m, written, written), Door{})
		refused(t, err, errs.Denied, "From field names another")
	}
}

// TestCheckRelay: a relay's own mail is taken for its own account only, signed with its key of
// names and under one of its domains.
func TestCheckRelay(t *testing.T) {
	w := begin(t)
	home := Door{Home: relayID(t, "one")}
	m := Mail{Flags: FromOrdinary, Raw: mailOf("From: someone@world.example")}
	v, err := Check(w.cons, w.now, w.letterOf(t, m, "names of one", "one.example"), home)
	must(t, err)
	if v.Kind != Relay || v.Domain != "one.example" || v.Relay != relayID(t, "one") || v.Cleartext() || !v.Address.IsZero() {
		t.Errorf("%+v", v)
	}
	m.Flags |= FromWorld
	v, err = Check(w.cons, w.now, w.letterOf(t, m, "names of one", "one.example"), home)
	must(t, err)
	if v.Kind != Relay || !v.Cleartext() {
		t.Errorf("%+v", v)
	}
	for _, tt := range []struct {
		name, signer, sender string
		door                 Door
		kind                 errs.Kind
		words                string
	}{
		{"at a door that is not a proxy's", "names of one", "one.example", Door{}, errs.Denied, "only for its own accounts"},
		{"another relay", "names of two", "two.example", home, errs.Auth, "not signed by the account's relay"},
		{"another relay that says it were this one", "names of two", "one.example", home, errs.Auth, "not signed by the account's relay"},
		{"the relay's other key", "node one", "one.example", home, errs.Auth, "not signed by the account's relay"},
		{"a domain that is not its own", "names of one", "two.example", home, errs.Denied, "does not speak for this domain"},
		{"no domain", "names of one", "", home, errs.Denied, "does not speak for this domain"},
		{"a user", alice, alice, home, errs.Auth, "not signed by the account's relay"},
		{"not signed", "", "", home, errs.Auth, "not signed"},
		{"a home that is not in the network", "names of three", "three.example", Door{Home: relayID(t, "three")}, errs.Denied, "not in the network"},
		{"a home that is a mix", "names of one", "one.example", Door{Home: relayID(t, "mix")}, errs.Denied, "not in the network"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Check(w.cons, w.now, w.letterOf(t, m, tt.signer, tt.sender), tt.door)
			refused(t, err, tt.kind, tt.words)
		})
	}
	with := m
	with.Certificate = w.certificate(t).Bytes()
	_, err = Check(w.cons, w.now, w.letterOf(t, with, "names of one", "one.example"), home)
	refused(t, err, errs.Invalid, "no certificate")
	old := w.letterOf(t, m, "names of one", "one.example")
	old.Date = w.now.Add(-DoorTransit - time.Second)
	_, err = Check(w.cons, w.now, old, home)
	refused(t, err, errs.Denied, "under way for too long")
	// Without the flag it is a mail that a user would have to sign.
	m.Flags = 0
	_, err = Check(w.cons, w.now, w.letterOf(t, m, "names of one", "one.example"), home)
	refused(t, err, errs.Denied, "nobody vouches")
}

// TestCheckAnonymous: mail that nobody signed is taken in the anonymous form and in no other.
func TestCheckAnonymous(t *testing.T) {
	w := begin(t)
	reply := anon.ReplyPrefix + strings.Repeat("a2", 13) + "@one.example"
	for _, tt := range []struct {
		from, name, ret string
	}{
		{`"[Anon] Fox" <anonymous@one.example>`, "Fox", "anonymous@one.example"},
		{`"[Anon]" <anonymous@two.example>`, "", "anonymous@two.example"},
		{`"[Anon] A grey fox" <anonymous@anonymous.invalid>`, "A grey fox", "anonymous@anonymous.invalid"},
		{`"[Anon] Fox" <` + reply + `>`, "Fox", reply},
		{`=?utf-8?b?W0Fub25dIEbDvGNoc2lu?= <anonymous@one.example>`, "Füchsin", "anonymous@one.example"},
	} {
		for door, d := range doors(t) {
			v, err := Check(w.cons, w.now, w.letterOf(t, Mail{Raw: mailOf("From: "+tt.from, "Subject: x")}, "", ""), d)
			if err != nil || v.Kind != Anonymous || v.Name != tt.name || v.Return.String() != tt.ret || !v.Address.IsZero() {
				t.Errorf("%s: %s: %+v, %v", door, tt.from, v, err)
			}
		}
	}
	good := `From: "[Anon] Fox" <` + reply + `>`
	for _, tt := range []struct {
		name  string
		mail  Mail
		kind  errs.Kind
		words string
	}{
		{"somebody's name", Mail{Raw: mailOf("From: Alice <" + alice + ">")}, errs.Denied, "nobody vouches"},
		{"the tag before somebody's address", Mail{Raw: mailOf(`From: "[Anon] Fox" <` + alice + `>`)}, errs.Denied, "somebody's own"},
		{"a return address at a domain of no relay", Mail{Raw: mailOf(`From: "[Anon] Fox" <anonymous@bank.example>`)}, errs.Denied, "somebody's own"},
		{"a reply address that is too short", Mail{Raw: mailOf(`From: "[Anon] Fox" <reply.abc@one.example>`)}, errs.Denied, "somebody's own"},
		{"a reply address with other digits", Mail{Raw: mailOf(`From: "[Anon] Fox" <reply.` + strings.Repeat("1", 26) + `@one.example>`)}, errs.Denied, "somebody's own"},
		{"no tag", Mail{Raw: mailOf(`From: "Fox" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"the bare address", Mail{Raw: mailOf(`From: anonymous@one.example`)}, errs.Denied, "nobody vouches"},
		{"another tag", Mail{Raw: mailOf(`From: "[anon] Fox" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"a tag elsewhere", Mail{Raw: mailOf(`From: "Fox [Anon]" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"an address in the name", Mail{Raw: mailOf(`From: "[Anon] bob@two.example" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"two tags", Mail{Raw: mailOf(`From: "[Anon] [Anon] Fox" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"a name that is too long", Mail{Raw: mailOf(`From: "[Anon] ` + strings.Repeat("f", 65) + `" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"not quoted", Mail{Raw: mailOf(`From: [Anon] Fox <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"a comment behind it", Mail{Raw: mailOf(`From: "[Anon] Fox" <anonymous@one.example> (Alice)`)}, errs.Denied, "nobody vouches"},
		{"an escaped letter", Mail{Raw: mailOf(`From: "[Anon] \Fox" <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"an encoded word where none is needed", Mail{Raw: mailOf(`From: =?utf-8?q?[Anon]_Fox?= <anonymous@one.example>`)}, errs.Denied, "nobody vouches"},
		{"text that turns around", Mail{Raw: mailOf("From: =?utf-8?b?W0Fub25dIEbigK5veA==?= <anonymous@one.example>")}, errs.Denied, "nobody vouches"},
		{"a second address", Mail{Raw: mailOf(good[:len(good)-1] + `>, <` + alice + `>`)}, errs.Denied, "nobody vouches"},
		{"a group", Mail{Raw: mailOf(`From: x: "[Anon] Fox" <anonymous@one.example>;`)}, errs.Denied, "nobody vouches"},
		{"two From fields", Mail{Raw: mailOf(good, good)}, errs.Denied, "exactly one From"},
		{"no From field", Mail{Raw: mailOf("Subject: x")}, errs.Denied, "exactly one From"},
		{"Sender", Mail{Raw: mailOf(good, "Sender: "+alice)}, errs.Denied, "no field Sender"},
		{"Resent-From", Mail{Raw: mailOf(good, "Resent-From: "+alice)}, errs.Denied, "no field Resent-From"},
		{"Resent-Sender", Mail{Raw: mailOf(good, "RESENT-SENDER: "+alice)}, errs.Denied, "no field Resent-Sender"},
		{"Resent-Reply-To", Mail{Raw: mailOf(good, "Resent-Reply-To: "+alice)}, errs.Denied, "no field Resent-Reply-To"},
		{"Return-Path", Mail{Raw: mailOf(good, "Return-Path: <"+alice+">")}, errs.Denied, "no field Return-Path"},
		{"Autocrypt", Mail{Raw: mailOf(good, "Autocrypt: addr="+alice+"; keydata=AAAA")}, errs.Denied, "no field Autocrypt"},
		{"Authentication-Results", Mail{Raw: mailOf(good, "Authentication-Results: x; dkim=pass")}, errs.Denied, "no field Authentication-Results"},
		{"X-Katzenpost-Sender", Mail{Raw: mailOf(good, "X-Katzenpost-Sender: x")}, errs.Denied, "no field X-Katzenpost-Sender"},
		{"another Reply-To", Mail{Raw: mailOf(good, "Reply-To: "+alice)}, errs.Denied, "Reply-To field"},
		{"a name in Reply-To", Mail{Raw: mailOf(good, "Reply-To: Alice <"+reply+">")}, errs.Denied, "Reply-To field"},
		{"envelope sender", Mail{Sender: address(t, alice), Raw: mailOf(good)}, errs.Denied, "envelope of an anonymous"},
		{"a certificate", Mail{Certificate: w.certificate(t).Bytes(), Raw: mailOf(good)}, errs.Auth, "not signed"},
		{"a flag", Mail{Flags: FromOrdinary, Raw: mailOf(good)}, errs.Auth, "not signed"},
		{"bare LF", Mail{Raw: []byte(good + "\nX: y\r\n\r\n")}, errs.Invalid, "CRLF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, d := range doors(t) {
				_, err := Check(w.cons, w.now, w.letterOf(t, tt.mail, "", ""), d)
				refused(t, err, tt.kind, tt.words)
			}
		})
	}
	for _, m := range []Mail{{Raw: mailOf(good, "Reply-To: "+reply)}, {Sender: address(t, reply), Raw: mailOf(good)}} {
		if _, err := Check(w.cons, w.now, w.letterOf(t, m, "", ""), Door{}); err != nil {
			t.Error(err)
		}
	}
	// Signed, the anonymous form is no excuse.
	m := Mail{Raw: mailOf(good)}
	_, err := Check(w.cons, w.now, w.letterOf(t, m, alice, alice), Door{})
	refused(t, err, errs.Denied, "nobody vouches")
}
