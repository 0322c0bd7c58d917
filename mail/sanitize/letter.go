package sanitize

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Fields between a mail program and its mail proxy. The first of each name is ours, the second
// that of Katzenpost's mailproxy. None of them ever comes out of a letter, or goes into one.
const (
	// SenderField tells in a mail that came who vouches for its sender.
	SenderField    = "X-Postern-Sender"
	OldSenderField = "X-Katzenpost-Sender"
	// UnreliableField asks that a mail is sent without acknowledgements.
	UnreliableField    = "X-Postern-Unreliable"
	OldUnreliableField = "X-Katzenpost-Unreliable"
)

// reserved are what the names of such fields begin with, in lower case.
var reserved = [...]string{"x-postern-", "x-katzenpost-"}

func isReserved(f mail.Field) bool {
	name := strings.ToLower(f.Name)
	for _, p := range reserved {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// LetterFields are what Letter writes. Values must be of one line.
type LetterFields struct {
	Received  string    // the value of a Received field; empty: none is written
	MessageID string    // for a mail that has none, with angle brackets
	Date      time.Time // for a mail that has none, or none that can be read; in UTC
}

// Letter applies the rules for mail that a user hands in to the mail proxy, and that travels sealed
// end to end: what leaves a submission leaves it too (submissionDrops), but Subject stays as it is,
// for nobody on the way can read it, and Date says the same moment in UTC, so that it does not tell in which
// part of the world the sender is. An id and a date are written where the mail has none (RFC 6409
// §8), and fields between proxy and mail program are taken out (ReadAsked reads them). The result is
// built, and what is too large refused, as in Submission.
func Letter(raw []byte, w LetterFields) (header []byte, bodyOffset int, err error) {
	const op = "mail/sanitize.Letter"
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	out := newHeader(off + 256)
	if w.Received != "" {
		out = appendLine(out, "Received", w.Received)
	}
	for _, f := range h.Fields() {
		switch {
		case isReserved(f) || named(f, submissionDrops[:]):
		case strings.EqualFold(f.Name, "Date"):
			at, err := mail.ParseDate(f.Value())
			if err != nil {
				at = w.Date
			}
			if !at.IsZero() {
				out = appendLine(out, "Date", mail.FormatDate(at.UTC()))
			}
		default:
			out = mail.AppendField(out, f)
		}
	}
	if h.Count("Message-ID") == 0 && w.MessageID != "" {
		out = appendLine(out, "Message-ID", w.MessageID)
	}
	if h.Count("Date") == 0 && !w.Date.IsZero() {
		out = appendLine(out, "Date", mail.FormatDate(w.Date))
	}
	if tooLarge(h, out) {
		return nil, 0, errs.E(op, errs.TooLarge, "message header too large", nil)
	}
	return append(out, "\r\n"...), off, nil
}

// Arrival applies the rules for mail that came out of a letter, before those of Delivery: fields
// between proxy and mail program leave, and exactly one SenderField and one OldSenderField are
// written with the word of who vouches for the sender. forged tells that the mail came with such
// a field: only its sender can have written it.
func Arrival(raw []byte, vouched string) (header []byte, bodyOffset int, forged bool, err error) {
	const op = "mail/sanitize.Arrival"
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, 0, false, errs.Wrap(op, err)
	}
	out := newHeader(off + 2*len(vouched) + 64)
	out = appendLine(out, SenderField, vouched)
	out = appendLine(out, OldSenderField, vouched)
	for _, f := range h.Fields() {
		if isReserved(f) {
			forged = true
			continue
		}
		out = mail.AppendField(out, f)
	}
	return append(out, "\r\n"...), off, forged, nil
}

// ArrivalForAlias is Arrival for mail that came for an alias, with the fields in front of it that the relay wrote
// (Alias). front is what stands in front of the mail in a mailbox, where it is as it came: raw shares the bytes
// of letter. Where only its sender can have written one of the fields between proxy and mail program they leave raw,
// and forged tells it. errs.Invalid where nothing of Alias stands in front.
func ArrivalForAlias(letter []byte, vouched string) (front, raw []byte, forged bool, err error) {
	const op = "mail/sanitize.ArrivalForAlias"
	_, raw, ok := ReadAlias(letter)
	if !ok || !bytes.HasPrefix(letter, []byte("Return-Path:")) {
		return nil, nil, false, errs.E(op, errs.Invalid, "the relay's fields of an alias are missing", nil)
	}
	fields := letter[:len(letter)-len(raw)]
	front = newHeader(len(fields) + 2*len(vouched) + 64)
	front = appendLine(front, SenderField, vouched)
	front = appendLine(front, OldSenderField, vouched)
	front = append(front, fields...)
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, nil, false, errs.Wrap(op, err)
	}
	if !slices.ContainsFunc(h.Fields(), isReserved) {
		return front, raw, false, nil
	}
	out := newHeader(len(raw))
	for _, f := range h.Fields() {
		if !isReserved(f) {
			out = mail.AppendField(out, f)
		}
	}
	return front, append(append(out, "\r\n"...), raw[off:]...), true, nil
}

// appendLine appends a field on one line; line ends and NUL in the value become spaces.
func appendLine(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	for i := range len(value) {
		c := value[i]
		if c == '\r' || c == '\n' || c == 0 {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, "\r\n"...)
}
