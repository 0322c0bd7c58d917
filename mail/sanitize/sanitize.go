// Package sanitize owns the header rules of submission and of final delivery. Only
// the top-level header changes; the body stays byte for byte.
//
// Nothing is added that the sender left out: a chat app sends a Date of its own
// choosing, an odd To and always a Message-ID, and a Date or id made here would
// tell when the mail was handed in. Whoever needs them must live without.
package sanitize

import (
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// submissionDrops lists what leaves with a submission: where the mail was written and
// with which program (the reference's four), and fields that only the last
// (Return-Path, RFC 5321 §4.4) or the first (Bcc, RFC 5322 §3.6.3) host may see.
var submissionDrops = [...]string{"Received", "X-Originating-IP", "X-Mailer", "User-Agent", "Return-Path", "Bcc"}

// deliveryDrops lists what a mail's way and its checks left in it. Our own checks are done,
// and a client must not take a stranger's results for ours (RFC 8601 §5), nor fields that only
// Alias writes.
var deliveryDrops = [...]string{"DKIM-Signature", "Authentication-Results", "Received", "Return-Path", AliasField, KeyField}

// subject replaces every Subject on submission: the real one is inside the encryption.
const subject = "Subject: [...]\r\n"

// What later hosts and our own steps (signature, Return-Path) may add to a submission
// without running into the limits of mail.ParseHeader: accepted mail must not get stuck.
const (
	roomFields = 20
	roomBytes  = 16 << 10
)

// Submission applies the rules for mail that a user hands in: submissionDrops leave and
// there is exactly one Subject, "[...]", in the place of the first one or last. The
// sanitised message is header (with its empty line) followed by raw[bodyOffset:]. A header
// that mail.ParseHeader refuses gives its error, one within 20 fields or 16 KiB of its
// limits errs.TooLarge.
func Submission(raw []byte) (header []byte, bodyOffset int, err error) {
	const op = "mail/sanitize.Submission"
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	out := newHeader(off + len(subject))
	done := false
	for _, f := range h.Fields() {
		switch {
		case named(f, submissionDrops[:]):
		case !strings.EqualFold(f.Name, "Subject"):
			out = mail.AppendField(out, f)
		case !done:
			out = append(out, subject...)
			done = true
		}
	}
	if !done {
		out = append(out, subject...)
	}
	if tooLarge(h, out) {
		return nil, 0, errs.E(op, errs.TooLarge, "message header too large", nil)
	}
	return append(out, "\r\n"...), off, nil
}

// Delivery applies the rules for mail on its way into a mailbox: deliveryDrops leave, and
// exactly one Return-Path is written, first; the zero Address writes "<>". The result
// is built as in Submission.
func Delivery(raw []byte, returnPath mail.Address) (header []byte, bodyOffset int, err error) {
	const op = "mail/sanitize.Delivery"
	path := returnPath.String()
	if strings.ContainsAny(path, "\r\n\x00") { // no parser lets it come here
		return nil, 0, errs.E(op, errs.Invalid, "malformed return path", nil)
	}
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	out := newHeader(off + len(path) + 20)
	out = append(append(append(out, "Return-Path: <"...), path...), ">\r\n"...)
	for _, f := range h.Fields() {
		if !named(f, deliveryDrops[:]) {
			out = mail.AppendField(out, f)
		}
	}
	return append(out, "\r\n"...), off, nil
}

// tooLarge tells of a header, made of h, that would get stuck somewhere later.
func tooLarge(h mail.Header, made []byte) bool {
	return len(h.Fields()) > mail.MaxFields-roomFields || len(made) > mail.MaxHeaderBytes-roomBytes
}

// newHeader makes room for a header that is not longer than n, but for line ends to mend.
func newHeader(n int) []byte { return make([]byte, 0, n+64) }

func named(f mail.Field, names []string) bool {
	for _, n := range names {
		if len(n) == len(f.Name) && strings.EqualFold(n, f.Name) {
			return true
		}
	}
	return false
}
