package vouch

import (
	"errors"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/keybook"
)

// AppendRequest writes a request for the certificate of an address, service 1 of relays
// (docs/content.md); ParseRequest reads it. The answer is the certificate.
func AppendRequest(b []byte, a mail.Address) []byte { return appendAddress(b, a.Canonical()) }

// ParseRequest reads what AppendRequest wrote. errs.Invalid.
func ParseRequest(b []byte) (mail.Address, error) {
	a, rest, ok := cutAddress(b)
	if !ok || len(rest) != 0 || a.IsZero() {
		return mail.Address{}, errs.E("agent/vouch.ParseRequest", errs.Invalid, "", errors.New("form of a request"))
	}
	return a.Canonical(), nil
}

// ParseKey reads the keys that a key book holds (keybook.Options.Parse).
func ParseKey(text []byte) (keybook.Key, error) {
	i, err := ParseIdentity(text)
	if err != nil {
		return keybook.Key{}, errs.Wrap("agent/vouch.ParseKey", err)
	}
	return i.BookKey(), nil
}

// BookKey gives the identity as a key book holds it.
func (i *Identity) BookKey() keybook.Key {
	return keybook.Key{Text: i.String(), Type: PEMType, Bytes: i.Bytes(), Fingerprint: i.Fingerprint()}
}
