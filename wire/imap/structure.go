package imap

import (
	"postern.email/mail"
	"postern.email/mail/mime"
)

// envelope writes ENVELOPE (RFC 9051 §7.5.2).
func (c *conn) envelope(e *mime.Envelope) {
	if e == nil {
		e = &mime.Envelope{}
	}
	u := c.enabled.utf8ok()
	c.w.s("(").nstr(e.Date, u).s(" ").nstr(e.Subject, u)
	for _, list := range [][]mail.Mailbox{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		c.w.s(" ")
		c.addresses(list)
	}
	c.w.s(" ").nstr(e.InReplyTo, u).s(" ").nstr(e.MessageID, u).s(")")
}

// addresses writes an address list; groups are marked by NIL host names.
func (c *conn) addresses(list []mail.Mailbox) {
	if len(list) == 0 {
		c.w.s("NIL")
		return
	}
	u := c.enabled.utf8ok()
	c.w.s("(")
	for _, m := range list {
		switch m.Group {
		case mail.GroupStart:
			c.w.s("(NIL NIL ").str(m.RawName, u).s(" NIL)")
		case mail.GroupEnd:
			c.w.s("(NIL NIL NIL NIL)")
		default:
			// A host NIL would mean a group, so a missing one is empty.
			c.w.s("(").nstr(m.RawName, u).s(" NIL ").str(m.Address.Local, u).s(" ").str(m.Address.Domain, u).s(")")
		}
	}
	c.w.s(")")
}

// structure writes BODYSTRUCTURE, or BODY without extension data (RFC 9051 §7.5.2).
func (c *conn) structure(p *mime.Part, extended bool) {
	w, u := &c.w, c.enabled.utf8ok()
	if p == nil {
		p = &mime.Part{MediaType: "text", Subtype: "plain"}
	}
	w.s("(")
	if p.Multipart() && len(p.Parts) > 0 {
		for _, child := range p.Parts {
			c.structure(child, extended)
		}
		w.s(" ").str(p.Subtype, u)
		if extended {
			w.s(" ")
			c.params(p.Params)
			c.structureTail(p)
		}
		w.s(")")
		return
	}
	mediaType, subtype := p.MediaType, p.Subtype
	if p.Multipart() {
		// A multipart without parts has no form of its own in IMAP.
		mediaType, subtype = "text", "plain"
	}
	// Only clients that know RFC 6855 or 9051 expect the message form of message/global.
	message := p.Message != nil && mediaType == "message" && (subtype == "rfc822" || (subtype == "global" && u))
	w.str(mediaType, u).s(" ").str(subtype, u).s(" ")
	c.params(p.Params)
	encoding := p.Encoding
	if encoding == "" {
		encoding = "7bit"
	}
	w.s(" ").nstr(p.ID, u).s(" ").nstr(p.Description, u).s(" ").str(encoding, u).s(" ").u(uint64(max(p.Size(), 0)))
	if message {
		w.s(" ")
		c.envelope(p.Message.Envelope)
		w.s(" ")
		c.structure(p.Message, extended)
	}
	if message || mediaType == "text" {
		w.s(" ").u(uint64(max(p.Lines, 0)))
	}
	if extended {
		w.s(" ").nstr(p.MD5, u)
		c.structureTail(p)
	}
	w.s(")")
}

// structureTail writes disposition, language and location.
func (c *conn) structureTail(p *mime.Part) {
	w, u := &c.w, c.enabled.utf8ok()
	if p.Disposition == "" {
		w.s(" NIL")
	} else {
		w.s(" (").str(p.Disposition, u).s(" ")
		c.params(p.DispositionParams)
		w.s(")")
	}
	switch len(p.Language) {
	case 0:
		w.s(" NIL")
	case 1:
		w.s(" ").str(p.Language[0], u)
	default:
		w.s(" (")
		for i, l := range p.Language {
			if i > 0 {
				w.s(" ")
			}
			w.str(l, u)
		}
		w.s(")")
	}
	w.s(" ").nstr(p.Location, u)
}

func (c *conn) params(list []mime.Param) {
	w, u := &c.w, c.enabled.utf8ok()
	if len(list) == 0 {
		w.s("NIL")
		return
	}
	w.s("(")
	for i, p := range list {
		if i > 0 {
			w.s(" ")
		}
		w.str(p.Name, u).s(" ").str(p.Value, u)
	}
	w.s(")")
}
