// Package keybook holds the keys of those that a user of the mail proxy writes to: a directory
// with one file for each, ADDRESS.pem, and what the configuration names. It knows how each key
// came here, and never lets another take its place silently.
//
// What a key is, is the caller's business (Options.Parse): the book holds texts. A file that
// somebody else wrote is a key that the user put there. The book writes files in the same form, with
// headers that say the rest (docs/keybook.md); it does that atomically, so that a crash leaves
// the old file or the new one. There is no network here and no clock but the one passed in.
package keybook

import (
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
)

// Key is the key of a recipient.
type Key struct {
	Text        string    // in its one-line form, with where letters go; two are the same key if their fingerprints are
	Type        string    // of its PEM block, which Parse reads, too
	Bytes       []byte    // in that
	Fingerprint string    // for people to compare
	Classical   bool      // it does not withstand quantum computers
	Certified   time.Time // from when on a relay vouches for it, in whole seconds; zero: none said
}

// State says how a key came here.
type State uint8

// States of an entry.
const (
	Config     State = iota + 1 // it stands in the configuration
	File                        // a file that the user put into the directory
	Set                         // the user set it (SET_RECIPIENT)
	Discovered                  // a relay said it, and nobody has compared it
	Verified                    // the user has compared its fingerprint
	Changed                     // a relay says another one: nothing is sent until the user decides
)

var stateNames = [...]string{Config: "config", File: "file", Set: "set", Discovered: "discovered", Verified: "verified", Changed: "changed"}

func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// Entry is a recipient.
type Entry struct {
	Address mail.Address // canonical
	Key     Key
	State   State
	Since   time.Time // when the key came, in whole seconds; zero: nobody knows

	// While State is Changed: the other key, and the state that Key had.
	New Key
	Was State
}

// Usable reports whether mail may be sealed to the key.
func (e *Entry) Usable() bool { return e.State != 0 && e.State != Changed }

// Defaults of Options.
const (
	DefaultMaxEntries = 10_000
	MaxFile           = 32 << 10 // bytes of a file
)

// Options of a Book. FS, Dir and Parse are needed.
type Options struct {
	FS  vfs.FS
	Dir string // made if it is missing, 0700

	// Parse reads a key that somebody wrote, in any of its forms.
	Parse func(text []byte) (Key, error)

	Config         map[string]string // address: key, as the configuration says
	AllowClassical bool              // take keys that do not withstand quantum computers
	MaxEntries     int               // DefaultMaxEntries

	Now func() time.Time
}

// Bad is a file, or an entry of the configuration, that could not be read.
type Bad struct {
	Name string // the file's, in its directory; an address if it stands in the configuration
	Err  error  // with a public text
}

// Report is what Rescan found.
type Report struct {
	Entries int
	Added   int
	Removed int
	Bad     []Bad // sorted by name
}

// Book is the book. It may be used by many goroutines.
type Book struct {
	o Options

	write sync.Mutex // held by who changes files

	mu      sync.RWMutex
	entries map[mail.Address]*record
	broken  map[mail.Address]*Bad // whose file, or line in the configuration, could not be read
	bad     []Bad
	changed chan struct{} // closed at the next change
}

// record is an entry and its file; "" for one of the configuration alone. It is not changed.
type record struct {
	Entry
	file string
}

// Open makes the directory if it is missing and reads what is there. Bad files do not keep the
// others from being read: see Bad. errs.Invalid for options that are not possible; errors of the
// disk.
func Open(o Options) (*Book, error) {
	const op = "post/keybook.Open"
	if o.FS == nil || o.Dir == "" || o.Parse == nil {
		return nil, errs.E(op, errs.Invalid, "a key book needs a directory and keys that it can read", nil)
	}
	defaults.Positive(&o.MaxEntries, DefaultMaxEntries)
	defaults.Clock(&o.Now)
	if err := vfs.MkdirAll(o.FS, o.Dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	b := &Book{o: o, changed: make(chan struct{})}
	if _, err := b.Rescan(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return b, nil
}

// Watch gives a channel that is closed at the next change of the book.
func (b *Book) Watch() <-chan struct{} {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.changed
}

// Get gives the entry of an address. errs.NotFound: there is none; errs.Corrupt: there is a file
// that cannot be read.
func (b *Book) Get(a mail.Address) (Entry, error) {
	const op = "post/keybook.Get"
	a = a.Canonical()
	b.mu.RLock()
	defer b.mu.RUnlock()
	if r := b.entries[a]; r != nil {
		return r.Entry, nil
	}
	if x := b.broken[a]; x != nil {
		return Entry{}, errs.E(op, errs.Corrupt, "the key of this recipient cannot be read", x.Err)
	}
	return Entry{}, errs.E(op, errs.NotFound, "no key of this recipient is known", nil)
}

// Bad gives what could not be read, sorted by name.
func (b *Book) Bad() []Bad {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.bad
}
