// Package mime finds the parts of a message by their byte offsets. It never
// re-encodes and never copies a body.
//
// Parse makes the tree, Part.Section answers what IMAP asks (RFC 9051 §6.4.5.1),
// Encode and Decode are the stored form, NewDecoder undoes a transfer encoding.
package mime

import (
	"strings"

	"postern.email/mail"
)

// Bounds of a structure. A part beyond MaxDepth or MaxParts is a leaf of type
// application/octet-stream.
const (
	MaxDepth = 100
	MaxParts = 10_000

	// MaxText bounds all strings that a tree keeps (types, parameters, envelopes); what
	// comes later in the message is left empty.
	MaxText = 1 << 20

	maxValue  = 1 << 10 // one string; longer ones are cut. Addresses and subjects count apart
	maxParams = 64      // parameters of one field
)

// Param is one parameter of Content-Type or Content-Disposition. Name is lower case;
// both are as written otherwise ("filename*0*" stays), so that IMAP4rev1 gets what it
// expects. DecodeParams makes them readable.
type Param struct{ Name, Value string }

// Part is one node of the tree. Offsets count from the start of the whole message, and
// HeaderStart <= BodyStart <= BodyEnd.
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

	Parts    []*Part   // children of a multipart; never empty in one
	Message  *Part     // the message in a message/rfc822 or message/global
	Envelope *Envelope // set on the root and on each Message
}

// Size gives the octets of the body, still encoded.
func (p *Part) Size() int64 { return p.BodyEnd - p.BodyStart }

// Param gives a Content-Type parameter decoded to UTF-8, "" if missing.
func (p *Part) Param(name string) string { return param(p.Params, name) }

// FileName gives the name that the part suggests for a file, decoded to UTF-8, with
// encoded words (which RFC 2231 forbids and many write) decoded too; "" if none. It
// may hold path separators: it is text, not a path.
func (p *Part) FileName() string {
	name := param(p.DispositionParams, "filename")
	if name == "" {
		name = param(p.Params, "name")
	}
	return mail.DecodeWords(name)
}

// Multipart reports whether p has children.
func (p *Part) Multipart() bool { return p.MediaType == "multipart" }

// Is compares the media type, written "text/plain" in lower case.
func (p *Part) Is(kind string) bool {
	major, minor, _ := strings.Cut(kind, "/")
	return p.MediaType == major && p.Subtype == minor
}

// Envelope is what IMAP calls ENVELOPE (RFC 9051 §7.5.2). Strings are unfolded but
// encoded words stay as written. Sender and ReplyTo default to From.
type Envelope struct {
	Date, Subject         string
	From, Sender, ReplyTo []mail.Mailbox
	To, Cc, Bcc           []mail.Mailbox
	InReplyTo, MessageID  string
}

// NewEnvelope reads the envelope out of a header. A list that is broken gives the
// addresses that can be read.
func NewEnvelope(h mail.Header) *Envelope {
	list := func(name string) []mail.Mailbox {
		var out []mail.Mailbox
		for _, v := range h.All(name) { // RFC 5322 §4.5.3: several fields are one list
			l, _ := mail.ParseAddressList(v)
			out = append(out, l...)
			if len(out) >= mail.MaxMailboxes {
				break
			}
		}
		return out
	}
	e := &Envelope{
		Date: h.Get("Date"), Subject: h.Get("Subject"),
		From: list("From"), Sender: list("Sender"), ReplyTo: list("Reply-To"),
		To: list("To"), Cc: list("Cc"), Bcc: list("Bcc"),
		InReplyTo: h.Get("In-Reply-To"), MessageID: h.Get("Message-ID"),
	}
	if len(e.Sender) == 0 {
		e.Sender = e.From
	}
	if len(e.ReplyTo) == 0 {
		e.ReplyTo = e.From
	}
	return e
}

// text counts the bytes of all strings.
func (e *Envelope) text() int {
	n := len(e.Date) + len(e.Subject) + len(e.InReplyTo) + len(e.MessageID)
	for _, l := range [...][]mail.Mailbox{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		for _, m := range l {
			n += len(m.RawName) + len(m.Address.Local) + len(m.Address.Domain) + 8
		}
	}
	return n
}
