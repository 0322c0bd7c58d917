package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authdkim "github.com/emersion/go-msgauth/dkim"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// records answers from a fixed list; a name that is not there does not exist.
func records(keys map[string][]string) Lookup {
	return func(_ context.Context, name string) ([]string, bool, error) {
		txts, ok := keys[name]
		if !ok {
			return nil, false, errs.E("test", errs.NotFound, "", nil)
		}
		return txts, true, nil
	}
}

// golden gives the keys of the mails in testdata.
func golden(t testing.TB) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		name, txt, _ := strings.Cut(strings.TrimSpace(line), "\t")
		keys[name] = append(keys[name], txt)
	}
	return keys
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestGolden: mails that OpenDKIM and mailauth signed.
func TestGolden(t *testing.T) {
	all, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(all) < 20 {
		t.Fatalf("%d samples, %v", len(all), err)
	}
	v := &Verifier{Lookup: records(golden(t))}
	for _, path := range all {
		name := filepath.Base(path)
		raw := file(t, name)
		want := Valid
		switch {
		case strings.Contains(name, "sha1"), strings.Contains(name, "foreign"), strings.Contains(name, "length"):
			want = Invalid
		}
		got := v.Verify(t.Context(), raw, "Remote.EXAMPLE")
		if got.Verdict != want || got.Authentic != (want == Valid) {
			t.Errorf("%s: %+v, want %v", name, got, want)
		}
		if got := v.Verify(t.Context(), raw, "example"); got.Verdict != Invalid {
			t.Errorf("%s: taken for the parent domain: %+v", name, got)
		}
		if got := v.Verify(t.Context(), raw, "sub.remote.example"); got.Verdict != Invalid {
			t.Errorf("%s: taken for a subdomain: %+v", name, got)
		}
		changed := bytes.Replace(raw, []byte("\r\nDate: Thu"), []byte("\r\nDate: Fri"), 1)
		if got := v.Verify(t.Context(), changed, "remote.example"); got.Verdict == Valid {
			t.Errorf("%s: a changed field passes", name)
		}
		changed = append(bytes.Clone(raw), "more\r\n"...)
		if got := v.Verify(t.Context(), changed, "remote.example"); got.Verdict == Valid {
			t.Errorf("%s: a longer body passes", name)
		}
		if got := v.Verify(t.Context(), append([]byte("From: <eve@remote.example>\r\n"), raw...), "remote.example"); got.Verdict == Valid {
			t.Errorf("%s: a second From passes", name)
		}
	}
}

// TestRFC6376 is the example of RFC 6376 appendix A, with the key of appendix C. Its
// signature holds with one space between the two sentences of the body.
func TestRFC6376(t *testing.T) {
	raw := []byte(strings.ReplaceAll(rfc6376, "\n", "\r\n"))
	v := &Verifier{Lookup: records(map[string][]string{"brisbane._domainkey.example.com": {"v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkM" +
		"oGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"}})}
	if got := v.Verify(t.Context(), raw, "example.com"); got.Verdict != Valid {
		t.Errorf("%+v", got)
	}
	if got := v.Verify(t.Context(), bytes.Replace(raw, []byte(" Are"), []byte("  Are"), 1), "example.com"); got.Verdict != Invalid {
		t.Errorf("another space: %+v", got)
	}
}

const rfc6376 = `DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
        4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
        KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
        4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
`

// TestRFC8463 is the example of RFC 8463 appendix A, with both signatures.
func TestRFC8463(t *testing.T) {
	raw := []byte(strings.ReplaceAll(rfc8463, "\n", "\r\n"))
	for name := range rfc8463Keys {
		one := map[string][]string{name: rfc8463Keys[name]}
		if got := (&Verifier{Lookup: records(one)}).Verify(t.Context(), raw, "football.example.com"); got.Verdict != Valid {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

var rfc8463Keys = map[string][]string{
	"brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
	"test._domainkey.football.example.com": {"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/" +
		"J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"},
}

const rfc8463 = `DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`

// signer makes signatures with anything in them; what is right about them is only
// what a test leaves right.
type signer struct {
	rsa *rsa.PrivateKey
	ed  ed25519.PrivateKey
}

var newSigner = sync.OnceValue(func() signer {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return signer{r, e}
})

func (s signer) rsaRecord() string {
	der, _ := x509.MarshalPKIXPublicKey(s.rsa.Public())
	return base64.StdEncoding.EncodeToString(der)
}

func (s signer) edRecord() string {
	return base64.StdEncoding.EncodeToString(s.ed.Public().(ed25519.PublicKey))
}

const testMail = "From: <joe@a.example>\r\nTo: <suzie@b.example>\r\nSubject: one\r\n\r\nHello\r\n"

// sign puts a relaxed/relaxed signature with these tags on a mail. "$bh" stands for
// the right body hash.
func (s signer) sign(t testing.TB, tags, raw string) string {
	t.Helper()
	_, body, _ := strings.Cut(raw, "\r\n\r\n")
	m := message{body: []byte(body)}
	sum := m.hash(true).sum
	tags = strings.ReplaceAll(tags, "$bh", base64.StdEncoding.EncodeToString(sum[:]))
	field := "DKIM-Signature: " + tags + "; b=AA==\r\n"
	h, _, err := parse(field + raw)
	if err != nil {
		t.Fatal(err)
	}
	sig, _ := parseSignature([]byte(field))
	sig.relaxedHeader = true
	digest := h.digest(sig, 0)
	var b []byte
	if strings.Contains(tags, "a=ed25519") {
		b = ed25519.Sign(s.ed, digest)
	} else if b, err = rsa.SignPKCS1v15(nil, s.rsa, crypto.SHA256, digest); err != nil {
		t.Fatal(err)
	}
	return "DKIM-Signature: " + tags + "; b=" + base64.StdEncoding.EncodeToString(b) + "\r\n" + raw
}

const good = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=k; h=from:to:subject; bh=$bh"

// TestRules: one thing is wrong, or odd and right, in each.
func TestRules(t *testing.T) {
	s := newSigner()
	now := time.Unix(1_800_000_000, 0)
	record := "v=DKIM1; k=rsa; p=" + s.rsaRecord()
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	p := s.rsaRecord()
	pkcs1 := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&s.rsa.PublicKey))
	for _, c := range []struct {
		name, tags, record string
		want               Verdict
		reason             string
	}{
		{"as it should be", good, record, Valid, ""},
		{"ed25519", with("rsa-", "ed25519-"), "v=DKIM1; k=ed25519; p=" + s.edRecord(), Valid, ""},
		{"upper case", with("a.example", "A.EXAMPLE"), record, Valid, ""},
		{"i= below d=", good + "; i=x@sub.a.example", record, Valid, ""},
		{"i= elsewhere", good + "; i=x@b.example", record, Invalid, "i= does not belong to d="},
		{"i= only ends like d=", good + "; i=x@xa.example", record, Invalid, "i= does not belong to d="},
		{"i= without @", good + "; i=a.example", record, Invalid, "i= does not belong to d="},
		{"t=s and i= equal", good + "; i=@a.example", record + "; t=y:s", Valid, ""},
		{"t=s and i= below", good + "; i=@sub.a.example", record + "; t=y:s", Invalid, "the key allows no subdomain"},
		{"t=y", good, record + "; t=y", Valid, ""},
		{"d= a parent", with("a.example", "example"), record, Invalid, "no signature of the domain"},
		{"d= a child", with("a.example", "x.a.example"), record, Invalid, "no signature of the domain"},
		{"l= all of the body", good + "; l=7", record, Valid, ""},
		{"l= less", good + "; l=6", record, Invalid, "l= is not the length of the body"},
		{"l= more", good + "; l=8", record, Invalid, "l= is not the length of the body"},
		{"l= no number", good + "; l=-1", record, Invalid, "malformed time or length"},
		{"From is not signed", with("from:", ""), record, Invalid, "From is not signed"},
		{"oversigned", with("from:", "from:from:x-none:subject:"), record, Valid, ""},
		{"empty name in h=", with("from:", "from::"), record, Invalid, "malformed list of signed fields"},
		{"not expired", good + "; t=1799999999; x=1800000000", record, Valid, ""},
		{"expired", good + "; t=1799999000; x=1799999999", record, Invalid, "signature expired"},
		{"expired before it was made", good + "; t=1900000000; x=1899999999", record, Invalid, "malformed time or length"},
		{"sha1", with("rsa-sha256", "rsa-sha1"), record, Invalid, "unknown or broken algorithm"},
		{"unknown algorithm", with("rsa-", "dsa-"), record, Invalid, "unknown or broken algorithm"},
		{"version", with("v=1", "v=2"), record, Invalid, "unknown version"},
		{"unknown tag", good + "; zz=1", record, Valid, ""},
		{"a tag twice", good + "; s=k", record, Invalid, "no signature of the domain"},
		{"q=", good + "; q=dns/txt", record, Valid, ""},
		{"q= another way", good + "; q=http", record, Invalid, "unknown way to the key"},
		{"canonicalization", with("relaxed/relaxed", "odd"), record, Invalid, "unknown canonicalization"},
		{"wrong body hash", with("$bh", "QUFBQQ=="), record, Invalid, "the body was changed"},
		{"no body hash", with("; bh=$bh", ""), record, Invalid, "malformed signature"},
		{"no selector", with("s=k; ", ""), record, Invalid, "malformed signature"},
		{"no key", with("s=k;", "s=k2;"), record, Invalid, "no key"},
		{"record without v=", good, "p=" + p, Valid, ""},
		{"record of another version", good, "v=DKIM2; p=" + p, Invalid, "no key"},
		{"record of something else", good, "v=spf1 -all", Invalid, "no key"},
		{"record without p=", good, "v=DKIM1; k=rsa", Invalid, "no key"},
		{"white space", good, "v=DKIM1;\r\n k=rsa;\r\n p=" + p[:50] + " \r\n\t" + p[50:], Valid, ""},
		{"escaped quotes", good, `v=DKIM1\; k=rsa\; p=` + p[:50] + `\" \"` + p[50:], Valid, ""},
		{"PKCS 1", good, "p=" + pkcs1, Valid, ""},
		{"no padding", good, "p=" + strings.TrimRight(pkcs1, "="), Valid, ""},
		{"revoked", good, "v=DKIM1; p=", Invalid, "revoked key"},
		{"broken key", good, "v=DKIM1; p=AAAA", Invalid, "malformed key"},
		{"not base64", good, "v=DKIM1; p=???", Invalid, "malformed key"},
		{"for SHA-1", good, record + "; h=sha1", Invalid, "the key is not for SHA-256"},
		{"for both", good, record + "; h=sha1:sha256", Valid, ""},
		{"for mail", good, record + "; s=email", Valid, ""},
		{"for all", good, record + "; s=x:*", Valid, ""},
		{"for something else", good, record + "; s=tlsrpt", Invalid, "the key is not for mail"},
		{"another kind of key", good, "k=ed25519; p=" + s.edRecord(), Invalid, "the key is of another kind"},
		{"ed25519 of wrong length", good, "k=ed25519; p=AAAA", Invalid, "malformed key"},
		{"unknown kind of key", good, "k=dsa; p=AAAA", Invalid, "unknown kind of key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &Verifier{Lookup: records(map[string][]string{"k._domainkey.a.example": {c.record}}), Now: func() time.Time { return now }}
			got := v.Verify(t.Context(), []byte(s.sign(t, c.tags, testMail)), "a.example")
			if got.Verdict != c.want || got.Reason != c.reason {
				t.Errorf("%+v, want %v %q", got, c.want, c.reason)
			}
		})
	}
}

// TestShape: no signature, no header, a signature too long.
func TestShape(t *testing.T) {
	v := &Verifier{Lookup: records(nil)}
	for _, c := range []struct {
		raw  string
		want Verdict
	}{
		{testMail, None},
		{"", None},
		{"no header\r\n\r\n", Invalid},
		{"DKIM-Signature: \r\n" + testMail, Invalid},
		{"DKIM-Signature: v=1; " + strings.Repeat("a", MaxField) + "\r\n" + testMail, Invalid},
	} {
		if got := v.Verify(t.Context(), []byte(c.raw), "a.example"); got.Verdict != c.want {
			t.Errorf("%.40q: %+v", c.raw, got)
		}
	}
}

// TestAddedFields: a field added above is another one than the signed field; where the
// signer forbade it (oversigning), the signature breaks.
func TestAddedFields(t *testing.T) {
	s := newSigner()
	v := &Verifier{Lookup: records(map[string][]string{"k._domainkey.a.example": {"p=" + s.rsaRecord()}})}
	for _, c := range []struct {
		tags, add string
		want      Verdict
	}{
		{good, "Subject: two\r\n", Valid},
		{strings.Replace(good, "subject", "subject:subject", 1), "Subject: two\r\n", Invalid},
		{strings.Replace(good, "subject", "subject:cc", 1), "Cc: x@b.example\r\n", Invalid},
		{good, "From: <eve@a.example>\r\n", Invalid},
		{strings.Replace(good, "from", "from:from", 1), "From: <eve@a.example>\r\n", Invalid},
		{good, "DKIM-Signature: v=1\r\n", Valid},
		{strings.Replace(good, "subject", "subject:dkim-signature", 1), "", Valid},
	} {
		if got := v.Verify(t.Context(), []byte(c.add+s.sign(t, c.tags, testMail)), "a.example"); got.Verdict != c.want {
			t.Errorf("%q on %q: %+v", c.add, c.tags, got)
		}
	}
}

// TestLimits: how much one mail can make us do.
func TestLimits(t *testing.T) {
	s := newSigner()
	lookups := 0
	keys := records(map[string][]string{"k._domainkey.a.example": {"p=" + s.rsaRecord()}})
	v := &Verifier{Lookup: func(ctx context.Context, name string) ([]string, bool, error) {
		lookups++
		return keys(ctx, name)
	}}
	signed := s.sign(t, good, testMail)
	bad := s.sign(t, strings.Replace(good, "s=k", "s=none", 1), testMail)
	bad = bad[:len(bad)-len(testMail)]
	other := s.sign(t, strings.Replace(good, "d=a.", "d=b.", 1), testMail)
	other = other[:len(other)-len(testMail)]
	for _, c := range []struct {
		raw     string
		want    Verdict
		lookups int
	}{
		{strings.Repeat(bad, MaxSignatures-1) + signed, Valid, MaxSignatures},
		{strings.Repeat(bad, MaxSignatures) + signed, Invalid, MaxSignatures},
		{strings.Repeat(other, MaxFields-1) + signed, Valid, 1},
		{strings.Repeat(other, MaxFields) + signed, Invalid, 0},
	} {
		lookups = 0
		if got := v.Verify(t.Context(), []byte(c.raw), "a.example"); got.Verdict != c.want || lookups != c.lookups {
			t.Errorf("%+v after %d look-ups, want %v after %d", got, lookups, c.want, c.lookups)
		}
	}
	junk := make([]string, MaxRecords)
	for n, want := range map[int]Verdict{MaxRecords - 1: Valid, MaxRecords: Invalid} {
		var forgotten []string
		v := &Verifier{Lookup: records(map[string][]string{"k._domainkey.a.example": append(junk[:n:n], "p="+s.rsaRecord())}),
			Forget: func(name string) { forgotten = append(forgotten, name) }}
		if got := v.Verify(t.Context(), []byte(signed), "a.example"); got.Verdict != want {
			t.Errorf("behind %d records: %+v", n, got)
		}
		if (len(forgotten) == 1) != (want == Invalid) {
			t.Errorf("forgotten: %v", forgotten)
		}
	}
}

// TestTemporary: a key that cannot be looked up now may come later; a valid signature
// beside it is enough, an invalid one changes nothing.
func TestTemporary(t *testing.T) {
	s := newSigner()
	v := &Verifier{Lookup: func(_ context.Context, name string) ([]string, bool, error) {
		switch name {
		case "k._domainkey.a.example":
			return []string{"p=" + s.rsaRecord()}, false, nil
		case "none._domainkey.a.example":
			return nil, false, errs.E("test", errs.NotFound, "", nil)
		}
		return nil, false, errors.New("timeout")
	}}
	one := func(selector string) string {
		f := s.sign(t, strings.Replace(good, "s=k", "s="+selector, 1), testMail)
		return f[:len(f)-len(testMail)]
	}
	expired := one("k; x=5")
	for _, c := range []struct {
		raw  string
		want Verdict
	}{
		{one("slow"), Temporary}, {one("slow") + one("none"), Temporary}, {one("none") + one("slow"), Temporary},
		{one("slow") + expired, Temporary}, {one("slow") + one("k"), Valid}, {one("k") + one("slow"), Valid}, {one("none"), Invalid},
	} {
		if got := v.Verify(t.Context(), []byte(c.raw+testMail), "a.example"); got.Verdict != c.want || got.Authentic {
			t.Errorf("%+v, want %v", got, c.want)
		}
	}
}

// TestAgainstMsgauth: what another library signs is valid here, in all forms.
func TestAgainstMsgauth(t *testing.T) {
	s := newSigner()
	bodies := []string{"", "\r\n", "\r\n\r\n", "a", "a\r\n\r\n\r\n", " \t \r\n a  b \t\r\n\r\n", "a \r\n \r\n", strings.Repeat("0123456789", 10_000) + "\r\n"}
	for _, form := range []string{"simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"} {
		for _, kind := range []string{"rsa", "ed25519"} {
			for _, body := range bodies {
				header, text, _ := strings.Cut(form, "/")
				o := &authdkim.SignOptions{Domain: "a.example", Selector: kind, HeaderCanonicalization: authdkim.Canonicalization(header),
					BodyCanonicalization: authdkim.Canonicalization(text), Signer: s.rsa,
					HeaderKeys: []string{"From", "From", "Subject", "X-Odd", "Cc", "Subject"}}
				if kind == "ed25519" {
					o.Signer = s.ed
				}
				raw := "X-Odd:\r\nX-Odd: \t two  \r\n\tlines \r\nFrom: Joe <joe@a.example>\r\nSubject:  a \t b\r\nsubject: c\r\n\r\n" + body
				var out bytes.Buffer
				if err := authdkim.Sign(&out, strings.NewReader(raw), o); err != nil {
					t.Fatal(err)
				}
				v := &Verifier{Lookup: records(map[string][]string{"rsa._domainkey.a.example": {"p=" + s.rsaRecord()},
					"ed25519._domainkey.a.example": {"k=ed25519; p=" + s.edRecord()}})}
				if got := v.Verify(t.Context(), out.Bytes(), "a.example"); got.Verdict != Valid {
					t.Errorf("%s %s %.20q: %+v\n%s", form, kind, body, got, out.Bytes()[:min(out.Len(), 800)])
				}
			}
		}
	}
}

func parse(raw string) (*message, int, error) {
	h, off, err := mail.ParseHeader([]byte(raw))
	return &message{fields: h.Fields(), body: []byte(raw)[off:]}, off, err
}

func TestWithoutB(t *testing.T) {
	for in, want := range map[string]string{
		"D: v=1; b=abc\r\n def; bh=x\r\n": "D: v=1; b=; bh=x",
		"D: b=abc; v=1\r\n":               "D: b=; v=1",
		"D: v=1;\r\n\tb = ab \r\n":        "D: v=1;\r\n\tb =",
		"D: v=1; bb=b=x\r\n":              "D: v=1; bb=b=x",
	} {
		if got := string(withoutB([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// TestKeySizes: at the limits of RSA.
func TestKeySizes(t *testing.T) {
	record := func(public *rsa.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return "p=" + base64.StdEncoding.EncodeToString(der)
	}
	least, err := rsa.GenerateKey(rand.Reader, MinRSA)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(nil)
	b, err := rsa.SignPKCS1v15(nil, least, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	k, why := parseKey(record(&least.PublicKey))
	if why == "" {
		why = k.verify(signature{algorithm: "rsa", text: b}, sum[:])
	}
	if why != "" {
		t.Errorf("%d bits: %s", MinRSA, why)
	}
	for bits, want := range map[int]string{MinRSA - 1: "RSA key too short", MaxRSA: "", MaxRSA + 1: "RSA key too long"} {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		if _, why := parseKey(record(&rsa.PublicKey{N: n, E: 65537})); why != want {
			t.Errorf("%d bits: %q, want %q", bits, why, want)
		}
	}
}

func FuzzSignature(f *testing.F) {
	for _, seed := range []string{good + "; b=AA==", "v=1; a=rsa-sha256; d=a; s=b; h=from; bh=A; b=A; l=0; x=1; t=0; i=@x.a; q=dns/txt", "=", ";;", "a=b;a=c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tags string) {
		field := []byte("DKIM-Signature: " + tags + "\r\n")
		s, why := parseSignature(field)
		if why == "" && (s.domain == "" || s.selector == "" || len(s.text) == 0 || len(s.bodyHash) == 0 || s.algorithm == "") {
			t.Errorf("%q: %+v", tags, s)
		}
		if out := withoutB(field); len(out) > len(field) {
			t.Errorf("%q: %q", tags, out)
		}
		k, why := parseKey(tags)
		if why == "" && k.public == nil {
			t.Errorf("%q: a key without key", tags)
		}
	})
}

// FuzzVerify: whatever comes, there is an answer within the limits, and what was not
// signed by the key is not valid.
func FuzzVerify(f *testing.F) {
	for _, name := range []string{"mailauth-both-plain.eml", "mailauth-rsa-simple-simple-plain.eml", "opendkim-relaxed-simple-plain.eml"} {
		f.Add(file(f, name), "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	}
	f.Add([]byte("DKIM-Signature: b=\r\nFrom: x\r\n\r\n"), "p=")
	f.Fuzz(func(t *testing.T, raw []byte, record string) {
		n := 0
		v := &Verifier{Now: func() time.Time { return time.Unix(1_800_000_000, 0) }, Lookup: func(context.Context, string) ([]string, bool, error) {
			n++
			return []string{record}, false, nil
		}}
		for _, domain := range []string{"remote.example", "football.example.com", ""} {
			n = 0
			got := v.Verify(t.Context(), raw, domain)
			if n > MaxSignatures {
				t.Errorf("%d look-ups", n)
			}
			if got.Verdict == Valid && domain == "" {
				t.Error("valid for no domain")
			}
			if (got.Verdict == Valid) != (got.Reason == "") {
				t.Errorf("%+v", got)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := &Verifier{Lookup: records(golden(b))}
	for _, name := range []string{"mailauth-rsa-relaxed-relaxed-enc.eml", "mailauth-ed25519-enc.eml"} {
		raw := file(b, name)
		for _, size := range []int{len(raw), 10 << 20} {
			b.Run(fmt.Sprintf("%s/%d", strings.TrimSuffix(name, "-enc.eml"), size), func(b *testing.B) {
				raw := append(bytes.Clone(raw), bytes.Repeat([]byte("0123456789012345678901234567890123456789012345678901234567890123\r\n"), (size-len(raw))/66)...)
				b.SetBytes(int64(len(raw)))
				for b.Loop() {
					v.Verify(b.Context(), raw, "remote.example")
				}
			})
		}
	}
}
