package vouch

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/mail"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
)

// TestCertificateForm: a certificate reads back as it was, and one with any byte changed is malformed
// or not believed.
func TestCertificateForm(t *testing.T) {
	w := begin(t)
	c := w.certificate(t)
	d, err := Parse(c.Bytes())
	must(t, err)
	if d.Address != address(t, alice) || d.Serial != 7 || !d.From.Equal(c.From) || !d.Until.Equal(c.Until) || !d.Equal(&c.Identity) || !bytes.Equal(d.Bytes(), c.Bytes()) {
		t.Errorf("%+v", d)
	}
	must(t, d.Verify(w.cons, w.now))
	places := 97
	if racetest.Enabled {
		places = 41
	}
	for i := 0; i < len(c.Bytes()); i += 1 + len(c.Bytes())/places {
		b := bytes.Clone(c.Bytes())
		b[i] ^= 1
		if d, err := Parse(b); err == nil && d.Verify(w.cons, w.now) == nil {
			t.Errorf("byte %d is not covered", i)
		}
	}
}

// TestParseRefuses: what no relay would have signed is malformed, whoever signed it.
func TestParseRefuses(t *testing.T) {
	w := begin(t)
	good := w.certificate(t).Bytes()
	at := func(i int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint64(b[i:], v); return b }
	}
	addr := func(s string) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint16(b[certificateFixed-2:], uint16(len(s)))
			return slices.Concat(b[:certificateFixed], []byte(s), b[certificateFixed+len(alice):])
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":                       func([]byte) []byte { return nil },
		"short":                       func(b []byte) []byte { return b[:len(b)-1] },
		"long":                        func(b []byte) []byte { return append(b, 0) },
		"longer than the longest":     func(b []byte) []byte { return append(b, make([]byte, MaxCertificate)...) },
		"ends before it begins":       at(81, 5),
		"lives longer than Life":      at(73, uint64(w.now.Add(6*24*time.Hour-Life).Unix()-700)),
		"ends after the end of time":  at(81, 1<<41),
		"key of letters is none":      func(b []byte) []byte { copy(b[89:], bytes.Repeat([]byte{255}, 1216)); return b },
		"address in capitals":         addr("Alice@one.example"),
		"address without domain":      addr("alice"),
		"address in the other form":   addr("olga@bücher.example"),
		"no address":                  addr(""),
		"no such address":             addr("a b@one.example"),
		"a line end in the address":   addr("alice@one.example\n"),
		"an address that is too long": addr(strings.Repeat("a", MaxAddress) + "@one.example"),
	} {
		_, err := Parse(change(bytes.Clone(good)))
		refused(t, err, errs.Invalid, "malformed")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	_, err := Parse(append([]byte{2}, good[1:]...))
	refused(t, err, errs.Unsupported, "another version")
	c := w.draft(t, "one", alice)
	c.Until = c.From.Add(Life + time.Second)
	if _, err := Issue(c, dirtest.Key(t, "names of one")); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a relay vouches for longer than anybody believes: %v", err)
	}
	if _, err := Issue(Certificate{Address: address(t, alice)}, dirtest.Key(t, "names of one")); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a certificate without keys: %v", err)
	}
	refused(t, (&Certificate{Identity: Identity{Relay: relayID(t, "one")}, Address: address(t, alice), From: w.now.Add(-time.Hour), Until: w.now.Add(time.Hour)}).Verify(w.cons, w.now), errs.Auth, "not signed")
}

// TestLongestAddress: the longest address that mail knows fits.
func TestLongestAddress(t *testing.T) {
	w := begin(t)
	a := mail.Address{Local: strings.Repeat(`"`, 64), Domain: strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 61)}
	c := w.draft(t, "one", alice)
	c.Address = a
	out := issue(t, c, "one")
	if out.Address != a || len(a.Local)+1+len(a.Domain) != mail.MaxAddress {
		t.Errorf("%d: %v", len(a.String()), out.Address)
	}
}

// TestIdentityText: both texts read back, also as mail programs and people leave them.
func TestIdentityText(t *testing.T) {
	i := identity(t, "one", alice)
	line, block := i.String(), string(i.PEM(address(t, alice)))
	broken := ""
	for k, c := range line {
		if broken += string(c); k%60 == 59 {
			broken += "\r\n  "
		}
	}
	for _, s := range []string{line, "  " + broken + "\n", block, strings.ReplaceAll(block, "\n", "\r\n"), "For Bob:\n" + block + "\nBye.\n", string((&i).PEM(mail.Address{}))} {
		got, err := ParseIdentity([]byte(s))
		if err != nil || !got.Equal(&i) || got.Fingerprint() != i.Fingerprint() {
			t.Errorf("%.60q: %v", s, err)
		}
	}
	if !strings.Contains(block, "Address: "+alice) || strings.Count(i.Fingerprint(), "-") != 4 || len(i.Fingerprint()) != 29 {
		t.Error(block[:200], i.Fingerprint())
	}
	moved := i
	moved.Relay = relayID(t, "two")
	if moved.Fingerprint() != i.Fingerprint() || !moved.SameKeys(&i) || moved.Equal(&i) {
		t.Error("the place is part of the fingerprint")
	}
	other := identity(t, "one", "bob")
	mixed := Identity{Relay: i.Relay, Mailbox: i.Mailbox, Letter: i.Letter, Key: other.Key}
	if mixed.Fingerprint() == i.Fingerprint() || mixed.SameKeys(&i) {
		t.Error("the fingerprint does not cover the key that signs")
	}
	mixed.Letter, mixed.Key = other.Letter, i.Key
	if mixed.Fingerprint() == i.Fingerprint() || mixed.SameKeys(&i) {
		t.Error("the fingerprint does not cover the key of letters")
	}
	if a := i.To(); a.Relay != i.Relay || a.Mailbox != i.Mailbox || !a.Key.Equal(i.Letter) {
		t.Error(a)
	}
}

// TestIdentityRefuses: each fault has its words.
func TestIdentityRefuses(t *testing.T) {
	i := identity(t, "one", alice)
	line, block := i.String(), string(i.PEM(address(t, alice)))
	raw := func(f func([]byte) []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: PEMType, Bytes: f(i.Bytes())}))
	}
	for _, tt := range []struct {
		name, text string
		kind       errs.Kind
		words      string
	}{
		{"nothing", "", errs.Invalid, "begins with pk:"},
		{"something", "hello", errs.Invalid, "begins with pk:"},
		{"an address of a packet box", (letter.Address{Relay: i.Relay, Key: i.Letter}).String(), errs.Invalid, "begins with pk:"},
		{"cut off", line[:len(line)-7], errs.Invalid, "not whole"},
		{"a letter changed", strings.Replace(line, line[1000:1004], "AAAA", 1), errs.Invalid, "not whole"},
		{"no base64", line + "!", errs.Invalid, "not whole"},
		{"only the prefix", "pk:", errs.Invalid, "not whole"},
		{"another block", strings.ReplaceAll(block, "RECIPIENT", "REPLY BLOCK"), errs.Invalid, "holds no key of a recipient"},
		{"two blocks", block + block, errs.Invalid, "more than one"},
		{"a later version", raw(func(b []byte) []byte { b[0] = 2; return b }), errs.Invalid, "later version"},
		{"too long", strings.Repeat(" ", MaxIdentity) + line, errs.TooLarge, "too long"},
		{"a key that is none, with the right sum", raw(func(b []byte) []byte {
			copy(b[65:], bytes.Repeat([]byte{255}, 1216))
			b = b[:len(b)-checkLen]
			return append(b, identityCheck(b)...)
		}), errs.Invalid, "is none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseIdentity([]byte(tt.text))
			refused(t, err, tt.kind, tt.words)
		})
	}
}

// TestMailForm: a mail reads back as it was, and each fault of form is refused.
func TestMailForm(t *testing.T) {
	bob := address(t, "bob@two.example")
	m := Mail{Flags: FromOrdinary | FromWorld, Certificate: []byte("certificate"), Recipients: []mail.Address{bob, address(t, `"b b"@two.example`)}, Raw: []byte("raw")}
	got, err := ParseMail(m.Append(nil))
	if err != nil || got.Flags != m.Flags || string(got.Certificate) != "certificate" || !slices.Equal(got.Recipients, m.Recipients) || !got.Sender.IsZero() || string(got.Raw) != "raw" {
		t.Errorf("%+v, %v", got, err)
	}
	m.Token, m.Flags = []byte("token"), FromOrdinary|ForAlias
	if got, err := ParseMail(m.Append(nil)); err != nil || string(got.Token) != "token" || got.Flags != m.Flags || string(got.Certificate) != "certificate" || string(got.Raw) != "raw" {
		t.Errorf("%+v, %v", got, err)
	}
	if !IsMail(m.Append(nil)) || IsMail([]byte("PMAI")) || IsMail(nil) {
		t.Error("IsMail")
	}
	head := func(version, flags, zero byte, rest ...string) []byte {
		return []byte(mailMagic + string([]byte{version, flags, zero}) + strings.Join(rest, ""))
	}
	none, one := "\x00\x00\x00\x00", "\x00\x01\x00\x0fbob@two.example"
	for _, tt := range []struct {
		name string
		b    []byte
		kind errs.Kind
	}{
		{"nothing", nil, errs.Invalid},
		{"the magic alone", []byte(mailMagic), errs.Invalid},
		{"no magic", []byte("QMAIL\x01\x00\x00" + none + one + "\x00\x00"), errs.Invalid},
		{"a later version", head(2, 0, 0, none, one, "\x00\x00"), errs.Unsupported},
		{"an unknown flag", head(1, 17, 0, none, one, "\x00\x00"), errs.Invalid},
		{"for an alias, but by no relay", head(1, 8, 0, none, one, "\x00\x00"), errs.Invalid},
		{"from the world, but by no relay", head(1, 2, 0, none, one, "\x00\x00"), errs.Invalid},
		{"not zero", head(1, 0, 1, none, one, "\x00\x00"), errs.Invalid},
		{"a certificate that is longer than all", head(1, 0, 0, "\x00\x00\x01\x00", one, "\x00\x00"), errs.Invalid},
		{"a certificate that is too long", head(1, 0, 0, "\xff\xff\xff\xff", one, "\x00\x00"), errs.Invalid},
		{"half the length of a token", head(1, 4, 0, none, "\x00"), errs.Invalid},
		{"a token of nothing", head(1, 4, 0, none, "\x00\x00", one, "\x00\x00"), errs.Invalid},
		{"a token that is longer than all", head(1, 4, 0, none, "\x00\xff", one, "\x00\x00"), errs.Invalid},
		{"a token that is too long", head(1, 4, 0, none, "\x04\x01"+strings.Repeat("t", 1025), one, "\x00\x00"), errs.Invalid},
		{"no number of recipients", head(1, 0, 0, none, "\x00"), errs.Invalid},
		{"no recipients", head(1, 0, 0, none, "\x00\x00", "\x00\x00"), errs.Invalid},
		{"a null recipient", head(1, 0, 0, none, "\x00\x01\x00\x00", "\x00\x00"), errs.Invalid},
		{"fewer recipients than said", head(1, 0, 0, none, "\x00\x02\x00\x0fbob@two.example"), errs.Invalid},
		{"too many", head(1, 0, 0, none, "\x03\xe9"), errs.TooLarge},
		{"no sender", head(1, 0, 0, none, one), errs.Invalid},
		{"a sender that is none", head(1, 0, 0, none, one, "\x00\x03a b"), errs.Invalid},
		{"an address in angle brackets", head(1, 0, 0, none, one, "\x00\x05<a@b>"), errs.Invalid},
		{"an address without domain", head(1, 0, 0, none, one, "\x00\x03bob"), errs.Invalid},
		{"an address in another form", head(1, 0, 0, none, one, "\x00\x07\"bob\"@b"), errs.Invalid},
		{"an address longer than any", head(1, 0, 0, none, one, "\x01\x41"+strings.Repeat("a", 321)), errs.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseMail(tt.b)
			if err == nil || errs.KindOf(err) != tt.kind {
				t.Errorf("%v, want %v", err, tt.kind)
			}
		})
	}
	if _, err := ParseMail(head(1, 0, 0, none, one, "\x00\x00")); err != nil {
		t.Errorf("a mail without faults: %v", err)
	}
	many := Mail{Recipients: slices.Repeat([]mail.Address{bob}, MaxRecipients)}
	if got, err := ParseMail(many.Append(nil)); err != nil || len(got.Recipients) != MaxRecipients {
		t.Errorf("as many recipients as may be: %v", err)
	}
}

// TestLabels: none is the beginning of another, here and where else name keys and accounts sign.
func TestLabels(t *testing.T) {
	all := []string{labelCertificate, labelRecipient, labelFingerprint, "postern/letter: signature\n", "postern-descriptor", "postern-consensus"}
	for i, a := range all {
		for j, b := range all {
			if i != j && strings.HasPrefix(a, b) {
				t.Errorf("%q begins with %q", a, b)
			}
		}
	}
}

// TestBookKey: the key book's form of an identity reads back, by all of its texts.
func TestBookKey(t *testing.T) {
	i := identity(t, "one", alice)
	k := i.BookKey()
	for _, text := range [][]byte{[]byte(k.Text), pem.EncodeToMemory(&pem.Block{Type: k.Type, Bytes: k.Bytes})} {
		got, err := ParseKey(text)
		if err != nil || got.Text != k.Text || got.Fingerprint != k.Fingerprint || got.Classical {
			t.Errorf("%v %v", got, err)
		}
	}
	w := begin(t)
	if c := w.certificate(t).BookKey(); !c.Certified.Equal(w.certificate(t).From) || c.Text != w.certificate(t).Identity.String() || c.Text == "" {
		t.Errorf("%+v", c)
	}
	if _, err := ParseKey([]byte("x")); err == nil {
		t.Error("no key is a key")
	}
}

// TestClassicalKey: a bare X25519 key is taken in mailproxy's forms, is marked, and nothing else is
// taken for one.
func TestClassicalKey(t *testing.T) {
	raw := make([]byte, classicalLen)
	for i := range raw {
		raw[i] = byte(255 - i)
	}
	std := base64.StdEncoding.EncodeToString(raw)
	for _, s := range []string{hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), std, strings.TrimRight(std, "="), base64.URLEncoding.EncodeToString(raw), " " + std + "\n",
		string(pem.EncodeToMemory(&pem.Block{Type: ClassicalPEMType, Bytes: raw}))} {
		k, err := ParseKey([]byte(s))
		if err != nil || !k.Classical || k.Text != std || !bytes.Equal(k.Bytes, raw) || k.Type != ClassicalPEMType || len(k.Fingerprint) != 29 {
			t.Errorf("%q: %+v, %v", s, k, err)
		}
		if b, err := ParseClassical([]byte(s)); err != nil || !bytes.Equal(b, raw) {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", hex.EncodeToString(raw[1:]), hex.EncodeToString(raw) + "00", "zz" + hex.EncodeToString(raw[1:]), std[:40], std + "AAAA", "pk:" + std,
		string(pem.EncodeToMemory(&pem.Block{Type: ClassicalPEMType, Bytes: raw[1:]})), string(pem.EncodeToMemory(&pem.Block{Type: "X25519 PRIVATE KEY", Bytes: raw}))} {
		if _, err := ParseClassical([]byte(s)); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%q: %v", s, err)
		}
		if k, err := ParseKey([]byte(s)); err == nil {
			t.Errorf("%q: %+v", s, k)
		}
	}
}
