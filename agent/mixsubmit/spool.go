package mixsubmit

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/packet"
)

// A mail that was taken is two files, sealed with the key of the account's client: ID.mail, the text,
// which is written once and first, and ID.state, the entry, whose first writing is the moment at which
// the mail was taken. The text goes when all letters were made of it.
const (
	mailSuffix  = ".mail"
	stateSuffix = ".state"
	tempSuffix  = ".tmp" // of vfs.WriteFileAtomic
)

// maxHeader bounds the part of a mail's header that is kept for reports, in bytes.
const maxHeader = 16 << 10

// recipient is one of a mail.
type recipient struct {
	To                            mail.Address
	Notify                        uint8  `json:",omitempty"`
	OriginalType, OriginalAddress string `json:",omitempty"`

	// Of a part that failed: what the report says.
	Status, Why string `json:",omitempty"`
}

// stage is how far a part is.
type stage uint8

const (
	waiting stage = iota // for a key, a certificate, or room in the client's store
	queued               // in the client's store, under Name
	failed               // no letter was made; the report is due
	settled              // nothing is left to do
)

// part is the recipients whose copy travels in one letter.
type part struct {
	Rcpts   []recipient
	Stage   stage
	Name    string    // of the message in the client's store, put down before there is one
	Relay   packet.ID `json:",omitzero"`  // not zero: sealed to this relay, for its ordinary mailboxes
	World   bool      `json:",omitempty"` // sealed to an exit of the network
	Token   []byte    `json:",omitempty"` // for that
	PGP     bool      `json:",omitempty"` // the mail is encrypted to the one recipient's OpenPGP key
	NoKey   bool      `json:",omitempty"` // the recipient's domain was asked for such a key, and shows none
	Why     string    `json:",omitempty"` // it waits
	Delayed bool      `json:",omitempty"` // it was looked at whether the sender wants to hear of the delay

	due time.Time // not before; lost with the process
}

// entry is a mail that was taken.
type entry struct {
	ID         string
	From       mail.Address // the account: of the envelope, and of the header unless Anon
	Anon       *anonymous   `json:",omitempty"` // nil: the mail names its sender
	Created    time.Time
	Expires    time.Time // of its letters
	EnvID      string    `json:",omitempty"`
	Return     uint8     `json:",omitempty"`
	Unreliable bool      `json:",omitempty"`
	Encrypted  bool      `json:",omitempty"` // from end to end, by the sender's program
	Ordinary   bool      `json:",omitempty"` // ordinary mailboxes of relays take it
	Size       int64
	Header     []byte // for reports
	Parts      []*part

	held, asks bool // for what is said at once: a key has changed, or is looked up
}

// done reports whether nothing is left to do.
func (e *entry) done() bool {
	return !slices.ContainsFunc(e.Parts, func(p *part) bool { return p.Stage != settled })
}

// unmade reports whether the text is still needed.
func (e *entry) unmade() bool {
	return slices.ContainsFunc(e.Parts, func(p *part) bool { return p.Stage == waiting })
}

// spool holds the entries of an account. They are changed by the worker alone; others may add some.
type spool struct {
	a      *Account
	random io.Reader

	peers  sync.Mutex // held by who changes those
	tokens wallet
	away   away

	mu      sync.Mutex
	entries map[string]*entry
	bytes   int64 // of their sizes
	damaged int   // files that cannot be read; they stay
}

// openSpool reads what waits. A text without an entry was not taken: it goes, as what was written by half
// does.
func openSpool(a *Account, random io.Reader) (*spool, error) {
	const op = "agent/mixsubmit.openSpool"
	if err := vfs.MkdirAll(a.FS, a.Dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	s := &spool{a: a, random: random, entries: make(map[string]*entry)}
	names, err := a.FS.List(a.Dir)
	if err != nil {
		return nil, vfs.Error(op, err)
	}
	for _, n := range names {
		id, ok := strings.CutSuffix(n, stateSuffix)
		if !ok || !validID(id) {
			continue
		}
		e, err := s.load(id)
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				return nil, errs.Wrap(op, err)
			}
			s.damaged++
			continue
		}
		s.entries[id] = e
		s.bytes += e.Size
	}
	for _, n := range names {
		whole, half := strings.CutSuffix(n, tempSuffix)
		id, ok := strings.CutSuffix(whole, mailSuffix)
		if !ok {
			id = strings.TrimSuffix(whole, stateSuffix)
		}
		if !validID(id) || !half && (!ok || slices.Contains(names, id+stateSuffix)) {
			continue
		}
		if err := a.FS.Remove(s.path(n)); err != nil {
			return nil, vfs.Error(op, err)
		}
	}
	return s, nil
}

func validID(id string) bool { return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" }

func (s *spool) path(name string) string { return s.a.FS.PathJoin(s.a.Dir, name) }

// label is what a file is sealed under.
func label(name string) string { return "submit/" + name }

func (s *spool) write(name string, plain []byte) error {
	b, err := s.a.Identity.Seal(label(name), plain, s.random)
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(s.a.FS, s.path(name), b, 0o600)
}

func (s *spool) read(name string) ([]byte, error) {
	b, err := vfs.ReadFile(s.a.FS, s.path(name))
	if err != nil {
		return nil, err
	}
	return s.a.Identity.Open(label(name), b)
}

func (s *spool) load(id string) (*entry, error) {
	const op = "agent/mixsubmit.load"
	b, err := s.read(id + stateSuffix)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	var e entry
	if err := json.Unmarshal(b, &e); err != nil || e.ID != id || len(e.Parts) == 0 {
		return nil, errs.E(op, errs.Corrupt, "a mail that waits is damaged", err)
	}
	return &e, nil
}

func (s *spool) save(e *entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return errs.E("agent/mixsubmit.save", errs.Internal, "", err)
	}
	return errs.Wrap("agent/mixsubmit.save", s.write(e.ID+stateSuffix, b))
}

// add takes a mail: it is durable on return. errs.Full when too much waits.
func (s *spool) add(e *entry, raw []byte, mails int, bytes int64) error {
	const op = "agent/mixsubmit.add"
	var id [16]byte
	if _, err := io.ReadFull(s.random, id[:]); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	e.ID = hex.EncodeToString(id[:])
	s.mu.Lock()
	if len(s.entries) >= mails || s.bytes+e.Size > bytes {
		s.mu.Unlock()
		return errs.E(op, errs.Full, "too many mails wait to be sent already, try again later", nil)
	}
	s.entries[e.ID] = nil // its place
	s.bytes += e.Size
	s.mu.Unlock()
	err := s.write(e.ID+mailSuffix, raw)
	if err == nil {
		err = s.save(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.entries, e.ID)
		s.bytes -= e.Size
		return errs.Wrap(op, err)
	}
	s.entries[e.ID] = e
	return nil
}

// text gives the mail of an entry.
func (s *spool) text(e *entry) ([]byte, error) {
	b, err := s.read(e.ID + mailSuffix)
	if errs.KindOf(err) == errs.NotFound {
		err = errs.E("agent/mixsubmit.text", errs.Corrupt, "the text of a mail that waits is missing", err)
	}
	return b, err
}

// changed puts an entry down as it is now, and drops what is not needed any more.
func (s *spool) changed(e *entry) error {
	if !e.done() {
		if err := s.save(e); err != nil {
			return err
		}
		if e.unmade() {
			return nil
		}
		return s.remove(e.ID + mailSuffix)
	}
	// The entry goes first: a text without one is nothing.
	if err := s.remove(e.ID+stateSuffix, e.ID+mailSuffix); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, e.ID)
	s.bytes -= e.Size
	return nil
}

func (s *spool) remove(names ...string) error {
	const op = "agent/mixsubmit.remove"
	gone := false
	for _, n := range names {
		ok, err := vfs.Exists(s.a.FS, s.path(n))
		if err != nil {
			return errs.Wrap(op, err)
		}
		if !ok {
			continue
		}
		if err := s.a.FS.Remove(s.path(n)); err != nil {
			return vfs.Error(op, err)
		}
		gone = true
	}
	if !gone {
		return nil
	}
	return errs.Wrap(op, vfs.SyncDir(s.a.FS, s.a.Dir))
}

// list gives the entries, the oldest first.
func (s *spool) list() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*entry
	for _, e := range s.entries {
		if e != nil {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(x, y *entry) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return out
}
