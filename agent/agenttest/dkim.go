package agenttest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail/dkim"
)

// selector is that of the key that every domain signs with.
const selector = "s1"

func signingKey(domain string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("signatures of " + domain))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Signed gives a whole mail with a DKIM signature of a domain.
func Signed(tb testing.TB, domain, raw string) string {
	tb.Helper()
	i := strings.Index(raw, "\r\n\r\n") + 4
	s := &dkim.Signer{Domain: domain, Keys: []dkim.Key{{Selector: selector, Signer: signingKey(domain)}}}
	fields, err := s.Sign([]byte(raw[:i]), []byte(raw[i:]))
	if err != nil {
		tb.Fatal(err)
	}
	return string(fields) + raw
}

// SigningKeys is the DNS with the keys of all domains that Signed knows: all there are.
func SigningKeys(_ context.Context, name string) (txts []string, authentic bool, err error) {
	domain, ok := strings.CutPrefix(name, selector+"._domainkey.")
	if !ok {
		return nil, false, errs.E("agenttest.SigningKeys", errs.NotFound, "", nil)
	}
	text, err := dkim.Record(signingKey(domain).Public())
	return []string{text}, false, err
}
