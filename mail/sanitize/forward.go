package sanitize

import (
	"bytes"
	stdmime "mime"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// HopsField counts how often a mail was sent on from an alias: lines of Received are taken out there,
// and a mail that goes in a circle must be known all the same.
const HopsField = "X-Postern-Hops"

// maxHops bounds what is read from HopsField.
const maxHops = 1000

// Hops gives how many hosts a mail has passed, as far as it says: its Received fields (RFC 5321 §6.3) and
// those that were taken out on the way.
func Hops(h mail.Header) int {
	n := h.Count("Received")
	for _, v := range h.All(HopsField) {
		if x, err := strconv.Atoi(v); err == nil && x > 0 {
			n += min(x, maxHops)
		}
	}
	return n
}

// Automatic reports whether a mail says that nobody wrote it (RFC 3834 §5), or is one of the older forms
// of automatic answers.
func Automatic(h mail.Header) bool {
	if v, _, _ := strings.Cut(h.Get("Auto-Submitted"), ";"); h.Count("Auto-Submitted") > 0 && !strings.EqualFold(strings.TrimSpace(v), "no") {
		return true
	}
	switch strings.ToLower(h.Get("Precedence")) {
	case "auto_reply", "bulk", "junk", "list":
		return true
	}
	return h.Count("X-Autoreply")+h.Count("X-Autorespond") > 0
}

// forwardKept are the fields of a mail for an alias that stay, in this order, when it is sent on; at most
// the first of each.
var forwardKept = [...]string{"To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "Precedence", "Importance",
	"List-Id", "List-Help", "List-Subscribe", "List-Post", "List-Owner", "List-Archive"}

// unsubscribe are the two fields of RFC 2369 §3.2 and RFC 8058.
var unsubscribe = [...]string{"List-Unsubscribe", "List-Unsubscribe-Post"}

// ForwardFields is what is written of a mail that is sent on to a mailbox elsewhere.
type ForwardFields struct {
	Received string // value of the one field Received
	From     string // value of From, from which the mail comes now, and of Reply-To
	Hops     int    // of HopsField
	// Unsubscribe keeps the sender's List-Unsubscribe and List-Unsubscribe-Post.
	Unsubscribe bool
	More        [][2]string // names and values that are added
}

// Forward gives the header of a mail for an alias that is sent on to the mailbox of its owner elsewhere:
// written anew, of the fields in forwardKept and those that say how the body is read. No other field
// stays: it could tell programs there of checks that were made elsewhere, or make them do something.
// The result is built as in Submission.
func Forward(raw []byte, f ForwardFields) (header []byte, bodyOffset int, err error) {
	const op = "mail/sanitize.Forward"
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	out := newHeader(off + len(f.From)*2 + 1024)
	out = appendFolded(out, "Received", f.Received)
	out = appendFolded(out, HopsField, strconv.Itoa(f.Hops))
	out = appendFolded(out, "From", f.From)
	out = appendFolded(out, "Reply-To", f.From)
	for _, x := range f.More {
		out = appendFolded(out, x[0], x[1])
	}
	kept := forwardKept[:]
	if f.Unsubscribe {
		kept = append(slices.Clip(kept), unsubscribe[:]...)
	}
	out = appendContent(appendFirst(out, h, kept), h)
	if tooLarge(h, out) {
		return nil, 0, errs.E(op, errs.TooLarge, "message header too large", nil)
	}
	return append(out, "\r\n"...), off, nil
}

// maxColumns is how long a line gets where it can be folded (RFC 5322 §2.1.1).
const maxColumns = 78

// appendFolded appends a field, folded where white space allows it; line ends and NUL in the value
// become spaces.
func appendFolded(out []byte, name, value string) []byte {
	line := appendLine(nil, name, value)
	line = line[:len(line)-2]
	for len(line) > maxColumns {
		n := bytes.LastIndexByte(line[:maxColumns+1], ' ')
		if n <= len(name)+1 {
			if n = bytes.IndexByte(line[min(maxColumns, len(line)):], ' '); n < 0 {
				break
			}
			n += maxColumns
		}
		if len(bytes.TrimLeft(line[n:], " ")) == 0 { // a line of white space alone is none
			break
		}
		out = append(append(out, line[:n]...), "\r\n"...)
		line, name = line[n:], ""
	}
	return append(append(out, line...), "\r\n"...)
}

// appendFirst appends the first field of each name, written as the name is here.
func appendFirst(out []byte, h mail.Header, names []string) []byte {
	for _, name := range names {
		for _, f := range h.Fields() {
			if strings.EqualFold(f.Name, name) {
				out = appendNamed(out, name, f)
				break
			}
		}
	}
	return out
}

// appendNamed appends a field under a name of our own writing.
func appendNamed(out []byte, name string, f mail.Field) []byte {
	raw := f.Raw
	for raw[0] != ':' {
		raw = raw[1:]
	}
	return mail.AppendField(append(out, name...), mail.Field{Name: name, Raw: raw})
}

// appendContent appends the fields that say how the body is read (RFC 2045 §3).
func appendContent(out []byte, h mail.Header) []byte {
	out = append(out, "MIME-Version: 1.0\r\n"...)
	for _, f := range h.Fields() {
		if isContent(f) {
			out = mail.AppendField(out, f)
		}
	}
	return out
}

func isContent(f mail.Field) bool {
	const prefix = "Content-"
	return len(f.Name) > len(prefix) && strings.EqualFold(f.Name[:len(prefix)], prefix)
}

// AnswerFields is what is written of a mail that goes out as an alias. Empty ones are left out.
type AnswerFields struct {
	From, To, Cc         string // values
	MessageID, InReplyTo string
	References           []string
	Date                 time.Time
	More                 [][2]string // names and values that are added
}

// maxSubject bounds the subject of an answer, in bytes of its text.
const maxSubject = 900

// Answer gives the header of a mail that the owner of an alias wrote elsewhere and that goes out as the
// alias: all written anew but the subject, in which text is replaced as in its parts. content is what
// Parts gave of the mail. The header ends with its empty line.
func Answer(h mail.Header, content []byte, f AnswerFields, replace func(string) string) []byte {
	out := newHeader(len(content) + 1024)
	add := func(name, value string) {
		if value != "" {
			out = appendFolded(out, name, value)
		}
	}
	add("From", f.From)
	add("To", f.To)
	add("Cc", f.Cc)
	subject := mail.DecodeWords(h.Get("Subject"))
	if len(subject) > maxSubject {
		subject = strings.ToValidUTF8(subject[:maxSubject], "")
	}
	// DecodeWords leaves no control characters.
	if subject = replace(subject); subject != "" {
		value := stdmime.QEncoding.Encode("utf-8", subject)
		if out = append(out, "Subject:"...); value != subject { // encoded words stand one a line (RFC 2047 §2)
			value = strings.ReplaceAll(value, "?= =?", "?=\r\n =?")
			out = append(out, "\r\n"...)
		}
		out = append(append(append(out, ' '), value...), "\r\n"...)
	}
	add("Date", mail.FormatDate(f.Date.UTC()))
	add("Message-ID", f.MessageID)
	add("In-Reply-To", f.InReplyTo)
	if len(f.References) > 0 {
		out = append(append(append(out, "References: "...), strings.Join(f.References, "\r\n ")...), "\r\n"...)
	}
	for _, x := range f.More {
		add(x[0], x[1])
	}
	out = append(out, "MIME-Version: 1.0\r\n"...)
	return append(append(out, content...), "\r\n"...)
}
