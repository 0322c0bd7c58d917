package keys

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Names in the directory.
const (
	identityName = "identity.key"
	linkName     = "link.key"
	logName      = "log.secret"
	letterName   = "letter.key"

	oldSuffix = ".old" // an open file whose sealed form has taken its place
	tmpSuffix = ".tmp" // vfs.WriteFileAtomic's
)

// Keys are the keys of one node.
type Keys struct {
	o        Options
	identity *directory.PrivateKey
	link     ed25519.PrivateKey
	log      []byte
	letter   []byte // the seed; nil: none
	files    []byte // the key that seals other private files

	turn chan struct{} // holds one token: who has it may change the directory

	mu    sync.Mutex
	sets  []*set // by number; a set is never changed in place
	table atomic.Pointer[[]accepted]
}

// accepted is a packet key and when packets for it are taken: from the first moment, up to and
// without the second, in nanoseconds since 1970.
type accepted struct {
	id          uint32
	from, until int64
	key         *packet.PrivateKey
}

// Create opens the keys of a node and makes those that are missing: a directory that was empty
// has an identity, a link key and a log secret afterwards, with Options.Letters a letter key
// too, all durable. Files that should be
// sealed (Options.Passphrase, SealAll) and lie open are sealed, and the open ones destroyed.
// It makes no packet keys: Rotate does.
//
// Kinds of errors: errs.Invalid (options), errs.Denied (others may read the files, or the new
// passphrase is too short), errs.Auth (the passphrase is wrong, or there is none and there should be),
// errs.Corrupt (identity, link key, log secret or letter key are damaged), errs.Unsupported (a later version
// wrote them), errs.NoSpace, errs.Unavailable.
func Create(o Options) (*Keys, error) {
	const op = "mixnet/keys.Create"
	k, err := newKeys(o)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := vfs.MkdirAll(k.o.FS, k.o.Dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := k.sweep(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := k.load(true); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return k, nil
}

// Open opens the keys of a node and writes nothing. errs.NotFound: Create was never
// there, or the identity was lost; otherwise as Create.
func Open(o Options) (*Keys, error) {
	const op = "mixnet/keys.Open"
	k, err := newKeys(o)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := k.load(false); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return k, nil
}

func newKeys(o Options) (*Keys, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	k := &Keys{o: o, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	k.table.Store(new([]accepted))
	return k, nil
}

func (k *Keys) path(names ...string) string {
	p := k.o.Dir
	for _, n := range names {
		p = k.o.FS.PathJoin(p, n)
	}
	return p
}

// sweep destroys what a crash has left of files that were being written or replaced. Nothing
// else refers to them.
func (k *Keys) sweep() error {
	const op = "mixnet/keys.sweep"
	names, err := k.o.FS.List(k.o.Dir)
	if err != nil {
		return vfs.Error(op, err)
	}
	for _, n := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(n, tmpSuffix), oldSuffix)
		if n == base || base != identityName && base != linkName && base != logName && base != letterName {
			continue
		}
		if err := vfs.Shred(k.o.FS, k.path(n), -1); err != nil {
			return errs.Wrap(op, err)
		}
	}
	// This also makes durable what was removed before the crash.
	return vfs.SyncDir(k.o.FS, k.o.Dir)
}

// load reads everything, and makes and seals what should be if create says so.
func (k *Keys) load(create bool) error {
	if k.o.Paranoia {
		if err := vfs.CheckPrivateDir(k.o.FS, k.o.Dir, "the directory of the mix keys", k.o.Trusted); err != nil {
			return err
		}
	}
	if err := k.loadIdentity(create); err != nil {
		return err
	}
	f, err := k.one(linkName, kindLink, create, func(f *file) (err error) {
		f.id, err = linkID(ed25519.NewKeyFromSeed(f.secret))
		return err
	})
	if err == nil {
		k.link, err = linkOf(f)
	}
	if err != nil {
		return named(linkName, err)
	}
	f, err = k.one(logName, kindLog, create, func(f *file) error {
		f.id = logID(f.secret)
		return nil
	})
	if err == nil {
		k.log, err = logOf(f)
	}
	if err != nil {
		return named(logName, err)
	}
	if err := k.loadLetter(create); err != nil {
		return named(letterName, err)
	}
	return k.loadSets(create)
}

// loadLetter reads the letter key if there should be one. A node that ran before there were letter
// keys has none until Create makes it.
func (k *Keys) loadLetter(create bool) error {
	if !k.o.Letters {
		return nil
	}
	f, err := k.one(letterName, kindLetter, create, func(f *file) (err error) {
		f.id, err = letterID(f.secret)
		return err
	})
	if errs.KindOf(err) == errs.NotFound && !create {
		return nil
	}
	if err == nil {
		k.letter, err = letterOf(f)
	}
	return err
}

// named says which file it is that is damaged or cannot be opened.
func named(name string, err error) error {
	const op = "mixnet/keys.load"
	switch errs.KindOf(err) {
	case errs.Corrupt:
		return errs.E(op, errs.Corrupt, name+" is damaged: bring it back from a backup", err)
	case errs.NotFound:
		return errs.E(op, errs.NotFound, name+" is missing: bring it back from a backup, or start the node once to make a new one", err)
	}
	return errs.Wrap(op, err)
}

// loadIdentity reads or makes the identity, and derives the key of the other files.
func (k *Keys) loadIdentity(create bool) error {
	f, err := k.read(identityName, kindIdentity)
	if errs.KindOf(err) == errs.NotFound && create {
		seed := make([]byte, directory.PrivateLen)
		if _, err := io.ReadFull(k.o.Rand, seed); err != nil {
			return errs.E("mixnet/keys.loadIdentity", errs.Internal, "", err)
		}
		id, err := directory.NewPrivateKey(seed)
		if err != nil {
			return err
		}
		f = &sealedFile{file: file{kind: kindIdentity, id: identityID(id), secret: seed}}
		if err := k.writeIdentity(&f.file, false); err != nil {
			return err
		}
	} else if err != nil {
		return named(identityName, err)
	} else if err := k.openIdentity(f, create); err != nil {
		return named(identityName, err)
	}
	defer clear(f.secret)
	if k.identity, err = identityOf(&f.file); err != nil {
		return named(identityName, err)
	}
	k.files, err = filesKey(f.secret)
	return err
}

// openIdentity opens an identity that was read, and seals one that should not lie open.
func (k *Keys) openIdentity(f *sealedFile, create bool) error {
	const op = "mixnet/keys.openIdentity"
	switch {
	case f.under == "passphrase" && k.o.Passphrase == nil:
		return errs.E(op, errs.Auth, "identity.key is sealed by a passphrase, and the configuration does not say so", nil)
	case f.under == "passphrase":
		phrase, err := k.o.Passphrase(false)
		if err != nil {
			return err
		}
		defer clear(phrase)
		key := f.cost.Key(phrase, f.salt)
		defer clear(key)
		if f.open(key) != nil {
			return errs.E(op, errs.Auth, "the passphrase does not open identity.key", nil)
		}
	case f.under != "":
		return errs.E(op, errs.Corrupt, "", nil)
	case k.o.Passphrase != nil && create:
		return k.writeIdentity(&f.file, true)
	}
	return nil
}

// writeIdentity writes the identity as the options say.
func (k *Keys) writeIdentity(f *file, replace bool) error {
	const op = "mixnet/keys.writeIdentity"
	b := f.encode()
	if k.o.Passphrase != nil {
		phrase, err := k.o.Passphrase(true)
		if err != nil {
			return err
		}
		defer clear(phrase)
		if len(phrase) < MinPassphrase {
			return errs.E(op, errs.Denied, "a passphrase has at least 12 characters", nil)
		}
		if b, err = f.sealPhrase(phrase, k.o.Cost, k.o.Rand); err != nil {
			return err
		}
	}
	defer clear(b)
	return k.put(identityName, b, replace)
}

// one reads a private file or makes it, with a random secret; name gives it its id. What lies
// open and should not is sealed.
func (k *Keys) one(name string, what kind, create bool, id func(*file) error) (*file, error) {
	f, err := k.readOpen(name, what)
	switch {
	case err == nil:
		if create && k.o.SealAll && f.under == "" {
			return &f.file, k.putSecret(name, &f.file, true)
		}
		return &f.file, nil
	case errs.KindOf(err) != errs.NotFound || !create:
		return nil, err
	}
	n := &file{kind: what, secret: make([]byte, what.secretLen())}
	if _, err := io.ReadFull(k.o.Rand, n.secret); err != nil {
		return nil, errs.E("mixnet/keys.one", errs.Internal, "", err)
	}
	if err := id(n); err != nil {
		return nil, err
	}
	return n, k.putSecret(name, n, false)
}

// putSecret writes a private file other than the identity as the options say.
func (k *Keys) putSecret(name string, f *file, replace bool) error {
	b := f.encode()
	if k.o.SealAll {
		var err error
		if b, err = f.seal(k.files, underIdentity, k.o.Rand); err != nil {
			return err
		}
	}
	defer clear(b)
	return k.put(name, b, replace)
}

// put writes a file. The one that it replaces is overwritten: its name is kept until that is
// done, so that a crash in between leaves something for sweep to find.
func (k *Keys) put(name string, b []byte, replace bool) error {
	const op = "mixnet/keys.put"
	path := k.path(name)
	if replace {
		if err := k.o.FS.Link(path, path+oldSuffix); err != nil {
			return vfs.Error(op, err)
		}
		if err := vfs.SyncDir(k.o.FS, k.o.FS.PathDir(path)); err != nil {
			return errs.Wrap(op, err)
		}
	}
	if err := vfs.WriteFileAtomic(k.o.FS, path, b, 0o600); err != nil {
		return errs.Wrap(op, err)
	}
	if replace {
		err := vfs.Shred(k.o.FS, path+oldSuffix, -1)
		return errs.Wrap(op, errors.Join(err, vfs.SyncDir(k.o.FS, k.o.FS.PathDir(path))))
	}
	return nil
}

// read reads a private file; its secret may be sealed.
func (k *Keys) read(name string, want kind) (*sealedFile, error) {
	const op = "mixnet/keys.read"
	r, err := k.o.FS.Open(k.path(name))
	if err != nil {
		return nil, vfs.Error(op, err)
	}
	defer func() { _ = r.Close() }()
	if k.o.Paranoia {
		if err := vfs.CheckPrivate(r, name); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, vfs.Error(op, err)
	}
	return parseFile(b, want)
}

// readOpen reads a private file other than the identity, and opens it.
func (k *Keys) readOpen(name string, want kind) (*sealedFile, error) {
	f, err := k.read(name, want)
	if err != nil {
		return nil, err
	}
	switch f.under {
	case "":
		return f, nil
	case "identity":
		if f.open(k.files) == nil {
			return f, nil
		}
	}
	return nil, errs.E("mixnet/keys.readOpen", errs.Corrupt, "", errors.New("does not open under this identity"))
}

// Identity gives the key that signs the node's descriptor.
func (k *Keys) Identity() *directory.PrivateKey { return k.identity }

// Link gives the key of the node's links.
func (k *Keys) Link() ed25519.PrivateKey { return k.link }

// LogSecret gives a copy of the 32 bytes that the log of packets is sealed under
// (replay.Options.Secret). They stay as long as the node.
func (k *Keys) LogSecret() []byte { return slices.Clone(k.log) }

// Letter gives a copy of the 32 bytes that the node's letter key follows from
// (letter.NewPrivateKey); nil without Options.Letters, and after Open where none was made yet.
func (k *Keys) Letter() []byte { return slices.Clone(k.letter) }

// Find gives the private key with that ID if packets for it are accepted now: from Skew
// before it begins until Overlap after it has ended. It is quick, and never gives a key that
// is being destroyed.
func (k *Keys) Find(id uint32) (*packet.PrivateKey, bool) {
	list := *k.table.Load()
	for i := range list {
		if a := &list[i]; a.id == id {
			now := k.o.Now().UnixNano()
			return a.key, now >= a.from && now < a.until
		}
	}
	return nil, false
}

// Public gives the packet keys for a descriptor of this moment: those that have not ended and
// begin within Ahead, sorted by their begin, at most directory.MaxPacketKeys.
func (k *Keys) Public(now time.Time) []directory.PacketKey {
	var out []directory.PacketKey
	for _, s := range k.all() {
		if s.key != nil && now.Before(s.until) && !s.from.After(now.Add(k.o.Ahead+k.o.Skew)) {
			out = append(out, directory.PacketKey{From: s.from, Until: s.until, Key: s.key.Public()})
		}
	}
	slices.SortFunc(out, func(a, b directory.PacketKey) int { return a.From.Compare(b.From) })
	// Of two that begin together, as a clock that was set back can leave them, one is enough.
	out = slices.CompactFunc(out, func(a, b directory.PacketKey) bool { return a.From.Equal(b.From) })
	return out[max(0, len(out)-directory.MaxPacketKeys):]
}

// all gives the sets as they are now.
func (k *Keys) all() []*set {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sets
}

// setAll makes sets what the others see.
func (k *Keys) setAll(sets []*set) {
	slices.SortFunc(sets, func(a, b *set) int { return a.number - b.number })
	table := make([]accepted, 0, len(sets))
	for _, s := range sets {
		if s.key != nil {
			table = append(table, accepted{s.id, s.from.Add(-k.o.Skew).UnixNano(), k.acceptedUntil(s).UnixNano(), s.key})
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sets = sets
	k.table.Store(&table)
}

func (k *Keys) acceptedUntil(s *set) time.Time { return s.until.Add(k.o.Overlap) }

// lock waits for the turn to change the directory.
func (k *Keys) lock(ctx context.Context, op string) (unlock func(), err error) {
	select {
	case <-ctx.Done():
		return nil, errs.E(op, errs.Canceled, "", ctx.Err())
	case <-k.turn:
		return func() { k.turn <- struct{}{} }, nil
	}
}
