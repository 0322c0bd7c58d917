package mail

import (
	"strings"
	"unicode/utf8"

	"postern.email/kit/errs"
)

// Bounds of one address list.
const (
	MaxMailboxes = 4096

	maxComments = 32 // depth of comments in comments
)

// GroupMark says whether a list entry is a mailbox or a border of a group.
type GroupMark uint8

const (
	NoGroup    GroupMark = iota // a mailbox
	GroupStart                  // Name and RawName are the group's name
	GroupEnd                    // nothing else is set
)

// Mailbox is one entry of an address list (RFC 5322 §3.4).
type Mailbox struct {
	Name    string // display name for people: encoded words decoded to UTF-8
	RawName string // display name unquoted, encoded words as written: for IMAP ENVELOPE
	Address Address
	Group   GroupMark
}

// ParseAddressList reads the value of a To-like field: mailboxes and groups,
// comments, quoted strings, obsolete forms (routes, empty elements, white space
// around dots), "user@host (Name)", and a semicolon where a comma should be. Groups are
// kept as GroupStart, members, GroupEnd. Addresses are not held to the strict rules of
// ParseAddress: Domain may be empty. With an error (errs.Invalid, errs.TooLarge) the
// entries that could be read are returned.
func ParseAddressList(value string) ([]Mailbox, error) {
	p := listParser{s: value}
	p.list()
	if p.why != "" {
		kind := errs.Invalid
		if p.full {
			kind = errs.TooLarge
		}
		return p.out, errs.E("mail.ParseAddressList", kind, p.why, nil)
	}
	return p.out, nil
}

// FromAddress gives the only address of the only From field, checked by the strict
// rules of ParseAddress; anything else is errs.Invalid. Forms of an address that mail
// programs read differently (a route, or comments and white space inside the
// address) are refused, since who is shown as sender must not depend on the reader.
func FromAddress(h Header) (Address, error) {
	const op = "mail.FromAddress"
	switch h.Count("From") {
	case 0:
		return Address{}, errs.E(op, errs.Invalid, "no From header", nil)
	case 1:
	default:
		return Address{}, errs.E(op, errs.Invalid, "more than one From header", nil)
	}
	p := listParser{s: h.Get("From")}
	p.list()
	switch {
	case p.why != "":
		return Address{}, errs.E(op, errs.Invalid, "malformed From header", errs.E(op, errs.Invalid, p.why, nil))
	case len(p.out) != 1 || p.out[0].Group != NoGroup:
		return Address{}, errs.E(op, errs.Invalid, "From header has not exactly one address", nil)
	case p.obsolete:
		return Address{}, errs.E(op, errs.Invalid, "From header has an ambiguous address", nil)
	}
	a, err := ParseAddress(p.out[0].Address.String())
	if err != nil {
		return Address{}, errs.E(op, errs.Invalid, "malformed address in From header", err)
	}
	return a, nil
}

// listParser reads an address list once from left to right. It goes on after an
// error at the next comma, so that ENVELOPE shows what can be shown.
type listParser struct {
	s        string
	i        int
	out      []Mailbox
	inGroup  bool
	full     bool   // MaxMailboxes reached
	obsolete bool   // an address was written in a form of RFC 5322 §4.4
	why      string // first error
	comment  string // text of the last comment skipped
}

func (p *listParser) fail(why string) {
	if p.why == "" {
		p.why = why
	}
}

func (p *listParser) list() {
	for {
		p.comment = ""
		p.skip()
		if p.i >= len(p.s) {
			break
		}
		switch p.s[p.i] {
		case ',':
			p.i++
			continue
		case ';':
			p.i++
			p.endGroup()
			continue
		}
		if len(p.out) >= MaxMailboxes {
			p.full = true
			p.fail("too many addresses")
			break
		}
		p.element()
		if p.full {
			break
		}
	}
	p.endGroup()
}

func (p *listParser) endGroup() {
	if p.inGroup {
		p.inGroup = false
		p.out = append(p.out, Mailbox{Group: GroupEnd})
	}
}

// element reads a mailbox, or the head of a group.
func (p *listParser) element() {
	w := p.words()
	switch p.peek() {
	case '<':
		p.angle(w.phrase())
	case '@':
		local := w.local(p)
		domain, ok := p.domain()
		if !ok {
			p.recover("malformed address")
			return
		}
		p.comment = ""
		p.skip()
		p.add(p.comment, Address{local, domain})
		p.end()
	case ':':
		p.i++
		if p.inGroup {
			p.fail("group inside a group")
			p.endGroup()
		}
		name := w.phrase()
		p.inGroup = true
		p.out = append(p.out, Mailbox{Name: DecodeWords(name), RawName: name, Group: GroupStart})
	default:
		// A name without a host: "root", or garbage.
		if len(w) == 0 {
			p.recover("malformed address")
			return
		}
		p.obsolete = true
		p.add("", Address{Local: w.phrase()})
		p.end()
	}
}

// angle reads "<" [route] addr-spec ">".
func (p *listParser) angle(name string) {
	p.i++
	p.skip()
	for p.peek() == '@' || p.peek() == ',' { // obs-route
		p.obsolete = true
		if p.peek() == ',' {
			p.i++
		} else if _, ok := p.domain(); !ok {
			p.recover("malformed source route")
			return
		}
		p.skip()
		if p.peek() == ':' {
			p.i++
			p.skip()
			break
		}
	}
	w := p.words()
	a := Address{Local: w.local(p)}
	if p.peek() == '@' {
		var ok bool
		if a.Domain, ok = p.domain(); !ok {
			p.recover("malformed address")
			return
		}
	}
	p.skip()
	if p.peek() != '>' {
		p.recover("malformed address")
		return
	}
	p.i++
	p.add(name, a)
	p.end()
}

// end asks for the border of an element.
func (p *listParser) end() {
	p.skip()
	switch p.peek() {
	case 0, ',', ';':
	default:
		p.recover("text behind an address")
	}
}

func (p *listParser) add(name string, a Address) {
	p.out = append(p.out, Mailbox{Name: DecodeWords(name), RawName: name, Address: a})
}

// recover notes an error and goes to the next border outside quotes and comments.
func (p *listParser) recover(why string) {
	p.fail(why)
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ',', ';':
			return
		case '"':
			p.quoted()
		case '(':
			p.skip()
		default:
			p.i++
		}
	}
}

// peek gives the next byte, 0 at the end. A NUL in the text counts as the end of an
// element too; it never comes here, since Field.Value replaces it.
func (p *listParser) peek() byte {
	if p.i >= len(p.s) {
		return 0
	}
	return p.s[p.i]
}

// word is one atom, dot or quoted string of a phrase or local part.
type word struct {
	text   string
	quoted bool
	space  bool // white space or a comment stands before it
}

type words []word

// phrase joins a display name with single spaces (RFC 5322 §3.2.5).
func (w words) phrase() string {
	var b strings.Builder
	for i, x := range w {
		if i > 0 && x.space {
			b.WriteByte(' ')
		}
		b.WriteString(x.text)
	}
	return b.String()
}

// local joins a local part; white space and quoted pieces inside it are obsolete.
func (w words) local(p *listParser) string {
	switch {
	case len(w) == 0:
		return ""
	case len(w) == 1 && (w[0].quoted || isDotString(w[0].text)):
		return w[0].text
	}
	p.obsolete = true // a dot-atom is one word; dots at its ends or in a row are obsolete too
	var b strings.Builder
	for _, x := range w {
		b.WriteString(x.text)
	}
	return b.String()
}

// words reads atoms, dots and quoted strings until a special character. A dot-atom is one word.
func (p *listParser) words() words {
	var out words
	for {
		start := p.i
		p.skip()
		space := p.i > start
		if p.i >= len(p.s) {
			return out
		}
		c := p.s[p.i]
		switch {
		case c == '"':
			out = append(out, word{text: p.quoted(), quoted: true, space: space})
		case isLoose(c):
			a := p.i
			for p.i < len(p.s) && isLoose(p.s[p.i]) {
				p.i++
			}
			out = append(out, word{text: p.s[a:p.i], space: space})
		default:
			if space && c == '@' && len(out) > 0 {
				p.obsolete = true
			}
			return out
		}
	}
}

// isLoose is atext, the dot, UTF-8, and the odd ones that real phrases hold.
func isLoose(c byte) bool {
	switch c {
	case '(', ')', '<', '>', '@', ',', ';', ':', '"', '\\', '[', ']', ' ', '\t', '\r', '\n', 0:
		return false
	}
	return c >= utf8.RuneSelf || c > ' ' && c != 0x7f
}

// quoted reads a quoted string and gives its content.
func (p *listParser) quoted() string {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return b.String()
		case '\\':
			if p.i+1 < len(p.s) {
				p.i++
				b.WriteByte(p.s[p.i])
			}
		default:
			b.WriteByte(c)
		}
	}
	p.fail("quoted string without end")
	return b.String()
}

// domain reads "@" domain; the text is joined without comments and white space.
func (p *listParser) domain() (string, bool) {
	p.i++ // "@"
	at := p.i
	p.skip()
	if p.i > at {
		p.obsolete = true
	}
	if p.peek() == '[' {
		end := strings.IndexByte(p.s[p.i:], ']')
		if end < 0 {
			return "", false
		}
		lit := p.s[p.i : p.i+end+1]
		p.i += end + 1
		return lit, true
	}
	d := p.atoms()
	for d != "" { // obs-domain: white space around dots
		back := p.i
		p.skip()
		if p.i == back {
			break
		}
		next := p.peek()
		if next != '.' && (d[len(d)-1] != '.' || !isLoose(next)) {
			p.i = back
			break
		}
		p.obsolete = true
		d += p.atoms()
		if len(d) > maxSpecText {
			return "", false
		}
	}
	return d, d != ""
}

func (p *listParser) atoms() string {
	a := p.i
	for p.i < len(p.s) && isLoose(p.s[p.i]) {
		p.i++
	}
	return p.s[a:p.i]
}

// skip passes white space and comments; it keeps the text of the last comment.
func (p *listParser) skip() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		case '(':
			p.skipComment()
		default:
			return
		}
	}
}

func (p *listParser) skipComment() {
	var b strings.Builder
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		c := p.s[p.i]
		switch c {
		case '(':
			depth++
			if depth > maxComments {
				p.fail("comments too deep")
				p.i = len(p.s)
				return
			}
			if depth == 1 {
				continue
			}
		case ')':
			depth--
			if depth == 0 {
				p.i++
				p.comment = strings.TrimSpace(b.String())
				return
			}
		case '\\':
			if p.i+1 < len(p.s) {
				p.i++
				c = p.s[p.i]
			}
		}
		b.WriteByte(c)
	}
	p.fail("comment without end")
}
