package imap

import (
	"context"
	"slices"
)

// statusNames are the items of STATUS (RFC 9051 §6.3.11, RFC 7162, 7889, 8474).
var statusNames = []string{"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE",
	"HIGHESTMODSEQ", "APPENDLIMIT", "MAILBOXID"}

func (p *parser) statusItems() ([]string, error) {
	var items []string
	err := p.list(false, func() error {
		name, err := p.upperAtom()
		if err != nil {
			return err
		}
		if !slices.Contains(statusNames, name) {
			return syntaxf("unknown STATUS item")
		}
		if !slices.Contains(items, name) {
			items = append(items, name)
		}
		return nil
	})
	return items, err
}

// cmdStatus is RFC 9051 §6.3.11.
func cmdStatus(c *conn, ctx context.Context, p *parser) (reply, error) {
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
	items, err := p.statusItems()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	folder, err := c.folder(ctx, name, true)
	if err != nil {
		return reply{}, err
	}
	return reply{"", "STATUS done"}, c.status(ctx, folder, items)
}

// status writes one STATUS response that was asked for.
func (c *conn) status(ctx context.Context, f Folder, items []string) error {
	st, err := c.session.Status(ctx, f.Box)
	if err != nil {
		return err
	}
	if slices.Contains(items, "HIGHESTMODSEQ") {
		c.enabled.condstore = true // RFC 7162 §3.1.2
	}
	c.statusLine(f, st, items)
	return c.w.err
}

func (c *conn) statusLine(f Folder, st Status, items []string) {
	c.w.s("* STATUS ")
	c.name(f.Name).s(" (")
	for i, item := range items {
		if i > 0 {
			c.w.s(" ")
		}
		c.w.s(item, " ")
		switch item {
		case "MESSAGES":
			c.w.u(uint64(st.Messages))
		case "RECENT":
			c.w.u(uint64(st.Recent))
		case "UIDNEXT":
			c.w.u32(st.UIDNext)
		case "UIDVALIDITY":
			c.w.u32(st.UIDValidity)
		case "UNSEEN":
			c.w.u(uint64(st.Unseen))
		case "DELETED":
			c.w.u(uint64(st.Deleted))
		case "SIZE":
			c.w.u(uint64(st.Size))
		case "HIGHESTMODSEQ":
			c.w.u(st.HighestModSeq)
		case "MAILBOXID":
			c.w.s("(", mailboxID(f), ")")
		case "APPENDLIMIT":
			c.w.u(uint64(c.s.o.MaxAppend))
		}
	}
	c.w.s(")\r\n")
}
