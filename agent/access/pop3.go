package access

import (
	"context"
	"fmt"
	"io"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/wire/pop3"
)

// Maildrops gives accounts' INBOXes to POP3. It implements pop3.Backend.
type Maildrops struct {
	accounts *account.Accounts
	boxes    *mailbox.Boxes

	mu     sync.Mutex
	locked map[seal.AccountID]struct{} // bounded by the number of connections
}

// NewMaildrops makes the backend of a POP3 server.
func NewMaildrops(accounts *account.Accounts, boxes *mailbox.Boxes) *Maildrops {
	return &Maildrops{accounts: accounts, boxes: boxes, locked: make(map[seal.AccountID]struct{})}
}

// Login is pop3.Backend.Login. The lock keeps out other POP3 sessions only: IMAP
// sessions live with mails that go away (RFC 1939 §4 binds the maildrop, not other protocols).
func (m *Maildrops) Login(ctx context.Context, peer limits.Peer, name, password string) (pop3.Maildrop, error) {
	const op = "agent/access.Maildrops.Login"
	session, err := m.accounts.Login(ctx, account.LoginRequest{Name: name, Password: password, Peer: peer})
	if err != nil {
		return nil, err
	}
	if !m.lock(session.ID) {
		session.Close()
		return nil, errs.E(op, errs.Exists, "another POP3 session has this mailbox open; try again when it has ended", nil)
	}
	d := &maildrop{m: m, session: session, box: m.boxes.Account(session.Key, session.Quota)}
	if d.view, err = d.box.View(ctx, mailbox.Inbox); err != nil {
		d.Close()
		return nil, errs.Wrap(op, err)
	}
	d.sizes = make(map[int]int64)
	return d, nil
}

func (m *Maildrops) lock(id seal.AccountID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, held := m.locked[id]; held {
		return false
	}
	m.locked[id] = struct{}{}
	return true
}

// maildrop is one POP3 session's sight of an INBOX: a View, which never changes.
type maildrop struct {
	m       *Maildrops
	session *account.Session
	box     *mailbox.Account
	view    *mailbox.View
	sizes   map[int]int64 // exact sizes that were asked for; STAT asks for all
}

func (d *maildrop) Len() int { return d.view.Len() }

// UID joins UIDVALIDITY and UID, which together are never given out twice.
func (d *maildrop) UID(i int) string {
	return fmt.Sprintf("%x.%x", d.view.UIDValidity, d.view.At(i).UID)
}

// Size opens the mail's sealed summary, once. A mail that another client has
// expunged meanwhile counts nothing.
func (d *maildrop) Size(ctx context.Context, i int) (int64, error) {
	if n, known := d.sizes[i]; known {
		return n, nil
	}
	s, err := d.box.Summary(ctx, mailbox.Inbox, d.view.At(i))
	switch {
	case err == nil:
		d.sizes[i] = s.Size
	case errs.KindOf(err) == errs.NotFound:
		d.sizes[i] = 0
	default:
		return 0, errs.Wrap("agent/access.maildrop.Size", err)
	}
	return d.sizes[i], nil
}

func (d *maildrop) Open(ctx context.Context, i int) (io.ReadCloser, error) {
	body, err := d.box.Body(ctx, mailbox.Inbox, d.view.At(i))
	if err != nil {
		return nil, errs.Wrap("agent/access.maildrop.Open", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(body, 0, body.Size()), body}, nil
}

// Delete marks and expunges. Mails that another client marked \Deleted and did
// not expunge stay: only the given ones go.
func (d *maildrop) Delete(ctx context.Context, indexes []int) error {
	const op = "agent/access.maildrop.Delete"
	uids := make([]uint32, len(indexes))
	for k, i := range indexes {
		uids[k] = d.view.At(i).UID
	}
	mark := mailbox.SetFlags{UIDs: uids, Op: mailbox.FlagsAdd, Flags: mailbox.Deleted}
	if _, err := d.box.SetFlags(ctx, mailbox.Inbox, mark); err != nil {
		return errs.Wrap(op, err)
	}
	_, _, err := d.box.Expunge(ctx, mailbox.Inbox, uids)
	return errs.Wrap(op, err)
}

func (d *maildrop) Close() {
	d.m.mu.Lock()
	delete(d.m.locked, d.session.ID)
	d.m.mu.Unlock()
	d.session.Close()
}
