package imap

import "context"

// The one quota root of a user is "" and has the resource STORAGE, in units of
// 1,024 octets (RFC 9208 §5.1).

// cmdGetQuotaRoot is RFC 9208 §4.1.2.
func cmdGetQuotaRoot(c *conn, ctx context.Context, p *parser) (reply, error) {
	name, err := p.oneName()
	if err != nil {
		return reply{}, err
	}
	if _, err := c.folder(ctx, name, false); err != nil {
		return reply{}, err
	}
	used, limit, err := c.session.Quota(ctx)
	if err != nil {
		return reply{}, err
	}
	c.w.s("* QUOTAROOT ")
	c.name(name).s(` ""`).crlf()
	c.quota(used, limit)
	return reply{"", "GETQUOTAROOT done"}, nil
}

// cmdGetQuota is RFC 9208 §4.1.1.
func cmdGetQuota(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	root, err := p.astring()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	if root != "" {
		return reply{}, no("NONEXISTENT", "No such quota root")
	}
	used, limit, err := c.session.Quota(ctx)
	if err != nil {
		return reply{}, err
	}
	c.quota(used, limit)
	return reply{"", "GETQUOTA done"}, nil
}

func (c *conn) quota(used, limit int64) {
	c.w.s(`* QUOTA "" (`)
	if limit > 0 {
		c.w.s("STORAGE ").u(uint64((max(used, 0) + 1023) / 1024)).s(" ").u(uint64(limit / 1024))
	}
	c.w.s(")\r\n")
}

// cmdSetQuota is RFC 9208 §4.1.3; only the operator sets quotas.
func cmdSetQuota(_ *conn, _ context.Context, _ *parser) (reply, error) {
	return reply{}, no("NOPERM", "Quotas are set by the operator")
}
