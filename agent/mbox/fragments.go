package mbox

import (
	"encoding/binary"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
)

// letterKey names a letter to a name: whoever puts two names on fragments of one letter has two
// letters.
type letterKey struct {
	id  letter.ID
	box string
}

// partial is a letter that is not whole. Its fragments are on the disk.
type partial struct {
	first, last time.Time // when fragments came
	size        int       // data of one
	headers     []letter.Header
	handles     []handle  // of the same places
	sizes       []int64   // on the disk
	retry       time.Time // it is whole, and could not be written: when to try again
}

// fits reports whether a fragment is of the letter.
func (p *partial) fits(f *letter.Fragment) bool {
	h := p.headers[0]
	return len(f.Data) == p.size && f.Total == h.Total && f.Length == h.Length && (f.N == 0) == (h.N == 0)
}

// A fragment's file is when it came, in seconds since 1970, and the body of its packet.
const fragmentHead = 8

// fragment keeps a fragment, and makes a mail of its letter when that is whole. The turn is
// held.
func (m *MBox) fragment(cfg *Config, h handle, box string, f *letter.Fragment, body []byte) error {
	const op = "agent/mbox.fragment"
	k := letterKey{f.ID, box}
	switch {
	case !cfg.Fragments.Enabled:
		return errs.E(op, errs.Unsupported, "this exit takes no mail of several fragments", nil)
	case f.Length > cfg.Fragments.MaxSize:
		return errs.E(op, errs.TooLarge, "the mail is too large for this exit", nil)
	case m.knows(mailHandle(k)):
		return nil
	}
	m.mu.Lock()
	p := m.letters[k]
	_, known := m.parts[h]
	m.mu.Unlock()
	if p != nil {
		if !p.fits(f) {
			return errs.E(op, errs.Invalid, "rejected", nil)
		}
		known = known || slices.ContainsFunc(p.headers, func(o letter.Header) bool { return o.Index == f.Index })
	}
	if !known {
		if err := m.roomForFragment(k, int64(len(body)+fragmentHead+sealExtra)); err != nil {
			return err
		}
		now := m.o.Now()
		plain := binary.BigEndian.AppendUint64(make([]byte, 0, fragmentHead+len(body)), uint64(now.Unix()))
		size, err := m.fragments.write(inp, msg, h, append(plain, body...))
		if err != nil {
			return errs.Wrap(op, err)
		}
		m.addFragment(k, h, f, size, now)
	}
	return m.tryWhole(cfg, k)
}

// addFragment notes a fragment that is on the disk.
func (m *MBox) addFragment(k letterKey, h handle, f *letter.Fragment, size int64, came time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.letters[k]
	if p == nil {
		p = &partial{first: came, last: came, size: len(f.Data)}
		m.letters[k] = p
	}
	if came.Before(p.first) {
		p.first = came
	}
	if came.After(p.last) {
		p.last = came
	}
	p.headers, p.handles, p.sizes = append(p.headers, f.Header), append(p.handles, h), append(p.sizes, size)
	m.bytes += size
	m.parts[h] = k
}

// roomForFragment makes room: the letters that have waited longest for another fragment are given
// up, so that nobody can shut this exit with fragments of letters that never become whole. Mails
// that wait to be sent are never given up for that.
func (m *MBox) roomForFragment(k letterKey, size int64) error {
	const op = "agent/mbox.roomForFragment"
	for {
		m.mu.Lock()
		full := m.bytes+size > m.o.MaxBytes || m.letters[k] == nil && len(m.letters) >= m.o.MaxLetters
		var oldest *letterKey
		for o, p := range m.letters {
			if full && o != k && (oldest == nil || p.last.Before(m.letters[*oldest].last)) {
				oldest = &o
			}
		}
		m.mu.Unlock()
		switch {
		case !full:
			return nil
		case oldest == nil:
			return errs.E(op, errs.Busy, "too much mail waits at this exit", nil)
		}
		if err := m.giveUp(*oldest); err != nil {
			return err
		}
	}
}

// giveUp forgets a letter that is not whole, and counts it.
func (m *MBox) giveUp(k letterKey) error {
	m.o.Stats.Count("Dropped", "MBOX letter not whole")
	return m.dropLetter(k)
}

// dropLetter destroys the fragments of a letter. The turn is held.
func (m *MBox) dropLetter(k letterKey) error {
	const op = "agent/mbox.dropLetter"
	m.mu.Lock()
	p := m.letters[k]
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	for _, h := range p.handles {
		if err := m.fragments.remove(msg, h); err != nil {
			return errs.Wrap(op, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range p.handles {
		delete(m.parts, h)
	}
	delete(m.letters, k)
	for _, size := range p.sizes {
		m.bytes -= size
	}
	return nil
}

// tryWhole makes a mail of a letter if it is whole. Where that cannot be done now, it is tried again
// by Run: the fragments are durable.
func (m *MBox) tryWhole(cfg *Config, k letterKey) error {
	m.mu.Lock()
	p := m.letters[k]
	m.mu.Unlock()
	if p == nil || !letter.Enough(p.headers, p.size) {
		return nil
	}
	list, err := m.readFragments(k, p)
	if err == nil && list == nil {
		return nil // a damaged one is missing again
	}
	if err == nil {
		err = m.whole(cfg, k.box, k, list)
	}
	if err != nil && errs.KindOf(err).Temporary() {
		m.mu.Lock()
		p.retry = m.o.Now().Add(retryWhole)
		m.mu.Unlock()
		m.o.Log.Warn("a letter that is whole could not be kept yet", "kind", errs.KindOf(err))
		m.poke()
		return nil
	}
	if fault := m.dropLetter(k); fault != nil && err == nil {
		return fault
	}
	return err
}

// readFragments reads the fragments of a letter back; nil where one is damaged: it is kept aside,
// and the letter is not whole any more.
func (m *MBox) readFragments(k letterKey, p *partial) ([]*letter.Fragment, error) {
	var list []*letter.Fragment
	damaged := false
	for i := 0; i < len(p.handles); {
		f, _, _, err := m.readFragment(p.handles[i])
		switch errs.KindOf(err) {
		case errs.Corrupt, errs.NotFound:
			damaged = true
			if err := m.fragmentAside(p.handles[i]); err != nil {
				return nil, err
			}
			m.mu.Lock()
			delete(m.parts, p.handles[i])
			m.bytes -= p.sizes[i]
			p.handles, p.headers, p.sizes = slices.Delete(p.handles, i, i+1), slices.Delete(p.headers, i, i+1), slices.Delete(p.sizes, i, i+1)
			if len(p.handles) == 0 {
				delete(m.letters, k)
			}
			m.mu.Unlock()
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
		i++
	}
	if damaged {
		return nil, nil
	}
	return list, nil
}

func (m *MBox) fragmentAside(h handle) error {
	m.mu.Lock()
	m.damaged++
	m.mu.Unlock()
	return m.fragments.move(msg, crp, h)
}

// readFragment reads one file.
func (m *MBox) readFragment(h handle) (f *letter.Fragment, box string, came time.Time, err error) {
	const op = "agent/mbox.readFragment"
	b, err := m.fragments.read(msg, h)
	if err != nil {
		return nil, "", came, err
	}
	if len(b) < fragmentHead {
		return nil, "", came, errs.E(op, errs.Corrupt, "", nil)
	}
	came = time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	box, rest, err := content.ParseMbox(b[fragmentHead:])
	if err == nil {
		f, err = letter.ParseFragment(rest)
	}
	if err != nil {
		return nil, "", came, errs.E(op, errs.Corrupt, "", err)
	}
	return f, box, came, nil
}

// openFragments takes in the fragments that wait. Those of letters that became mails go.
func (m *MBox) openFragments() error {
	const op = "agent/mbox.openFragments"
	s, found, err := openStore(m.o.FS, m.o.FS.PathJoin(m.o.Dir, fragmentDir), m.o.Secret, m.o.Rand)
	if err != nil {
		return err
	}
	m.fragments = s
	m.damaged += len(found[crp]) + len(found[crpm])
	for _, h := range found[msg] {
		f, box, came, err := m.readFragment(h)
		switch errs.KindOf(err) {
		case errs.Corrupt, errs.NotFound:
			if err := m.fragmentAside(h); err != nil {
				return errs.Wrap(op, err)
			}
			continue
		}
		if err != nil {
			return errs.Wrap(op, err)
		}
		k := letterKey{f.ID, box}
		p := m.letters[k]
		if m.knows(mailHandle(k)) || p != nil && !p.fits(f) {
			if err := s.remove(msg, h); err != nil {
				return errs.Wrap(op, err)
			}
			continue
		}
		info, err := m.o.FS.Stat(s.path(fileName(msg, h)))
		if err != nil {
			return errs.Wrap(op, err)
		}
		m.addFragment(k, h, f, info.Size(), came)
	}
	for _, p := range m.letters {
		if letter.Enough(p.headers, p.size) {
			p.retry = m.started
		}
	}
	return errs.Wrap(op, s.sync())
}

// assemble makes a letter of its fragments.
func assemble(list []*letter.Fragment, cfg *Config) (*letter.Letter, error) {
	const op = "agent/mbox.assemble"
	longest := cfg.Fragments.MaxSize
	if len(list) == 1 {
		longest = letter.MaxWhole
	}
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
