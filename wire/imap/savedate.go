package imap

import "time"

// saveDate writes the SAVEDATE item (RFC 8514 §4.2): NIL where the backend knows no date.
func (c *conn) saveDate(t time.Time) {
	if t.IsZero() {
		c.w.s("SAVEDATE NIL")
		return
	}
	c.w.s(t.Format(`SAVEDATE "_2-Jan-2006 15:04:05 -0700"`))
}

// matchSaved is RFC 8514 §4.3. The RFC speaks of mailboxes with and without save dates;
// here a mailbox may hold messages of both kinds, and each is treated as its own
// kind: without a date the internal date stands in.
func (m *candidate) matchSaved(k *searchKey) (bool, error) {
	t, err := m.c.sel.mailbox.SaveDate(m.ctx, m.e)
	if err != nil || k.op == opSaveDated {
		return !t.IsZero(), err
	}
	if t.IsZero() {
		s, err := m.summary()
		if err != nil {
			return false, err
		}
		t = s.Date
	}
	return compareDay(t, k.date, k.op, opSavedBefore), nil
}
