// Package sanitize owns the header rules of submission and of final delivery. Only
// the top-level header changes; the body stays byte for byte.
package sanitize

import (
	"postern.email/kit/errs"
	"postern.email/mail"
)

// Submission applies the rules for mail that a user hands in. The sanitised message
// is header (with its empty line) followed by raw[bodyOffset:].
func Submission(raw []byte) (header []byte, bodyOffset int, err error) {
	return nil, 0, errs.E("mail/sanitize.Submission", errs.Unsupported, "", nil)
}

// Delivery applies the rules for mail on its way into a mailbox and writes exactly one
// Return-Path, first; the zero Address writes "<>". The result is built as in Submission.
func Delivery(raw []byte, returnPath mail.Address) (header []byte, bodyOffset int, err error) {
	return nil, 0, errs.E("mail/sanitize.Delivery", errs.Unsupported, "", nil)
}
