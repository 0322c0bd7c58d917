package imap

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxDepth bounds nested parentheses in a command.
const maxDepth = 50

// syntaxError is answered with BAD.
type syntaxError struct{ text string }

func (e *syntaxError) Error() string { return e.text }

func syntaxf(format string, args ...any) error {
	return &syntaxError{fmt.Sprintf(format, args...)}
}

// parser reads the tokens of one command (RFC 9051 §9). The text holds small
// literals in place, as "{n}\r\n" and n bytes; the data of messages is beside it.
type parser struct {
	b    []byte
	i    int
	data []messageData
	utf8 bool // quoted strings may hold UTF-8
}

// messageData is a literal that was read into memory of its own.
type messageData struct {
	at  int // where in the text its bytes would begin
	raw []byte
}

func (p *parser) done() bool { return p.i >= len(p.b) }

func (p *parser) peek() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

// take skips c if it is next.
func (p *parser) take(c byte) bool {
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) expect(c byte) error {
	if !p.take(c) {
		if c == ' ' {
			return syntaxf("missing space")
		}
		return syntaxf("missing %q", string(rune(c)))
	}
	return nil
}

func (p *parser) sp() error { return p.expect(' ') }

// end checks that nothing is left.
func (p *parser) end() error {
	if !p.done() {
		return syntaxf("unexpected text behind the command")
	}
	return nil
}

// word skips w, compared without case, if it is next and ends there.
func (p *parser) word(w string) bool {
	if !p.prefix(w) {
		return false
	}
	if p.i < len(p.b) && isAtom(p.b[p.i]) {
		p.i -= len(w)
		return false
	}
	return true
}

// prefix skips w, compared without case, if it is next.
func (p *parser) prefix(w string) bool {
	if len(p.b)-p.i < len(w) || !strings.EqualFold(string(p.b[p.i:p.i+len(w)]), w) {
		return false
	}
	p.i += len(w)
	return true
}

// isAtom reports an ATOM-CHAR: no atom-specials.
func isAtom(c byte) bool {
	switch c {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', ']':
		return false
	}
	return c > 0x20 && c < 0x7f
}

// run takes the bytes that ok accepts.
func (p *parser) run(ok func(byte) bool) string {
	start := p.i
	for p.i < len(p.b) && ok(p.b[p.i]) {
		p.i++
	}
	return string(p.b[start:p.i])
}

func (p *parser) atom() (string, error) {
	s := p.run(isAtom)
	if s == "" {
		return "", syntaxf("missing word")
	}
	return s, nil
}

// upperAtom gives an atom in upper case.
func (p *parser) upperAtom() (string, error) {
	s, err := p.atom()
	return strings.ToUpper(s), err
}

// tag reads the tag of a command: ASTRING-CHAR without "+".
func (p *parser) tag() (string, error) {
	s := p.run(func(c byte) bool { return c != '+' && (isAtom(c) || c == ']') })
	if s == "" {
		return "", syntaxf("missing tag")
	}
	return s, nil
}

func (p *parser) number() (uint32, error) {
	n, ok := parseNum32([]byte(p.run(isDigit)))
	if !ok {
		return 0, syntaxf("missing or too large number")
	}
	return n, nil
}

func (p *parser) number64() (uint64, error) {
	s := p.run(isDigit)
	if s == "" || len(s) > 19 {
		return 0, syntaxf("missing or too large number")
	}
	var n uint64
	for i := range len(s) {
		n = n*10 + uint64(s[i]-'0')
	}
	if n > 1<<63-1 { // mod-sequence and number64 have 63 bits (RFC 7162 §7)
		return 0, syntaxf("number too large")
	}
	return n, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// quoted reads a quoted string with the escapes \" and \\.
func (p *parser) quoted() (string, error) {
	if err := p.expect('"'); err != nil {
		return "", err
	}
	var out []byte
	for p.i < len(p.b) {
		c := p.b[p.i]
		p.i++
		switch c {
		case '"':
			if !utf8.Valid(out) {
				return "", syntaxf("quoted string is not UTF-8")
			}
			return string(out), nil
		case '\\':
			if p.i >= len(p.b) || (p.b[p.i] != '"' && p.b[p.i] != '\\') {
				return "", syntaxf("wrong escape in a quoted string")
			}
			c = p.b[p.i]
			p.i++
		case '\r', '\n':
			return "", syntaxf("line end in a quoted string")
		}
		out = append(out, c)
	}
	return "", syntaxf("quoted string without end")
}

// literalHead reads "{n}" or "{n+}" with its CRLF, and "~" before it if binary
// is allowed.
func (p *parser) literalHead(binary bool) (int, error) {
	if binary {
		p.take('~')
	}
	if err := p.expect('{'); err != nil {
		return 0, err
	}
	n, err := p.number64()
	if err != nil {
		return 0, err
	}
	p.take('+')
	if !bytes.HasPrefix(p.b[p.i:], []byte("}\r\n")) {
		return 0, syntaxf("wrong literal")
	}
	p.i += 3
	if n > 1<<40 {
		return 0, syntaxf("literal too large")
	}
	return int(n), nil
}

// literal reads a literal whose bytes are in the text.
func (p *parser) literal() (string, error) {
	n, err := p.literalHead(false)
	if err != nil {
		return "", err
	}
	if n > len(p.b)-p.i {
		return "", syntaxf("literal cut short")
	}
	s := p.b[p.i : p.i+n]
	p.i += n
	if bytes.IndexByte(s, 0) >= 0 {
		return "", syntaxf("NUL in a literal")
	}
	return string(s), nil
}

// message reads a literal that was read into memory of its own.
func (p *parser) message() ([]byte, error) {
	n, err := p.literalHead(true)
	if err != nil {
		return nil, err
	}
	for _, d := range p.data {
		if d.at == p.i && len(d.raw) == n {
			return d.raw, nil
		}
	}
	return nil, syntaxf("message data must be a literal")
}

// str reads a quoted string or literal.
func (p *parser) str() (string, error) {
	if p.peek() == '{' {
		return p.literal()
	}
	return p.quoted()
}

// astring reads an atom (with "]") or string.
func (p *parser) astring() (string, error) {
	switch p.peek() {
	case '"', '{':
		return p.str()
	}
	s := p.run(func(c byte) bool { return isAtom(c) || c == ']' })
	if s == "" {
		return "", syntaxf("missing word or string")
	}
	return s, nil
}

// nstring reads a string or NIL.
func (p *parser) nstring() (s string, isNil bool, err error) {
	if c := p.peek(); c != '"' && c != '{' {
		if p.word("NIL") {
			return "", true, nil
		}
	}
	s, err = p.str()
	return s, false, err
}

// mailbox reads a mailbox name and gives it as UTF-8. "INBOX" has one spelling.
func (p *parser) mailbox() (string, error) {
	s, err := p.astring()
	if err != nil {
		return "", err
	}
	return p.mailboxName(s)
}

func (p *parser) mailboxName(s string) (string, error) {
	if !p.utf8 {
		// A client that sends raw UTF-8 without asking for it means what it says.
		if isASCII(s) {
			d, err := decodeUTF7(s)
			if err != nil {
				return "", err
			}
			s = d
		}
	}
	if !utf8.ValidString(s) {
		return "", syntaxf("mailbox name is not UTF-8")
	}
	if !isASCII(s) {
		// One spelling of a name, whatever the client's system composes (RFC 5198 §3).
		s = norm.NFC.String(s)
	}
	return canonicalInbox(s), nil
}

// canonicalInbox spells INBOX, alone or as first level, in upper case.
func canonicalInbox(s string) string {
	if len(s) >= 5 && strings.EqualFold(s[:5], "INBOX") && (len(s) == 5 || s[5] == '/') {
		return "INBOX" + s[5:]
	}
	return s
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// listMailbox reads a LIST pattern: wildcards are allowed in the bare form.
func (p *parser) listMailbox() (string, error) {
	switch p.peek() {
	case '"', '{':
		s, err := p.str()
		if err != nil {
			return "", err
		}
		return p.mailboxName(s)
	}
	s := p.run(func(c byte) bool { return isAtom(c) || c == ']' || c == '%' || c == '*' })
	if s == "" {
		return "", syntaxf("missing mailbox pattern")
	}
	return p.mailboxName(s)
}

// list reads "(" item *(SP item) ")"; with empty also "()".
func (p *parser) list(empty bool, item func() error) error {
	if err := p.expect('('); err != nil {
		return err
	}
	if empty && p.take(')') {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if p.take(')') {
			return nil
		}
		if err := p.sp(); err != nil {
			return err
		}
	}
}

// sequence reads a sequence set or "$".
func (p *parser) sequence() (numSet, error) {
	if p.take('$') {
		return numSet{saved: true}, nil
	}
	var s numSet
	one := func() (uint32, error) {
		if p.take('*') {
			return 0, nil
		}
		n, err := p.number()
		if err == nil && n == 0 {
			err = syntaxf("message numbers begin with 1")
		}
		return n, err
	}
	for {
		lo, err := one()
		if err != nil {
			return s, err
		}
		hi := lo
		if p.take(':') {
			if hi, err = one(); err != nil {
				return s, err
			}
		}
		s.ranges = append(s.ranges, numRange{lo, hi})
		if !p.take(',') {
			return s, nil
		}
	}
}

// flag reads one flag: \Name or a keyword.
func (p *parser) flag() (string, error) {
	if p.take('\\') {
		a, err := p.atom()
		return `\` + a, err
	}
	return p.atom()
}

// systemFlags maps lower-case names to bits.
var systemFlags = []struct {
	name string
	bit  Flags
}{{`\Answered`, Answered}, {`\Flagged`, Flagged}, {`\Deleted`, Deleted}, {`\Seen`, Seen}, {`\Draft`, Draft}}

// Limits of keywords in one command.
const (
	maxKeywords      = 100
	maxKeywordLength = 200
)

// flags collects flags into bits and keywords. \Recent is ignored: clients send
// back what they saw, and it cannot be changed (RFC 3501 §2.3.2).
type flagSet struct {
	bits     Flags
	keywords []string
}

func (f *flagSet) add(name string) error {
	if !strings.HasPrefix(name, `\`) {
		for _, k := range f.keywords {
			if strings.EqualFold(k, name) {
				return nil
			}
		}
		if len(f.keywords) >= maxKeywords || len(name) > maxKeywordLength {
			return syntaxf("too many or too long keywords")
		}
		f.keywords = append(f.keywords, name)
		return nil
	}
	for _, s := range systemFlags {
		if strings.EqualFold(s.name, name) {
			f.bits |= s.bit
			return nil
		}
	}
	if strings.EqualFold(name, `\Recent`) {
		return nil
	}
	return syntaxf("unknown system flag")
}

// flagList reads "(" [flag *(SP flag)] ")".
func (p *parser) flagList() (flagSet, error) {
	var f flagSet
	err := p.list(true, func() error { return p.oneFlag(&f) })
	return f, err
}

func (p *parser) oneFlag(f *flagSet) error {
	name, err := p.flag()
	if err != nil {
		return err
	}
	return f.add(name)
}

// storeFlags reads a flag list with or without parentheses (store-att-flags).
func (p *parser) storeFlags() (flagSet, error) {
	if p.peek() == '(' {
		return p.flagList()
	}
	var f flagSet
	for {
		if err := p.oneFlag(&f); err != nil {
			return f, err
		}
		if !p.take(' ') {
			return f, nil
		}
	}
}

// dateTime reads a quoted date-time: " 1-Jan-2026 12:00:00 +0000".
func (p *parser) dateTime() (time.Time, error) {
	s, err := p.quoted()
	if err != nil {
		return time.Time{}, err
	}
	if t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", s); err == nil {
		return t, nil
	}
	return time.Time{}, syntaxf("wrong date and time")
}

// date reads 1-Jan-2026, quoted or not, as midnight UTC.
func (p *parser) date() (time.Time, error) {
	quoted := p.take('"')
	s := p.run(isAtom)
	if quoted {
		if err := p.expect('"'); err != nil {
			return time.Time{}, err
		}
	}
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		return time.Time{}, syntaxf("wrong date")
	}
	return t, nil
}
