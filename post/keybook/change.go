package keybook

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
)

// List gives all entries, sorted by address.
func (b *Book) List() []Entry {
	b.mu.RLock()
	out := make([]Entry, 0, len(b.entries))
	for _, r := range b.entries {
		out = append(out, r.Entry)
	}
	b.mu.RUnlock()
	slices.SortFunc(out, func(x, y Entry) int { return cmp.Compare(x.Address.String(), y.Address.String()) })
	return out
}

// Set puts a key in, in place of any other: the user says so. errs.Denied for an address that
// the configuration names, or a classical key where those are not taken; errs.Full.
func (b *Book) Set(a mail.Address, text []byte) (Entry, error) {
	const op = "post/keybook.Set"
	k, err := b.parse(text)
	if err != nil {
		return Entry{}, errs.Wrap(op, err)
	}
	e, err := b.change(a, func(old *record) (*Entry, error) {
		if old != nil && old.Was == Config || old != nil && old.State == Config {
			return nil, errs.E(op, errs.Denied, "the configuration names the key of this recipient: change it there", nil)
		}
		return &Entry{Key: k, State: Set, Since: b.now()}, nil
	})
	return e, errs.Wrap(op, err)
}

// Remove takes an entry out, file and all. errs.NotFound; errs.Denied for one of the
// configuration.
func (b *Book) Remove(a mail.Address) error {
	const op = "post/keybook.Remove"
	a = a.Canonical()
	b.write.Lock()
	defer b.write.Unlock()
	b.mu.RLock()
	r, broken := b.entries[a], b.broken[a]
	b.mu.RUnlock()
	file := ""
	switch {
	case r != nil && (r.State == Config || r.Was == Config):
		return errs.E(op, errs.Denied, "the configuration names the key of this recipient: change it there", nil)
	case r != nil:
		file = r.file
	case broken != nil && strings.HasSuffix(broken.Name, suffix):
		file = broken.Name
	default:
		return errs.E(op, errs.NotFound, "no key of this recipient is known", nil)
	}
	if err := b.o.FS.Remove(b.o.FS.PathJoin(b.o.Dir, file)); err != nil {
		return errs.Wrap(op, vfs.Error(op, err))
	}
	if err := vfs.SyncDir(b.o.FS, b.o.Dir); err != nil {
		return errs.Wrap(op, err)
	}
	b.put(a, nil)
	return nil
}

// Discovered takes a key that a relay vouches for; of k Text and Certified are enough. A recipient
// that is not there yet is added, in state Discovered. The same key changes nothing but where letters
// go to. Another key does not take the old one's place: the entry becomes Changed, both keys are
// kept, and the error is errs.Conflict. A key that was certified before the one that is here is passed
// over: a letter that was under way for long can bring it. errs.Corrupt where the file of the
// recipient cannot be read: it may hold another key. errs.Full.
func (b *Book) Discovered(a mail.Address, k Key) (Entry, error) {
	const op = "post/keybook.Discovered"
	certified := k.Certified.UTC().Truncate(time.Second)
	k, err := b.parse([]byte(k.Text))
	if err != nil {
		return Entry{}, errs.Wrap(op, err)
	}
	k.Certified = certified
	held := false
	e, err := b.change(a, func(old *record) (*Entry, error) {
		switch {
		case old == nil:
			if _, err := b.Get(a); errs.KindOf(err) == errs.Corrupt {
				return nil, err
			}
			return &Entry{Key: k, State: Discovered, Since: b.now()}, nil
		case old.State == Changed:
			held = true
			if k.same(old.Key) || k.before(old.New) || k.Text == old.New.Text && k.Certified.Equal(old.New.Certified) {
				return nil, nil
			}
			e := old.Entry
			e.New = k
			return &e, nil
		case k.before(old.Key):
			return nil, nil
		case k.same(old.Key):
			if old.State == Config || k.Text == old.Key.Text && !old.Key.Certified.Before(k.Certified) {
				return nil, nil
			}
			e := old.Entry
			e.Key = k
			return &e, nil
		}
		held = true
		e := old.Entry
		e.New, e.Was, e.State = k, old.State, Changed
		return &e, nil
	})
	if err == nil && held {
		err = errs.E(op, errs.Conflict, "the key of this recipient has changed: nothing is sent until you compare the new one and verify it", nil)
	}
	return e, errs.Wrap(op, err)
}

// same reports whether two are one key, wherever letters go.
func (k Key) same(o Key) bool { return k.Fingerprint == o.Fingerprint }

// before reports whether a relay said k before o.
func (k Key) before(o Key) bool { return !k.Certified.IsZero() && k.Certified.Before(o.Certified) }

// Verify notes that the user has compared a fingerprint, in whatever groups and letters it was
// typed. It must be that of the key, or of the new one of a Changed entry, which then takes the old one's
// place. errs.NotFound; errs.Auth for any other fingerprint.
func (b *Book) Verify(a mail.Address, fingerprint string) (Entry, error) {
	const op = "post/keybook.Verify"
	e, err := b.change(a, func(old *record) (*Entry, error) {
		if old == nil {
			_, err := b.Get(a)
			return nil, err
		}
		e := old.Entry
		switch {
		case e.State == Changed && sameFingerprint(e.New.Fingerprint, fingerprint):
			if e.Was == Config {
				return nil, errs.E(op, errs.Denied, "the configuration names the key of this recipient: change it there", nil)
			}
			e.Key, e.Since = e.New, b.now()
		case sameFingerprint(e.Key.Fingerprint, fingerprint):
			if e.Was == Config || e.State == Config {
				e.State = Config
				e.New, e.Was = Key{}, 0
				return &e, nil
			}
		default:
			return nil, errs.E(op, errs.Auth, "the fingerprint is not that of the recipient's key", nil)
		}
		e.State, e.New, e.Was = Verified, Key{}, 0
		return &e, nil
	})
	return e, errs.Wrap(op, err)
}

// sameFingerprint compares what people type.
func sameFingerprint(a, b string) bool {
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '-' || r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	return clean(a) != "" && clean(a) == clean(b)
}

func (b *Book) now() time.Time { return b.o.Now().UTC().Truncate(time.Second) }

// parse reads a key and judges whether it is taken.
func (b *Book) parse(text []byte) (Key, error) {
	const op = "post/keybook.parse"
	if len(text) > MaxFile {
		return Key{}, errs.E(op, errs.TooLarge, "the key is too long", nil)
	}
	k, err := b.o.Parse(text)
	if err != nil {
		return Key{}, errs.Wrap(op, err)
	}
	if k.Classical && !b.o.AllowClassical {
		return Key{}, errs.E(op, errs.Denied, "a bare X25519 key does not withstand quantum computers: it is taken only with AllowClassicalRecipients", nil)
	}
	if k.Text == "" || strings.ContainsAny(k.Text, "\r\n") {
		return Key{}, errs.E(op, errs.Internal, "", errors.New("the text of a key is one line"))
	}
	return k, nil
}

// change replaces an entry by what f makes of it, on disk and then here. f gives nil to leave all
// as it is.
func (b *Book) change(a mail.Address, f func(old *record) (*Entry, error)) (Entry, error) {
	const op = "post/keybook.change"
	a = a.Canonical()
	file := fileName(a)
	if a.Domain == "" || len(file) > maxFileName {
		return Entry{}, errs.E(op, errs.Invalid, "this is no address that a key can be kept for", nil)
	}
	b.write.Lock()
	defer b.write.Unlock()
	b.mu.RLock()
	old, n, broken := b.entries[a], len(b.entries), b.broken[a]
	b.mu.RUnlock()
	e, err := f(old)
	switch {
	case err != nil:
		return Entry{}, err
	case e == nil:
		return old.Entry, nil
	case old == nil && n >= b.o.MaxEntries:
		return Entry{}, errs.E(op, errs.Full, "the key book is full", nil)
	}
	e.Address = a
	r := &record{Entry: *e, file: file}
	if err := vfs.WriteFileAtomic(b.o.FS, b.o.FS.PathJoin(b.o.Dir, file), encode(&r.Entry), 0o600); err != nil {
		return Entry{}, err
	}
	other := ""
	switch {
	case old != nil:
		other = old.file
	case broken != nil && strings.HasSuffix(broken.Name, suffix):
		other = broken.Name
	}
	if other != "" && other != file {
		if err := b.o.FS.Remove(b.o.FS.PathJoin(b.o.Dir, other)); err != nil {
			return Entry{}, vfs.Error(op, err)
		}
		if err := vfs.SyncDir(b.o.FS, b.o.Dir); err != nil {
			return Entry{}, err
		}
	}
	b.put(a, r)
	return r.Entry, nil
}

// put puts a record in its place, and tells who watches.
func (b *Book) put(a mail.Address, r *record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r == nil {
		delete(b.entries, a)
	} else {
		b.entries[a] = r
	}
	if gone := b.broken[a]; gone != nil {
		delete(b.broken, a)
		b.bad = slices.DeleteFunc(slices.Clone(b.bad), func(x Bad) bool { return x.Name == gone.Name })
	}
	close(b.changed)
	b.changed = make(chan struct{})
}
