package evidence

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dkim"
	"postern.email/mail/sanitize"
)

var (
	own      = mail.Address{Local: "amber-falcon-4821", Domain: "mail.example"}
	received = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	made     = received.AddDate(0, 0, 7)
)

const plain = "Date: Fri, 20 Nov 2026 12:59:00 +0100\r\nTo: <Amber-Falcon-4821@mail.example>\r\nSubject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nhi\r\n"

// stored is a mail as it lies in the owner's mailbox, vouched for by the key of a domain; "": by SPF.
func stored(t testing.TB, sender, signer, raw string) Stored {
	t.Helper()
	f := sanitize.AliasFields{Alias: own, Sender: sender, Vouched: "spf:x.example"}
	if signer != "" {
		raw = agenttest.Signed(t, signer, raw)
		f.Vouched, f.KeyName = "dkim:"+signer, dkim.RecordName("s1", signer)
		txts, _, err := agenttest.SigningKeys(t.Context(), f.KeyName)
		if err != nil {
			t.Fatal(err)
		}
		f.KeyRecord = txts[0]
	}
	front, err := sanitize.Alias(f)
	if err != nil {
		t.Fatal(err)
	}
	return Stored{Raw: append(front, raw...), Received: received}
}

func make2(t testing.TB, expected, stranger Stored) *File {
	t.Helper()
	f, err := Make(own, expected, stranger, made, bytes.NewReader(bytes.Repeat([]byte{7}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func good(t testing.TB) *File {
	return make2(t, stored(t, sanitize.SenderFirst, "shop.example", "From: <news@shop.example>\r\n"+plain),
		stored(t, sanitize.SenderUnexpected, "mail.spam.example", "From: <eve@spam.example>\r\n"+plain))
}

// again is the file after a way through a disk.
func again(t testing.TB, f *File) *File {
	t.Helper()
	b, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	g, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestVerify: both signatures hold by the file alone, and what each state of the DNS adds is said.
func TestVerify(t *testing.T) {
	f := again(t, good(t))
	r := Verify(t.Context(), f, agenttest.SigningKeys)
	if !r.Holds || !r.Whole || r.Alias != own.String() {
		t.Errorf("%+v", r)
	}
	e, s := r.Expected, r.Stranger
	if e.Domain != "shop.example" || e.From != "news@shop.example" || !e.ToAlias || e.Key != KeyPublished || e.Date != "2026-11-20T11:59:00Z" || s.Domain != "mail.spam.example" || s.From != "eve@spam.example" {
		t.Errorf("%+v\n%+v", e, s)
	}
	said := strings.Join(r.Proved, "\n")
	for _, want := range []string{"shop.example signed a mail to amber-falcon-4821@mail.example dated 2026-11-20T11:59:00Z, with a key that it publishes today.", "mail.spam.example signed a mail to amber-falcon-4821@mail.example"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said in %q", want, said)
		}
	}
	if not := strings.Join(r.Unproved, "\n"); !strings.Contains(not, "was given to nobody else than the first sender: that is the word of its owner") || !strings.Contains(not, "on purpose") {
		t.Errorf("%q", not)
	}
	for want, lookup := range map[string]dkim.Lookup{
		KeyUnknown: nil,
		KeyGone: func(context.Context, string) ([]string, bool, error) {
			return nil, false, errs.E("test", errs.NotFound, "", nil)
		},
		KeyOther: func(context.Context, string) ([]string, bool, error) { return []string{"v=DKIM1; p=AAAA"}, false, nil },
	} {
		r := Verify(t.Context(), f, lookup)
		if !r.Holds || r.Expected.Key != want || r.Stranger.Key != want || !strings.Contains(strings.Join(r.Unproved, "\n"), "That the key ") || strings.Contains(strings.Join(r.Proved, "\n"), "publishes today") {
			t.Errorf("%s: %+v", want, r)
		}
	}
	failing := func(context.Context, string) ([]string, bool, error) { return nil, false, errors.New("timeout") }
	if r := Verify(t.Context(), f, failing); r.Expected.Key != KeyUnknown {
		t.Errorf("%+v", r.Expected)
	}
}

// TestNotProved: whatever is changed, left out or not signed is said, and does not hold.
func TestNotProved(t *testing.T) {
	first := stored(t, sanitize.SenderFirst, "shop.example", "From: <news@shop.example>\r\n"+plain)
	for name, c := range map[string]struct {
		f      func() *File
		unholy string // in Unproved
	}{
		"no signature": {func() *File {
			return make2(t, first, stored(t, sanitize.SenderUnexpected, "", "From: <eve@spam.example>\r\n"+plain))
		}, "Who sent the mail of eve@spam.example: it has no signature that can be checked (none). The file's maker says who vouched for it: spf:x.example."},
		"signed by another domain": {func() *File {
			return make2(t, first, stored(t, sanitize.SenderUnexpected, "other.example", "From: <eve@spam.example>\r\n"+plain))
		}, "no signature that can be checked (no signature of the domain)"},
		"changed, and committed to anew": {func() *File {
			f := good(t)
			f.Stranger.Raw = bytes.Replace(f.Stranger.Raw, []byte("hi\r\n"), []byte("ho\r\n"), 1)
			f.Commitment = f.commit()
			return f
		}, "no signature that can be checked (the body was changed)"},
		"another key, and committed to anew": {func() *File {
			f := good(t)
			f.Stranger.KeyRecord = f.Expected.KeyRecord
			f.Commitment = f.commit()
			return f
		}, "no signature that can be checked (the signature does not fit)"},
		"changed": {func() *File {
			f := good(t)
			f.Expected.Received = f.Expected.Received.Add(time.Second)
			return f
		}, "its commitment does not fit"},
		"another alias": {func() *File {
			f := good(t)
			f.Alias = "other@mail.example"
			return f
		}, "its commitment does not fit"},
		"no mail": {func() *File {
			f := good(t)
			f.Expected.Raw = []byte("no header\r\n\r\n")
			f.Commitment = f.commit()
			return f
		}, "malformed mail"},
		"no From": {func() *File {
			f := good(t)
			f.Expected.Raw = []byte("Subject: x\r\n\r\n")
			f.Commitment = f.commit()
			return f
		}, "malformed From"},
	} {
		r := Verify(t.Context(), again(t, c.f()), agenttest.SigningKeys)
		if r.Holds || !strings.Contains(strings.Join(r.Unproved, "\n"), c.unholy) {
			t.Errorf("%s: holds %v, %q", name, r.Holds, r.Unproved)
		}
	}
	// The alias stands nowhere that is signed: to whom the mail went is not shown.
	hidden := strings.Replace(plain, "To: <Amber-Falcon-4821@mail.example>", "To: <list@spam.example>", 1)
	r := Verify(t.Context(), make2(t, first, stored(t, sanitize.SenderUnexpected, "spam.example", "From: <eve@spam.example>\r\n"+hidden)), agenttest.SigningKeys)
	if !r.Holds || r.Stranger.ToAlias || !slices.ContainsFunc(r.Unproved, func(s string) bool { return strings.Contains(s, "does not stand in a field that is signed") }) {
		t.Errorf("%+v", r)
	}
}

// TestMake: only mails that were kept as received for this alias, in this order.
func TestMake(t *testing.T) {
	first, other := stored(t, sanitize.SenderExpected, "shop.example", "From: <a@shop.example>\r\n"+plain), stored(t, sanitize.SenderUnexpected, "spam.example", "From: <b@spam.example>\r\n"+plain)
	for name, c := range map[string]struct {
		alias         mail.Address
		first, second Stored
		kind          errs.Kind
		text          string
	}{
		"another alias": {mail.Address{Local: "x", Domain: "mail.example"}, first, other, errs.Invalid, "the mail is for another alias"},
		"other order":   {own, other, first, errs.Invalid, "the first of the two mails is of somebody unexpected"},
		"twice":         {own, first, first, errs.Invalid, "the second of the two mails is of somebody expected"},
		"no alias mail": {own, first, Stored{Raw: []byte("From: <eve@x.example>\r\n\r\n")}, errs.Invalid, "the mail was not kept as it was received for an alias"},
		"too large":     {own, Stored{Raw: append(slices.Clone(first.Raw), make([]byte, MaxMail)...)}, other, errs.TooLarge, "the mail is too large for an evidence file"},
	} {
		if _, err := Make(c.alias, c.first, c.second, made, nil); errs.KindOf(err) != c.kind || errs.Public(err) != c.text {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := Make(own, first, other, made, nil)
	if err != nil || !f.Whole() {
		t.Fatal(err)
	}
	g, err := Make(own, first, other, made, nil)
	if err != nil || bytes.Equal(f.Commitment, g.Commitment) {
		t.Error("two files of the same mails have one commitment")
	}
	if _, err := Make(own, first, other, made, strings.NewReader("short")); errs.KindOf(err) != errs.Internal {
		t.Error(err)
	}
}

// TestParse has every refusal.
func TestParse(t *testing.T) {
	b, err := good(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":      {"hello", "this is no evidence file"},
		"unknown name": {strings.Replace(text, `"alias"`, `"more": 1, "alias"`, 1), "this is no evidence file"},
		"behind":       {text + "{}", "there is text behind the evidence file"},
		"version":      {strings.Replace(text, Format, "postern alias evidence 2", 1), "this is no evidence file, or one of a later version"},
		"alias":        {strings.Replace(text, `"amber-falcon-4821@mail.example"`, `"Amber"`, 1), "the alias of the evidence file is no address"},
		"salt":         {strings.Replace(text, `"salt": "BwcH`, `"salt": "`, 1), "the evidence file has no salt and commitment"},
		"one mail": {text[:strings.Index(text, `,
  "stranger"`)] + "}", "the evidence file has not two mails"},
		"screen":     {strings.Replace(text, `"vouched": "`, `"vouched": "\u001b[2J`, 1), "the evidence file names nobody who could vouch"},
		"line":       {strings.Replace(text, `"vouched": "`, `"vouched": "x\nProved:`, 1), "the evidence file names nobody who could vouch"},
		"turned":     {strings.Replace(text, `"key_name": "`, `"key_name": "\u202e`, 1), "the evidence file names nobody who could vouch"},
		"long word":  {strings.Replace(text, `"vouched": "`, `"vouched": "`+strings.Repeat("a", maxWord), 1), "the evidence file names nobody who could vouch"},
		"key record": {strings.Replace(text, `"key_record": "`, `"key_record": "`+strings.Repeat("a", sanitize.MaxKeyRecord), 1), "a mail of the evidence file is too large"},
	} {
		if c.text == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Parse([]byte(c.text)); errs.Public(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(make([]byte, MaxFile+1)); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestGolden: the format does not change.
func TestGolden(t *testing.T) {
	b, err := good(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "golden.json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("%v\n%s", err, b)
	}
	f, err := Parse(want)
	if err != nil || !f.Whole() {
		t.Fatal(err)
	}
	const commitment = "d1edf83ebfba8d9eee4f2bb9c8195a8e66e20b56c12b0ead05aa64d864ac11c0"
	if got := hex.EncodeToString(f.Commitment); got != commitment {
		t.Errorf("%s, want %s", got, commitment)
	}
}

// FuzzParse: whatever is taken can be verified, and written and read again to the same.
func FuzzParse(f *testing.F) {
	b, err := good(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(bytes.Replace(b, []byte("shop"), []byte("SHOP"), -1))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		if r := Verify(t.Context(), e, nil); r.Holds && !e.Whole() {
			t.Error("it holds, and is not whole")
		}
		again(t, e)
	})
}
