package mailbox

import (
	"context"
	"io"

	"postern.email/post/seal"
	"postern.email/store"
)

// Account is a user's own sight of the account: cheap to make, safe for many goroutines.
type Account struct {
	b     *Boxes
	key   *seal.Opened
	quota int64
}

// Account gives the owner's sight of an account. quota as in Target.
func (b *Boxes) Account(key *seal.Opened, quota int64) *Account {
	return &Account{b: b, key: key, quota: quota}
}

// Folders lists all names, INBOX first, then by name.
func (a *Account) Folders(ctx context.Context) ([]Folder, error) { return nil, todo("Folders") }

// Folder finds a name ("INBOX" in any case), or errs.NotFound. NoSelect and NonExistent names are found.
func (a *Account) Folder(ctx context.Context, name string) (Folder, error) {
	return Folder{}, todo("Folder")
}

// CreateFolder makes a folder and the levels above it that are missing (RFC 9051 §6.3.4).
// A trailing '/' is dropped. use is a special use such as `\Sent`, or "".
// Errors: errs.Exists, errs.Invalid (name), errs.TooLarge (MaxFolders).
func (a *Account) CreateFolder(ctx context.Context, name, use string) (Folder, error) {
	return Folder{}, todo("CreateFolder")
}

// RenameFolder renames a folder and all below it (RFC 9051 §6.3.6). Renaming INBOX moves
// its mails to a new folder and leaves INBOX empty and what is below it alone.
func (a *Account) RenameFolder(ctx context.Context, from, to string) error {
	return todo("RenameFolder")
}

// DeleteFolder deletes a folder and its mails (RFC 9051 §6.3.5). With folders below it the name stays as
// NoSelect; a NoSelect name with children is errs.Denied, as is INBOX.
func (a *Account) DeleteFolder(ctx context.Context, name string) error { return todo("DeleteFolder") }

// Subscribe sets or clears a subscription. A name that does not exist may be subscribed to.
func (a *Account) Subscribe(ctx context.Context, name string, on bool) error {
	return todo("Subscribe")
}

// WatchFolders fires on any change of the folder list or of a subscription.
func (a *Account) WatchFolders() *store.Watch { panic("todo") }

// Status reads a mailbox's counters.
func (a *Account) Status(ctx context.Context, box uint32) (Status, error) {
	return Status{}, todo("Status")
}

// ClaimRecent is for IMAP4rev1's \Recent (RFC 3501 §2.3.2): it says that the caller's session now shows
// all mails below upTo, and gives the lowest UID that no session has claimed before.
// The claim is kept in memory and reaches the disk with the mailbox's next change: after a crash a mail may be recent twice.
func (a *Account) ClaimRecent(ctx context.Context, box uint32, upTo uint32) (from uint32, err error) {
	return 0, todo("ClaimRecent")
}

// View gives the mailbox as it is on disk now. It is cheap when nothing changed.
func (a *Account) View(ctx context.Context, box uint32) (*View, error) { return nil, todo("View") }

// Watch fires on any change of the mailbox; then ask View.
func (a *Account) Watch(box uint32) *store.Watch { panic("todo") }

// Expunged gives the UIDs that were expunged after modseq since, ascending. complete
// is false when the mailbox no longer remembers that far back; the list then
// must not be relied on (RFC 7162 §3.2.5.2: the server tells all UIDs that are not there).
func (a *Account) Expunged(ctx context.Context, box uint32, since uint64) (uids []uint32, complete bool, err error) {
	return nil, false, todo("Expunged")
}

// Summary opens a mail's summary.
func (a *Account) Summary(ctx context.Context, box uint32, e Entry) (*Summary, error) {
	return nil, todo("Summary")
}

// Keywords opens a mail's keywords; nil without reading if e has none.
func (a *Account) Keywords(ctx context.Context, box uint32, e Entry) ([]string, error) {
	return nil, todo("Keywords")
}

// BoxKeywords gives every keyword ever used in the mailbox: for FLAGS and PERMANENTFLAGS.
func (a *Account) BoxKeywords(ctx context.Context, box uint32) ([]string, error) {
	return nil, todo("BoxKeywords")
}

// Body is an open mail: the exact bytes of the whole message.
type Body interface {
	io.ReaderAt
	io.WriterTo
	Size() int64
	Close() error
}

// Body opens a mail for reading. Chunks are opened when they are read; memory is at most one chunk
// (64 KiB). errs.NotFound: it was expunged meanwhile.
func (a *Account) Body(ctx context.Context, box uint32, e Entry) (Body, error) {
	return nil, todo("Body")
}

// SetFlags changes flags and keywords. Long lists go in several transactions, each of which
// is atomic and has one modseq; on an error the result tells what was done before.
func (a *Account) SetFlags(ctx context.Context, box uint32, r SetFlags) (FlagsResult, error) {
	return FlagsResult{}, todo("SetFlags")
}

// Expunge removes the mails of uids that have \Deleted (nil: all that have it). Batches as in SetFlags. modseq is the
// mailbox's highest afterwards.
func (a *Account) Expunge(ctx context.Context, box uint32, uids []uint32) (gone []uint32, modseq uint64, err error) {
	return nil, 0, todo("Expunge")
}

// Copy puts mails also into another mailbox. It is all or nothing.
func (a *Account) Copy(ctx context.Context, from uint32, uids []uint32, to uint32) (CopyResult, error) {
	return CopyResult{}, todo("Copy")
}

// Move moves mails (RFC 6851). Each mail moves atomically; batches as in SetFlags.
func (a *Account) Move(ctx context.Context, from uint32, uids []uint32, to uint32) (CopyResult, error) {
	return CopyResult{}, todo("Move")
}

// Append stores one mail of the owner.
func (a *Account) Append(ctx context.Context, box uint32, m Message) (uid, uidValidity uint32, err error) {
	return 0, 0, todo("Append")
}

// AppendMany stores all mails or none (RFC 3502). uids are in the order of m.
func (a *Account) AppendMany(ctx context.Context, box uint32, m []Message) (uids []uint32, uidValidity uint32, err error) {
	return nil, 0, todo("AppendMany")
}

// Quota gives the stored bytes and the limit (0: none).
func (a *Account) Quota(ctx context.Context) (used, limit int64, err error) {
	return 0, 0, todo("Quota")
}

// Metadata gives all annotations of a mailbox (0: of the account), sorted by name.
func (a *Account) Metadata(ctx context.Context, box uint32) ([]MetadataEntry, error) {
	return nil, todo("Metadata")
}

// SetMetadata sets and deletes annotations, all or none. errs.TooLarge beyond MaxMetadataBytes or MaxMetadataEntries.
func (a *Account) SetMetadata(ctx context.Context, box uint32, entries []MetadataEntry) error {
	return todo("SetMetadata")
}
