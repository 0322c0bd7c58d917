// Package ini reads configuration files in the INI form of git config as Go's gcfg library takes
// it, for programs of others whose files are read as they are.
package ini

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern.email/kit/errs"
)

// Entry is one line of a file that says something: a section's heading, where Key is empty, or a
// key in a section.
type Entry struct {
	Section string // as it is written; names are compared without case
	Sub     string // of [section "sub"]
	Key     string
	Value   string // unquoted
	Blank   bool   // the key stands there without an equals sign
	Line    int    // from 1
}

// Parse reads a whole file. name stands in error texts. The rules are gcfg's: sections in brackets;
// keys "name = value"; names begin with a letter and go on with letters, digits and hyphens; a
// comment begins with ; or #, everywhere but in quotes; blanks around a value are no part of it;
// "quotes" keep blanks, ; and #, and in them \" \\ \n and \t stand for what they say; outside of
// them a backslash at the end of a line continues the value. The text is UTF-8, perhaps with a byte
// order mark. errs.Invalid, with the line.
func Parse(name string, text []byte) ([]Entry, error) {
	p := parser{name: name, text: strings.TrimPrefix(string(text), "\ufeff"), line: 1}
	if i := strings.IndexByte(p.text, 0); i >= 0 {
		p.line += strings.Count(p.text[:i], "\n")
		return nil, p.fault("a zero byte")
	}
	if !utf8.ValidString(p.text) {
		return nil, errs.E("kit/ini.Parse", errs.Invalid, name+": the file is not in UTF-8", nil)
	}
	var all []Entry
	var at Entry
	for {
		e, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case e == nil:
			return all, nil
		case e.Key == "":
			at = *e
		case at.Section == "":
			return nil, p.faultAt(e.Line, "the key "+e.Key+" stands before the first section")
		default:
			e.Section, e.Sub = at.Section, at.Sub
		}
		all = append(all, *e)
	}
}

// parser walks over a text. text is what is left of it.
type parser struct {
	name, text string
	line       int
}

func (p *parser) fault(text string) error { return p.faultAt(p.line, text) }

func (p *parser) faultAt(line int, text string) error {
	return errs.E("kit/ini.Parse", errs.Invalid, fmt.Sprintf("%s:%d: %s", p.name, line, text), nil)
}

// blanks skips what is no line end.
func (p *parser) blanks() { p.text = strings.TrimLeft(p.text, " \t\r") }

// next gives the next entry, nil at the end.
func (p *parser) next() (*Entry, error) {
	for {
		p.blanks()
		switch {
		case p.text == "":
			return nil, nil
		case p.text[0] == '\n':
			p.text = p.text[1:]
			p.line++
		case p.text[0] == ';' || p.text[0] == '#':
			p.comment()
		case p.text[0] == '[':
			return p.section()
		default:
			return p.entry()
		}
	}
}

// comment skips the rest of the line.
func (p *parser) comment() {
	if i := strings.IndexByte(p.text, '\n'); i >= 0 {
		p.text = p.text[i:]
	} else {
		p.text = ""
	}
}

// ident cuts a name off, "" where there is none.
func (p *parser) ident() string {
	end := len(p.text)
	for i, r := range p.text {
		if !unicode.IsLetter(r) && (i == 0 || r != '-' && !unicode.IsDigit(r)) {
			end = i
			break
		}
	}
	name := p.text[:end]
	p.text = p.text[end:]
	return name
}

// lineEnd makes sure that nothing but a comment follows on the line.
func (p *parser) lineEnd(behind string) error {
	p.blanks()
	if p.text == "" || strings.IndexByte("\n;#", p.text[0]) >= 0 {
		return nil
	}
	return p.fault("only a comment may stand behind " + behind)
}

func (p *parser) section() (*Entry, error) {
	e := &Entry{Line: p.line}
	p.text = p.text[1:]
	p.blanks()
	if e.Section = p.ident(); e.Section == "" {
		return nil, p.fault("a section is written [Name]")
	}
	p.blanks()
	if p.text != "" && p.text[0] == '"' {
		sub, err := p.value(true)
		if err != nil {
			return nil, err
		}
		if sub == "" {
			return nil, p.fault("the name of a subsection is empty")
		}
		e.Sub = sub
		p.blanks()
	}
	if p.text == "" || p.text[0] != ']' {
		return nil, p.fault("a section is written [Name]")
	}
	p.text = p.text[1:]
	return e, p.lineEnd("the name of a section")
}

func (p *parser) entry() (*Entry, error) {
	e := &Entry{Line: p.line, Key: p.ident()}
	if e.Key == "" {
		return nil, p.fault("this is neither a section nor a key; write Name = value")
	}
	p.blanks()
	if p.text == "" || p.text[0] != '=' {
		e.Blank = true
		return e, p.lineEnd("a key without a value; write " + e.Key + " = value")
	}
	p.text = p.text[1:]
	p.blanks()
	var err error
	if e.Value, err = p.value(false); err != nil {
		return nil, err
	}
	return e, p.lineEnd("a value")
}

// value cuts a value off. one: only what is in one pair of quotes.
func (p *parser) value(one bool) (string, error) {
	var b strings.Builder
	keep := 0 // blanks behind this are no part of it
	quoted := false
	for i := 0; ; i++ {
		if i == len(p.text) || p.text[i] == '\n' || !quoted && (p.text[i] == ';' || p.text[i] == '#') {
			if quoted {
				return "", p.fault("the quotes are not closed on this line")
			}
			p.text = p.text[i:]
			return b.String()[:keep], nil
		}
		switch c := p.text[i]; {
		case c == '"':
			quoted = !quoted
			keep = b.Len()
			if one && !quoted {
				p.text = p.text[i+1:]
				return b.String(), nil
			}
			continue
		case c == '\\':
			n, r, err := p.escape(p.text[i+1:], quoted)
			if err != nil {
				return "", err
			}
			i += n
			b.WriteString(r)
		case c == '\r' && !quoted:
			continue
		default:
			b.WriteByte(c)
			if !quoted && (c == ' ' || c == '\t') {
				continue
			}
		}
		keep = b.Len()
	}
}

// escape reads what follows a backslash: its length, and what it stands for.
func (p *parser) escape(s string, quoted bool) (n int, to string, err error) {
	if !quoted {
		for _, end := range []string{"\n", "\r\n"} {
			if strings.HasPrefix(s, end) {
				p.line++
				return len(end), "", nil
			}
		}
		return 0, "", p.fault(`outside of quotes a backslash stands at the end of a line only; put the value in quotes and write \\`)
	}
	if s != "" {
		if i := strings.IndexByte(`"\nt`, s[0]); i >= 0 {
			return 1, "\"\\\n\t"[i : i+1], nil
		}
	}
	return 0, "", p.fault(`in quotes there are \" \\ \n and \t; a backslash is written \\`)
}
