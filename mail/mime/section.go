package mime

import (
	"io"

	"postern.email/kit/errs"
)

// What names the piece of a part that a section asks for (RFC 9051 §6.4.5.1).
type What uint8

const (
	Whole  What = iota // BODY[], BODY[1]
	Header             // BODY[HEADER], BODY[1.HEADER]: of the root or of a message part
	Text               // BODY[TEXT], BODY[1.TEXT]
	MIME               // BODY[1.MIME], with the empty line
)

// Range is a run of bytes of the whole message: [Start, End).
type Range struct{ Start, End int64 }

// Len gives End-Start.
func (r Range) Len() int64 { return r.End - r.Start }

// Section finds a piece. path is the part specifier (1-based; empty: the message). ok is
// false when there is no such piece. For HEADER.FIELDS ask for Header and give
// the bytes to FilterFields.
func (p *Part) Section(path []int, what What) (r Range, ok bool) { return Range{}, false }

// Find gives the part at a path; for a message part it is the part that holds the message.
func (p *Part) Find(path []int) *Part { return nil }

// FilterFields gives the fields of header that have one of the names (not: none of the
// names), in their order and as written, and the empty line if the header has one.
func FilterFields(header []byte, names []string, not bool) []byte { return nil }

// NewDecoder undoes a content transfer encoding ("base64", "quoted-printable", "7bit",
// "8bit", "binary", ""), tolerating what real mail does wrong. An encoding that is not
// known is errs.Unsupported (IMAP: UNKNOWN-CTE).
func NewDecoder(r io.Reader, encoding string) (io.Reader, error) {
	return nil, errs.E("mail/mime.NewDecoder", errs.Unsupported, "", nil)
}
