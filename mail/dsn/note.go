package dsn

import (
	"bytes"
	"io"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Note is a report in words alone, of something that is no status of a mail. To, Subject, Text and
// Now are needed.
type Note struct {
	Domain  string       // ours: the note is from mailer-daemon@Domain
	To      mail.Address // whom it is for
	Subject string       // ASCII
	Text    string       // paragraphs, with an empty line between two; one that begins with spaces keeps its lines
	Now     time.Time    // for Date
	Rand    io.Reader    // for Message-ID; nil: crypto/rand
}

// Build gives the note as a whole mail with CRLF line ends. errs.Invalid for one that cannot be
// told.
func (n Note) Build() ([]byte, error) {
	const op = "mail/dsn.Note.Build"
	if n.Now.IsZero() || n.Subject == "" || n.Text == "" || !ascii(n.Subject) || strings.ContainsAny(n.Subject, "\r\n\x00") ||
		!plainAddress(n.To) || !plainAddress(mail.Address{Local: "x", Domain: n.Domain}) {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	id, err := mail.NewMessageID(n.Rand, n.Domain)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	var b, text bytes.Buffer
	head(&b, n.Domain, n.To, n.Subject, n.Now, id, "auto-generated")
	field(&b, "MIME-Version", "1.0")
	for i, p := range strings.Split(n.Text, "\n\n") {
		if i > 0 {
			text.WriteString("\r\n")
		}
		if !strings.HasPrefix(p, " ") {
			wrapped(&text, "", p)
			continue
		}
		for line := range strings.SplitSeq(p, "\n") {
			text.WriteString(shownLine(strings.ReplaceAll(line, "\t", " ")) + "\r\n")
		}
	}
	textPart(&b, text.Bytes())
	return b.Bytes(), nil
}
