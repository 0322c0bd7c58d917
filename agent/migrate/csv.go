package migrate

import (
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

// table is a CSV file with a heading.
type table struct {
	r       *csv.Reader
	columns []string
	most    int // rows
}

// open reads the heading. errs.Invalid when there is none.
func open(r io.Reader) (*table, error) { return openWithin(r, MaxFile, MaxEntries) }

// openWithin is open with bounds of its own.
func openWithin(r io.Reader, bytes int64, rows int) (*table, error) {
	c := csv.NewReader(&capped{r: r, left: bytes, most: bytes})
	c.FieldsPerRecord = -1
	c.LazyQuotes = true
	head, err := c.Read()
	if err == io.EOF {
		return nil, errs.E("agent/migrate.open", errs.Invalid, "the file is empty", nil)
	}
	if err != nil {
		return nil, broken(err)
	}
	t := &table{r: c, most: rows}
	for i, name := range head {
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff")
		}
		t.columns = append(t.columns, strings.ToLower(strings.TrimSpace(name)))
	}
	return t, nil
}

// broken gives an error of the reader its kind.
func broken(err error) error {
	const op = "agent/migrate.read"
	var p *csv.ParseError
	switch {
	case errors.As(err, &p):
		return errs.E(op, errs.Invalid, fmt.Sprintf("line %d of the file is no CSV", p.Line), err)
	case errs.KindOf(err) == errs.TooLarge:
		return err
	}
	return errs.E(op, errs.Unavailable, "the file cannot be read", err)
}

// capped gives an error behind a number of bytes.
type capped struct {
	r          io.Reader
	left, most int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errs.E("agent/migrate.read", errs.TooLarge, fmt.Sprintf("the file is larger than %d bytes", c.most), nil)
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// has tells whether the heading names all these columns.
func (t *table) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(t.columns, n) })
}

// rows calls fn with each row: its line, and what stands in a column.
func (t *table) rows(fn func(line int, get func(string) string)) error {
	for n := 0; ; n++ {
		row, err := t.r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return broken(err)
		}
		if n == t.most {
			return errs.E("agent/migrate.rows", errs.TooLarge, fmt.Sprintf("the file has more than %d aliases", t.most), nil)
		}
		line, _ := t.r.FieldPos(0)
		fn(line, func(name string) string {
			if i := slices.Index(t.columns, name); i >= 0 && i < len(row) {
				return strings.TrimSpace(row[i])
			}
			return ""
		})
	}
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
	t, err := open(r)
	if err != nil {
		return "", nil, nil, err
	}
	switch {
	case isSimpleLogin(t):
		e, p, err := simpleLogin(t)
		return ServiceSimpleLogin, e, p, err
	case isAddy(t):
		e, p, err := addy(t)
		return ServiceAddy, e, p, err
	}
	return "", nil, nil, errs.E("agent/migrate.CSV", errs.Invalid,
		"this is neither a file of SimpleLogin (alias,note,enabled,mailboxes) nor one of addy.io (…,email,active,description,…)", nil)
}

func isSimpleLogin(t *table) bool { return t.has("alias", "note") }

// SimpleLogin reads the file of SimpleLogin's "Export aliases", also one made by hand for its import:
// alias,note,enabled,mailboxes, with the mailboxes separated by blanks and the main one first.
// errs.Invalid when it is none, errs.TooLarge beyond MaxFile and MaxEntries, errs.Unavailable when it cannot be read.
func SimpleLogin(r io.Reader) ([]Entry, []Problem, error) {
	t, err := open(r)
	if err != nil {
		return nil, nil, err
	}
	if !isSimpleLogin(t) {
		return nil, nil, errs.E("agent/migrate.SimpleLogin", errs.Invalid, "this is no file of SimpleLogin: its first line is alias,note,enabled,mailboxes", nil)
	}
	return simpleLogin(t)
}

func simpleLogin(t *table) ([]Entry, []Problem, error) {
	var c collected
	err := t.rows(func(line int, get func(string) string) {
		c.add(Entry{Line: line, Note: get("note"), Paused: t.has("enabled") && !yes(get("enabled")), Targets: strings.Fields(get("mailboxes"))}, get("alias"))
	})
	return c.entries, c.problems, err
}

func isAddy(t *table) bool {
	return t.has("email", "active") || t.has("alias", "description")
}

// addyTime is how a time stands in addy.io's file; with a database of another kind it is RFC 3339.
const addyTime = "2006-01-02 15:04:05"

// Addy reads the file of addy.io's "Export alias data", whose columns are those of its table of aliases, and
// also its template for an import: alias,description,recipients, the recipients separated by commas.
// Errors as SimpleLogin.
func Addy(r io.Reader) ([]Entry, []Problem, error) {
	t, err := open(r)
	if err != nil {
		return nil, nil, err
	}
	if !isAddy(t) {
		return nil, nil, errs.E("agent/migrate.Addy", errs.Invalid, "this is no file of addy.io: its first line names email, active and description", nil)
	}
	return addy(t)
}

func addy(t *table) ([]Entry, []Problem, error) {
	var c collected
	err := t.rows(func(line int, get func(string) string) {
		e := Entry{Line: line, Note: get("description"), Paused: t.has("active") && !yes(get("active"))}
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
