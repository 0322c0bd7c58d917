package imap

import (
	"context"
	"slices"
	"strings"

	"postern.email/kit/errs"
)

// maxEntries bounds the entries named in one command.
const maxEntries = 100

// depth of GETMETADATA (RFC 5464 §4.2.2).
type depth uint8

const (
	depthEntry depth = iota
	depthChildren
	depthAll
)

// metadataBox reads the mailbox name: "" is the server itself, box 0.
func (c *conn) metadataBox(ctx context.Context, name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	f, err := c.folder(ctx, name, true)
	return f.Box, err
}

// entryName reads and checks an entry name (RFC 5464 §3.2). Names compare without
// case; lower case is used inside.
func (p *parser) entryName() (asked, name string, err error) {
	asked, err = p.astring()
	if err != nil {
		return "", "", err
	}
	name = strings.ToLower(asked)
	if !isASCII(name) || len(name) > maxName || strings.ContainsAny(name, "*%\r\n\x00") ||
		strings.Contains(name, "//") || strings.HasSuffix(name, "/") ||
		!(name == "/private" || name == "/shared" || strings.HasPrefix(name, "/private/") || strings.HasPrefix(name, "/shared/")) {
		return "", "", syntaxf("wrong entry name")
	}
	return asked, name, nil
}

// getMetadata is one GETMETADATA.
type getMetadata struct {
	depth          depth
	maxSize        uint64
	limited        bool
	asked, entries []string
}

// isOptions reports whether "(" begins options rather than entries.
func (p *parser) isOptions() bool {
	rest := p.b[p.i:]
	return len(rest) > 1 && rest[0] == '(' && rest[1] != '/' && rest[1] != '"' && rest[1] != '{'
}

func (p *parser) metadataOptions(q *getMetadata) error {
	return p.list(false, func() (err error) {
		switch {
		case p.word("MAXSIZE"):
			if err := p.sp(); err != nil {
				return err
			}
			q.limited = true
			q.maxSize, err = p.number64()
			return err
		case p.word("DEPTH"):
			if err := p.sp(); err != nil {
				return err
			}
			switch {
			case p.word("0"):
				q.depth = depthEntry
			case p.word("1"):
				q.depth = depthChildren
			case p.word("infinity"):
				q.depth = depthAll
			default:
				return syntaxf("unknown depth")
			}
			return nil
		}
		return syntaxf("unknown option")
	})
}

func (p *parser) getMetadata() (name string, q getMetadata, err error) {
	if err = p.sp(); err != nil {
		return
	}
	if p.isOptions() {
		if err = p.metadataOptions(&q); err != nil {
			return
		}
		if err = p.sp(); err != nil {
			return
		}
	}
	if name, err = p.mailbox(); err != nil {
		return
	}
	if err = p.sp(); err != nil {
		return
	}
	if p.isOptions() { // the examples of RFC 5464 have them behind the name
		if err = p.metadataOptions(&q); err != nil {
			return
		}
		if err = p.sp(); err != nil {
			return
		}
	}
	one := func() error {
		asked, entry, err := p.entryName()
		if err == nil && len(q.entries) >= maxEntries {
			err = syntaxf("too many entries")
		}
		q.asked, q.entries = append(q.asked, asked), append(q.entries, entry)
		return err
	}
	if p.peek() == '(' {
		err = p.list(false, one)
	} else {
		err = one()
	}
	if err == nil {
		err = p.end()
	}
	return name, q, err
}

// cmdGetMetadata is RFC 5464 §4.2. An entry that was named and has no value is
// answered with NIL; those found by DEPTH have one.
func cmdGetMetadata(c *conn, ctx context.Context, p *parser) (reply, error) {
	name, q, err := p.getMetadata()
	if err != nil {
		return reply{}, err
	}
	box, err := c.metadataBox(ctx, name)
	if err != nil {
		return reply{}, err
	}
	all, err := c.session.Metadata(ctx, box)
	if err != nil {
		return reply{}, err
	}
	longest := 0
	var out []MetadataEntry
	add := func(name string, value []byte) {
		if q.limited && uint64(len(value)) > q.maxSize {
			longest = max(longest, len(value))
			return
		}
		if !slices.ContainsFunc(out, func(e MetadataEntry) bool { return e.Name == name }) {
			out = append(out, MetadataEntry{name, value})
		}
	}
	for i, entry := range q.entries {
		k := slices.IndexFunc(all, func(e MetadataEntry) bool { return e.Name == entry })
		switch {
		case k >= 0:
			add(q.asked[i], all[k].Value)
		case q.depth == depthEntry:
			add(q.asked[i], nil)
		}
		if q.depth == depthEntry {
			continue
		}
		for _, e := range all {
			below, ok := strings.CutPrefix(e.Name, entry+"/")
			if ok && (q.depth == depthAll || !strings.Contains(below, "/")) {
				add(e.Name, e.Value)
			}
		}
	}
	if len(out) > 0 {
		c.w.s("* METADATA ")
		c.name(name).s(" (")
		for i, e := range out {
			if i > 0 {
				c.w.s(" ")
			}
			c.w.s(astring(e.Name), " ")
			if e.Value == nil {
				c.w.s("NIL")
			} else {
				c.w.str(string(e.Value), c.enabled.utf8ok())
			}
		}
		c.w.s(")\r\n")
	}
	done := reply{"", "GETMETADATA done"}
	if longest > 0 {
		done.code = "METADATA LONGENTRIES " + itoa(int64(longest))
	}
	return done, nil
}

// cmdSetMetadata is RFC 5464 §4.3.
func cmdSetMetadata(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	name, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	var entries []MetadataEntry
	tooLong := false
	err = p.list(false, func() error {
		_, entry, err := p.entryName()
		if err != nil {
			return err
		}
		if err := p.sp(); err != nil {
			return err
		}
		p.take('~')
		value, isNil, err := p.nstring()
		if err != nil {
			return err
		}
		if len(entries) >= maxEntries {
			return syntaxf("too many entries")
		}
		tooLong = tooLong || len(value) > c.s.o.MaxMetadata
		e := MetadataEntry{Name: entry}
		if !isNil {
			e.Value = []byte(value)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	if tooLong {
		return reply{}, c.metadataTooLong()
	}
	box, err := c.metadataBox(ctx, name)
	if err != nil {
		return reply{}, err
	}
	if err := c.session.SetMetadata(ctx, box, entries); err != nil {
		switch errs.KindOf(err) {
		case errs.TooLarge:
			return reply{}, c.metadataTooLong()
		case errs.Full:
			return reply{}, no("METADATA TOOMANY", "Too many entries")
		}
		return reply{}, err
	}
	for _, e := range entries {
		c.annotated(box, e.Name)
	}
	return reply{"", "SETMETADATA done"}, nil
}

func (c *conn) metadataTooLong() error {
	return no("METADATA MAXSIZE "+itoa(int64(c.s.o.MaxMetadata)), "The value is too long")
}
