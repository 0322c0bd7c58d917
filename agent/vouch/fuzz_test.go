package vouch

import (
	"bytes"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
)

// FuzzParse: a certificate is malformed, or has the bytes that its fields say.
func FuzzParse(f *testing.F) {
	w := begin(f)
	f.Add(w.certificate(f).Bytes())
	f.Add([]byte{certificateVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.Unsupported {
				t.Fatal(err)
			}
			return
		}
		again, err := Issue(*c, dirtest.Key(t, "names of one"))
		must(t, err)
		if end := len(b) - edSigLen - mlSigLen; !bytes.Equal(again.Bytes()[:end], b[:end]) {
			t.Fatal("two forms")
		}
		_ = c.Verify(w.cons, w.now)
	})
}

// FuzzParseMail: what is a mail has one form.
func FuzzParseMail(f *testing.F) {
	m := Mail{Certificate: []byte("c"), Recipients: []mail.Address{address(f, "bob@two.example")}, Raw: []byte("From: x\r\n\r\n")}
	f.Add(m.Append(nil))
	m.Token = []byte("token")
	f.Add(m.Append(nil))
	m = Mail{Flags: FromOrdinary, Recipients: []mail.Address{address(f, `"b\" b"@bücher.example`), address(f, "a@[192.0.2.1]")}, Sender: address(f, alice)}
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMail(b)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.Unsupported && k != errs.TooLarge {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(m.Append(nil), b) {
			t.Fatal("two forms")
		}
	})
}

// FuzzParseIdentity: what is an identity reads back from both of its texts.
func FuzzParseIdentity(f *testing.F) {
	i := identity(f, "one", alice)
	f.Add([]byte(i.String()))
	f.Add(i.PEM(address(f, alice)))
	f.Add([]byte("-----BEGIN POSTERN RECIPIENT-----\nAAAA\n-----END POSTERN RECIPIENT-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := ParseIdentity(b)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge {
				t.Fatal(err)
			}
			return
		}
		for _, text := range [][]byte{[]byte(i.String()), i.PEM(mail.Address{})} {
			if j, err := ParseIdentity(text); err != nil || !j.Equal(i) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzCheck: whatever the mail and whoever signed it, only the owner of the address is taken as its
// sender, and nobody but the home relay as a relay.
func FuzzCheck(f *testing.F) {
	w := begin(f)
	c := w.certificate(f).Bytes()
	for _, s := range []string{"From: " + alice + "\r\n\r\n", "From: bob@two.example\r\n\r\n", "From: \"[Anon] Fox\" <anonymous@one.example>\r\n\r\n",
		"From: " + alice + "\r\nFrom: a@b\r\n\r\n", "From: x: " + alice + ";\r\n", "X\r\n", "From:" + alice + "\rFrom: a@b\r\n", "From: (\r\n )" + alice + "\r\n\r\n"} {
		for signer := range uint8(4) {
			f.Add([]byte(s), alice, signer, uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, sender string, signer, flags uint8) {
		m := Mail{Flags: flags, Certificate: c, Raw: raw}
		l := w.letterOf(t, m, [...]string{"", alice, "names of one", "eve"}[signer&3], sender)
		if signer&4 != 0 || signer&3 == 0 || signer&3 == 2 {
			m.Certificate = nil
			l.Content = w.letterOf(t, m, "", "").Content
		}
		check := func(l *letter.Letter, d Door) *Vouched {
			v, err := Check(w.cons, w.now, l, d)
			if err != nil {
				if errs.KindOf(err).Temporary() {
					t.Fatal(err)
				}
				return nil
			}
			return v
		}
		for _, d := range []Door{{}, {Home: relayID(t, "one")}} {
			v := check(l, d)
			if v == nil {
				continue
			}
			h, _, err := mail.ParseHeader(raw)
			must(t, err)
			from, err := mail.FromAddress(h)
			switch v.Kind {
			case User:
				must(t, err)
				if signer&3 != 1 || !from.Equal(address(t, alice)) {
					t.Fatal("somebody else is vouched for")
				}
			case Relay:
				if signer&3 != 2 || flags&FromOrdinary == 0 || sender != "one.example" && sender != "xn--bcher-kva.example" || d.Home != relayID(t, "one") {
					t.Fatal("another relay is taken")
				}
			case Anonymous:
				must(t, err)
				if l.From != nil || !anon.Reserved(from) {
					t.Fatal("anonymous mail in somebody's name")
				}
			default:
				t.Fatal(v.Kind)
			}
		}
	})
}
