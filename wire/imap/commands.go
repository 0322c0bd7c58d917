package imap

import (
	"context"
	"slices"
	"strings"

	"postern.email/wire/sasl"
)

// capabilities gives what this session may use now (RFC 9051 §6.1.1).
func (c *conn) capabilities() string {
	caps := []string{"IMAP4rev1", "IMAP4rev2", "LITERAL+", "ID", "ENABLE", "SASL-IR"}
	if c.state == notAuth {
		if c.s.o.TLS != nil && !c.tls {
			caps = append(caps, "STARTTLS")
		}
		mechanisms := sasl.Mechanisms(sasl.Conn{TLS: c.tls, Private: c.s.o.Private})
		for _, m := range mechanisms {
			caps = append(caps, "AUTH="+m)
		}
		if len(mechanisms) == 0 {
			caps = append(caps, "LOGINDISABLED")
		}
	} else {
		caps = append(caps, loggedInCapabilities...)
		caps = append(caps, "APPENDLIMIT="+itoa(c.s.o.MaxAppend))
		if c.s.o.Compress && !c.compressed {
			caps = append(caps, "COMPRESS=DEFLATE")
		}
	}
	caps = append(caps, c.s.o.ExtraCapabilities...)
	return strings.Join(caps, " ")
}

// loggedInCapabilities is what the command table and the parsers really do.
var loggedInCapabilities = []string{
	"IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT", "CHILDREN", "SPECIAL-USE", "CREATE-SPECIAL-USE",
	"LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE", "CONDSTORE", "QRESYNC", "ESEARCH", "SEARCHRES", "WITHIN", "SAVEDATE", "SORT", "ESORT", "THREAD=ORDEREDSUBJECT",
	"THREAD=REFERENCES", "NOTIFY",
	"MULTIAPPEND", "BINARY", "UTF8=ACCEPT", "OBJECTID", "PREVIEW", "METADATA", "QUOTA", "QUOTA=RES-STORAGE",
}

// cmdCapability is RFC 9051 §6.1.1.
func cmdCapability(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.w.s("* CAPABILITY ", c.capabilities(), "\r\n")
	return reply{"", "CAPABILITY done"}, nil
}

// cmdNoop is NOOP and CHECK (RFC 9051 §6.1.2, RFC 3501 §6.4.1): the updates that
// follow any command are all there is to do.
func cmdNoop(_ *conn, _ context.Context, p *parser) (reply, error) {
	return reply{"", "Done"}, p.end()
}

// cmdLogout is RFC 9051 §6.1.3.
func cmdLogout(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.w.s("* BYE See you\r\n")
	c.closing, c.sel = true, nil
	return reply{"", "LOGOUT done"}, nil
}

// maxIDPairs is RFC 2971 §3.3.
const maxIDPairs = 30

// cmdID is RFC 2971. What the client says is read and forgotten. Long values are
// taken up to the limit of a line: other servers drop the connection there.
func cmdID(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	if !p.word("NIL") {
		n := 0
		err := p.list(true, func() error {
			if n++; n > maxIDPairs {
				return syntaxf("too many fields")
			}
			if _, err := p.str(); err != nil {
				return err
			}
			if err := p.sp(); err != nil {
				return err
			}
			_, _, err := p.nstring()
			return err
		})
		if err != nil {
			return reply{}, err
		}
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.w.s("* ID ")
	if c.s.o.Name == "" {
		c.w.s("NIL\r\n")
	} else {
		c.w.s(`("name" `).str(c.s.o.Name, false)
		if c.s.o.Version != "" {
			c.w.s(` "version" `).str(c.s.o.Version, false)
		}
		c.w.s(")\r\n")
	}
	return reply{"", "ID done"}, nil
}

// cmdEnable is RFC 9051 §6.3.1 (RFC 5161). Unknown extensions are ignored.
func cmdEnable(c *conn, ctx context.Context, p *parser) (reply, error) {
	var names []string
	for p.take(' ') {
		name, err := p.upperAtom()
		if err != nil {
			return reply{}, err
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return reply{}, syntaxf("ENABLE needs a capability")
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	var done []string
	enable := func(on *bool, name string) {
		if !*on {
			*on = true
			done = append(done, name)
		}
	}
	for _, name := range names {
		switch name {
		case "CONDSTORE":
			enable(&c.enabled.condstore, name)
		case "QRESYNC":
			if slices.Contains(loggedInCapabilities, name) {
				c.enabled.condstore = true // RFC 7162 §3.2.3
				enable(&c.enabled.qresync, name)
			}
		case "UTF8=ACCEPT":
			if slices.Contains(loggedInCapabilities, name) {
				enable(&c.enabled.utf8, name)
			}
		case "IMAP4REV2":
			enable(&c.enabled.rev2, "IMAP4rev2")
		}
	}
	c.w.s("* ENABLED")
	for _, name := range done {
		c.w.s(" ", name)
	}
	c.w.crlf()
	return reply{"", "ENABLE done"}, nil
}

// cmdCompress is RFC 4978.
func cmdCompress(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	name, err := p.upperAtom()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	switch {
	case name != "DEFLATE" || !c.s.o.Compress:
		return reply{}, no("CANNOT", "No such compression")
	case c.compressed:
		return reply{}, no("COMPRESSIONACTIVE", "Compression is on already")
	case c.r.buffered() > 0:
		// What follows without waiting would be read as plain text or as
		// compressed data by chance.
		return reply{}, &statusError{bad: true, text: "Nothing may follow COMPRESS", closing: true}
	}
	c.after = func(context.Context) {
		c.r.release()
		c.r.src = newInflater(c.nc)
		c.w.dst = deflater{c.nc}
		c.compressed = true
	}
	return reply{"", "Compression begins"}, nil
}

// cmdNamespace is RFC 9051 §6.3.10: one personal namespace.
func cmdNamespace(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.w.s("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n")
	return reply{"", "NAMESPACE done"}, nil
}
