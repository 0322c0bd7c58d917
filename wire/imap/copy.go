package imap

import "context"

func cmdCopy(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doCopy(ctx, p, false, false)
}
func cmdUIDCopy(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doCopy(ctx, p, true, false)
}
func cmdMove(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doCopy(ctx, p, false, true)
}
func cmdUIDMove(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doCopy(ctx, p, true, true)
}

// doCopy is RFC 9051 §6.4.7 and §6.4.8 (RFC 6851).
func (c *conn) doCopy(ctx context.Context, p *parser, byUID, move bool) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	set, err := p.sequence()
	if err != nil {
		return reply{}, err
	}
	name, err := p.oneName()
	if err != nil {
		return reply{}, err
	}
	if move {
		if err := c.needWrite(); err != nil {
			return reply{}, err
		}
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	uids, gone, err := c.uids(set, byUID)
	if err != nil {
		return reply{}, err
	}
	if gone && !byUID {
		// All or nothing (RFC 9051 §6.4.7); the client learns of the EXPUNGE now.
		return goneReply(gone, byUID, reply{})
	}
	to, err := c.tryCreate(ctx, name)
	if err != nil {
		return reply{}, err
	}
	done := reply{"", "COPY done"}
	if move {
		done.text = "MOVE done"
	}
	if len(uids) == 0 {
		return done, nil
	}
	do := c.sel.mailbox.Copy
	if move {
		do = c.sel.mailbox.Move
	}
	res, err := do(ctx, uids, to.Box)
	if err != nil {
		return reply{}, err
	}
	if len(res.Src) == 0 {
		return done, nil
	}
	c.added(to.Box, res.Dst)
	code := "COPYUID " + itoa(int64(res.UIDValidity)) + " " + uidText(res.Src) + " " + uidText(res.Dst)
	if !move {
		done.code = code
		return done, nil
	}
	c.sel.expunged = true
	// RFC 6851 §4.3: before the EXPUNGE responses, which come from sync.
	c.w.s("* OK [", code, "] Moved\r\n")
	return done, nil
}
