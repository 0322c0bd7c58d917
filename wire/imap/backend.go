package imap

import (
	"context"
	"io"
	"iter"
	"time"

	"postern.email/kit/limits"
	"postern.email/mail/mime"
)

// Backend opens sessions. Errors of all interfaces here are kit/errs errors; the
// kind decides the response code, the public text is shown to the client.
type Backend interface {
	// Login checks a name and a password. errs.Auth: wrong; errs.Busy and
	// errs.Unavailable: try later; errs.Denied: this user may not.
	Login(ctx context.Context, r LoginRequest) (Session, error)
}

// LoginRequest is what LOGIN and AUTHENTICATE bring. Authzid is already checked
// to be empty or equal to Username.
type LoginRequest struct {
	Username, Password string
	Peer               limits.Peer
}

// Session is one logged-in user. Only one goroutine at a time uses it.
type Session interface {
	// Close ends the session; it is called exactly once.
	Close()

	// Folders gives all mailboxes of the user, parents that cannot be selected
	// included, in any order.
	Folders(ctx context.Context) ([]Folder, error)
	// CreateFolder makes a mailbox; use is a special-use attribute or "".
	// Missing parents are made too or appear as NoSelect. errs.Exists, errs.Invalid.
	CreateFolder(ctx context.Context, name, use string) (Folder, error)
	// RenameFolder renames a mailbox and all below it; of INBOX it moves the
	// messages into a new mailbox. errs.NotFound, errs.Exists.
	RenameFolder(ctx context.Context, from, to string) error
	// DeleteFolder removes a mailbox and its messages. errs.NotFound, errs.Denied.
	DeleteFolder(ctx context.Context, name string) error
	// Subscribe sets or removes a subscription. errs.NotFound.
	Subscribe(ctx context.Context, name string, on bool) error

	// WatchFolders fires after each durable change of what Folders gives.
	WatchFolders() Watch

	// Status gives the counts of a mailbox without opening it.
	Status(ctx context.Context, box uint32) (Status, error)
	// Open gives a mailbox. It holds nothing that needs closing.
	Open(ctx context.Context, box uint32) (Mailbox, error)
	// Append stores all messages or none, in order. errs.Full, errs.TooLarge.
	Append(ctx context.Context, box uint32, messages []Message) (AppendResult, error)

	// Quota gives the used and allowed bytes of the user; limit 0: none.
	Quota(ctx context.Context) (used, limit int64, err error)

	// Metadata gives all entries of a mailbox (box 0: of the server) that this
	// user may see, sorted by name. Names are lower case (RFC 5464 §3.2).
	Metadata(ctx context.Context, box uint32) ([]MetadataEntry, error)
	// SetMetadata sets entries, or removes them when Value is nil: all or none. In a mailbox
	// that raises HighestModSeq (RFC 7162 §3.2).
	// errs.Denied: read-only; errs.TooLarge, errs.Full: too long, too many.
	SetMetadata(ctx context.Context, box uint32, entries []MetadataEntry) error
	// WatchMetadata fires after each durable change of the user's entries of the server.
	WatchMetadata() Watch
}

// Mailbox is one mailbox of a session's user.
type Mailbox interface {
	// View gives the current durable state. It is cheap when nothing changed.
	View(ctx context.Context) (View, error)
	// Watch fires after each durable change of the mailbox.
	Watch() Watch
	// Recent gives the lowest UID that \Recent (RFC 3501 §2.3.2) marks for this
	// session. take says that no other session shall see those messages as recent.
	Recent(ctx context.Context, v View, take bool) (uint32, error)

	Summary(ctx context.Context, e Entry) (*Summary, error) // errs.NotFound when expunged meanwhile
	// SaveDate gives when the message came into this mailbox (RFC 8514); zero: not known.
	SaveDate(ctx context.Context, e Entry) (time.Time, error)
	// Keywords gives the keywords of a message and makes e its entry of the same
	// moment: flags and keywords of one answer come from one state.
	Keywords(ctx context.Context, e *Entry) ([]string, error)
	// BoxKeywords gives the keywords that are in use in the mailbox.
	BoxKeywords(ctx context.Context) ([]string, error)
	Body(ctx context.Context, e Entry) (Body, error)
	// Bodies is for many of them, one after the other. It must be closed.
	Bodies() Bodies

	SetFlags(ctx context.Context, s SetFlags) (SetFlagsResult, error)
	// Expunge removes those of uids (nil: all) that have \Deleted.
	Expunge(ctx context.Context, uids []uint32) (gone []uint32, modseq uint64, err error)
	Copy(ctx context.Context, uids []uint32, to uint32) (CopyResult, error)
	Move(ctx context.Context, uids []uint32, to uint32) (CopyResult, error)
	// Expunged gives the UIDs removed after a modseq; complete is false when the
	// backend remembers less than that (RFC 7162 §3.2.5.2).
	Expunged(ctx context.Context, since uint64) (uids []uint32, complete bool, err error)
}

// View is an immutable state of a mailbox; what it stands on is shared by all
// sessions. Entries are ordered by UID. One goroutine at a time uses a View.
type View interface {
	UIDValidity() uint32
	UIDNext() uint32
	HighestModSeq() uint64
	Len() int
	At(i int) Entry
	// Find gives the position of uid, or, with ok false, of the next higher one.
	Find(uid uint32) (i int, ok bool)
	// Range gives the entries from ≤ i < to in order.
	Range(from, to int) iter.Seq2[int, Entry]
	// Changed gives, in order, the entries with a modseq above since.
	Changed(since uint64) iter.Seq2[int, Entry]
	// FirstUnseen gives the position of the first entry without Seen, or -1.
	FirstUnseen() int
}

// Watch is a wake-up without content.
type Watch interface {
	C() <-chan struct{}
	Close()
}

// Entry is one message in a View.
type Entry struct {
	UID    uint32
	ID     uint64 // names the message in its account, equal in all copies made by Move
	ModSeq uint64
	Flags  Flags
	Bucket uint8  // the size bucket of the backend, opaque here
	Hour   uint32 // arrival, unix hours
}

// Flags are the system flags of a message.
type Flags uint8

// The bits of Flags. HasKeywords says that Keywords would give some.
const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
	HasKeywords

	SystemFlags = Seen | Answered | Flagged | Deleted | Draft
)

// Folder is a mailbox as LIST shows it.
type Folder struct {
	Box        uint32 // 0 when NoSelect and without an identity
	Name       string // UTF-8, "/" between levels; the inbox is "INBOX"
	Use        string // special-use attribute like "\\Sent", or ""
	Subscribed bool
	NoSelect   bool
	// NonExistent: only a subscription, or a parent without a mailbox of its own.
	NonExistent bool
	// UIDValidity of a mailbox that can be selected.
	UIDValidity uint32
}

// Status is the answer to STATUS.
type Status struct {
	Messages, Unseen, Deleted, Recent int
	UIDNext, UIDValidity              uint32
	HighestModSeq                     uint64
	Size                              int64 // sum of RFC822.SIZE, or an upper bound of it
}

// Summary is what is known of a message without its body.
type Summary struct {
	Size int64
	Date time.Time // internal date
	// Header is the message's header with the empty line; nil when it is so long
	// that it must be read from the body.
	Header []byte
	// Structure gives the tree of parts, with envelopes.
	Structure func() (*mime.Part, error)
}

// Body reads a message.
type Body interface {
	io.ReaderAt
	io.WriterTo
	Size() int64
	Close() error
}

// Bodies reads the bodies of many messages. One goroutine uses it.
type Bodies interface {
	// Open opens the bodies of the first of es: of one at least, and of as many as the
	// backend likes to hold at one time. It says of how many. Those of the Open
	// before end with it. An error is one of the whole.
	Open(ctx context.Context, es []Entry) (int, error)
	// At gives the body of es[i] of the last Open, or why there is none:
	// errs.NotFound when it was expunged meanwhile. It is not closed by the caller.
	At(i int) (Body, error)
	Close()
}

// Message is what APPEND brings.
type Message struct {
	Raw      []byte
	Date     time.Time // zero: now
	Flags    Flags
	Keywords []string
}

// AppendResult names the new messages, in order.
type AppendResult struct {
	UIDValidity uint32
	UIDs        []uint32
}

// FlagsOp says how SetFlags changes flags.
type FlagsOp uint8

// The operations of STORE: FLAGS, +FLAGS, -FLAGS.
const (
	FlagsSet FlagsOp = iota
	FlagsAdd
	FlagsRemove
)

// SetFlags asks for a change of flags.
type SetFlags struct {
	UIDs           []uint32 // ascending
	Op             FlagsOp
	Flags          Flags
	Keywords       []string
	UnchangedSince *uint64 // RFC 7162 §3.1.3
}

// SetFlagsResult tells what was done. Messages that do not exist are in neither list.
type SetFlagsResult struct {
	Changed  []Entry  // whose flags or modseq are new, ascending by UID
	Modified []uint32 // not changed because of UnchangedSince
}

// CopyResult pairs old and new UIDs (RFC 4315 §3). Messages that do not exist are left out.
type CopyResult struct {
	UIDValidity uint32
	Src, Dst    []uint32
}

// MetadataEntry is one annotation of RFC 5464.
type MetadataEntry struct {
	Name  string
	Value []byte // nil: NIL
}
