package sanitize

import (
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

const (
	// AnonymousField asks that a mail goes without its sender's account; its value is the name under
	// which it goes.
	AnonymousField = "X-Postern-Anonymous"
	// ReplyField of such a mail says "no" if it is to have no reply address.
	ReplyField = "X-Postern-Reply"
)

// anonymousKeeps lists what of a mail's header goes along when it goes anonymously: to whom and about
// what, and what MIME says of the body; what it answers where the caller says so, since that a mail came to
// somebody can tell who answers it. All else would tell of the sender, its
// program, its machine or its keys.
var anonymousKeeps = [...]string{"To", "Cc", "Subject", "MIME-Version",
	"Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-Description", "Content-Language"}

var anonymousThread = [...]string{"In-Reply-To", "References"}

// AnonymousFields are what Anonymous writes. Values must be of one line.
type AnonymousFields struct {
	From      string    // the value of the field, in the anonymous form (mail/anon)
	MessageID string    // with angle brackets
	Date      time.Time // as it is to be read: in UTC, and no finer than it shall tell
	Answers   bool      // In-Reply-To and References stay
}

// Asked is what the fields between mail program and mail proxy ask for.
type Asked struct {
	Unreliable bool   // no acknowledgements (UnreliableField)
	Anonymous  bool   // AnonymousField is there
	Name       string // its value
	NoReply    bool   // ReplyField says no
}

// ReadAsked reads those fields of a header. errs.Invalid, with a public text, where they contradict each
// other: two names, or a ReplyField of another value.
func ReadAsked(h mail.Header) (a Asked, err error) {
	const op = "mail/sanitize.ReadAsked"
	a.Unreliable = h.Count(UnreliableField)+h.Count(OldUnreliableField) > 0
	names := h.All(AnonymousField)
	if len(names) > 1 {
		return a, errs.E(op, errs.Invalid, "there are several fields "+AnonymousField, nil)
	}
	if len(names) == 1 {
		a.Anonymous, a.Name = true, strings.TrimSpace(mail.DecodeWords(names[0]))
	}
	for _, v := range h.All(ReplyField) {
		if !strings.EqualFold(strings.TrimSpace(v), "no") {
			return a, errs.E(op, errs.Invalid, `the field `+ReplyField+` says "no" or is not there`, nil)
		}
		a.NoReply = true
	}
	return a, nil
}

// Unmarked takes the marks out of the body of a mail, and of the fields that say how to read it, by which a mail
// program and its machine are known: boundaries, identifiers of parts (which become ones of domain), fields of parts that are
// not of MIME, and what stands around the parts. What is signed, and mails within the mail, stay as they
// are. raw has CRLF line ends. errs.Invalid and errs.TooLarge for what cannot be read as a mail.
func Unmarked(raw []byte, domain string) ([]byte, error) {
	const op = "mail/sanitize.Unmarked"
	h, _, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	content, body, err := Parts(raw, PartRules{Domain: domain, KeepKeys: true, Exact: true})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	out := make([]byte, 0, len(raw)+1024)
	for _, f := range h.Fields() {
		if !isContent(f) {
			out = mail.AppendField(out, f)
		}
	}
	return append(append(append(out, content...), "\r\n"...), body...), nil
}

// Anonymous applies the rules for mail that a user hands in to the mail proxy and that is to go
// without the user's name: of its header anonymousKeeps stay, and From, Message-ID and Date are w's.
// The result is built, and what is too large refused, as in Submission.
func Anonymous(raw []byte, w AnonymousFields) (header []byte, bodyOffset int, err error) {
	const op = "mail/sanitize.Anonymous"
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	out := newHeader(off + 256)
	out = appendLine(out, "From", w.From)
	out = appendLine(out, "Message-ID", w.MessageID)
	out = appendLine(out, "Date", mail.FormatDate(w.Date))
	for _, f := range h.Fields() {
		if named(f, anonymousKeeps[:]) || w.Answers && named(f, anonymousThread[:]) {
			out = mail.AppendField(out, f)
		}
	}
	if tooLarge(h, out) {
		return nil, 0, errs.E(op, errs.TooLarge, "message header too large", nil)
	}
	return append(out, "\r\n"...), off, nil
}
