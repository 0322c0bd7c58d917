package dkim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	authdkim "github.com/emersion/go-msgauth/dkim"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// both gives a Signer of a.example with an RSA and an Ed25519 key, and their records.
func both(t testing.TB) (*Signer, map[string][]string) {
	t.Helper()
	s := newSigner()
	return signerOf(t, "a.example", Key{"r1", s.rsa}, Key{"e1", s.ed})
}

func signerOf(t testing.TB, domain string, keys ...Key) (*Signer, map[string][]string) {
	t.Helper()
	all := make(map[string][]string)
	for _, k := range keys {
		txt, err := Record(k.Signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		all[RecordName(k.Selector, domain)] = []string{txt}
	}
	return &Signer{Domain: domain, Keys: keys}, all
}

// signed signs a mail given as a whole.
func signed(t testing.TB, s *Signer, raw string) []byte {
	t.Helper()
	i := strings.Index(raw, "\r\n\r\n") + 4
	fields, err := s.Sign([]byte(raw[:i]), []byte(raw[i:]))
	if err != nil {
		t.Fatal(err)
	}
	return append(fields, raw...)
}

// chat is a mail as a chat app sends it, with every field that is signed.
const chat = "From: <joe@a.example>\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\nDate: Thu, 5 Nov 2026 10:00:00 +0000\r\n" +
	"Message-ID: <m1@a.example>\r\nIn-Reply-To: <m0@b.example>\r\nReferences: <m0@b.example>\r\n <m00@b.example>\r\nChat-Version: 1.0\r\n" +
	"Chat-Disposition-Notification-To: joe@a.example\r\nAutocrypt: addr=joe@a.example; prefer-encrypt=mutual;\r\n keydata=mDMEXlh13RYJKwYBBAHaRw8BAQdAzfVIAleCXMJrq8VeLlEVof6ITCviMktKjmcBKAu4m5C0\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n\tboundary=\"b\"\r\n\r\n" +
	"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nwcBMA+abcdef==\r\n-----END PGP MESSAGE-----\r\n--b--\r\n"

// TestSign: both signatures are there, each is valid by itself, and any change of what is
// signed is noticed.
func TestSign(t *testing.T) {
	s, keys := both(t)
	raw := signed(t, s, chat)
	if n := bytes.Count(raw, []byte("DKIM-Signature:")); n != 2 {
		t.Fatalf("%d signatures", n)
	}
	for name := range keys {
		v := &Verifier{Lookup: records(map[string][]string{name: keys[name]})}
		if got := v.Verify(t.Context(), raw, "a.example"); got.Verdict != Valid {
			t.Errorf("%s: %+v\n%s", name, got, raw)
		}
		h, off, err := mail.ParseHeader(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range h.Fields() {
			if f.Name == "DKIM-Signature" {
				continue
			}
			changed := bytes.Replace(raw, f.Raw, append([]byte(f.Name+": other"), crlf...), 1)
			if got := v.Verify(t.Context(), changed, "a.example"); got.Verdict == Valid {
				t.Errorf("%s: %s can be changed", name, f.Name)
			}
			if gone := bytes.Replace(raw, f.Raw, nil, 1); f.Name != "From" && v.Verify(t.Context(), gone, "a.example").Verdict == Valid {
				t.Errorf("%s: %s can be removed", name, f.Name)
			}
		}
		for i := off; i < len(raw)-2; i += 7 {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			if got := v.Verify(t.Context(), changed, "a.example"); got.Verdict == Valid {
				t.Errorf("%s: byte %d of the body can be changed", name, i-off)
			}
		}
		// What relays do to a header and to the end of a body leaves it valid.
		refolded := bytes.Replace(raw, []byte("References: <m0@b.example>\r\n <"), []byte("REFERENCES:   <m0@b.example>   <"), 1)
		refolded = append(append([]byte("Received: from x\r\nX-Spam-Score: 0\r\nDelivered-To: x\r\nReturn-Path: <joe@a.example>\r\n"), refolded...), "\r\n\r\n"...)
		if got := v.Verify(t.Context(), refolded, "a.example"); got.Verdict != Valid {
			t.Errorf("%s: refolded: %+v", name, got)
		}
	}
}

// TestOversigned: no field of the lists can be added.
func TestOversigned(t *testing.T) {
	s, keys := both(t)
	v := &Verifier{Lookup: records(keys)}
	const bare = "From: <joe@a.example>\r\n\r\nHello\r\n"
	for _, raw := range []string{chat, bare} {
		mail := signed(t, s, raw)
		for _, name := range slices.Concat(oversigned[:], oversignedIfThere[:]) {
			added := append([]byte(name+": x\r\n"), mail...)
			want := Invalid
			if slices.Contains(oversignedIfThere[:], name) && raw == bare {
				want = Valid // a host that adds what is missing does no harm
			}
			if got := v.Verify(t.Context(), added, "a.example"); got.Verdict != want {
				t.Errorf("%s added: %+v, want %v", name, got, want)
			}
		}
	}
}

// TestUnsigned: fields that hosts on the way write or change may be taken out again.
func TestUnsigned(t *testing.T) {
	s, keys := both(t)
	v := &Verifier{Lookup: records(keys)}
	for _, name := range append(unsigned[:], "X-Odd", "ARC-Seal", "Od;d") {
		if name == "dkim-signature" {
			continue // it would be one of the signatures that are read
		}
		mail := signed(t, s, name+": x\r\n"+chat)
		if got := v.Verify(t.Context(), bytes.Replace(mail, []byte(name+": x\r\n"), nil, 1), "a.example"); got.Verdict != Valid {
			t.Errorf("%s is signed: %+v", name, got)
		}
	}
}

// TestSignatureForm: no time, no length, no i=, canonical names, short lines.
func TestSignatureForm(t *testing.T) {
	n := newSigner()
	s, keys := signerOf(t, "A.Example", Key{"R1", n.rsa}, Key{"e1", n.ed})
	raw := signed(t, s, chat)
	h, _, err := mail.ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"rsa", "ed25519"} {
		f := h.Fields()[i]
		tags, ok := parseTags(f.Value()[0:])
		if !ok || tags["v"] != "1" || tags["a"] != want+"-sha256" || tags["c"] != "relaxed/simple" || tags["d"] != "a.example" || tags["s"] != []string{"r1", "e1"}[i] {
			t.Errorf("%s", f.Raw)
		}
		for name := range tags {
			if !slices.Contains([]string{"v", "a", "c", "d", "s", "h", "bh", "b"}, name) {
				t.Errorf("tag %s", name)
			}
		}
		for line := range strings.SplitSeq(string(f.Raw), "\r\n") {
			if len(line) > maxLine {
				t.Errorf("%d columns: %s", len(line), line)
			}
		}
		names := list(tags["h"])
		for _, name := range []string{"from", "reply-to", "subject", "date", "to", "cc", "in-reply-to", "references", "autocrypt", "message-id", "content-type", "mime-version"} {
			present := 0
			for _, f := range h.Fields() {
				if strings.EqualFold(f.Name, name) {
					present++
				}
			}
			named := 0
			for _, n := range names {
				if n == name {
					named++
				}
			}
			if named != present+1 {
				t.Errorf("%s is named %d times for %d fields", name, named, present)
			}
		}
		for _, name := range []string{"chat-version", "chat-disposition-notification-to"} {
			if !slices.Contains(names, name) {
				t.Errorf("%s is not signed", name)
			}
		}
	}
	again := signed(t, s, chat)
	if !bytes.Equal(raw, again) {
		t.Error("the same mail has another signature: something in it tells the time")
	}
	v := &Verifier{Lookup: records(map[string][]string{"r1._domainkey.a.example": keys[RecordName("R1", "A.Example")]})}
	if got := v.Verify(t.Context(), raw, "a.example"); got.Verdict != Valid {
		t.Errorf("%+v", got)
	}
}

// TestSignParts: a body in parts has the signature of the whole.
func TestSignParts(t *testing.T) {
	s, keys := both(t)
	v := &Verifier{Lookup: records(keys)}
	head := []byte("From: <joe@a.example>\r\n\r\n")
	for _, body := range []string{"", "\r\n", "a", "a\r\n", "a\r\n\r\n\r\n", "\r\n\r\n", "a\r", "\r\na\r\n b \r\n"} {
		whole, err := s.Sign(head, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Verify(t.Context(), append(append(bytes.Clone(whole), head...), body...), "a.example"); got.Verdict != Valid {
			t.Errorf("%q: %+v", body, got)
		}
		for i := range len(body) + 1 {
			for j := i; j <= len(body); j++ {
				parts, err := s.Sign(head, []byte(body[:i]), []byte(body[i:j]), nil, []byte(body[j:]))
				if err != nil || !bytes.Equal(parts, whole) {
					t.Errorf("%q cut at %d and %d: another signature, %v", body, i, j, err)
				}
			}
		}
	}
}

// TestSignErrors: what cannot be signed, and why.
func TestSignErrors(t *testing.T) {
	n := newSigner()
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tooShort := &rsa.PublicKey{N: short.N.Rsh(short.N, 8), E: short.E}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const head = "From: <joe@a.example>\r\n\r\n"
	good := []Key{{"k", n.ed}}
	for _, c := range []struct {
		name, domain, header string
		keys                 []Key
		kind                 errs.Kind
		text                 string
	}{
		{"no keys", "a.example", head, nil, errs.Invalid, "no signing key, or too many"},
		{"many keys", "a.example", head, slices.Repeat(good, MaxKeys+1), errs.Invalid, "no signing key, or too many"},
		{"no key in a key", "a.example", head, []Key{{"k", nil}}, errs.Invalid, "no signing key"},
		{"IP literal", "[192.0.2.1]", head, good, errs.Invalid, "mail of this domain cannot be signed"},
		{"domain", "a b", head, good, errs.Invalid, "mail of this domain cannot be signed"},
		{"selector", "a.example", head, []Key{{"k;x", n.ed}}, errs.Invalid, "malformed selector"},
		{"other kind of key", "a.example", head, []Key{{"k", curve}}, errs.Unsupported, "DKIM knows RSA and Ed25519 keys only"},
		{"no From", "a.example", "To: x\r\n\r\n", good, errs.Invalid, "no From field"},
		{"no header", "a.example", "hello\r\n\r\n", good, errs.Invalid, "malformed message header"},
		{"no empty line", "a.example", "From: <joe@a.example>\r\n", good, errs.Invalid, "the header does not end with an empty line"},
		{"body in the header", "a.example", head + "x\r\n", good, errs.Invalid, "the header does not end with an empty line"},
		{"nothing", "a.example", "", good, errs.Invalid, "the header does not end with an empty line"},
		{"many fields", "a.example", strings.Repeat("References: x\r\n", MaxNames/11) + head, good, errs.TooLarge, "too many header fields to sign"},
	} {
		s := &Signer{Domain: c.domain, Keys: c.keys}
		fields, err := s.Sign([]byte(c.header))
		if fields != nil || errs.KindOf(err) != c.kind || errs.Public(err) != c.text {
			t.Errorf("%s: %q, %v", c.name, fields, err)
		}
	}
	if _, err := Record(tooShort); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "the RSA key is too short or too long" {
		t.Errorf("short key: %v", err)
	}
	if _, err := Record(ed25519.PublicKey("x")); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "malformed Ed25519 key" {
		t.Errorf("no key: %v", err)
	}
	for _, name := range [][2]string{{"a b", "a.example"}, {"k", "[192.0.2.1]"}} {
		if _, err := ZoneLine(name[0], name[1], n.ed.Public()); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "malformed selector or domain" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestManyFields: fields that nobody knows are signed as far as there is room; the
// signatures stay within what mail/sanitize leaves for them.
func TestManyFields(t *testing.T) {
	s, keys := both(t)
	var b strings.Builder
	for i := range mail.MaxFields - 20 {
		fmt.Fprintf(&b, "Odd-Field-Of-Somebody-%d: x\r\n", i)
	}
	raw := signed(t, s, b.String()+"From: <joe@a.example>\r\n\r\n")
	size := bytes.Index(raw, []byte("Odd-Field"))
	if size > 16<<10 {
		t.Errorf("%d bytes of signatures", size)
	}
	v := &Verifier{Lookup: records(keys)}
	if got := v.Verify(t.Context(), raw, "a.example"); got.Verdict != Valid {
		t.Errorf("%+v", got)
	}
	if got := v.Verify(t.Context(), bytes.Replace(raw, []byte("Somebody-5: x"), []byte("Somebody-5: y"), 1), "a.example"); got.Verdict == Valid {
		t.Error("a field that had room is not signed")
	}
}

// TestRecord: the record as the reference publishes it, in strings that a zone file can
// hold; what we write, we read.
func TestRecord(t *testing.T) {
	n := newSigner()
	for kind, pub := range map[string]any{"rsa": n.rsa.Public(), "ed25519": n.ed.Public()} {
		txt, err := Record(pub)
		if err != nil || !strings.HasPrefix(txt, "v=DKIM1; k="+kind+"; s=email; t=s; p=") {
			t.Errorf("%s, %v", txt, err)
		}
		k, why := parseKey(txt)
		if why != "" || !k.strict || k.algorithm != kind {
			t.Errorf("%+v, %s", k, why)
		}
		line, err := ZoneLine("K1", "Bücher.example", pub)
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(line, "k1._domainkey.xn--bcher-kva.example. 3600 IN TXT ")
		var joined strings.Builder
		for s := range strings.SplitSeq(rest, " \"") {
			s = strings.Trim(s, "\"")
			if len(s) > 255 || strings.ContainsAny(s, "\"\\") {
				t.Errorf("a string of %d bytes: %s", len(s), s)
			}
			joined.WriteString(s)
		}
		if !ok || joined.String() != txt {
			t.Errorf("%s\nis not\n%s", line, txt)
		}
		other, _ := Record(map[string]any{"ed25519": n.rsa.Public(), "rsa": n.ed.Public()}[kind])
		for _, c := range []struct {
			txts []string
			want bool
		}{
			{[]string{txt}, true}, {[]string{txt, txt}, true}, {[]string{"v=spf1 -all", txt}, true}, {nil, false}, {[]string{"v=spf1 -all"}, false},
			{[]string{other}, false}, {[]string{txt, other}, false}, {[]string{"v=DKIM1; p="}, false}, {[]string{txt, "v=DKIM1; p="}, false},
			{[]string{"k=rsa; p=AAAA"}, false}, {[]string{"a", "b", "c", txt}, false},
		} {
			if got := Serves(c.txts, pub); got != c.want {
				t.Errorf("%s: %q serves: %v", kind, c.txts, got)
			}
		}
	}
}

// TestSignAgainstMsgauth: another library finds our signatures valid.
func TestSignAgainstMsgauth(t *testing.T) {
	s, keys := both(t)
	for _, raw := range []string{chat, "From: <joe@a.example>\r\n\r\n", "From: <joe@a.example>\r\nSubject: é\r\n\r\na \r\n b\r\n\r\n\r\n"} {
		mail := signed(t, s, raw)
		got, err := authdkim.VerifyWithOptions(bytes.NewReader(mail), &authdkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return keys[name], nil }})
		if err != nil || len(got) != 2 || got[0].Err != nil || got[1].Err != nil || got[0].Domain != "a.example" {
			t.Errorf("%+v, %v\n%s", got, err, mail)
		}
	}
}

// goldenKeys are the private keys of RFC 8463 appendix A; the RSA key is of 1024 bits.
func goldenKeys(t testing.TB) []Key {
	t.Helper()
	block, _ := pem.Decode([]byte(rfc8463RSA))
	r, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	seed, ok := decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	if !ok {
		t.Fatal("no seed")
	}
	return []Key{{"test", r}, {"brisbane", ed25519.NewKeyFromSeed(seed)}}
}

const rfc8463RSA = `-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
`

func BenchmarkSign(b *testing.B) {
	n := newSigner()
	for name, keys := range map[string][]Key{"rsa": {{"r", n.rsa}}, "ed25519": {{"e", n.ed}}, "both": {{"r", n.rsa}, {"e", n.ed}}} {
		head, small, _ := strings.Cut(chat, "\r\n\r\n")
		head += "\r\n\r\n"
		for _, size := range []int{len(small), 10 << 20} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				s := &Signer{Domain: "a.example", Keys: keys}
				body := append([]byte(small), bytes.Repeat([]byte("0123456789012345678901234567890123456789012345678901234567890123\r\n"), (size-len(small))/66)...)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Sign([]byte(head), body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkVerifyOurs(b *testing.B) {
	n := newSigner()
	for name, key := range map[string]Key{"rsa": {"r", n.rsa}, "ed25519": {"e", n.ed}} {
		b.Run(name, func(b *testing.B) {
			s, keys := signerOf(b, "a.example", key)
			raw := signed(b, s, chat)
			v := &Verifier{Lookup: records(keys)}
			b.ReportAllocs()
			for b.Loop() {
				if v.Verify(b.Context(), raw, "a.example").Verdict != Valid {
					b.Fatal("not valid")
				}
			}
		})
	}
}

// TestSignGolden: the signatures of one mail with the keys of RFC 8463, whose records are
// in TestRFC8463, byte for byte.
func TestSignGolden(t *testing.T) {
	s := &Signer{Domain: "football.example.com", Keys: goldenKeys(t)}
	_, text, _ := strings.Cut(strings.ReplaceAll(rfc8463, "\n", "\r\n"), "From:")
	got := signed(t, s, "From:"+text)
	want := file(t, "ours/both.eml")
	if !bytes.Equal(got, want) {
		t.Errorf("%s\nis not\n%s", got, want)
	}
	v := &Verifier{Lookup: records(rfc8463Keys)}
	if got := v.Verify(t.Context(), want, "football.example.com"); got.Verdict != Valid {
		t.Errorf("%+v", got)
	}
	for _, k := range s.Keys {
		if !Serves(rfc8463Keys[RecordName(k.Selector, s.Domain)], k.Signer.Public()) {
			t.Errorf("%s is not the key of the RFC", k.Selector)
		}
	}
}

// FuzzSign: what is signed at all is valid as it stands, and not with another body.
func FuzzSign(f *testing.F) {
	for _, raw := range []string{chat, "From: a\r\n\r\n", "from : a\n\tb\r\nX: y\r\nFrom: c\r\n\r\n\r\n\r\n", "Odd;: x\r\nFrom: <j@a.example>\r\nDate:\r\nDate: \x00\xff\r\n\r\na\r"} {
		f.Add([]byte(raw))
	}
	s, keys := signerOf(f, "a.example", Key{"e1", newSigner().ed})
	v := &Verifier{Lookup: records(keys)}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, off, err := mail.ParseHeader(raw)
		if err != nil {
			return
		}
		fields, err := s.Sign(raw[:off], raw[off:])
		if err != nil {
			return
		}
		whole := append(fields, raw...)
		if got := v.Verify(t.Context(), whole, "a.example"); got.Verdict != Valid && len(h.Fields()) < mail.MaxFields && off+len(fields) < mail.MaxHeaderBytes {
			t.Errorf("%+v\n%q", got, whole)
		}
		if got := v.Verify(t.Context(), append(whole, 'x'), "a.example"); got.Verdict == Valid {
			t.Errorf("with more of a body: %q", whole)
		}
	})
}
