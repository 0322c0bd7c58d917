package mail

import (
	"crypto/rand"
	"encoding/base32"
	"io"
	"strings"

	"postern.email/kit/errs"
)

// NewMessageID makes a fresh message id with angle brackets: 128 random bits, and
// nothing about time, process or user. random nil: crypto/rand.Reader. An empty
// domain, or one that is no host name, becomes "localhost".
func NewMessageID(random io.Reader, domain string) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", errs.E("mail.NewMessageID", errs.Internal, "no randomness", err)
	}
	d := CanonicalDomain(domain)
	if !validDomain(d) {
		d = "localhost"
	}
	left := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
	return "<" + left + "@" + d + ">", nil
}
