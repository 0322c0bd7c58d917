package mbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	stdmime "mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
)

// Defaults of a form, mixminiond's.
const (
	DefaultSubject = "Type III Anonymous Message"
	DefaultFromTag = anon.Tag
)

const (
	maxSubject    = 400  // characters
	maxReferences = 2000 // bytes
	maxOption     = 1024 // bytes of an option that becomes a field
	maxMessage    = 8192 // bytes of the disclaimer
	maxLine       = 998  // RFC 5322 §2.1.1
	foldAt        = 76
	base64Line    = 57 // bytes that give a line of 76
)

// Form says how a mail looks that leaves the mix network here.
type Form struct {
	ReturnAddress mail.Address // From and envelope sender; needed
	SubjectLine   string       // where the sender has said none; "": DefaultSubject
	FromTag       string       // before the name that a sender says; "": DefaultFromTag
	AllowFrom     bool         // a sender may say a name
	Abuse         string       // X-Abuse; "": none
	Comments      string       // Comments; "": none
	Message       string       // disclaimer at the top of each mail; "": none
}

// Disclaimer is the text for Message where the operator has set none: who delivers this, and
// how to end it (RemoveContact).
func Disclaimer(nickname, contact string) string {
	return fmt.Sprintf("This is an anonymous message. It was delivered by the mix node %q, which does not know who wrote it. "+
		"The operator has set it up to deliver such messages to you. To get none any more, write to %s.", nickname, contact)
}

// Check reports options that are not possible. errs.Invalid, with a public text.
func (f Form) Check() error {
	const op = "agent/mbox.Form"
	if f.ReturnAddress.Domain == "" {
		return errs.E(op, errs.Invalid, "ReturnAddress is missing", nil)
	}
	for name, v := range map[string]string{"SubjectLine": f.SubjectLine, "FromTag": f.FromTag, "X-Abuse": f.Abuse, "Comments": f.Comments} {
		if len(v) > maxOption || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
			return errs.E(op, errs.Invalid, name+" is not one line of up to 1024 bytes", nil)
		}
	}
	if len(f.Message) > maxMessage || !isText(f.Message) {
		return errs.E(op, errs.Invalid, "Message is not a text of up to 8192 bytes", nil)
	}
	return nil
}

// Compose makes the mail for a recipient of what came out of the mix network: fields, an
// empty line, a body; or only a body. Of the sender's fields those are kept that a reader needs:
// Subject, In-Reply-To, References, and what MIME says of the body; of From the name alone,
// behind a tag. id makes the Message-ID, so that a mail which is sent twice can be told.
func (f Form) Compose(to mail.Address, content []byte, id []byte, date time.Time) []byte {
	h, _ := split(content)
	return f.ComposeFrom(f.from(h.Get("From")), to, content, id, date)
}

// ComposeFrom is Compose with a From field and further fields of the caller's, which go in as they
// are.
func (f Form) ComposeFrom(from string, to mail.Address, content []byte, id []byte, date time.Time, more ...[2]string) []byte {
	h, body := split(content)
	var b []byte
	field := func(name, value string) {
		b = appendFolded(b, name, value)
	}
	field("Date", mail.FormatDate(date.UTC()))
	field("Message-ID", f.messageID(id))
	field("From", from)
	field("To", (&netmail.Address{Address: to.String()}).String())
	field("Subject", encodeWords(anon.Clip(anon.OneLine(mail.DecodeWords(or(h.Get("Subject"), or(f.SubjectLine, DefaultSubject)))), maxSubject)))
	for _, name := range []string{"In-Reply-To", "References"} {
		if v := h.Get(name); v != "" && len(v) <= maxReferences && isPrintable(v) {
			field(name, v)
		}
	}
	field("X-Anonymous", "yes")
	if f.Abuse != "" {
		field("X-Abuse", encodeWords(f.Abuse))
	}
	if f.Comments != "" {
		field("Comments", encodeWords(f.Comments))
	}
	for _, m := range more {
		field(m[0], m[1])
	}
	field("MIME-Version", "1.0")
	return append(b, f.entity(h, body, id)...)
}

// split finds the header of a content.
func split(content []byte) (mail.Header, []byte) {
	if body, ok := bytes.CutPrefix(content, []byte("\r\n")); ok {
		return mail.Header{}, body
	}
	if body, ok := bytes.CutPrefix(content, []byte("\n")); ok {
		return mail.Header{}, body
	}
	h, at, err := mail.ParseHeader(content)
	if err != nil || len(h.Fields()) == 0 || at == len(content) && !bytes.HasSuffix(content, []byte("\n\n")) && !bytes.HasSuffix(content, []byte("\n\r\n")) {
		return mail.Header{}, content // no header that an empty line ends
	}
	return h, content[at:]
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (f Form) messageID(id []byte) string {
	h := sha256.Sum256(append([]byte("postern/mbox message id\n"), id...))
	return "<" + hex.EncodeToString(h[:16]) + "@" + mail.CanonicalDomain(f.ReturnAddress.Domain) + ">"
}

// from gives the value of From: the return address, and before it the name that the sender says.
func (f Form) from(said string) string {
	name := ""
	if f.AllowFrom && said != "" {
		if list, err := mail.ParseAddressList(said); err == nil && len(list) == 1 && (list[0].Name != "" || list[0].Address.Local != "") {
			name = or(list[0].Name, list[0].Address.Local)
		} else {
			name = mail.DecodeWords(said)
		}
		name = anon.Name(name)
	}
	if name == "" {
		return anon.Bare("", f.ReturnAddress)
	}
	return anon.From(f.FromTag, name, f.ReturnAddress)
}

// EncodeWords gives a text as it stands in a field (RFC 2047).
func (Form) EncodeWords(s string) string { return encodeWords(s) }

func encodeWords(s string) string { return stdmime.QEncoding.Encode("utf-8", s) }

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' })
}

// appendFolded writes a field, folded at spaces.
func appendFolded(b []byte, name, value string) []byte {
	b = append(append(b, name...), ':')
	width := len(name) + 1
	for word := range strings.FieldsSeq(value) {
		if width+1+len(word) > foldAt && width > len(name)+1 {
			b = append(b, "\r\n"...)
			width = 0
		}
		b = append(append(b, ' '), word...)
		width += 1 + len(word)
	}
	return append(b, "\r\n"...)
}

// entity gives the rest of the mail: the fields that say what the body is, and the body.
func (f Form) entity(h mail.Header, body, id []byte) []byte {
	disclaimer := wrap(f.Message)
	ct, cte := anon.OneLine(h.Get("Content-Type")), anon.OneLine(h.Get("Content-Transfer-Encoding"))
	if ct != "" || cte != "" {
		if lines, ok := cleanLines(body); ok && isPrintable(ct) && isPrintable(cte) && len(ct) <= maxReferences && len(cte) <= foldAt {
			var e []byte
			if ct != "" {
				e = appendFolded(e, "Content-Type", ct)
			}
			if cte != "" {
				e = appendFolded(e, "Content-Transfer-Encoding", cte)
			}
			if sealed(ct) {
				// It must stay the outermost part, or readers would not know it for what it is. The
				// disclaimer is in the preamble, which only they show that know no MIME.
				e = append(e, "\r\n"...)
				e = append(e, strings.ReplaceAll(disclaimer, "\n", "\r\n")...)
				return append(append(e, "\r\n"...), lines...)
			}
			return enclose(disclaimer, append(append(e, "\r\n"...), lines...), id)
		}
		return enclose(disclaimer, attachment(body), id)
	}
	if text := strings.ReplaceAll(string(body), "\r\n", "\n"); isText(text) {
		if disclaimer != "" {
			text = disclaimer + "\n" + text
		}
		return textEntity(text)
	}
	const note = "This message is not text. It is attached as it came."
	return enclose(strings.TrimPrefix(disclaimer+"\n"+wrap(note), "\n"), attachment(body), id)
}

// sealed reports whether a body is signed or encrypted as a whole (RFC 1847).
func sealed(contentType string) bool {
	t, _, err := stdmime.ParseMediaType(contentType)
	return err == nil && (t == "multipart/encrypted" || t == "multipart/signed")
}

// isText takes UTF-8 without control characters but tab and line ends.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\f'
	})
}

// textEntity gives text in the simplest form that carries it.
func textEntity(text string) []byte {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	crlf := strings.ReplaceAll(text, "\n", "\r\n")
	simple := !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
	for line := range strings.Lines(text) {
		simple = simple && len(line) <= maxLine
	}
	if simple {
		return []byte("Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + crlf)
	}
	var b bytes.Buffer
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(crlf)) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// attachment gives any bytes.
func attachment(body []byte) []byte {
	b := []byte("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=message\r\n\r\n")
	for len(body) > 0 {
		n := min(len(body), base64Line)
		b = base64.StdEncoding.AppendEncode(b, body[:n])
		b = append(b, "\r\n"...)
		body = body[n:]
	}
	return b
}

// enclose puts a text before an entity that is not plain text; "": none.
func enclose(text string, entity, id []byte) []byte {
	if text == "" {
		return entity
	}
	h := sha256.Sum256(append([]byte("postern/mbox boundary\n"), id...))
	boundary := "=_" + hex.EncodeToString(h[:16])
	b := fmt.Appendf(nil, "Content-Type: multipart/mixed; boundary=%q\r\n\r\n--%s\r\n", boundary, boundary)
	b = append(b, textEntity(text)...)
	b = fmt.Appendf(b, "\r\n--%s\r\n", boundary)
	b = append(b, entity...)
	return fmt.Appendf(b, "\r\n--%s--\r\n", boundary)
}

// cleanLines gives a body with CRLF line ends; ok is false where SMTP cannot carry it.
func cleanLines(body []byte) (lines []byte, ok bool) {
	lines = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if len(lines) > 0 && !bytes.HasSuffix(lines, []byte("\r\n")) {
		lines = append(lines, "\r\n"...)
	}
	for line := range bytes.Lines(lines) {
		text := bytes.TrimSuffix(line, []byte("\r\n"))
		if len(text) > maxLine || bytes.ContainsAny(text, "\x00\r") {
			return nil, false
		}
	}
	return lines, true
}

// wrap breaks a text at spaces, paragraph by paragraph; "" stays "".
func wrap(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(s)) {
		width := 0
		for word := range strings.FieldsSeq(line) {
			if width > 0 && width+1+len(word) > foldAt-4 {
				b.WriteByte('\n')
				width = 0
			} else if width > 0 {
				b.WriteByte(' ')
				width++
			}
			b.WriteString(word)
			width += len(word)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
