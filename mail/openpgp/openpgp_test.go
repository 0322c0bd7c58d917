package openpgp

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/pgpmime"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// owner makes a key; the public half in binary form.
func owner(t testing.TB, change ...func(*packet.Config)) (*pgp.Entity, []byte) {
	t.Helper()
	conf := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time { return now.Add(-time.Hour) }}
	for _, f := range change {
		f(conf)
	}
	e, err := pgp.NewEntity("", "", "bert@two.example", conf)
	must(t, err)
	var b bytes.Buffer
	must(t, e.Serialize(&b))
	return e, b.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open decrypts the armor in a mail.
func open(t testing.TB, raw []byte, who *pgp.Entity) string {
	t.Helper()
	i := bytes.Index(raw, []byte("-----BEGIN PGP MESSAGE-----"))
	block, err := armor.Decode(bytes.NewReader(raw[i:]))
	must(t, err)
	m, err := pgp.ReadMessage(block.Body, pgp.EntityList{who}, nil, &packet.Config{Time: func() time.Time { return now }})
	must(t, err)
	b, err := io.ReadAll(m.UnverifiedBody)
	must(t, err)
	return string(b)
}

const canary = "From: anna@one.example\r\nTo: bert@two.example\r\nSubject: canary plans\r\nKeywords: canary\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"canary\";\r\n" +
	"Content-Language: canary\r\nMessage-ID: <m@one.example>\r\n\r\n--canary\r\n\r\ncanary\r\n--canary--\r\n"

// TestEncrypt: what leaves is encrypted by the check that every door applies, tells nothing of text, parts
// and subject, and its owner reads all of it.
func TestEncrypt(t *testing.T) {
	who, pub := owner(t)
	k, err := ParseKey(pub, now)
	must(t, err)
	for _, size := range []int{0, 100, 100_000, 3_000_000} {
		raw := canary + strings.Repeat("x\r\n", size/3)
		got, err := Encrypt([]byte(raw), []*Key{k}, now, rand.Reader)
		must(t, err)
		for _, dir := range []pgpmime.Direction{pgpmime.Outgoing, pgpmime.Incoming} {
			if v := pgpmime.Check(got, dir, nil); !v.Encrypted {
				t.Fatalf("%d bytes: %s", size, v.Reason)
			}
		}
		if bytes.Contains(got, []byte("canary")) || bytes.Contains(bytes.ReplaceAll(got, []byte("\r\n"), nil), []byte("\n")) || !bytes.HasPrefix(got, []byte("From: anna@one.example\r\nTo: bert@two.example\r\nMessage-ID: <m@one.example>\r\nSubject: [...]\r\nMIME-Version: 1.0\r\n")) {
			t.Errorf("%.600q", got)
		}
		want := "From: anna@one.example\r\nTo: bert@two.example\r\nSubject: canary plans\r\nKeywords: canary\r\nContent-Type: multipart/mixed;\r\n boundary=\"canary\";\r\n protected-headers=\"v1\"\r\n" +
			"Content-Language: canary\r\nMessage-ID: <m@one.example>\r\n\r\n" + raw[strings.Index(raw, "\r\n\r\n")+4:]
		if text := open(t, got, who); text != want {
			t.Errorf("%.600q", text)
		}
	}
	got, err := Encrypt([]byte("Subject: x\r\n\r\nhello\r\n"), []*Key{k}, now, rand.Reader)
	must(t, err)
	if text := open(t, got, who); text != "Subject: x\r\nContent-Type: text/plain; charset=us-ascii; protected-headers=\"v1\"\r\n\r\nhello\r\n" {
		t.Errorf("%q", text)
	}
	if _, err := Encrypt([]byte("no header\r\n\r\n"), []*Key{k}, now, rand.Reader); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if _, err := Encrypt([]byte(canary), nil, now, rand.Reader); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
}

// TestParseKey: only one public key that encrypts now is one.
func TestParseKey(t *testing.T) {
	who, pub := owner(t)
	k, err := ParseKey(pub, now)
	must(t, err)
	if len(k.Fingerprint()) != 40 {
		t.Error(k.Fingerprint())
	}
	var private bytes.Buffer
	must(t, who.SerializePrivate(&private, nil))
	_, expired := owner(t, func(c *packet.Config) { c.KeyLifetimeSecs = 60 })
	for name, b := range map[string][]byte{"nothing": nil, "garbage": []byte("garbage"), "cut": pub[:len(pub)/2], "two": append(bytes.Clone(pub), pub...),
		"private": private.Bytes(), "expired": expired} {
		if _, err := ParseKey(b, now); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseKey(make([]byte, MaxKey+1), now); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestAutocrypt: the one field of the sender counts.
func TestAutocrypt(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("key"))
	good := "Autocrypt: addr=Bert@two.example; prefer-encrypt=mutual; _x=1; keydata=\r\n " + key[:2] + "\r\n " + key[2:] + "\r\n"
	for header, ok := range map[string]bool{
		good:                                              true,
		"Autocrypt: x\r\n" + good:                         true, // a void one is none
		good + good:                                       false,
		strings.Replace(good, "_x", "x", 1):               false,
		strings.Replace(good, "two", "one", 1):            false,
		strings.Replace(good, "keydata", "k", 1):          false,
		"Autocrypt: addr=bert@two.example; keydata=\r\n":  false,
		"Autocrypt: addr=bert@two.example; keydata=!\r\n": false,
		"Autocrypt: keydata=" + key + "\r\n":              false,
		"":                                                false,
		"Autocrypt: addr=bert@two.example; keydata=" + strings.Repeat("A", 100_000) + "\r\n": false,
	} {
		h, _, err := mail.ParseHeader([]byte(header + "\r\n"))
		must(t, err)
		got, err := Autocrypt(h, mail.Address{Local: "bert", Domain: "two.example"})
		if ok != (err == nil) || ok && string(got) != "key" || !ok && errs.KindOf(err) != errs.NotFound {
			t.Errorf("%.100q: %q %v", header, got, err)
		}
	}
}

// TestAutocryptField: what is written is read again.
func TestAutocryptField(t *testing.T) {
	from, key := mail.Address{Local: "bert", Domain: "two.example"}, bytes.Repeat([]byte("key"), 100)
	for _, mutual := range []bool{false, true} {
		v := AutocryptField(from, key, mutual)
		h, _, err := mail.ParseHeader([]byte("Autocrypt: " + v + "\r\n\r\n"))
		must(t, err)
		if got, err := Autocrypt(h, from); err != nil || !bytes.Equal(got, key) || strings.Contains(v, "mutual") != mutual {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// FuzzKey: whatever a stranger's mail carries as a key is one that mail can be encrypted to, or refused.
func FuzzKey(f *testing.F) {
	_, pub := owner(f)
	f.Add(pub)
	f.Add([]byte{0x99, 1, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b, now)
		if err != nil {
			if errs.Public(err) == "" || errs.KindOf(err) == errs.Internal {
				t.Fatal(err)
			}
			return
		}
		if got, err := Encrypt([]byte(canary), []*Key{k}, now, rand.Reader); err == nil && !pgpmime.Check(got, pgpmime.Outgoing, nil).Encrypted {
			t.Fatalf("%q", got)
		}
	})
}

// FuzzAutocrypt: a field gives a key within its bound or nothing.
func FuzzAutocrypt(f *testing.F) {
	f.Add("addr=bert@two.example; keydata=a2V5")
	f.Add("addr=bert@two.example;;_=;keydata= a2V 5")
	f.Fuzz(func(t *testing.T, value string) {
		if key, ok := autocrypt(value, mail.Address{Local: "bert", Domain: "two.example"}); ok && (len(key) == 0 || len(key) > MaxKey) {
			t.Fatalf("%q", key)
		}
	})
}
