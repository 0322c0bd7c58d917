package imap

import (
	"context"
	"io"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"bytes"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/mime"
)

// fakeBackend holds one user's mailboxes in memory. It is a second, simple
// implementation of the interfaces, for tests of the protocol alone.
type fakeBackend struct {
	mu       sync.Mutex
	boxes    []*fakeBox
	nextBox  uint32
	modseq   uint64 // of the change that is being made
	nextID   uint64
	meta     map[uint32][]MetadataEntry
	loginErr error
	opErr    error // given by Append
	now      func() time.Time
	forget   uint64 // expunges up to this modseq are not remembered
	sessions int
	others   map[int]map[chan struct{}]struct{} // watches of lists, see fakewatch_test.go
	undated  bool                               // messages get no save date
}

type fakeBox struct {
	Folder
	uidNext  uint32
	msgs     []*fakeMsg
	recent   uint32
	gone     []fakeGone
	watches  map[chan struct{}]struct{}
	modseq   uint64
	cached   *fakeView
	deleted  bool
	validity uint32
	keywords []string // ever used
}

type fakeGone struct {
	uid    uint32
	modseq uint64
}

type fakeMsg struct {
	Entry
	raw      []byte
	date     time.Time
	saved    time.Time
	keywords []string
}

func newFake() *fakeBackend {
	b := &fakeBackend{nextBox: 1, modseq: 1, meta: map[uint32][]MetadataEntry{}, now: fixedNow}
	for _, f := range [][2]string{{"INBOX", ""}, {"Drafts", `\Drafts`}, {"Junk", `\Junk`}, {"Trash", `\Trash`}, {"Sent", `\Sent`}} {
		b.create(f[0], f[1]).Subscribed = true
	}
	b.meta[0] = []MetadataEntry{{"/shared/admin", []byte("mailto:admin@example.org")},
		{"/shared/vendor/deltachat/irohrelay", []byte("https://example.org")},
		{"/shared/vendor/deltachat/maxsmtprecipients", []byte("1000")}}
	return b
}

func fixedNow() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func (b *fakeBackend) create(name, use string) *fakeBox {
	x := &fakeBox{Folder: Folder{Box: b.nextBox, Name: name, Use: use}, uidNext: 1, recent: 1,
		watches: map[chan struct{}]struct{}{}, modseq: 1, validity: 1000 + b.nextBox}
	x.UIDValidity = x.validity
	b.nextBox++
	b.boxes = append(b.boxes, x)
	return x
}

func (b *fakeBackend) Login(_ context.Context, r LoginRequest) (Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loginErr != nil {
		return nil, b.loginErr
	}
	if r.Password != `secret"wo\rd` && r.Password != "secret-word" {
		return nil, errs.E("fake", errs.Auth, "name or password is wrong", nil)
	}
	b.sessions++
	return &fakeSession{b}, nil
}

type fakeSession struct{ b *fakeBackend }

func (s *fakeSession) Close() {
	s.b.mu.Lock()
	s.b.sessions--
	s.b.mu.Unlock()
}

func (s *fakeSession) Folders(context.Context) (out []Folder, _ error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, x := range s.b.boxes {
		out = append(out, x.Folder)
	}
	return out, nil
}

func (b *fakeBackend) byName(name string) *fakeBox {
	for _, x := range b.boxes {
		if x.Name == name {
			return x
		}
	}
	return nil
}

func (b *fakeBackend) byBox(box uint32) (*fakeBox, error) {
	for _, x := range b.boxes {
		if x.Box == box {
			return x, nil
		}
	}
	return nil, errs.E("fake", errs.NotFound, "No such mailbox", nil)
}

func (s *fakeSession) CreateFolder(_ context.Context, name, use string) (Folder, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	defer s.b.fireOther(watchFolders)
	if s.b.byName(name) != nil {
		return Folder{}, errs.E("fake", errs.Exists, "The mailbox exists already", nil)
	}
	for i := range name {
		if name[i] == '/' && s.b.byName(name[:i]) == nil {
			s.b.create(name[:i], "").Subscribed = false
		}
	}
	x := s.b.create(name, use)
	x.Subscribed = false
	return x.Folder, nil
}

func (s *fakeSession) RenameFolder(_ context.Context, from, to string) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	defer s.b.fireOther(watchFolders)
	if s.b.byName(to) != nil {
		return errs.E("fake", errs.Exists, "The mailbox exists already", nil)
	}
	if from == "INBOX" {
		inbox, y := s.b.byName(from), s.b.create(to, "")
		m := &fakeMailbox{s.b, inbox}
		var uids []uint32
		for _, msg := range inbox.msgs {
			uids = append(uids, msg.UID)
		}
		if _, err := m.copy(uids, y.Box); err != nil {
			return err
		}
		m.remove(func(*fakeMsg) bool { return true })
		return nil
	}
	found := false
	for _, x := range s.b.boxes {
		if x.Name == from || strings.HasPrefix(x.Name, from+"/") {
			x.Name = to + x.Name[len(from):]
			found = true
		}
	}
	if !found {
		return errs.E("fake", errs.NotFound, "No such mailbox", nil)
	}
	return nil
}

func (s *fakeSession) DeleteFolder(_ context.Context, name string) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	defer s.b.fireOther(watchFolders)
	x := s.b.byName(name)
	if x == nil {
		return errs.E("fake", errs.NotFound, "No such mailbox", nil)
	}
	x.deleted = true
	s.b.boxes = slices.DeleteFunc(s.b.boxes, func(y *fakeBox) bool { return x == y })
	x.fire()
	return nil
}

func (s *fakeSession) Subscribe(_ context.Context, name string, on bool) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	defer s.b.fireOther(watchFolders)
	x := s.b.byName(name)
	if x == nil && on {
		x = s.b.create(name, "")
		x.NonExistent, x.NoSelect = true, true
	}
	if x != nil {
		x.Subscribed = on
	}
	if x != nil && x.NonExistent && !on {
		s.b.boxes = slices.DeleteFunc(s.b.boxes, func(y *fakeBox) bool { return x == y })
	}
	return nil
}

func (s *fakeSession) Status(_ context.Context, box uint32) (Status, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	x, err := s.b.byBox(box)
	if err != nil {
		return Status{}, err
	}
	st := Status{Messages: len(x.msgs), UIDNext: x.uidNext, UIDValidity: x.validity, HighestModSeq: x.modseq}
	for _, m := range x.msgs {
		st.Size += int64(len(m.raw))
		if m.Flags&Seen == 0 {
			st.Unseen++
		}
		if m.Flags&Deleted != 0 {
			st.Deleted++
		}
		if m.UID >= x.recent {
			st.Recent++
		}
	}
	return st, nil
}

func (s *fakeSession) Open(_ context.Context, box uint32) (Mailbox, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	x, err := s.b.byBox(box)
	if err != nil {
		return nil, err
	}
	return &fakeMailbox{s.b, x}, nil
}

func (s *fakeSession) Append(_ context.Context, box uint32, ms []Message) (AppendResult, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.b.opErr != nil {
		return AppendResult{}, s.b.opErr
	}
	x, err := s.b.byBox(box)
	if err != nil {
		return AppendResult{}, err
	}
	res := AppendResult{UIDValidity: x.validity}
	s.b.modseq = x.modseq + 1
	for _, m := range ms {
		res.UIDs = append(res.UIDs, s.b.add(x, m))
	}
	x.fire()
	return res, nil
}

func (b *fakeBackend) add(x *fakeBox, m Message) uint32 {
	b.nextID++
	f := m.Flags
	if len(m.Keywords) > 0 {
		f |= HasKeywords
	}
	if m.Date.IsZero() {
		m.Date = b.now()
	}
	e := Entry{UID: x.uidNext, ID: b.nextID, ModSeq: b.modseq, Flags: f}
	x.msgs = append(x.msgs, &fakeMsg{Entry: e, raw: m.Raw, date: m.Date, saved: b.saved(), keywords: m.Keywords})
	x.used(m.Keywords)
	x.uidNext++
	x.changed(b.modseq)
	return e.UID
}

// deliver is a delivery from outside.
func (b *fakeBackend) deliver(name string, raw string) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.byName(name)
	b.modseq = x.modseq + 1
	uid := b.add(x, Message{Raw: []byte(raw)})
	x.fire()
	return uid
}

func (x *fakeBox) changed(modseq uint64) { x.modseq, x.cached = modseq, nil }

func (x *fakeBox) fire() {
	for c := range x.watches {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (s *fakeSession) Quota(context.Context) (int64, int64, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	var n int64
	for _, x := range s.b.boxes {
		for _, m := range x.msgs {
			n += int64(len(m.raw))
		}
	}
	return n, 500 << 20, nil
}

func (s *fakeSession) Metadata(_ context.Context, box uint32) ([]MetadataEntry, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return slices.Clone(s.b.meta[box]), nil
}

func (s *fakeSession) SetMetadata(_ context.Context, box uint32, entries []MetadataEntry) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if len(s.b.meta[box])+len(entries) > 10 {
		return errs.E("fake", errs.Full, "", nil)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, "/shared/") {
			return errs.E("fake", errs.Denied, "Only private entries can be set", nil)
		}
	}
	for _, e := range entries {
		all := slices.DeleteFunc(s.b.meta[box], func(o MetadataEntry) bool { return o.Name == e.Name })
		if e.Value != nil {
			all = append(all, e)
		}
		sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
		s.b.meta[box] = all
	}
	s.b.annotated(box)
	return nil
}

type fakeMailbox struct {
	b *fakeBackend
	x *fakeBox
}

type fakeView struct {
	validity, next uint32
	modseq         uint64
	entries        []Entry
}

func (v *fakeView) UIDValidity() uint32   { return v.validity }
func (v *fakeView) UIDNext() uint32       { return v.next }
func (v *fakeView) HighestModSeq() uint64 { return v.modseq }
func (v *fakeView) Len() int              { return len(v.entries) }
func (v *fakeView) At(i int) Entry        { return v.entries[i] }
func (v *fakeView) Find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(v.entries, uid, func(e Entry, uid uint32) int {
		if e.UID < uid {
			return -1
		} else if e.UID > uid {
			return 1
		}
		return 0
	})
}

func (v *fakeView) Range(from, to int) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		for i := from; i < to; i++ {
			if !yield(i, v.entries[i]) {
				return
			}
		}
	}
}
func (v *fakeView) Changed(since uint64) iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		for i, e := range v.entries {
			if e.ModSeq > since && !yield(i, e) {
				return
			}
		}
	}
}
func (v *fakeView) FirstUnseen() int {
	return slices.IndexFunc(v.entries, func(e Entry) bool { return e.Flags&Seen == 0 })
}

func (m *fakeMailbox) BoxKeywords(context.Context) (all []string, _ error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	return slices.Clone(m.x.keywords), nil
}

// used notes keywords for BoxKeywords.
func (x *fakeBox) used(keywords []string) {
	for _, k := range keywords {
		if !slices.Contains(x.keywords, k) {
			x.keywords = append(x.keywords, k)
		}
	}
}

func (m *fakeMailbox) View(context.Context) (View, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	if m.x.deleted {
		return nil, errs.E("fake", errs.NotFound, "No such mailbox", nil)
	}
	if m.x.cached == nil {
		v := &fakeView{validity: m.x.validity, next: m.x.uidNext, modseq: m.x.modseq}
		for _, msg := range m.x.msgs {
			v.entries = append(v.entries, msg.Entry)
		}
		m.x.cached = v
	}
	return m.x.cached, nil
}

type fakeWatch struct {
	m *fakeMailbox
	c chan struct{}
}

func (w *fakeWatch) C() <-chan struct{} { return w.c }
func (w *fakeWatch) Close() {
	w.m.b.mu.Lock()
	delete(w.m.x.watches, w.c)
	w.m.b.mu.Unlock()
}

func (m *fakeMailbox) Watch() Watch {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	w := &fakeWatch{m, make(chan struct{}, 1)}
	m.x.watches[w.c] = struct{}{}
	return w
}

func (m *fakeMailbox) Recent(_ context.Context, v View, take bool) (uint32, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	first := m.x.recent
	if take {
		m.x.recent = max(m.x.recent, v.UIDNext())
	}
	return first, nil
}

func (m *fakeMailbox) get(e Entry) (*fakeMsg, error) {
	for _, msg := range m.x.msgs {
		if msg.UID == e.UID {
			return msg, nil
		}
	}
	return nil, errs.E("fake", errs.NotFound, "The message exists no more", nil)
}

func (m *fakeMailbox) Summary(_ context.Context, e Entry) (*Summary, error) {
	m.b.mu.Lock()
	msg, err := m.get(e)
	m.b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	_, at, _ := mail.ParseHeader(msg.raw)
	return &Summary{Size: int64(len(msg.raw)), Date: msg.date, Header: msg.raw[:at], Structure: func() (*mime.Part, error) { return mime.Parse(msg.raw) }}, nil
}

func (m *fakeMailbox) Keywords(_ context.Context, e *Entry) ([]string, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	msg, err := m.get(*e)
	if err != nil {
		return nil, err
	}
	*e = msg.Entry
	return slices.Clone(msg.keywords), nil
}

type fakeBody struct{ *bytes.Reader }

func (fakeBody) Close() error { return nil }

func (m *fakeMailbox) Body(_ context.Context, e Entry) (Body, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	msg, err := m.get(e)
	if err != nil {
		return nil, err
	}
	return fakeBody{bytes.NewReader(msg.raw)}, nil
}

// fakeBodies opens two at a time.
type fakeBodies struct {
	m  *fakeMailbox
	es []Entry
}

func (m *fakeMailbox) Bodies() Bodies { return &fakeBodies{m: m} }

func (b *fakeBodies) Open(_ context.Context, es []Entry) (int, error) {
	b.es = es[:min(len(es), 2)]
	return len(b.es), nil
}

func (b *fakeBodies) At(i int) (Body, error) { return b.m.Body(context.Background(), b.es[i]) }
func (b *fakeBodies) Close()                 {}

func (m *fakeMailbox) SetFlags(_ context.Context, s SetFlags) (res SetFlagsResult, _ error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	m.b.modseq = m.x.modseq + 1
	for _, msg := range m.x.msgs {
		if _, ok := slices.BinarySearch(s.UIDs, msg.UID); !ok {
			continue
		}
		if s.UnchangedSince != nil && msg.ModSeq > *s.UnchangedSince {
			res.Modified = append(res.Modified, msg.UID)
			continue
		}
		flags, kw := msg.Flags&SystemFlags, slices.Clone(msg.keywords)
		switch s.Op {
		case FlagsSet:
			flags, kw = s.Flags, slices.Clone(s.Keywords)
		case FlagsAdd:
			flags |= s.Flags
			for _, k := range s.Keywords {
				if !slices.ContainsFunc(kw, func(o string) bool { return strings.EqualFold(o, k) }) {
					kw = append(kw, k)
				}
			}
		case FlagsRemove:
			flags &^= s.Flags
			kw = slices.DeleteFunc(kw, func(k string) bool {
				return slices.ContainsFunc(s.Keywords, func(o string) bool { return strings.EqualFold(o, k) })
			})
		}
		if len(kw) > 0 {
			flags |= HasKeywords
		}
		slices.Sort(kw)
		if flags == msg.Flags && slices.Equal(kw, msg.keywords) {
			continue
		}
		m.x.used(kw)
		msg.Flags, msg.keywords, msg.ModSeq = flags, kw, m.b.modseq
		m.x.changed(m.b.modseq)
		res.Changed = append(res.Changed, msg.Entry)
	}
	if len(res.Changed) > 0 {
		m.x.fire()
	}
	return res, nil
}

func (m *fakeMailbox) remove(pick func(*fakeMsg) bool) (gone []uint32) {
	m.x.msgs = slices.DeleteFunc(m.x.msgs, func(msg *fakeMsg) bool {
		if !pick(msg) {
			return false
		}
		gone = append(gone, msg.UID)
		m.x.gone = append(m.x.gone, fakeGone{msg.UID, m.b.modseq})
		return true
	})
	if len(gone) > 0 {
		m.x.changed(m.b.modseq)
		m.x.fire()
	}
	return gone
}

func (m *fakeMailbox) Expunge(_ context.Context, uids []uint32) ([]uint32, uint64, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	m.b.modseq = m.x.modseq + 1
	gone := m.remove(func(msg *fakeMsg) bool {
		return msg.Flags&Deleted != 0 && (uids == nil || slices.Contains(uids, msg.UID))
	})
	return gone, m.x.modseq, nil
}

func (m *fakeMailbox) copy(uids []uint32, to uint32) (res CopyResult, err error) {
	y, err := m.b.byBox(to)
	if err != nil {
		return res, err
	}
	res.UIDValidity = y.validity
	m.b.modseq = y.modseq + 1
	var from []*fakeMsg
	for _, msg := range m.x.msgs {
		if slices.Contains(uids, msg.UID) {
			from = append(from, msg)
		}
	}
	for _, msg := range from {
		uid := m.b.add(y, Message{Raw: msg.raw, Date: msg.date, Flags: msg.Flags, Keywords: msg.keywords})
		res.Src, res.Dst = append(res.Src, msg.UID), append(res.Dst, uid)
	}
	y.fire()
	return res, nil
}

func (m *fakeMailbox) Copy(_ context.Context, uids []uint32, to uint32) (CopyResult, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	return m.copy(uids, to)
}

func (m *fakeMailbox) Move(_ context.Context, uids []uint32, to uint32) (CopyResult, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	res, err := m.copy(uids, to)
	m.b.modseq = m.x.modseq + 1
	if err == nil {
		m.remove(func(msg *fakeMsg) bool { return slices.Contains(res.Src, msg.UID) })
	}
	return res, err
}

func (m *fakeMailbox) Expunged(_ context.Context, since uint64) (uids []uint32, complete bool, _ error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for _, g := range m.x.gone {
		if g.modseq > since {
			uids = append(uids, g.uid)
		}
	}
	return uids, since >= m.b.forget, nil
}

var _ io.Closer = fakeBody{}
