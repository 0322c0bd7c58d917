package dkim

import (
	"crypto"
	"encoding/base64"
	"strings"

	"postern.email/kit/errs"
)

// Forms of a key record that we write.
const (
	recordTTL = "3600" // seconds; long enough for caches, short enough for a mistake
	maxString = 255    // bytes of one string of a TXT record (RFC 1035 §3.3)
)

// RecordName gives the name at which the record of a key lies, without a dot at its end.
func RecordName(selector, domain string) string { return selector + "._domainkey." + domain }

// Record gives the text of the key record of a public key (*rsa.PublicKey or
// ed25519.PublicKey), as RFC 6376 §3.6.1 has it: for mail only (s=email), for exactly this
// domain (t=s). Errors as those of Sign for keys.
func Record(pub crypto.PublicKey) (string, error) {
	algorithm, der, err := publicForm(pub)
	if err != nil {
		return "", errs.Wrap("mail/dkim.Record", err)
	}
	return "v=DKIM1; k=" + algorithm + "; s=email; t=s; p=" + base64.StdEncoding.EncodeToString(der), nil
}

// ZoneLine gives the line for a zone file (RFC 1035 §5.1) that publishes a key, its text
// cut into strings of at most 255 bytes. errs.Invalid for a malformed selector or domain.
func ZoneLine(selector, domain string, pub crypto.PublicKey) (string, error) {
	const op = "mail/dkim.ZoneLine"
	text, err := Record(pub)
	if err != nil {
		return "", errs.Wrap(op, err)
	}
	selector, ok1 := hostName(selector)
	domain, ok2 := hostName(domain)
	if !ok1 || !ok2 {
		return "", errs.E(op, errs.Invalid, "malformed selector or domain", nil)
	}
	var b strings.Builder
	b.WriteString(RecordName(selector, domain) + ". " + recordTTL + " IN TXT")
	for len(text) > 0 {
		n := min(len(text), maxString)
		b.WriteString(` "` + text[:n] + `"`) // the text holds no quotes or backslashes
		text = text[n:]
	}
	return b.String(), nil
}

// Serves tells whether all who verify will find pub in these records of a name: one
// record holds it, and no other holds another key. What is no key record does not count.
func Serves(txts []string, pub crypto.PublicKey) bool {
	found := false
	for i, t := range txts {
		k, why := parseKey(t)
		switch {
		case why == "no key":
			continue
		case why != "" || i >= MaxRecords:
			return false
		}
		same, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !same.Equal(pub) {
			return false
		}
		found = true
	}
	return found
}
