package imap

import "context"

// maxAppend is how many messages one APPEND may bring (RFC 3502).
const maxAppendMessages = 100

// cmdAppend is RFC 9051 §6.3.12, with several messages as in RFC 3502 and the
// UTF8 item of RFC 6855 §4.
func cmdAppend(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	name, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	var messages []Message
	for len(messages) == 0 || !p.done() {
		if err := p.sp(); err != nil {
			return reply{}, err
		}
		m, err := p.appendMessage()
		if err != nil {
			return reply{}, err
		}
		if len(m.Raw) == 0 {
			// A zero-length message says that the client gave up (RFC 3502 §6.3.11).
			return reply{}, no("", "An empty message cannot be stored")
		}
		if len(messages) >= maxAppendMessages {
			return reply{}, no("LIMIT", "Too many messages at once")
		}
		messages = append(messages, m)
	}
	folder, err := c.tryCreate(ctx, name)
	if err != nil {
		return reply{}, err
	}
	res, err := c.session.Append(ctx, folder.Box, messages)
	if err != nil {
		return reply{}, err
	}
	c.added(folder.Box, res.UIDs)
	// RFC 4315 §3. The UIDs ascend, and gaps show as separate ranges.
	code := "APPENDUID " + itoa(int64(res.UIDValidity)) + " " + uidText(res.UIDs)
	return reply{code, "APPEND done"}, nil
}

func (p *parser) appendMessage() (m Message, err error) {
	if p.peek() == '(' {
		f, err := p.flagList()
		if err != nil {
			return m, err
		}
		m.Flags, m.Keywords = f.bits, f.keywords
		if err := p.sp(); err != nil {
			return m, err
		}
	}
	if p.peek() == '"' {
		if m.Date, err = p.dateTime(); err != nil {
			return m, err
		}
		if err := p.sp(); err != nil {
			return m, err
		}
	}
	if p.prefix("UTF8 (") {
		if m.Raw, err = p.message(); err != nil {
			return m, err
		}
		return m, p.expect(')')
	}
	m.Raw, err = p.message()
	return m, err
}

// uidText gives a list of UIDs as text of a response code.
func uidText(uids []uint32) string {
	b := make([]byte, 0, 16)
	for i, r := range rangesOf(uids) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRange(b, r)
	}
	return string(b)
}
