package migrate

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Service is whose file it is.
type Service string

// Services.
const (
	ServiceSimpleLogin Service = "simplelogin"
	ServiceAddy        Service = "addy"
)

// Table is a CSV file with a heading: separated by commas, or, as a spreadsheet may save it, by semicolons or tabs.
type Table struct {
	in      *source
	r       *csv.Reader
	columns []string
	most    int // rows
}

// OpenTable reads the heading. errs.Invalid when there is none, or it names a column twice, or the file is UTF-16.
func OpenTable(r io.Reader) (*Table, error) { return openWithin(r, MaxFile, MaxEntries) }

// maxHead bounds what is looked at to learn how lines end and fields are separated, in bytes.
const maxHead = 4096

// openWithin is OpenTable with bounds of its own.
func openWithin(r io.Reader, bytes int64, rows int) (*Table, error) {
	const op = "agent/migrate.OpenTable"
	in := &source{r: bufio.NewReaderSize(r, maxHead), left: bytes, most: bytes}
	first, _ := in.r.Peek(maxHead) // an error comes again when it is read
	if utf16(first) {
		return nil, errs.E(op, errs.Invalid, "the file is UTF-16; save it as UTF-8", nil)
	}
	if i := slices.IndexFunc(first, func(b byte) bool { return b == '\r' || b == '\n' }); i >= 0 {
		in.cr = first[i] == '\r' && i+1 < len(first) && first[i+1] != '\n'
		first = first[:i]
	}
	t := &Table{in: in, r: csv.NewReader(in), most: rows}
	t.r.FieldsPerRecord = -1
	t.r.LazyQuotes = true
	if text := string(first); !strings.Contains(text, ",") {
		for _, other := range ";\t" {
			if strings.ContainsRune(text, other) {
				t.r.Comma = other
				break
			}
		}
	}
	head, err := t.next()
	if err == io.EOF {
		return nil, errs.E(op, errs.Invalid, "the file is empty", nil)
	}
	if err != nil {
		return nil, err
	}
	for i, name := range head {
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff")
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if name != "" && slices.Contains(t.columns, name) {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("the column %q is there twice", clip(name, maxName)), nil)
		}
		if t.columns = append(t.columns, name); len(t.columns) > maxColumns {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("the file has more than %d columns", maxColumns), nil)
		}
	}
	return t, nil
}

// utf16 tells whether a text begins with a byte order mark of UTF-16.
func utf16(text []byte) bool {
	return bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff})
}

// next gives the next row, io.EOF behind the last.
func (t *Table) next() ([]string, error) {
	t.in.row = 0
	row, err := t.r.Read()
	if err == nil || err == io.EOF {
		return row, err
	}
	const op = "agent/migrate.read"
	var p *csv.ParseError
	switch {
	case errors.As(err, &p):
		return nil, errs.E(op, errs.Invalid, fmt.Sprintf("line %d of the file is no CSV", p.Line), err)
	case errs.KindOf(err) == errs.TooLarge:
		return nil, err
	}
	return nil, errs.E(op, errs.Unavailable, "the file cannot be read", err)
}

// source is a file within bounds, with ends of lines as the reader of CSV knows them.
type source struct {
	r          *bufio.Reader
	left, most int64 // of the file, in bytes
	row        int   // bytes of the row that is being read, or a little more
	cr         bool  // lines end in CR alone
}

func (s *source) Read(p []byte) (int, error) {
	const op = "agent/migrate.read"
	if s.left <= 0 {
		return 0, errs.E(op, errs.TooLarge, fmt.Sprintf("the file is larger than %d bytes", s.most), nil)
	}
	if s.row > MaxRow {
		return 0, errs.E(op, errs.TooLarge, fmt.Sprintf("an entry of the file is longer than %d bytes", MaxRow), nil)
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	s.row += n
	if s.cr {
		for i, b := range p[:n] {
			if b == '\r' {
				p[i] = '\n'
			}
		}
	}
	return n, err
}

// Has tells whether the heading names all these columns.
func (t *Table) Has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(t.columns, n) })
}

// Rows calls fn with each row: its line, and what stands in a column, "" where there is none. errs.Invalid, errs.TooLarge
// beyond MaxFile, MaxRow and MaxEntries, errs.Unavailable when it cannot be read.
func (t *Table) Rows(fn func(line int, get func(string) string)) error {
	for n := 0; ; n++ {
		row, err := t.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == t.most {
			return errs.E("agent/migrate.Rows", errs.TooLarge, fmt.Sprintf("the file has more than %d aliases", t.most), nil)
		}
		line, _ := t.r.FieldPos(0)
		fn(line, func(name string) string {
			if i := slices.Index(t.columns, name); i >= 0 && i < len(row) {
				return row[i]
			}
			return ""
		})
	}
}

// trimmed is Rows without the blanks around what stands in a column.
func (t *Table) trimmed(fn func(line int, get func(string) string)) error {
	return t.Rows(func(line int, get func(string) string) {
		fn(line, func(name string) string { return strings.TrimSpace(get(name)) })
	})
}

// collected are entries as they come.
type collected struct {
	entries  []Entry
	problems []Problem
	seen     map[mail.Address]int // the line of an address
}

func (c *collected) problem(line int, subject, text string) {
	c.problems = append(c.problems, Problem{Line: line, Subject: subject, Text: text})
}

// add takes an entry whose address is text, and checks it.
func (c *collected) add(e Entry, text string) {
	a, err := mail.ParseAddress(text)
	if err != nil {
		c.problem(e.Line, clip(text, mail.MaxAddress), "this is no mail address; it was left out")
		return
	}
	e.Address = a.Canonical()
	if before, twice := c.seen[e.Address]; twice {
		c.problem(e.Line, e.Address.String(), fmt.Sprintf("it is there twice, first in line %d; this one was left out", before))
		return
	}
	if c.seen == nil {
		c.seen = map[mail.Address]int{}
	}
	c.seen[e.Address] = e.Line
	if short := clip(e.Note, MaxNote); short != e.Note {
		e.Note = short
		c.problem(e.Line, e.Address.String(), fmt.Sprintf("its note is longer than %d bytes and was cut", MaxNote))
	}
	c.entries = append(c.entries, e)
}

// clip cuts a text to whole letters within a number of bytes, and makes it UTF-8.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// CSV reads a file of either service, whose heading tells them apart. errs.Invalid when it is of neither,
// and the errors of SimpleLogin.
func CSV(r io.Reader) (Service, []Entry, []Problem, error) {
	t, err := OpenTable(r)
	if err != nil {
		return "", nil, nil, err
	}
	return t.Entries()
}

// Entries reads the rows of a file of either service. Errors as CSV.
func (t *Table) Entries() (Service, []Entry, []Problem, error) {
	switch {
	case isSimpleLogin(t):
		e, p, err := simpleLogin(t)
		return ServiceSimpleLogin, e, p, err
	case isAddy(t):
		e, p, err := addy(t)
		return ServiceAddy, e, p, err
	}
	return "", nil, nil, errs.E("agent/migrate.Entries", errs.Invalid,
		"this is neither a file of SimpleLogin (alias,note,enabled,mailboxes) nor one of addy.io (…,email,active,description,…)", nil)
}

func isSimpleLogin(t *Table) bool { return t.Has("alias", "note") }

// SimpleLogin reads the file of SimpleLogin's "Export aliases", also one made by hand for its import:
// alias,note,enabled,mailboxes, with the mailboxes separated by blanks and the main one first.
// errs.Invalid when it is none, errs.TooLarge beyond MaxFile and MaxEntries, errs.Unavailable when it cannot be read.
func SimpleLogin(r io.Reader) ([]Entry, []Problem, error) {
	t, err := OpenTable(r)
	if err != nil {
		return nil, nil, err
	}
	if !isSimpleLogin(t) {
		return nil, nil, errs.E("agent/migrate.SimpleLogin", errs.Invalid, "this is no file of SimpleLogin: its first line is alias,note,enabled,mailboxes", nil)
	}
	return simpleLogin(t)
}

func simpleLogin(t *Table) ([]Entry, []Problem, error) {
	var c collected
	err := t.trimmed(func(line int, get func(string) string) {
		c.add(Entry{Line: line, Note: get("note"), Paused: t.Has("enabled") && !yes(get("enabled")), Targets: strings.Fields(get("mailboxes"))}, get("alias"))
	})
	return c.entries, c.problems, err
}

func isAddy(t *Table) bool {
	return t.Has("email", "active") || t.Has("alias", "description")
}

// addyTime is how a time stands in addy.io's file; with a database of another kind it is RFC 3339.
const addyTime = "2006-01-02 15:04:05"

// Addy reads the file of addy.io's "Export alias data", whose columns are those of its table of aliases, and
// also its template for an import: alias,description,recipients, the recipients separated by commas.
// Errors as SimpleLogin.
func Addy(r io.Reader) ([]Entry, []Problem, error) {
	t, err := OpenTable(r)
	if err != nil {
		return nil, nil, err
	}
	if !isAddy(t) {
		return nil, nil, errs.E("agent/migrate.Addy", errs.Invalid, "this is no file of addy.io: its first line names email, active and description", nil)
	}
	return addy(t)
}

func addy(t *Table) ([]Entry, []Problem, error) {
	var c collected
	err := t.trimmed(func(line int, get func(string) string) {
		e := Entry{Line: line, Note: get("description"), Paused: t.Has("active") && !yes(get("active"))}
		e.Targets = strings.FieldsFunc(get("recipients"), func(r rune) bool { return r == ',' || r == ' ' })
		for _, form := range []string{addyTime, time.RFC3339Nano} {
			if at, err := time.Parse(form, get("created_at")); err == nil {
				e.Created = at.UTC()
			}
		}
		address := get("email")
		if address == "" {
			address = get("alias")
		}
		if get("deleted_at") != "" {
			c.problem(line, clip(address, mail.MaxAddress), "it is deleted there; it was left out")
			return
		}
		c.add(e, address)
	})
	return c.entries, c.problems, err
}

// yes reads a truth value as Python, PHP and spreadsheets write it.
func yes(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "t", "on", "=true()":
		return true
	}
	return false
}
