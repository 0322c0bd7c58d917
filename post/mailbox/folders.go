package mailbox

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// folderRec is a folder record: readable kind, sealed rest.
type folderRec struct {
	box        uint32
	name, use  string
	subscribed bool
	kind       byte
}

// Kinds of folder records. Only folderReal has a state record.
const (
	folderReal byte = iota
	folderNoSelect
	folderSubscription
)

const subscribedBit = 1

func (f *folderRec) encode() []byte {
	b := []byte{formatVersion, f.kind, 0}
	if f.subscribed {
		b[2] = subscribedBit
	}
	b = codec.AppendSized(b, f.name)
	return codec.AppendSized(b, f.use)
}

func decodeFolder(b []byte) (f folderRec, err error) {
	d := newDec(b)
	f.kind = d.Byte()
	bits := d.Byte()
	f.subscribed = bits&subscribedBit != 0
	f.name = d.String(MaxFolderName)
	f.use = d.String(maxUse)
	if f.kind > folderSubscription || bits > subscribedBit || f.name == "" {
		d.Fail()
	}
	return f, d.End("post/mailbox.decodeFolder")
}

// uses are the special uses that a folder may have (RFC 6154 §2, RFC 8457).
var uses = [...]string{`\All`, `\Archive`, `\Drafts`, `\Flagged`, `\Junk`, `\Sent`, `\Trash`, `\Important`}

const maxUse = 16

// CleanName gives the form in which a folder name is kept: NFC, one trailing '/' cut,
// INBOX in capitals. errs.Invalid, errs.TooLarge.
func CleanName(name string) (string, error) {
	const op = "post/mailbox.CleanName"
	if len(name) > 2*MaxFolderName { // NFC cannot make a longer one fit by much
		return "", errs.E(op, errs.TooLarge, "folder name too long", nil)
	}
	bad := errs.E(op, errs.Invalid, "not a folder name", nil)
	if !utf8.ValidString(name) || strings.ContainsFunc(name, refusedRune) {
		return "", bad
	}
	name = strings.TrimSuffix(norm.NFC.String(name), "/")
	if len(name) > MaxFolderName {
		return "", errs.E(op, errs.TooLarge, "folder name too long", nil)
	}
	levels := strings.Split(name, "/")
	if slices.Contains(levels, "") {
		return "", bad
	}
	if strings.EqualFold(levels[0], "INBOX") {
		levels[0] = "INBOX"
	}
	return strings.Join(levels, "/"), nil
}

// refusedRune refuses controls, line and paragraph separators (RFC 9051 §5.1), and
// the wildcards of LIST, which no pattern could name.
func refusedRune(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '%' || r == '*'
}

// folders reads and opens the whole list.
func folders(r store.Reader, key *seal.Opened) ([]folderRec, error) {
	var list []folderRec
	start := foldersKey(key.ID())
	err := r.Scan(start, after(start), func(k, v []byte) (bool, error) {
		plain, err := key.OpenRecord(purposeFolder, k, v)
		if err != nil {
			return false, err
		}
		f, err := decodeFolder(plain)
		f.box = keyUID(k)
		list = append(list, f)
		return true, err
	})
	return list, err
}

func find(list []folderRec, name string) int {
	return slices.IndexFunc(list, func(f folderRec) bool { return f.name == name })
}

// children gives the places of the folders below name.
func children(list []folderRec, name string) (at []int) {
	for i := range list {
		if strings.HasPrefix(list[i].name, name+"/") && list[i].kind != folderSubscription {
			at = append(at, i)
		}
	}
	return at
}

// putFolder seals and writes a folder record.
func (t *txn) putFolder(key *seal.Opened, f *folderRec) error {
	k := folderKey(t.id, f.box)
	b, err := key.SealRecord(purposeFolder, k, f.encode())
	if err != nil {
		return err
	}
	return t.tx.Set(k, b)
}

// folderListChanged rewrites the record that WatchFolders watches.
func (t *txn) folderListChanged() error {
	k := folderListKey(t.id)
	var n uint64
	if b, err := t.tx.Get(k); err == nil {
		if n, err = decodeCount(b); err != nil {
			return err
		}
	} else if errs.KindOf(err) != errs.NotFound {
		return err
	}
	return t.tx.Set(k, encodeCount(n+1))
}

// newFolder makes a folder record with an empty mailbox.
func (t *txn) newFolder(key *seal.Opened, name, use string, subscribed bool) (Folder, error) {
	f, err := t.newRecord()
	if err != nil {
		return Folder{}, err
	}
	f.name, f.use, f.kind, f.subscribed = name, use, folderReal, subscribed
	return t.newMailbox(key, f)
}

// newRecord takes a number for a folder record.
func (t *txn) newRecord() (*folderRec, error) {
	c, err := t.counters()
	if err != nil {
		return nil, err
	}
	if c.folders >= MaxFolders {
		return nil, errs.E("post/mailbox.newRecord", errs.TooLarge, "too many folders", nil)
	}
	c.folders++
	c.nextBox++
	return &folderRec{box: c.nextBox - 1}, nil
}

// newMailbox gives a folder record an empty mailbox, with a higher UIDVALIDITY than any before.
func (t *txn) newMailbox(key *seal.Opened, f *folderRec) (Folder, error) {
	c, err := t.counters()
	if err != nil {
		return Folder{}, err
	}
	st := newBoxState(c.nextSeries, c.nextUIDValidity)
	c.nextSeries++
	c.nextUIDValidity++
	f.kind = folderReal
	if err := t.putFolder(key, f); err != nil {
		return Folder{}, err
	}
	t.boxes = append(t.boxes, &boxTx{t: t, box: f.box, st: st, changed: true})
	return f.folder(st.uidValidity), nil
}

func (f *folderRec) folder(uidValidity uint32) Folder {
	return Folder{Box: f.box, Name: f.name, Use: f.use, Subscribed: f.subscribed,
		NoSelect: f.kind != folderReal, NonExistent: f.kind == folderSubscription, UIDValidity: uidValidity}
}

// keepFolders bounds the list of folders that a session remembers.
const keepFolders = 128

// folderList is the list as it was when its record was so. Every change of a name, a
// use, a subscription or a UIDVALIDITY rewrites that record (folderListChanged).
type folderList struct {
	record []byte
	list   []Folder
}

// Folders lists all names, INBOX first, then by name. It is cheap while nothing changes:
// programs that store or copy mails name the folder each time.
func (a *Account) Folders(ctx context.Context) ([]Folder, error) {
	const op = "post/mailbox.Folders"
	var record []byte
	var out []Folder
	fresh := false
	err := a.read(ctx, func(r store.Reader) (err error) {
		record, err = r.Get(folderListKey(a.key.ID()))
		if err != nil && errs.KindOf(err) != errs.NotFound { // not found: the account was removed
			return err
		}
		if known := a.folders.Load(); known != nil && err == nil && bytes.Equal(known.record, record) {
			out = slices.Clone(known.list)
			return nil
		}
		fresh = err == nil
		out, err = a.readFolders(r)
		return err
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if fresh && len(out) <= keepFolders {
		a.folders.Store(&folderList{record, slices.Clone(out)})
	}
	return out, nil
}

func (a *Account) readFolders(r store.Reader) ([]Folder, error) {
	list, err := folders(r, a.key)
	if err != nil {
		return nil, err
	}
	out := make([]Folder, 0, len(list))
	for i := range list {
		f, err := a.withState(r, &list[i])
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y Folder) int {
		if (x.Name == "INBOX") != (y.Name == "INBOX") {
			if x.Name == "INBOX" {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.Name, y.Name)
	})
	return out, nil
}

func (a *Account) withState(r store.Reader, f *folderRec) (Folder, error) {
	if f.kind != folderReal {
		return f.folder(0), nil
	}
	st, err := getState(r, a.key.ID(), f.box)
	if err != nil {
		return Folder{}, errs.E("post/mailbox.withState", errs.Corrupt, "", err)
	}
	return f.folder(st.uidValidity), nil
}

// Folder finds a name ("INBOX" in any case), or errs.NotFound. NoSelect and NonExistent names are found.
func (a *Account) Folder(ctx context.Context, name string) (Folder, error) {
	const op = "post/mailbox.Folder"
	name, err := CleanName(name)
	if err != nil {
		return Folder{}, errs.Wrap(op, err)
	}
	var f Folder
	err = a.read(ctx, func(r store.Reader) error {
		if name == "INBOX" { // by far the most frequent, and its number is known
			st, err := getState(r, a.key.ID(), Inbox)
			if err != nil {
				return err
			}
			b, err := r.Get(folderKey(a.key.ID(), Inbox))
			if err != nil {
				return err
			}
			plain, err := a.key.OpenRecord(purposeFolder, folderKey(a.key.ID(), Inbox), b)
			if err != nil {
				return err
			}
			rec, err := decodeFolder(plain)
			rec.box = Inbox
			f = rec.folder(st.uidValidity)
			return err
		}
		list, err := folders(r, a.key)
		if err != nil {
			return err
		}
		i := find(list, name)
		if i < 0 {
			return errs.E(op, errs.NotFound, "no such mailbox", nil)
		}
		f, err = a.withState(r, &list[i])
		return err
	})
	return f, errs.Wrap(op, err)
}

// CreateFolder makes a folder and the levels above it that are missing (RFC 9051 §6.3.4).
// A trailing '/' is dropped. use is a special use such as `\Sent`, or "".
// Errors: errs.Exists, errs.Invalid (name, use), errs.TooLarge (name, MaxFolders).
func (a *Account) CreateFolder(ctx context.Context, name, use string) (Folder, error) {
	const op = "post/mailbox.CreateFolder"
	name, err := CleanName(name)
	if err != nil {
		return Folder{}, errs.Wrap(op, err)
	}
	if use != "" && !slices.Contains(uses[:], use) {
		return Folder{}, errs.E(op, errs.Invalid, "unknown special use", nil)
	}
	var made Folder
	err = a.b.update(ctx, a.key.ID(), func(t *txn) error {
		list, err := folders(t.tx, a.key)
		if err != nil {
			return err
		}
		if made, err = t.create(a.key, list, name, use); err != nil {
			return err
		}
		return t.folderListChanged()
	})
	return made, errs.Wrap(op, err)
}

// create makes name and what is missing above it.
func (t *txn) create(key *seal.Opened, list []folderRec, name, use string) (Folder, error) {
	if i := find(list, name); i >= 0 && list[i].kind == folderReal {
		return Folder{}, errs.E("post/mailbox.create", errs.Exists, "the mailbox exists already", nil)
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if at := find(list, name[:i]); at >= 0 && list[at].kind != folderSubscription {
			continue
		}
		if _, err := t.createOne(key, list, name[:i], ""); err != nil {
			return Folder{}, err
		}
	}
	return t.createOne(key, list, name, use)
}

// createOne makes a mailbox of a name that is no mailbox yet.
func (t *txn) createOne(key *seal.Opened, list []folderRec, name, use string) (Folder, error) {
	if i := find(list, name); i >= 0 {
		f := list[i]
		f.use = use
		return t.newMailbox(key, &f)
	}
	return t.newFolder(key, name, use, false)
}

// DeleteFolder deletes a folder and its mails (RFC 9051 §6.3.5). With folders below it
// the name stays as NoSelect; a NoSelect name with children is errs.Denied, as is INBOX.
// The folder is gone at once; its mails are taken apart in further transactions, which Run
// continues after a crash.
func (a *Account) DeleteFolder(ctx context.Context, name string) error {
	const op = "post/mailbox.DeleteFolder"
	name, err := CleanName(name)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if name == "INBOX" {
		return errs.E(op, errs.Denied, "INBOX cannot be deleted", nil)
	}
	var series uint32
	var box uint32
	err = a.b.update(ctx, a.key.ID(), func(t *txn) error {
		list, err := folders(t.tx, a.key)
		if err != nil {
			return err
		}
		i := find(list, name)
		if i < 0 || list[i].kind == folderSubscription {
			return errs.E(op, errs.NotFound, "no such mailbox", nil)
		}
		f := &list[i]
		box = f.box
		below := len(children(list, name)) > 0
		if f.kind == folderNoSelect && below {
			return errs.E(op, errs.Denied, "the name has mailboxes below it", nil)
		}
		series = 0
		if f.kind == folderReal {
			if series, err = t.doom(f.box); err != nil {
				return err
			}
		}
		if err := t.dropName(a.key, f, below); err != nil {
			return err
		}
		return t.folderListChanged()
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	a.b.views.drop(boxID{a.key.ID(), box})
	if series == 0 {
		return nil
	}
	return errs.Wrap(op, a.b.reap(ctx, a.key.ID(), series))
}

// dropName leaves of a folder record what must stay: a name with children (NoSelect), a
// subscription (RFC 9051 §6.3.5 and §6.3.7: the server must not unsubscribe by itself), or nothing.
func (t *txn) dropName(key *seal.Opened, f *folderRec, below bool) error {
	f.use = ""
	switch {
	case below:
		f.kind = folderNoSelect
		return t.putFolder(key, f)
	case f.subscribed:
		f.kind = folderSubscription
		return t.putFolder(key, f)
	}
	return t.dropRecord(f.box)
}

func (t *txn) dropRecord(box uint32) error {
	c, err := t.counters()
	if err != nil {
		return err
	}
	c.folders--
	t.deleted = true
	return t.tx.Delete(folderKey(t.id, box))
}

// Subscribe sets or clears a subscription. A name that does not exist may be subscribed to
// (RFC 9051 §6.3.7).
func (a *Account) Subscribe(ctx context.Context, name string, on bool) error {
	const op = "post/mailbox.Subscribe"
	name, err := CleanName(name)
	if err != nil {
		return errs.Wrap(op, err)
	}
	err = a.b.update(ctx, a.key.ID(), func(t *txn) error {
		list, err := folders(t.tx, a.key)
		if err != nil {
			return err
		}
		i := find(list, name)
		switch {
		case i < 0 && !on, i >= 0 && list[i].subscribed == on:
			return nil
		case i < 0:
			f, err := t.newRecord()
			if err != nil {
				return err
			}
			f.name, f.subscribed, f.kind = name, true, folderSubscription
			if err := t.putFolder(a.key, f); err != nil {
				return err
			}
		case list[i].kind == folderSubscription:
			if err := t.dropRecord(list[i].box); err != nil {
				return err
			}
		default:
			list[i].subscribed = on
			if err := t.putFolder(a.key, &list[i]); err != nil {
				return err
			}
		}
		return t.folderListChanged()
	})
	return errs.Wrap(op, err)
}

// WatchFolders fires on any change of the folder list or of a subscription.
func (a *Account) WatchFolders() *store.Watch {
	id := a.key.ID()
	return a.b.o.Store.Watch(id.Shard(), folderListKey(id))
}
