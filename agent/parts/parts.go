// Package parts keeps fragments of letters on the disk until their letter is whole, for exits of the
// mix network and for the door to ordinary mailboxes (docs/mbox.md §2 has the form). What it has taken
// survives a crash; what becomes of a letter that is whole is its owner's business.
package parts

import (
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/letter"
)

// Key names a letter to a box: whoever puts two boxes on fragments of one letter has two letters.
// Box is empty where there are none.
type Key struct {
	ID  letter.ID
	Box string
}

// Options of Parts. All but Beside, GivenUp and Log are needed.
type Options struct {
	FS     vfs.FS
	Dir    string
	Secret []byte // what the files are sealed under
	Rand   io.Reader
	Now    func() time.Time

	// Parse reads the body of a packet as it was kept.
	Parse func(body []byte) (box string, f *letter.Fragment, err error)
	// Done reports whether a letter has become something else, and its fragments may go.
	Done func(Key) bool

	MaxLetters int          // letters at one time
	MaxBytes   int64        // of fragments and of what is beside, on the disk
	Beside     func() int64 // bytes of the owner's that count too; nil: none
	GivenUp    func()       // a letter was given up that was not whole; nil: nobody is told
	Log        *slog.Logger // nil: nothing is logged
}

// Parts are the fragments that wait. Add, Fragments, Drop and Tidy are called by one goroutine at a
// time; the others by any.
type Parts struct {
	o     Options
	files *Files

	mu      sync.Mutex
	letters map[Key]*partial
	byName  map[Handle]Key
	bytes   int64
	aside   int // files that are kept aside
}

// partial is a letter whose fragments are on the disk.
type partial struct {
	first, last time.Time // when fragments came
	size        int       // data of one
	headers     []letter.Header
	handles     []Handle  // of the same places
	sizes       []int64   // on the disk
	retry       time.Time // it is whole: when its owner is to look at it; zero: it is not
}

// fits reports whether a fragment is of the letter.
func (p *partial) fits(f *letter.Fragment) bool {
	h := p.headers[0]
	return len(f.Data) == p.size && f.Total == h.Total && f.Length == h.Length && (f.N == 0) == (h.N == 0)
}

func (p *partial) whole() bool { return letter.Enough(p.headers, p.size) }

// A fragment's file is when it came, in seconds since 1970, and the body of its packet.
const fragmentHead = 8

// retryRemove is when something that the disk did not do is tried again.
const retryRemove = time.Minute

// Open takes in the fragments that wait. Letters that are whole are due at once. errs.Denied: they
// are sealed under another secret.
func Open(o Options) (*Parts, error) {
	const op = "agent/parts.Open"
	if o.Beside == nil {
		o.Beside = func() int64 { return 0 }
	}
	if o.GivenUp == nil {
		o.GivenUp = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Parts{o: o, letters: make(map[Key]*partial), byName: make(map[Handle]Key)}
	s, found, err := OpenFiles(o.FS, o.Dir, o.Secret, o.Rand)
	if err != nil {
		return nil, err
	}
	p.files = s
	p.aside = len(found[Crp]) + len(found[Crpm])
	for _, h := range found[Msg] {
		f, box, came, err := p.read(h)
		switch errs.KindOf(err) {
		case errs.Corrupt, errs.NotFound:
			if err := p.keepAside(h); err != nil {
				return nil, errs.Wrap(op, err)
			}
			continue
		}
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		k := Key{f.ID, box}
		l := p.letters[k]
		if o.Done(k) || l != nil && !l.fits(f) {
			if err := s.Remove(Msg, h); err != nil {
				return nil, errs.Wrap(op, err)
			}
			continue
		}
		info, err := o.FS.Stat(s.Path(FileName(Msg, h)))
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		p.note(k, h, f, info.Size(), came)
	}
	now := o.Now()
	for _, l := range p.letters {
		if l.whole() {
			l.retry = now
		}
	}
	return p, errs.Wrap(op, s.Sync())
}

// Add keeps a fragment; h names its packet, and is the same when it comes again. On return with nil
// it is durable, or was there. whole: its letter is. errs.Invalid for a fragment that does not
// fit the others; errs.Busy when there is no room, errs.NoSpace, errs.Unavailable.
func (p *Parts) Add(h Handle, box string, f *letter.Fragment, body []byte) (k Key, whole bool, err error) {
	const op = "agent/parts.Add"
	k = Key{f.ID, box}
	p.mu.Lock()
	l := p.letters[k]
	_, known := p.byName[h]
	p.mu.Unlock()
	if l != nil {
		if !l.fits(f) {
			return k, false, errs.E(op, errs.Invalid, "rejected", nil)
		}
		known = known || slices.ContainsFunc(l.headers, func(o letter.Header) bool { return o.Index == f.Index })
	}
	if !known {
		if err := p.room(k, int64(len(body)+fragmentHead+Extra)); err != nil {
			return k, false, err
		}
		now := p.o.Now()
		plain := binary.BigEndian.AppendUint64(make([]byte, 0, fragmentHead+len(body)), uint64(now.Unix()))
		size, err := p.files.Write(Inp, Msg, h, append(plain, body...))
		if err != nil {
			return k, false, errs.Wrap(op, err)
		}
		p.note(k, h, f, size, now)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l = p.letters[k]; l == nil || !l.whole() {
		return k, false, nil
	}
	if l.retry.IsZero() {
		l.retry = p.o.Now()
	}
	return k, true, nil
}

// note puts down a fragment that is on the disk.
func (p *Parts) note(k Key, h Handle, f *letter.Fragment, size int64, came time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.letters[k]
	if l == nil {
		l = &partial{first: came, last: came, size: len(f.Data)}
		p.letters[k] = l
	}
	if came.Before(l.first) {
		l.first = came
	}
	if came.After(l.last) {
		l.last = came
	}
	l.headers, l.handles, l.sizes = append(l.headers, f.Header), append(l.handles, h), append(l.sizes, size)
	p.bytes += size
	p.byName[h] = k
}

// room makes room: the letters that have waited longest for another fragment are given up, so that
// nobody can shut the door with fragments of letters that never become whole. Those that are
// whole are never given up for that.
func (p *Parts) room(k Key, size int64) error {
	const op = "agent/parts.room"
	for {
		beside := p.o.Beside()
		p.mu.Lock()
		full := p.bytes+beside+size > p.o.MaxBytes || p.letters[k] == nil && len(p.letters) >= p.o.MaxLetters
		var oldest *Key
		for o, l := range p.letters {
			if full && o != k && l.retry.IsZero() && (oldest == nil || l.last.Before(p.letters[*oldest].last)) {
				oldest = &o
			}
		}
		p.mu.Unlock()
		switch {
		case !full:
			return nil
		case oldest == nil:
			return errs.E(op, errs.Busy, "too much mail waits at this exit", nil)
		}
		if err := p.giveUp(*oldest); err != nil {
			return err
		}
	}
}

// giveUp forgets a letter that is not whole, and tells so.
func (p *Parts) giveUp(k Key) error {
	p.o.GivenUp()
	return p.Drop(k)
}

// Drop destroys the fragments of a letter.
func (p *Parts) Drop(k Key) error {
	const op = "agent/parts.Drop"
	p.mu.Lock()
	l := p.letters[k]
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	for _, h := range l.handles {
		if err := p.files.Remove(Msg, h); err != nil {
			return errs.Wrap(op, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range l.handles {
		delete(p.byName, h)
	}
	delete(p.letters, k)
	for _, size := range l.sizes {
		p.bytes -= size
	}
	return nil
}

// Fragments reads the fragments of a letter back. None where the letter is not whole, also because one
// of them turned out to be damaged: that is kept aside.
func (p *Parts) Fragments(k Key) ([]*letter.Fragment, error) {
	p.mu.Lock()
	l := p.letters[k]
	ok := l != nil && l.whole()
	p.mu.Unlock()
	if !ok {
		return nil, nil
	}
	var list []*letter.Fragment
	for i := 0; i < len(l.handles); {
		f, _, _, err := p.read(l.handles[i])
		switch errs.KindOf(err) {
		case errs.Corrupt, errs.NotFound:
			if err := p.keepAside(l.handles[i]); err != nil {
				return nil, err
			}
			p.lost(k, l, i)
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
		i++
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.whole() {
		l.retry = time.Time{}
		return nil, nil
	}
	return list, nil
}

// lost takes a fragment off its letter.
func (p *Parts) lost(k Key, l *partial, i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byName, l.handles[i])
	p.bytes -= l.sizes[i]
	l.handles, l.headers, l.sizes = slices.Delete(l.handles, i, i+1), slices.Delete(l.headers, i, i+1), slices.Delete(l.sizes, i, i+1)
	if len(l.handles) == 0 {
		delete(p.letters, k)
	}
}

// Later puts a letter that is whole off.
func (p *Parts) Later(k Key, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.letters[k]; l != nil {
		l.retry = until
	}
}

// Since is when the first fragment of a letter came; the zero time: none did.
func (p *Parts) Since(k Key) (t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.letters[k]; l != nil {
		t = l.first
	}
	return t
}

// Tidy gives the letters that are whole and due to try, and gives those up that did not become whole
// within so long after their first fragment. It gives when to be called again; the zero time: there is
// nothing to wait for.
func (p *Parts) Tidy(within time.Duration, try func(Key)) (next time.Time) {
	now := p.o.Now()
	soon := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	p.mu.Lock()
	keys := slices.Collect(maps.Keys(p.letters))
	p.mu.Unlock()
	for _, k := range keys {
		again, end := p.times(k, within)
		switch {
		case !again.IsZero() && !again.After(now):
			p.Later(k, now.Add(retryRemove)) // unless it is dropped, or put off otherwise
			try(k)
			if again, _ = p.times(k, within); !again.IsZero() {
				soon(again)
			}
		case !again.IsZero():
			soon(again)
		case !end.IsZero() && !now.Before(end):
			if err := p.giveUp(k); err != nil {
				p.o.Log.Warn("fragments cannot be removed", "kind", errs.KindOf(err))
				soon(now.Add(retryRemove))
			}
		case !end.IsZero():
			soon(end)
		}
	}
	return next
}

// times gives when a letter that is whole is due, or when one that is not is given up.
func (p *Parts) times(k Key, within time.Duration) (again, end time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.letters[k]; l != nil {
		again, end = l.retry, l.first.Add(within)
	}
	return again, end
}

func (p *Parts) keepAside(h Handle) error {
	p.mu.Lock()
	p.aside++
	p.mu.Unlock()
	return p.files.Move(Msg, Crp, h)
}

// read reads one file.
func (p *Parts) read(h Handle) (f *letter.Fragment, box string, came time.Time, err error) {
	const op = "agent/parts.read"
	b, err := p.files.Read(Msg, h)
	if err != nil {
		return nil, "", came, err
	}
	if len(b) < fragmentHead {
		return nil, "", came, errs.E(op, errs.Corrupt, "", nil)
	}
	came = time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	if box, f, err = p.o.Parse(b[fragmentHead:]); err != nil {
		return nil, "", came, errs.E(op, errs.Corrupt, "", err)
	}
	return f, box, came, nil
}

// Status are numbers of now.
type Status struct {
	Letters   int // that wait
	Fragments int // of them
	Bytes     int64
	Aside     int // files that could not be read
}

// Status gives the numbers of now.
func (p *Parts) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Letters: len(p.letters), Fragments: len(p.byName), Bytes: p.bytes, Aside: p.aside}
}

// Assemble makes a letter of fragments that make it whole; longest bounds what it is before it was
// cut, in bytes. Errors are those of letter.Assembler.Add.
func Assemble(list []*letter.Fragment, longest int64) (*letter.Letter, error) {
	const op = "agent/parts.Assemble"
	a := letter.NewAssembler(letter.Limits{Letters: 1, Bytes: letter.MaxWhole * 2, Length: longest, Known: 1})
	for _, f := range list {
		l, err := a.Add(f, time.Unix(0, 0))
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		if l != nil {
			return l, nil
		}
	}
	return nil, errs.E(op, errs.Invalid, "rejected", nil)
}
