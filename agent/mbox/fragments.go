package mbox

import (
	"postern.email/agent/parts"
	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
)

// fragment keeps a fragment, and makes a mail of its letter when that is whole. The turn is
// held.
func (m *MBox) fragment(cfg *Config, h handle, box string, f *letter.Fragment, body []byte) error {
	const op = "agent/mbox.fragment"
	switch {
	case !cfg.Fragments.Enabled:
		return errs.E(op, errs.Unsupported, "this exit takes no mail of several fragments", nil)
	case f.Length > cfg.Fragments.MaxSize:
		return errs.E(op, errs.TooLarge, "the mail is too large for this exit", nil)
	case m.knows(mailHandle(parts.Key{ID: f.ID, Box: box})):
		return nil
	}
	k, whole, err := m.parts.Add(h, box, f, body)
	if err != nil || !whole {
		return errs.Wrap(op, err)
	}
	return m.tryWhole(cfg, k)
}

// tryWhole makes a mail of a letter that is whole. Where that cannot be done now, it is tried again
// by Run: the fragments are durable.
func (m *MBox) tryWhole(cfg *Config, k parts.Key) error {
	list, err := m.parts.Fragments(k)
	if err == nil && list == nil {
		return nil // a damaged one is missing again
	}
	if err == nil {
		err = m.whole(cfg, k.Box, k, list)
	}
	if err != nil && errs.KindOf(err).Temporary() {
		m.parts.Later(k, m.o.Now().Add(retryWhole))
		m.o.Log.Warn("a letter that is whole could not be kept yet", "kind", errs.KindOf(err))
		m.poke()
		return nil
	}
	if fault := m.parts.Drop(k); fault != nil && err == nil {
		return fault
	}
	return err
}

// openFragments takes in the fragments that wait. Those of letters that became mails go.
func (m *MBox) openFragments() (err error) {
	m.parts, err = parts.Open(parts.Options{FS: m.o.FS, Dir: m.o.FS.PathJoin(m.o.Dir, fragmentDir), Secret: m.o.Secret, Rand: m.o.Rand, Now: m.o.Now, Log: m.o.Log,
		MaxLetters: m.o.MaxLetters, MaxBytes: m.o.MaxBytes, Beside: m.mailBytes,
		Done:    func(k parts.Key) bool { return m.knows(mailHandle(k)) },
		GivenUp: func() { m.o.Stats.Count("Dropped", "MBOX letter not whole") },
		Parse: func(body []byte) (string, *letter.Fragment, error) {
			box, rest, err := content.ParseMbox(body)
			if err != nil {
				return "", nil, err
			}
			f, err := letter.ParseFragment(rest)
			return box, f, err
		}})
	return err
}

func (m *MBox) mailBytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}
