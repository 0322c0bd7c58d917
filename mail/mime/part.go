// Package mime finds the parts of a message by their byte offsets. It never
// re-encodes and never copies a body.
package mime

import (
	"postern.email/kit/errs"
	"postern.email/mail"
)

// Bounds of a structure. Beyond MaxDepth or MaxParts a part is kept as a leaf.
const (
	MaxDepth = 100
	MaxParts = 10_000
)

// Param is one parameter; Name is lower case, Value decoded (RFC 2231) to UTF-8.
type Param struct{ Name, Value string }

// Part is one node of the tree. Offsets count from the start of the whole message.
type Part struct {
	MediaType, Subtype string // lower case; "text", "plain" when missing or broken
	Params             []Param
	ID                 string
	Description        string
	Encoding           string // lower case; "7bit" when missing
	Disposition        string // lower case; "" when missing
	DispositionParams  []Param
	Language           []string
	Location           string
	MD5                string

	HeaderStart int64 // first byte of the part's header
	BodyStart   int64 // first byte behind the header's empty line
	BodyEnd     int64 // behind the last byte of the body; the CRLF before a boundary belongs to the boundary
	Lines       int64 // lines of the body (a last line without CRLF counts)

	Parts    []*Part   // children of a multipart
	Message  *Part     // the message in a message/rfc822 or message/global
	Envelope *Envelope // set on the root and on each Message
}

// Size gives the octets of the body, still encoded.
func (p *Part) Size() int64 { return p.BodyEnd - p.BodyStart }

// Param gives a Content-Type parameter, "" if missing.
func (p *Part) Param(name string) string { return "" }

// Multipart reports whether p has children by its type.
func (p *Part) Multipart() bool { return p.MediaType == "multipart" }

// Envelope is what IMAP calls ENVELOPE (RFC 9051 §7.5.2). Strings are unfolded but
// encoded words stay as written. Sender and ReplyTo default to From.
type Envelope struct {
	Date, Subject         string
	From, Sender, ReplyTo []mail.Mailbox
	To, Cc, Bcc           []mail.Mailbox
	InReplyTo, MessageID  string
}

// Parse reads the structure of a whole message. It fails only when the message is larger
// than the offsets allow (errs.TooLarge); broken mail gives the best tree there is.
func Parse(raw []byte) (*Part, error) {
	return nil, errs.E("mail/mime.Parse", errs.Unsupported, "", nil)
}

// Encode writes the tree (root with envelopes) in the compact stored form.
func Encode(root *Part) []byte { return nil }

// Decode reads what Encode wrote; errs.Corrupt for anything else.
func Decode(b []byte) (*Part, error) {
	return nil, errs.E("mail/mime.Decode", errs.Unsupported, "", nil)
}
