package mailbox

import (
	"time"

	"postern.email/kit/errs"
	"postern.email/mail/mime"
)

// Inbox is the number of INBOX in every account.
const Inbox uint32 = 1

// Flags are the five system flags of a mail and two bits of ours. They are readable
// on disk without any key.
type Flags uint8

const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
	HasKeywords // the mail has keywords; set by this package only
	Copied      // the mail came by COPY or MOVE: its save date is a record of its own; set by this package only
)

// SystemFlags are the bits a caller may set.
const SystemFlags = Seen | Answered | Flagged | Deleted | Draft

// Entry is one mail in one mailbox.
type Entry struct {
	UID    uint32
	Mid    uint64 // number of the message record in the account; copies share it
	ModSeq uint64
	Flags  Flags
	Bucket uint8  // size class of the exact size, see Bucket
	Hour   uint32 // arrival, hours since 1970 UTC; what expiry goes by
}

// LargeSize is the border (in bytes of the whole mail) between two size buckets above
// which a mail is "large" for Options.LargeAge.
const LargeSize = 200_000

// largeBucket is the highest bucket that is not large.
const largeBucket = 20

// Bucket gives the size class of a mail of n bytes: powers of two around LargeSize.
func Bucket(n int64) uint8 {
	b := uint8(largeBucket)
	for b > 0 && n <= BucketMax(b-1) {
		b--
	}
	for b < 60 && n > BucketMax(b) {
		b++
	}
	return b
}

// BucketMax gives the largest size in bytes that Bucket puts into class b.
func BucketMax(b uint8) int64 {
	if b <= largeBucket {
		return LargeSize >> (largeBucket - b)
	}
	return LargeSize << min(b-largeBucket, 40)
}

// Large reports whether the mail is larger than LargeSize.
func (e Entry) Large() bool { return e.Bucket > largeBucket }

// Message is a mail to be stored.
type Message struct {
	Raw      []byte    // the exact bytes, CRLF line ends; not changed, not kept
	Date     time.Time // internal date; second and zone are kept. Zero: now
	Flags    Flags     // only SystemFlags count
	Keywords []string  // only with Target.Unsealed
}

// Placed tells where a mail went.
type Placed struct{ UID, UIDValidity uint32 }

// Folder is one name of an account's folder list.
type Folder struct {
	Box         uint32
	Name        string // UTF-8 NFC, '/' between levels, "INBOX"
	Use         string // special use: `\Sent` …, or ""
	Subscribed  bool
	NoSelect    bool   // only a name: it was deleted while it had children (RFC 9051 §6.3.5)
	NonExistent bool   // only a subscription: the folder is gone or never was (RFC 9051 §6.3.7)
	UIDValidity uint32 // 0 with NoSelect or NonExistent
}

// Status is what can be told of a mailbox without opening a mail.
type Status struct {
	Messages, Unseen, Deleted int
	Recent                    int // mails no session has claimed yet, see ClaimRecent
	UIDNext, UIDValidity      uint32
	HighestModSeq             uint64
	Size                      int64 // stored bytes; never less than the sum of the mails' sizes
}

// Summary is what is known of a mail without reading its body.
type Summary struct {
	Size int64     // exact bytes of the whole mail
	Date time.Time // internal date, in the zone it came with
	// Header is the exact bytes from the start of the mail to behind the empty
	// line. It is nil if they are more than MaxHeader; then read them from the Body.
	Header []byte

	structure []byte // mime.Encode; decoded when asked for
	remake    func() ([]byte, error)
}

// Structure gives the tree of parts, with envelopes. Each call makes a fresh one. That of
// a few mails of absurd form is not kept and costs reading the whole mail, under the context
// that Summary was called with: errs.NotFound when it was expunged meanwhile.
func (s *Summary) Structure() (*mime.Part, error) {
	b := s.structure
	if len(b) == 0 && s.remake != nil {
		var err error
		if b, err = s.remake(); err != nil {
			return nil, errs.Wrap("post/mailbox.Structure", err)
		}
	}
	return mime.Decode(b)
}

// FlagsOp is what SetFlags does with the given flags and keywords.
type FlagsOp uint8

const (
	FlagsSet FlagsOp = iota
	FlagsAdd
	FlagsRemove
)

// SetFlags asks for a change of flags.
type SetFlags struct {
	UIDs           []uint32 // ascending or not; unknown ones are left out silently
	Op             FlagsOp
	Flags          Flags    // only SystemFlags count
	Keywords       []string // compared without case
	UnchangedSince *uint64  // RFC 7162 §3.1.3: mails with a higher modseq are left alone
}

// FlagsResult tells what SetFlags did. Mails that had the flags already are in neither
// list and keep their modseq.
type FlagsResult struct {
	Changed  []Entry  // as they are now, ascending UID
	Modified []uint32 // failed UnchangedSince, ascending
}

// CopyResult pairs old and new UIDs, in order (RFC 4315).
type CopyResult struct {
	UIDValidity uint32 // of the target
	Src, Dst    []uint32
}

// MetadataEntry is one annotation (RFC 5464). A nil Value deletes it.
type MetadataEntry struct {
	Name  string // compared without case; stored lower case
	Value []byte
}

// Finding is one broken invariant.
type Finding struct {
	What    string // in plain words; no name, address or content
	Account string // account number in hex, or ""
	Box     uint32 // 0: none
}
