package mime

import (
	"encoding/binary"
	"errors"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// The stored form, version 1: one octet 1, then the root part. A part is, in this order:
//
//	kind octet  1 multipart, 2 message inside, 4 envelope, 8 disposition, 16 rare fields
//	strings     media type, subtype, encoding
//	parameters  count, then name and value of each
//	offsets     header start (from the parent's), header length, body length, lines
//	8           disposition, its parameters
//	16          id, description, location, md5, languages
//	4           envelope
//	1           count, parts
//	2           the message
//
// Numbers are unsigned varints; a string is its length and its bytes. An envelope is date,
// subject, in-reply-to, message-id and six lists: count+1 and the entries, or 0 for "the
// same as From". An entry is its group mark, raw name, local part, domain.
const storedVersion = 1

// MaxEncoded bounds what Encode makes of a tree that Parse made: MaxText of strings, and
// for each part and each list entry their numbers.
const MaxEncoded = MaxText + MaxParts*64 + 1<<16

const (
	hasParts = 1 << iota
	hasMessage
	hasEnvelope
	hasDisposition
	hasRare
)

// Encode writes the tree (root with envelopes) in the compact stored form.
func Encode(root *Part) []byte {
	e := encoder{make([]byte, 0, 512)}
	e.b = append(e.b, storedVersion)
	e.part(root, 0)
	return e.b
}

type encoder struct{ b []byte }

func (e *encoder) num(n int64) { e.b = binary.AppendUvarint(e.b, uint64(n)) }

func (e *encoder) str(s string) {
	e.num(int64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) params(ps []Param) {
	e.num(int64(len(ps)))
	for _, p := range ps {
		e.str(p.Name)
		e.str(p.Value)
	}
}

func (e *encoder) part(p *Part, base int64) {
	var kind byte
	if len(p.Parts) > 0 {
		kind |= hasParts
	}
	if p.Message != nil {
		kind |= hasMessage
	}
	if p.Envelope != nil {
		kind |= hasEnvelope
	}
	if p.Disposition != "" || len(p.DispositionParams) > 0 {
		kind |= hasDisposition
	}
	if p.ID != "" || p.Description != "" || p.Location != "" || p.MD5 != "" || len(p.Language) > 0 {
		kind |= hasRare
	}
	e.b = append(e.b, kind)
	e.str(p.MediaType)
	e.str(p.Subtype)
	e.str(p.Encoding)
	e.params(p.Params)
	e.num(p.HeaderStart - base)
	e.num(p.BodyStart - p.HeaderStart)
	e.num(p.BodyEnd - p.BodyStart)
	e.num(p.Lines)
	if kind&hasDisposition != 0 {
		e.str(p.Disposition)
		e.params(p.DispositionParams)
	}
	if kind&hasRare != 0 {
		for _, s := range [...]string{p.ID, p.Description, p.Location, p.MD5} {
			e.str(s)
		}
		e.num(int64(len(p.Language)))
		for _, s := range p.Language {
			e.str(s)
		}
	}
	if kind&hasEnvelope != 0 {
		e.envelope(p.Envelope)
	}
	if kind&hasParts != 0 {
		e.num(int64(len(p.Parts)))
		for _, c := range p.Parts {
			e.part(c, p.HeaderStart)
		}
	}
	if kind&hasMessage != 0 {
		e.part(p.Message, p.HeaderStart)
	}
}

func (e *encoder) envelope(v *Envelope) {
	for _, s := range [...]string{v.Date, v.Subject, v.InReplyTo, v.MessageID} {
		e.str(s)
	}
	for i, l := range v.lists() {
		if i > 0 && len(*l) > 0 && slices.Equal(*l, v.From) {
			e.num(0)
			continue
		}
		e.num(int64(len(*l)) + 1)
		for _, m := range *l {
			e.b = append(e.b, byte(m.Group))
			e.str(m.RawName)
			e.str(m.Address.Local)
			e.str(m.Address.Domain)
		}
	}
}

// lists gives the address lists in stored order; From is first.
func (v *Envelope) lists() [6]*[]mail.Mailbox {
	return [6]*[]mail.Mailbox{&v.From, &v.Sender, &v.ReplyTo, &v.To, &v.Cc, &v.Bcc}
}

var errStored = errors.New("malformed structure")

// Decode reads what Encode wrote; errs.Corrupt for anything else, errs.Unsupported for a
// later version. It takes no more memory than a small multiple of b.
func Decode(b []byte) (*Part, error) {
	const op = "mail/mime.Decode"
	if len(b) > MaxEncoded {
		return nil, errs.E(op, errs.Corrupt, "stored structure too large", nil)
	}
	if len(b) > 0 && b[0] > storedVersion {
		return nil, errs.E(op, errs.Unsupported, "stored structure of a later version", nil)
	}
	if len(b) == 0 || b[0] != storedVersion {
		return nil, errs.E(op, errs.Corrupt, "", errStored)
	}
	d := decoder{b: b[1:]}
	root := d.part(0, maxOffset, 0)
	if d.bad || len(d.b) > 0 {
		return nil, errs.E(op, errs.Corrupt, "", errStored)
	}
	return root, nil
}

const (
	maxOffset = 1 << 32

	// maxList: NewEnvelope stops at a field that brings a list to MaxMailboxes, and one
	// field may have a few borders of groups more.
	maxList = 2*mail.MaxMailboxes + 8
)

// decoder reads the stored form; after the first mistake bad stays set and all reads
// give zero.
type decoder struct {
	b     []byte
	parts int
	bad   bool
}

func (d *decoder) fail() {
	d.bad = true
	d.b = nil
}

// num reads a number up to limit.
func (d *decoder) num(limit int64) int64 {
	n, k := binary.Uvarint(d.b)
	if k <= 0 || n > uint64(limit) {
		d.fail()
		return 0
	}
	d.b = d.b[k:]
	return int64(n)
}

// count reads a number of things that take at least one octet each.
func (d *decoder) count(limit int) int {
	n := d.num(int64(limit))
	if n > int64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) octet() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) str() string {
	n := d.count(MaxText)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) params() []Param {
	n := d.count(maxParams)
	if n == 0 {
		return nil
	}
	ps := make([]Param, 0, n)
	for range n {
		ps = append(ps, Param{d.str(), d.str()})
	}
	return ps
}

// part reads a part that lies between base and end.
func (d *decoder) part(base, end int64, depth int) *Part {
	d.parts++
	if depth > MaxDepth+1 || d.parts > 2*MaxParts { // every part may hold a synthetic empty one
		d.fail()
		return nil
	}
	kind := d.octet()
	p := &Part{MediaType: d.str(), Subtype: d.str(), Encoding: d.str(), Params: d.params()}
	p.HeaderStart = base + d.num(end-base)
	p.BodyStart = p.HeaderStart + d.num(end-p.HeaderStart)
	p.BodyEnd = p.BodyStart + d.num(end-p.BodyStart)
	p.Lines = d.num(p.Size())
	if kind&hasDisposition != 0 {
		p.Disposition, p.DispositionParams = d.str(), d.params()
	}
	if kind&hasRare != 0 {
		p.ID, p.Description, p.Location, p.MD5 = d.str(), d.str(), d.str(), d.str()
		for range d.count(maxParams) {
			p.Language = append(p.Language, d.str())
		}
	}
	if kind&hasEnvelope != 0 {
		p.Envelope = d.envelope()
	}
	if d.bad || kind >= 32 || (kind&hasParts != 0) != p.Multipart() || kind&hasMessage != 0 && !p.isMessage() {
		d.fail()
		return p
	}
	if kind&hasParts != 0 {
		n := d.count(MaxParts)
		if n == 0 {
			d.fail()
		}
		for range n {
			p.Parts = append(p.Parts, d.part(p.HeaderStart, p.BodyEnd, depth+1))
			if d.bad {
				return p
			}
		}
	}
	if kind&hasMessage != 0 {
		p.Message = d.part(p.HeaderStart, p.BodyEnd, depth+1)
		if d.bad || p.Message.Envelope == nil {
			d.fail()
		}
	}
	return p
}

func (d *decoder) envelope() *Envelope {
	v := &Envelope{Date: d.str(), Subject: d.str(), InReplyTo: d.str(), MessageID: d.str()}
	for i, l := range v.lists() {
		n := d.num(maxList + 1)
		if n > int64(len(d.b))+1 {
			d.fail()
			return v
		}
		if n == 0 {
			if i == 0 {
				d.fail()
			}
			*l = v.From
			continue
		}
		for range n - 1 {
			m := mail.Mailbox{Group: mail.GroupMark(d.octet()), RawName: d.str(), Address: mail.Address{Local: d.str(), Domain: d.str()}}
			if d.bad || m.Group > mail.GroupEnd {
				d.fail()
				return v
			}
			m.Name = mail.DecodeWords(m.RawName)
			*l = append(*l, m)
		}
	}
	return v
}
