package dsn

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"io"
	"mime/quotedprintable"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// maxLine bounds a line that is sent as it is (RFC 5322 §2.1.1).
const maxLine = 998

// Build gives the report as a whole mail with CRLF line ends, ready to be signed and sent
// with an empty envelope sender (RFC 3464 §2). errs.Invalid or errs.TooLarge for a Report
// that cannot be told; never for what strangers said in it.
func (r Report) Build() ([]byte, error) {
	const op = "mail/dsn.Build"
	if err := r.check(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if r.Rand == nil {
		r.Rand = rand.Reader
	}
	id, err := mail.NewMessageID(r.Rand, r.Domain)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	var noise [16]byte
	if _, err := io.ReadFull(r.Rand, noise[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "no randomness", err)
	}
	boundary := "report-" + hex.EncodeToString(noise[:])
	// Programs are known to read the fields of the first recipient only: the worst comes first.
	r.Recipients = slices.SortedStableFunc(slices.Values(r.Recipients), func(a, b Recipient) int { return cmp.Compare(a.Action, b.Action) })

	var b bytes.Buffer
	head(&b, r.Domain, r.To, r.subject(), r.Now, id, "auto-replied")
	r.failedRecipients(&b)
	field(&b, "MIME-Version", "1.0")
	b.WriteString("Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"" + boundary + "\"\r\n\r\n")

	var text bytes.Buffer
	r.words(&text)
	b.WriteString("--" + boundary + "\r\nContent-Description: Notification\r\n")
	textPart(&b, text.Bytes())

	b.WriteString("\r\n--" + boundary + "\r\nContent-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n")
	r.fields(&b)

	// RFC 6522 §4: a header that is no 7-bit text may be encoded.
	header := r.header()
	b.WriteString("\r\n--" + boundary + "\r\nContent-Description: Header of the mail\r\nContent-Type: text/rfc822-headers\r\n")
	if plain(header) {
		b.WriteString("\r\n")
		b.Write(header)
	} else {
		quoted(&b, header)
	}
	b.WriteString("\r\n--" + boundary + "--\r\n")
	return b.Bytes(), nil
}

// wireForm gives an address with its domain as A-labels.
func wireForm(a mail.Address) string {
	a.Domain = mail.CanonicalDomain(a.Domain)
	return a.String()
}

// head writes the fields with which all reports begin; auto is how it came about (RFC 3834 §5).
func head(b *bytes.Buffer, domain string, to mail.Address, subject string, now time.Time, id, auto string) {
	field(b, "From", "Mail delivery <mailer-daemon@"+mail.CanonicalDomain(domain)+">")
	field(b, "To", "<"+wireForm(to)+">")
	field(b, "Subject", subject)
	field(b, "Date", mail.FormatDate(now.UTC()))
	field(b, "Message-ID", id)
	field(b, "Auto-Submitted", auto)
}

// textPart writes the rest of a part for people: its type, an empty line and the text.
func textPart(b *bytes.Buffer, text []byte) {
	if plain(text) {
		b.WriteString("Content-Type: text/plain; charset=us-ascii\r\n\r\n")
		b.Write(text)
		return
	}
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
	quoted(b, text)
}

func field(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	b.WriteString(": ")
	b.WriteString(value)
	b.WriteString("\r\n")
}

// maxNamed bounds the recipients in the report's own header, which is bounded too.
const maxNamed = 50

// failedRecipients writes the field by which chat apps find out who did not get a mail to
// several. It names what ASCII can, up to maxNamed; the whole list is in the parts.
func (r *Report) failedRecipients(b *bytes.Buffer) {
	sep, n := "X-Failed-Recipients: ", 0
	for _, x := range r.Recipients {
		if s := wireForm(x.Final); x.Action == Failed && ascii(s) && n < maxNamed {
			b.WriteString(sep + s)
			sep, n = ",\r\n ", n+1
		}
	}
	if sep[0] == ',' {
		b.WriteString("\r\n")
	}
}

// fields writes the part for programs (RFC 3464 §2).
func (r *Report) fields(b *bytes.Buffer) {
	if id := clean(r.EnvelopeID, MaxEnvelopeID+1); id != "" && id == r.EnvelopeID && len(id) <= MaxEnvelopeID {
		field(b, "Original-Envelope-Id", id)
	}
	field(b, "Reporting-MTA", "dns; "+mail.CanonicalDomain(r.Domain))
	if !r.Arrival.IsZero() {
		field(b, "Arrival-Date", mail.FormatDate(r.Arrival.UTC().Truncate(24*time.Hour)))
	}
	for _, x := range r.Recipients {
		b.WriteString("\r\n")
		if o := original(x.Original); o != "" {
			field(b, "Original-Recipient", o)
		}
		field(b, "Final-Recipient", typed(x.Final))
		field(b, "Action", x.Action.String())
		field(b, "Status", x.status())
		h := host(x.Remote)
		if h != "" {
			field(b, "Remote-MTA", "dns; "+h)
		}
		if d := clean(x.Diagnostic, MaxDiagnostic); d != "" {
			kind := "smtp; "
			if x.Remote == "" {
				kind = "x-postern; " // no other server said it
			}
			field(b, "Diagnostic-Code", kind+d)
		}
		if x.Action == Delayed {
			if !x.LastAttempt.IsZero() {
				field(b, "Last-Attempt-Date", minute(x.LastAttempt))
			}
			if !x.RetryUntil.IsZero() {
				field(b, "Will-Retry-Until", minute(x.RetryUntil))
			}
		}
	}
}

// minute writes a time no finer than needed.
func minute(t time.Time) string { return mail.FormatDate(t.UTC().Truncate(time.Minute)) }

// header gives the fields of the mail that fit, with CRLF line ends, and with spaces for
// stray control characters. A header that cannot be read to its end is given up to there.
func (r *Report) header() []byte {
	h, _, _ := mail.ParseHeader(r.Header)
	out := make([]byte, 0, min(len(r.Header), MaxHeader)+64)
	for _, f := range h.Fields() {
		n := len(out)
		if out = mail.AppendField(out, f); len(out) > MaxHeader {
			out = out[:n]
			break
		}
	}
	for i, c := range out {
		if c == 0 || c == '\r' && (i+1 == len(out) || out[i+1] != '\n') {
			out[i] = ' '
		}
	}
	return out
}

// plain reports text that needs no encoding.
func plain(text []byte) bool {
	for line := range bytes.SplitSeq(text, []byte("\r\n")) {
		if len(line) > maxLine || bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }) {
			return false
		}
	}
	return true
}

// quoted writes text as quoted-printable, behind the field that says so.
func quoted(b *bytes.Buffer, text []byte) {
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(b)
	w.Write(text) // a buffer takes everything
	w.Close()
	if !bytes.HasSuffix(b.Bytes(), []byte("\r\n")) {
		b.WriteString("\r\n")
	}
}
