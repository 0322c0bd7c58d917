package mail

import (
	"io"

	"postern.email/kit/errs"
)

// NewMessageID makes a fresh message id with angle brackets: 128 random bits, and
// nothing about time, process or user. random nil: crypto/rand.Reader.
func NewMessageID(random io.Reader, domain string) (string, error) {
	return "", errs.E("mail.NewMessageID", errs.Unsupported, "", nil)
}
