package mail

import (
	"crypto/rand"
	"encoding/base32"
	"io"
	"strings"

	"postern.email/kit/errs"
)

// MessageIDs gives the message ids, with their angle brackets, of a field In-Reply-To or References (RFC 5322
// §3.6.4); what stands beside them is passed over.
func MessageIDs(value string) (ids []string) {
	for {
		_, rest, ok := strings.Cut(value, "<")
		if !ok {
			return ids
		}
		id, after, ok := strings.Cut(rest, ">")
		if !ok {
			return ids
		}
		if id != "" && !strings.ContainsAny(id, " \t<") {
			ids = append(ids, "<"+id+">")
		}
		value = after
	}
}

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
