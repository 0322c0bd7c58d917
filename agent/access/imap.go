package access

import (
	"context"
	"iter"

	"postern.email/kit/errs"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/store"
	"postern.email/wire/imap"
)

// imapBackend implements imap.Backend.
type imapBackend struct{ a *Access }

// Login opens the account, or makes it: that is post/account's rule.
func (b imapBackend) Login(ctx context.Context, r imap.LoginRequest) (imap.Session, error) {
	const op = "agent/access.Login"
	s, err := b.a.o.Accounts.Login(ctx, account.LoginRequest{Name: r.Username, Password: r.Password, Peer: r.Peer})
	if err != nil {
		return nil, err
	}
	if !b.a.enter(s.ID) {
		s.Close()
		return nil, errs.E(op, errs.Busy, "Too many sessions of this account", nil)
	}
	return &imapSession{a: b.a, s: s, m: b.a.o.Boxes.Account(s.Key, s.Quota)}, nil
}

// imapSession implements imap.Session.
type imapSession struct {
	a *Access
	s *account.Session
	m *mailbox.Account
}

func (s *imapSession) Close() {
	s.a.leave(s.s.ID)
	s.s.Close()
}

func (s *imapSession) Folders(ctx context.Context) ([]imap.Folder, error) {
	list, err := s.m.Folders(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]imap.Folder, len(list))
	for i, f := range list {
		out[i] = folderOf(f)
	}
	return out, nil
}

func folderOf(f mailbox.Folder) imap.Folder {
	return imap.Folder{Box: f.Box, Name: f.Name, Use: f.Use, Subscribed: f.Subscribed, NoSelect: f.NoSelect || f.NonExistent,
		NonExistent: f.NonExistent, UIDValidity: f.UIDValidity}
}

func (s *imapSession) CreateFolder(ctx context.Context, name, use string) (imap.Folder, error) {
	if err := s.guard(); err != nil {
		return imap.Folder{}, err
	}
	f, err := s.m.CreateFolder(ctx, name, use)
	return folderOf(f), err
}

func (s *imapSession) RenameFolder(ctx context.Context, from, to string) error {
	return s.m.RenameFolder(ctx, from, to)
}

func (s *imapSession) DeleteFolder(ctx context.Context, name string) error {
	return s.m.DeleteFolder(ctx, name)
}

func (s *imapSession) Subscribe(ctx context.Context, name string, on bool) error {
	return s.m.Subscribe(ctx, name, on)
}

func (s *imapSession) Status(ctx context.Context, box uint32) (imap.Status, error) {
	st, err := s.m.Status(ctx, box)
	return imap.Status{Messages: st.Messages, Unseen: st.Unseen, Deleted: st.Deleted, Recent: st.Recent, UIDNext: st.UIDNext,
		UIDValidity: st.UIDValidity, HighestModSeq: st.HighestModSeq, Size: st.Size}, err
}

func (s *imapSession) Open(_ context.Context, box uint32) (imap.Mailbox, error) {
	return &imapMailbox{s: s, box: box}, nil
}

// guard says whether there is room for more.
func (s *imapSession) guard() error {
	if s.a.o.Guard == nil {
		return nil
	}
	return errs.Wrap("agent/access.guard", s.a.o.Guard())
}

// Append stores messages of the owner; doc.go says why nothing more is asked.
func (s *imapSession) Append(ctx context.Context, box uint32, messages []imap.Message) (imap.AppendResult, error) {
	if _, err := s.s.Current(ctx); err != nil {
		return imap.AppendResult{}, err
	}
	if err := s.guard(); err != nil {
		return imap.AppendResult{}, err
	}
	in := make([]mailbox.Message, len(messages))
	for i, m := range messages {
		in[i] = mailbox.Message{Raw: m.Raw, Date: m.Date, Flags: mailbox.Flags(m.Flags) & mailbox.SystemFlags, Keywords: m.Keywords}
	}
	uids, validity, err := s.m.AppendMany(ctx, box, in)
	return imap.AppendResult{UIDValidity: validity, UIDs: uids}, err
}

func (s *imapSession) Quota(ctx context.Context) (used, limit int64, err error) {
	return s.m.Quota(ctx)
}

// imapMailbox implements imap.Mailbox.
type imapMailbox struct {
	s   *imapSession
	box uint32
}

// imapView adds a reading position to the shared View.
type imapView struct {
	*mailbox.View
	cursor *mailbox.Cursor
}

func (v *imapView) UIDValidity() uint32   { return v.View.UIDValidity }
func (v *imapView) UIDNext() uint32       { return v.View.UIDNext }
func (v *imapView) HighestModSeq() uint64 { return v.View.HighestModSeq }

func (v *imapView) At(i int) imap.Entry {
	if v.cursor == nil {
		v.cursor = v.View.Cursor()
	}
	return entryOf(v.cursor.At(i))
}

func (v *imapView) Range(from, to int) iter.Seq2[int, imap.Entry] {
	return entries(v.View.Range(from, to))
}

func (v *imapView) Changed(since uint64) iter.Seq2[int, imap.Entry] {
	return entries(v.View.Changed(since))
}

func entries(seq iter.Seq2[int, mailbox.Entry]) iter.Seq2[int, imap.Entry] {
	return func(yield func(int, imap.Entry) bool) {
		for i, e := range seq {
			if !yield(i, entryOf(e)) {
				return
			}
		}
	}
}

// The bits of both packages are the same; the compiler holds them to it.
var _ = map[bool]struct{}{
	false: {},
	imap.Flags(mailbox.Seen) == imap.Seen && imap.Flags(mailbox.Answered) == imap.Answered &&
		imap.Flags(mailbox.Flagged) == imap.Flagged && imap.Flags(mailbox.Deleted) == imap.Deleted &&
		imap.Flags(mailbox.Draft) == imap.Draft && imap.Flags(mailbox.HasKeywords) == imap.HasKeywords: {},
}

func entryOf(e mailbox.Entry) imap.Entry {
	return imap.Entry{UID: e.UID, ID: e.Mid, ModSeq: e.ModSeq, Flags: imap.Flags(e.Flags), Bucket: e.Bucket, Hour: e.Hour}
}

// entryBack gives what post/mailbox knows a mail by.
func entryBack(e imap.Entry) mailbox.Entry {
	return mailbox.Entry{UID: e.UID, Mid: e.ID, ModSeq: e.ModSeq, Flags: mailbox.Flags(e.Flags), Bucket: e.Bucket, Hour: e.Hour}
}

// View also asks whether the account may still be used: every command and every
// wake-up of a waiting session comes by here.
func (m *imapMailbox) View(ctx context.Context) (imap.View, error) {
	if _, err := m.s.s.Current(ctx); err != nil {
		return nil, err
	}
	v, err := m.s.m.View(ctx, m.box)
	if err != nil {
		return nil, err
	}
	return &imapView{View: v}, nil
}

type imapWatch struct{ w *store.Watch }

func (w imapWatch) C() <-chan struct{} { return w.w.C }
func (w imapWatch) Close()             { w.w.Close() }

func (m *imapMailbox) Watch() imap.Watch { return imapWatch{m.s.m.Watch(m.box)} }

func (m *imapMailbox) Recent(ctx context.Context, v imap.View, take bool) (uint32, error) {
	if take {
		return m.s.m.ClaimRecent(ctx, m.box, v.UIDNext())
	}
	return m.s.m.ClaimRecent(ctx, m.box, 0)
}

func (m *imapMailbox) Summary(ctx context.Context, e imap.Entry) (*imap.Summary, error) {
	s, err := m.s.m.Summary(ctx, m.box, entryBack(e))
	if err != nil {
		return nil, err
	}
	return &imap.Summary{Size: s.Size, Date: s.Date, Header: s.Header, Structure: s.Structure}, nil
}

func (m *imapMailbox) Keywords(ctx context.Context, e *imap.Entry) ([]string, error) {
	now := entryBack(*e)
	words, err := m.s.m.Keywords(ctx, m.box, &now)
	*e = entryOf(now)
	return words, err
}

func (m *imapMailbox) BoxKeywords(ctx context.Context) ([]string, error) {
	return m.s.m.BoxKeywords(ctx, m.box)
}

func (m *imapMailbox) Body(ctx context.Context, e imap.Entry) (imap.Body, error) {
	return m.s.m.Body(ctx, m.box, entryBack(e))
}

// imapBodies implements imap.Bodies.
type imapBodies struct {
	b  *mailbox.Bodies
	es []mailbox.Entry
}

func (m *imapMailbox) Bodies() imap.Bodies { return &imapBodies{b: m.s.m.Bodies()} }

func (b *imapBodies) Open(ctx context.Context, es []imap.Entry) (int, error) {
	b.es = b.es[:0]
	for _, e := range es {
		b.es = append(b.es, entryBack(e))
	}
	return b.b.Open(ctx, b.es)
}

func (b *imapBodies) At(i int) (imap.Body, error) { return b.b.At(i) }
func (b *imapBodies) Close()                      { b.b.Close() }

func (m *imapMailbox) SetFlags(ctx context.Context, r imap.SetFlags) (imap.SetFlagsResult, error) {
	res, err := m.s.m.SetFlags(ctx, m.box, mailbox.SetFlags{UIDs: r.UIDs, Op: mailbox.FlagsOp(r.Op),
		Flags: mailbox.Flags(r.Flags) & mailbox.SystemFlags, Keywords: r.Keywords, UnchangedSince: r.UnchangedSince})
	out := imap.SetFlagsResult{Modified: res.Modified, Changed: make([]imap.Entry, len(res.Changed))}
	for i, e := range res.Changed {
		out.Changed[i] = entryOf(e)
	}
	return out, err
}

func (m *imapMailbox) Expunge(ctx context.Context, uids []uint32) ([]uint32, uint64, error) {
	return m.s.m.Expunge(ctx, m.box, uids)
}

func (m *imapMailbox) Copy(ctx context.Context, uids []uint32, to uint32) (imap.CopyResult, error) {
	if err := m.s.guard(); err != nil {
		return imap.CopyResult{}, err
	}
	res, err := m.s.m.Copy(ctx, m.box, uids, to)
	return imap.CopyResult(res), err
}

func (m *imapMailbox) Move(ctx context.Context, uids []uint32, to uint32) (imap.CopyResult, error) {
	res, err := m.s.m.Move(ctx, m.box, uids, to)
	return imap.CopyResult(res), err
}

func (m *imapMailbox) Expunged(ctx context.Context, since uint64) ([]uint32, bool, error) {
	return m.s.m.Expunged(ctx, m.box, since)
}
