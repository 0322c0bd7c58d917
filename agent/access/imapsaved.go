package access

import (
	"context"
	"time"

	"postern.email/wire/imap"
)

func (m *imapMailbox) SaveDate(ctx context.Context, e imap.Entry) (time.Time, error) {
	return m.s.m.SaveDate(ctx, m.box, entryBack(e))
}
