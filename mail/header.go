package mail

import "postern.email/kit/errs"

// Limits of a header. RFC 5322 sets none.
const (
	MaxHeaderBytes = 256 << 10
	MaxFields      = 1000
)

// Field is one header field over the raw bytes. Name is as written; Raw is the
// whole field with its folding and final CRLF; it must not be changed.
type Field struct {
	Name string
	Raw  []byte
}

// Value gives the field body unfolded (RFC 5322 §2.2.3) and trimmed.
func (f Field) Value() string { return "" }

// Header is the ordered fields of one header. It shares the bytes it was parsed
// from and is never changed; edits make new bytes.
type Header struct{ fields []Field }

// ParseHeader reads the header at the start of raw. The body begins at bodyOffset,
// behind the empty line; without an empty line bodyOffset is len(raw). Errors:
// errs.TooLarge beyond the limits, errs.Invalid for a line that is no field and no
// continuation; what was read until then is returned, with bodyOffset at the bad line.
func ParseHeader(raw []byte) (h Header, bodyOffset int, err error) {
	return Header{}, 0, errs.E("mail.ParseHeader", errs.Unsupported, "", nil)
}

// Fields gives all fields in order.
func (h Header) Fields() []Field { return h.fields }

// Get gives the value of the first field of that name (any case), "" if none.
func (h Header) Get(name string) string { return "" }

// All gives the values of all fields of that name in order.
func (h Header) All(name string) []string { return nil }

// Count gives the number of fields of that name.
func (h Header) Count(name string) int { return 0 }

// Bytes gives the header as bytes with CRLF line ends and the empty line.
func (h Header) Bytes() []byte { return nil }

// Remove gives a Header without the fields of these names.
func (h Header) Remove(names ...string) Header { return h }

// Replace gives a Header in which the first field of that name has the given
// value and the others of that name are gone; without one, it is appended.
func (h Header) Replace(name, value string) Header { return h }

// Prepend gives a Header with a field before all others.
func (h Header) Prepend(name, value string) Header { return h }

// Append gives a Header with a field behind all others.
func (h Header) Append(name, value string) Header { return h }
