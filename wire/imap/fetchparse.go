package imap

import (
	"strings"

	"postern.email/mail/mime"
)

// itemKind names what a FETCH item gives.
type itemKind uint8

const (
	itemFlags itemKind = iota
	itemUID
	itemDate
	itemSize
	itemEnvelope
	itemBodyStructure
	itemBody // BODY without section: the structure without extension data
	itemModSeq
	itemSection    // BODY[…], RFC822…
	itemBinary     // BINARY[…]
	itemBinarySize // BINARY.SIZE[…]
	itemEmailID    // RFC 8474
	itemThreadID
	itemPreview  // RFC 8970
	itemSaveDate // RFC 8514
)

// fetchItem is one item of a FETCH.
type fetchItem struct {
	kind itemKind
	name string // as it is echoed in the response, without "<origin>"
	peek bool

	path   []int
	what   mime.What
	fields []string // HEADER.FIELDS
	not    bool     // HEADER.FIELDS.NOT

	partial     bool
	offset, len uint64
}

// Limits of one FETCH.
const (
	maxItems  = 100
	maxFields = 200
	maxPath   = mime.MaxDepth
)

// fetchItems reads fetch-att or a list or a macro (RFC 9051 §6.4.5).
func (p *parser) fetchItems() ([]fetchItem, error) {
	var items []fetchItem
	simple := func(kinds ...fetchItem) []fetchItem { return append(items, kinds...) }
	flags := fetchItem{kind: itemFlags, name: "FLAGS"}
	date := fetchItem{kind: itemDate, name: "INTERNALDATE"}
	size := fetchItem{kind: itemSize, name: "RFC822.SIZE"}
	envelope := fetchItem{kind: itemEnvelope, name: "ENVELOPE"}
	switch {
	case p.word("ALL"):
		return simple(flags, date, size, envelope), nil
	case p.word("FAST"):
		return simple(flags, date, size), nil
	case p.word("FULL"):
		return simple(flags, date, size, envelope, fetchItem{kind: itemBody, name: "BODY"}), nil
	}
	one := func() error {
		it, err := p.fetchItem()
		if err == nil {
			if len(items) >= maxItems {
				return syntaxf("too many items")
			}
			items = append(items, it)
		}
		return err
	}
	if p.peek() != '(' {
		return items, one()
	}
	err := p.list(false, one)
	return items, err
}

// simpleItems are the items that are only a word.
var simpleItems = map[string]fetchItem{
	"FLAGS":         {kind: itemFlags},
	"UID":           {kind: itemUID},
	"INTERNALDATE":  {kind: itemDate},
	"RFC822.SIZE":   {kind: itemSize},
	"ENVELOPE":      {kind: itemEnvelope},
	"BODYSTRUCTURE": {kind: itemBodyStructure},
	"BODY":          {kind: itemBody},
	"MODSEQ":        {kind: itemModSeq},
	"EMAILID":       {kind: itemEmailID},
	"THREADID":      {kind: itemThreadID},
	"PREVIEW":       {kind: itemPreview},
	"SAVEDATE":      {kind: itemSaveDate},
	"RFC822":        {kind: itemSection, what: mime.Whole},
	"RFC822.HEADER": {kind: itemSection, what: mime.Header, peek: true},
	"RFC822.TEXT":   {kind: itemSection, what: mime.Text},
}

func (p *parser) fetchItem() (fetchItem, error) {
	word := strings.ToUpper(p.run(func(c byte) bool { return isAtom(c) && c != '[' && c != '<' }))
	if p.peek() != '[' {
		it, ok := simpleItems[word]
		if !ok {
			return it, syntaxf("unknown FETCH item")
		}
		it.name = word
		if it.kind == itemPreview {
			p.prefix(" (LAZY)") // a preview costs little here, so it is given anyway
		}
		return it, nil
	}
	var it fetchItem
	switch word {
	case "BODY", "BODY.PEEK":
		it.kind = itemSection
	case "BINARY", "BINARY.PEEK":
		it.kind = itemBinary
	case "BINARY.SIZE":
		it.kind, it.peek = itemBinarySize, true
	default:
		return it, syntaxf("unknown FETCH item")
	}
	var peek bool
	word, peek = strings.CutSuffix(word, ".PEEK")
	it.peek = it.peek || peek
	section, err := p.section(&it)
	if err != nil {
		return it, err
	}
	it.name = word + "[" + section + "]"
	if p.peek() == '<' && it.kind != itemBinarySize {
		return it, p.partial(&it)
	}
	return it, nil
}

// section reads "[" … "]" and gives what is echoed (RFC 9051 §6.4.5.1).
func (p *parser) section(it *fetchItem) (string, error) {
	if err := p.expect('['); err != nil {
		return "", err
	}
	var echo strings.Builder
	for isDigit(p.peek()) {
		n, err := p.number()
		if err != nil || n == 0 || n > 1<<30 || len(it.path) >= maxPath {
			return "", syntaxf("wrong part number")
		}
		if len(it.path) > 0 {
			echo.WriteByte('.')
		}
		echo.WriteString(itoa(int64(n)))
		it.path = append(it.path, int(n))
		if !p.take('.') {
			return echo.String(), p.expect(']')
		}
	}
	if it.kind != itemSection {
		if len(it.path) > 0 {
			return "", syntaxf("wrong part number")
		}
		return "", p.expect(']')
	}
	if p.take(']') {
		if len(it.path) > 0 {
			return "", syntaxf("wrong part number")
		}
		return "", nil
	}
	if len(it.path) > 0 {
		echo.WriteByte('.')
	}
	word := strings.ToUpper(p.run(func(c byte) bool { return isAtom(c) }))
	echo.WriteString(word)
	switch word {
	case "HEADER":
		it.what = mime.Header
	case "TEXT":
		it.what = mime.Text
	case "MIME":
		if len(it.path) == 0 {
			return "", syntaxf("MIME needs a part number")
		}
		it.what = mime.MIME
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		it.what, it.not = mime.Header, word == "HEADER.FIELDS.NOT"
		if err := p.sp(); err != nil {
			return "", err
		}
		err := p.list(false, func() error {
			name, err := p.astring()
			if err == nil && len(it.fields) >= maxFields {
				err = syntaxf("too many header fields")
			}
			it.fields = append(it.fields, name)
			return err
		})
		if err != nil {
			return "", err
		}
		echo.WriteString(" (")
		for i, f := range it.fields {
			if i > 0 {
				echo.WriteByte(' ')
			}
			echo.WriteString(astring(f))
		}
		echo.WriteByte(')')
	default:
		return "", syntaxf("unknown section")
	}
	return echo.String(), p.expect(']')
}

// astring gives s as it was, quoted where it must be. Header names never need a
// literal; one that would is not found anyway and is shortened to its quotable part.
func astring(s string) string {
	bare := s != ""
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAtom(c) && c != ']' {
			bare = false
		}
		if c < 0x20 || c >= 0x7f {
			continue
		}
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	if bare {
		return s
	}
	return `"` + b.String() + `"`
}

// partial reads "<offset.length>".
func (p *parser) partial(it *fetchItem) (err error) {
	p.take('<')
	it.partial = true
	if it.offset, err = p.number64(); err != nil {
		return err
	}
	if err = p.expect('.'); err != nil {
		return err
	}
	if it.len, err = p.number64(); err != nil {
		return err
	}
	if it.len == 0 {
		return syntaxf("a partial length is not zero")
	}
	return p.expect('>')
}
