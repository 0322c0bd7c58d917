package mbox

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/agent/parts"
	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/stats"
)

// Names of the two directories.
const (
	mailDir     = "mbox"
	fragmentDir = "fragments"
)

// module is how this exit is called in statistics.
const module = "MBOX"

// MBox is an exit. Exit may be called by many goroutines; one calls Run.
type MBox struct {
	o       Options
	c       atomic.Pointer[Config]
	mails   *parts.Files
	parts   *parts.Parts
	started time.Time
	wake    chan struct{} // capacity 1
	turn    chan struct{} // holds one token: who has it may change the directories

	mu      sync.Mutex
	waiting map[handle]*waiting
	done    map[handle]time.Time // when it was done, or the start
	bytes   int64                // of mails
	damaged int                  // files of mails that are kept aside
	dests   map[mail.Address]*pause
	toDest  map[mail.Address]int // mails that wait
	way     wayPause
	ending  map[handle]bool // done, and their files could not be removed yet

	// Run's own:
	nextNames time.Time // when the first name is forgotten; zero: not known
	first     int       // which mail of a round is tried first
}

// waiting is a mail that is to be sent.
type waiting struct {
	to, dest  mail.Address // as given, and as it is compared
	since     time.Time
	size      int64
	notBefore time.Time // the disk could not read it; zero: it could
}

// Open opens the exit's directory and finds out what waits. Kinds of errors: errs.Invalid (options),
// errs.Denied (sealed under another secret, or rights), errs.NoSpace, errs.Unavailable.
func Open(o Options) (*MBox, error) {
	const op = "agent/mbox.Open"
	o, err := o.complete()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	m := &MBox{o: o, started: o.Now(), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		waiting: make(map[handle]*waiting), done: make(map[handle]time.Time),
		dests: make(map[mail.Address]*pause), toDest: make(map[mail.Address]int), ending: make(map[handle]bool)}
	m.turn <- struct{}{}
	if err := m.Reload(o.Config); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := m.openMails(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := m.openFragments(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if n := m.damaged + m.parts.Status().Aside; n > 0 {
		o.Log.Warn("files of mail could not be read and are kept aside", "crp", n)
	}
	return m, nil
}

// Reload takes another configuration. What waits is sent by it.
func (m *MBox) Reload(c Config) error {
	full, err := c.complete()
	if err != nil {
		return errs.Wrap("agent/mbox.Reload", err)
	}
	m.c.Store(full)
	m.poke()
	return nil
}

func (m *MBox) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// meta is what is kept beside a mail.
func appendMeta(b []byte, since time.Time, to mail.Address) []byte {
	b = append(b, 1)
	b = appendInt(b, since.Unix())
	b = codec.AppendSized(b, to.Local)
	return codec.AppendSized(b, to.Domain)
}

func parseMeta(b []byte) (since time.Time, to mail.Address, err error) {
	r := codec.NewReader(b, 1)
	since = time.Unix(r.Varint(), 0)
	to = mail.Address{Local: r.String(mail.MaxLocal), Domain: r.String(mail.MaxDomain)}
	return since, to, r.End("agent/mbox.parseMeta")
}

// openMails takes in what waits. A mail whose parts do not belong together any more is kept
// aside; metadata without a mail is what a crash leaves.
func (m *MBox) openMails() error {
	const op = "agent/mbox.openMails"
	s, found, err := parts.OpenFiles(m.o.FS, m.o.FS.PathJoin(m.o.Dir, mailDir), m.o.Secret, m.o.Rand)
	if err != nil {
		return err
	}
	m.mails = s
	m.damaged += len(found[crp]) + len(found[crpm])
	for _, h := range found[rmvm] {
		m.done[h] = m.started
	}
	metas := make(map[handle]bool)
	for _, h := range found[meta] {
		metas[h] = true
	}
	for _, h := range found[msg] {
		if _, done := m.done[h]; done {
			if err := s.Remove(msg, h); err != nil {
				return errs.Wrap(op, err)
			}
			continue
		}
		b, err := s.Read(meta, h)
		var since time.Time
		var to mail.Address
		if err == nil {
			since, to, err = parseMeta(b)
		}
		switch errs.KindOf(err) {
		case errs.Corrupt, errs.NotFound:
			if err := m.keepAside(h); err != nil {
				return errs.Wrap(op, err)
			}
			delete(metas, h)
			continue
		}
		if err != nil {
			return errs.Wrap(op, err)
		}
		info, err := m.o.FS.Stat(s.Path(parts.FileName(msg, h)))
		if err != nil {
			return errs.Wrap(op, err)
		}
		delete(metas, h)
		m.add(h, &waiting{to: to, since: since, size: info.Size()})
	}
	for h := range metas {
		if err := s.Remove(meta, h); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return errs.Wrap(op, s.Sync())
}

// add puts a mail on the list.
func (m *MBox) add(h handle, w *waiting) {
	w.dest = w.to.Canonical()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting[h] = w
	m.toDest[w.dest]++
	m.bytes += w.size
}

// keepAside keeps a mail that cannot be read.
func (m *MBox) keepAside(h handle) error {
	if err := m.mails.Move(meta, crpm, h); err != nil {
		return err
	}
	m.mu.Lock()
	m.damaged++
	m.mu.Unlock()
	return m.mails.Move(msg, crp, h)
}

// Exit takes over the content of a packet for a name of the address file; name is that of the
// packet, the same whenever it comes again. On return with nil it is durable, or was taken before. The
// body of c is not kept. Kinds of errors:
//
//   - errs.Unsupported: not of kind Mbox, or of a later form; or a fragment, and they are not taken
//   - errs.Invalid: malformed
//   - errs.NotFound: nobody has this name
//   - errs.TooLarge: too long
//   - errs.Busy, errs.NoSpace, errs.Unavailable, errs.Canceled: not now; nothing was taken
func (m *MBox) Exit(ctx context.Context, name [16]byte, c packet.Content) error {
	const op = "agent/mbox.Exit"
	if c.Kind != content.Mbox {
		return errs.E(op, errs.Unsupported, "this exit takes mail for mailboxes only", nil)
	}
	box, rest, err := content.ParseMbox(c.Body)
	if err != nil {
		return m.refuse(op, err)
	}
	f, err := letter.ParseFragment(rest)
	if err != nil {
		return m.refuse(op, err)
	}
	cfg := m.c.Load()
	if _, ok := cfg.Addresses.Find(box); !ok {
		m.o.Stats.Count(stats.AttemptedDelivery, module)
		return m.refuse(op, errs.E(op, errs.NotFound, "nobody has this name", nil))
	}
	select {
	case <-m.turn:
		defer func() { m.turn <- struct{}{} }()
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, "", ctx.Err())
	}
	if f.Total == 1 {
		err = m.whole(cfg, box, parts.Key{ID: f.ID, Box: box}, []*letter.Fragment{f})
	} else {
		err = m.fragment(cfg, handle(name), box, f, c.Body)
	}
	if k := errs.KindOf(err); err != nil && !k.Temporary() {
		return m.refuse(op, err)
	}
	return errs.Wrap(op, err)
}

// refuse counts what is given up.
func (m *MBox) refuse(op string, err error) error {
	m.o.Stats.Count(stats.UnretriableDelivery, module)
	return errs.Wrap(op, err)
}

// mailHandle names the mail that a letter becomes: the same for the same letter to the same name.
func mailHandle(k parts.Key) handle {
	h := sha256.New()
	h.Write([]byte("postern/mbox mail\n"))
	h.Write(k.ID[:])
	h.Write([]byte(k.Box))
	return handle(h.Sum(nil))
}

// whole makes a mail of a letter all of whose fragments are there, and keeps it. The turn is
// held.
func (m *MBox) whole(cfg *Config, box string, k parts.Key, list []*letter.Fragment) error {
	const op = "agent/mbox.whole"
	h := mailHandle(k)
	if m.knows(h) {
		return nil
	}
	longest := cfg.Fragments.MaxSize
	if len(list) == 1 {
		longest = letter.MaxWhole
	}
	l, err := parts.Assemble(list, longest)
	if err != nil {
		return err
	}
	if int64(len(l.Content)) > cfg.MaxSize {
		return errs.E(op, errs.TooLarge, "the mail is too large for this exit", nil)
	}
	to, ok := cfg.Addresses.Find(box)
	if !ok {
		return errs.E(op, errs.NotFound, "nobody has this name", nil)
	}
	now := m.o.Now()
	text := cfg.Form.Compose(to, l.Content, h[:], now)
	if err := m.room(int64(len(text) + parts.Extra)); err != nil {
		return err
	}
	if _, err := m.mails.Write(inpm, meta, h, appendMeta(nil, now, to)); err != nil {
		return errs.Wrap(op, err)
	}
	size, err := m.mails.Write(inp, msg, h, text)
	if err != nil {
		return errs.Wrap(op, err)
	}
	m.add(h, &waiting{to: to, since: now, size: size})
	m.poke()
	return nil
}

// knows reports whether a mail waits, or was done.
func (m *MBox) knows(h handle) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, done := m.done[h]
	return done || m.waiting[h] != nil
}

// room refuses what would be beyond the bounds.
func (m *MBox) room(size int64) error {
	fragments := m.parts.Status().Bytes
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) >= m.o.MaxMails || m.bytes+fragments+size > m.o.MaxBytes {
		return errs.E("agent/mbox.room", errs.Busy, "too much mail waits at this exit", nil)
	}
	return nil
}

// Status are numbers of now.
type Status struct {
	Waiting    int   // mails to be sent
	Letters    int   // that are not whole
	Fragments  int   // of them
	Bytes      int64 // of all that on the disk
	Remembered int   // names of mails that are gone
	Aside      int   // files that could not be read (crp, crpm)
	Paused     int   // destinations that could not be reached
	Down       bool  // the way out does not work
}

// Status gives the numbers of now.
func (m *MBox) Status() Status {
	p := m.parts.Status()
	m.mu.Lock()
	defer m.mu.Unlock()
	return Status{Waiting: len(m.waiting), Letters: p.Letters, Fragments: p.Fragments, Bytes: m.bytes + p.Bytes,
		Remembered: len(m.done), Aside: m.damaged + p.Aside, Paused: len(m.dests), Down: m.way.tries > 0}
}
