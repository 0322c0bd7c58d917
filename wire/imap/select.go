package imap

import (
	"context"
)

func cmdSelect(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doSelect(ctx, p, false)
}

func cmdExamine(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doSelect(ctx, p, true)
}

// doSelect is RFC 9051 §6.3.2 and §6.3.3, RFC 7162 §3.1.8 and §3.2.5.
func (c *conn) doSelect(ctx context.Context, p *parser, readOnly bool) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	name, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	var q *resync
	if p.take(' ') {
		err := p.list(false, func() error {
			switch {
			case p.word("CONDSTORE"):
				c.enabled.condstore = true
				return nil
			case p.word("QRESYNC"):
				if !c.enabled.qresync {
					return syntaxf("enable QRESYNC first")
				}
				q = &resync{}
				return p.resync(q)
			}
			return syntaxf("unknown parameter")
		})
		if err != nil {
			return reply{}, err
		}
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.unselect()
	folder, err := c.folder(ctx, name, true)
	if err != nil {
		return reply{}, err
	}
	mailbox, err := c.session.Open(ctx, folder.Box)
	if err != nil {
		return reply{}, err
	}
	v, err := mailbox.View(ctx)
	if err != nil {
		return reply{}, err
	}
	s := &selected{mailbox: mailbox, box: folder.Box, readOnly: readOnly, uidValidity: v.UIDValidity(),
		uidNext: v.UIDNext(), told: v.HighestModSeq(), recent: v.UIDNext(), view: v}
	s.load(v)
	firstUnseen := v.FirstUnseen() + 1
	keywords, err := mailbox.BoxKeywords(ctx)
	if err != nil {
		return reply{}, err
	}
	if !c.enabled.rev2 {
		if s.recent, err = mailbox.Recent(ctx, v, !readOnly); err != nil {
			return reply{}, err
		}
	}
	c.sel, c.state = s, inMailbox

	s.learn(keywords)
	c.tellKnown()
	c.w.s("* OK [PERMANENTFLAGS (")
	if !readOnly {
		c.w.s(c.knownFlags(), ` \*`)
	}
	c.w.s(")] Flags that can be kept\r\n* ").u32(s.seq.len()).s(" EXISTS\r\n")
	c.tellRecent()
	if firstUnseen > 0 && !c.enabled.rev2 {
		c.w.s("* OK [UNSEEN ").u(uint64(firstUnseen)).s("] First unseen message\r\n")
	}
	c.w.s("* OK [UIDVALIDITY ").u32(s.uidValidity).s("] UIDs are valid\r\n")
	c.w.s("* OK [UIDNEXT ").u32(s.uidNext).s("] Predicted next UID\r\n")
	c.w.s("* OK [HIGHESTMODSEQ ").u(s.told).s("] Highest mod-sequence\r\n")
	c.w.s("* OK [MAILBOXID (", mailboxID(folder), ")] Id of the mailbox\r\n")
	if c.enabled.rev2 { // RFC 9051 §6.3.2: the mailbox name as it is stored
		c.w.s("* LIST () \"/\" ")
		c.name(folder.Name).crlf()
	}
	if q != nil {
		if err := c.tellResync(ctx, q); err != nil {
			return reply{}, err
		}
	}
	if readOnly {
		return reply{"READ-ONLY", "Mailbox opened to read"}, nil
	}
	return reply{"READ-WRITE", "Mailbox opened"}, nil
}

// mailboxID names a mailbox for good, whatever its name becomes (RFC 8474 §4):
// UIDVALIDITY is new for each mailbox and stays with it.
func mailboxID(f Folder) string {
	return "F" + itoa(int64(f.Box)) + "-" + itoa(int64(f.UIDValidity))
}

// load fills the map of sequence numbers.
func (s *selected) load(v View) {
	for _, e := range v.Range(0, v.Len()) {
		s.seq.add(e.UID)
	}
	if last := s.seq.last(); last >= s.uidNext {
		s.uidNext = last + 1
	}
}

// unselect forgets the selected mailbox. A client of QRESYNC or IMAP4rev2 is told
// where responses about the old mailbox end (RFC 7162 §3.2.11).
func (c *conn) unselect() {
	if c.sel == nil {
		return
	}
	c.sel, c.state = nil, auth
	if c.enabled.qresync || c.enabled.rev2 {
		c.w.s("* OK [CLOSED] Previous mailbox closed\r\n")
	}
}

// cmdClose is RFC 9051 §6.4.1: expunge without telling, then leave.
func cmdClose(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	done := reply{"", "Mailbox closed"}
	if !c.sel.readOnly {
		_, modseq, err := c.sel.mailbox.Expunge(ctx, nil)
		if err != nil {
			return reply{}, err
		}
		if c.enabled.qresync && modseq > 0 {
			done.code = "HIGHESTMODSEQ " + itoa(int64(modseq))
		}
	}
	c.sel, c.state = nil, auth
	return done, nil
}

// cmdUnselect is RFC 9051 §6.4.2.
func cmdUnselect(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.sel, c.state = nil, auth
	return reply{"", "Mailbox left"}, nil
}

// needWrite refuses a change of a mailbox that was opened by EXAMINE.
func (c *conn) needWrite() error {
	if c.sel.readOnly {
		return no("READ-ONLY", "The mailbox is open to read only")
	}
	return nil
}

// cmdExpunge is RFC 9051 §6.4.3; the EXPUNGE responses come from sync.
func cmdExpunge(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	return c.doExpunge(ctx, nil)
}

// cmdUIDExpunge is RFC 9051 §6.4.9 (RFC 4315 §2.1).
func cmdUIDExpunge(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	set, err := p.sequence()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	if err := c.refreshFor(ctx, true); err != nil {
		return reply{}, err
	}
	uids, _, err := c.uids(set, true)
	if err != nil {
		return reply{}, err
	}
	if len(uids) == 0 {
		return reply{"", "Nothing to expunge"}, c.needWrite()
	}
	return c.doExpunge(ctx, uids)
}

func (c *conn) doExpunge(ctx context.Context, uids []uint32) (reply, error) {
	if err := c.needWrite(); err != nil {
		return reply{}, err
	}
	c.sel.expunged = true
	gone, modseq, err := c.sel.mailbox.Expunge(ctx, uids)
	if err != nil {
		return reply{}, err
	}
	done := reply{"", "Expunged"}
	if len(gone) > 0 && c.enabled.qresync { // RFC 7162 §3.2.7
		done.code = "HIGHESTMODSEQ " + itoa(int64(modseq))
	}
	return done, nil
}
