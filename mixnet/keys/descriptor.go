package keys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

// Publication says that an authority took the descriptor of a set.
type Publication struct {
	Authority string // without white space, at most maxAuthority bytes
	At        time.Time
}

const maxAuthority = 64

// State is where a set is in its life.
type State string

// States of a set.
const (
	Ahead   State = "ahead"   // it begins later
	Current State = "current" // senders use it
	Overlap State = "overlap" // packets for it are accepted, and no new ones are made
	Ended   State = "ended"   // nothing is accepted; it is destroyed soon
	Damaged State = "damaged" // its file cannot be read
)

// SetInfo is what an operator may know of a set.
type SetInfo struct {
	Number        int
	Name          string // of its directory
	ID            uint32 // of the key
	From, Until   time.Time
	AcceptedUntil time.Time
	State         State
	Published     []Publication // of the descriptor that lies in it
}

// List gives the sets by number.
func (k *Keys) List() []SetInfo {
	now := k.o.Now()
	var out []SetInfo
	for _, s := range k.all() {
		i := SetInfo{Number: s.number, Name: setName(s.number), ID: s.id, From: s.from, Until: s.until,
			AcceptedUntil: k.acceptedUntil(s), Published: slices.Clone(s.published)}
		switch {
		case s.damaged:
			i.State = Damaged
		case s.key == nil && !s.ended:
			continue // a directory that a crash has left
		case s.key == nil || !now.Before(i.AcceptedUntil):
			i.State = Ended
		case !now.Before(s.until):
			i.State = Overlap
		case now.Before(s.from):
			i.State = Ahead
		default:
			i.State = Current
		}
		out = append(out, i)
	}
	return out
}

// newest gives the living set with the highest number, nil if there is none.
func (k *Keys) newest() *set {
	sets := k.all()
	for i := len(sets) - 1; i >= 0; i-- {
		if sets[i].key != nil {
			return sets[i]
		}
	}
	return nil
}

// SaveDescriptor writes the descriptor of this moment into the newest set, and its path into
// Options.CurrentDesc: users name that file on a path when there is no directory. Both may
// be read by everybody as far as their directories let them. errs.Invalid for a descriptor of
// another identity, errs.NotFound before the first Rotate, errs.NoSpace, errs.Unavailable.
func (k *Keys) SaveDescriptor(d *directory.Descriptor) (path string, err error) {
	const op = "mixnet/keys.SaveDescriptor"
	unlock, err := k.lock(context.Background(), op)
	if err != nil {
		return "", err
	}
	defer unlock()
	s := k.newest()
	switch {
	case s == nil:
		return "", errs.E(op, errs.NotFound, "there is no packet key yet", nil)
	case d.ID() != k.identity.Public().ID():
		return "", errs.E(op, errs.Invalid, "the descriptor is of another node", nil)
	}
	path = k.path(setName(s.number), descriptorName)
	if err := vfs.WriteFileAtomic(k.o.FS, path, d.Bytes(), 0o644); err != nil {
		return "", errs.Wrap(op, err)
	}
	n := *s
	if h := d.Hash(); !s.described || h != s.descriptor {
		n.descriptor, n.described, n.published = h, true, nil
	}
	k.replace(s, &n)
	if k.o.CurrentDesc != "" {
		if err := vfs.WriteFileAtomic(k.o.FS, k.o.CurrentDesc, []byte(path+"\n"), 0o644); err != nil {
			return "", errs.Wrap(op, err)
		}
	}
	return path, nil
}

// MarkPublished notes that an authority took the descriptor that was saved last. It is there
// after a restart, until another descriptor is saved. errs.NotFound: none was saved.
func (k *Keys) MarkPublished(authority string) error {
	const op = "mixnet/keys.MarkPublished"
	if authority == "" || len(authority) > maxAuthority || strings.ContainsFunc(authority, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errs.E(op, errs.Invalid, "", fmt.Errorf("no name of an authority"))
	}
	unlock, err := k.lock(context.Background(), op)
	if err != nil {
		return err
	}
	defer unlock()
	s := k.newest()
	if s == nil || !s.described {
		return errs.E(op, errs.NotFound, "there is no descriptor yet", nil)
	}
	n := *s
	n.published = slices.DeleteFunc(slices.Clone(s.published), func(p Publication) bool { return p.Authority == authority })
	n.published = append(n.published, Publication{authority, k.o.Now().UTC().Truncate(time.Second)})
	n.published = n.published[max(0, len(n.published)-directory.MaxAuthorities):]
	if err := vfs.WriteFileAtomic(k.o.FS, k.path(setName(s.number), publishedName), formatPublished(n.descriptor, n.published), 0o644); err != nil {
		return errs.Wrap(op, err)
	}
	k.replace(s, &n)
	return nil
}

// Published gives the authorities that took the descriptor that was saved last.
func (k *Keys) Published() []Publication {
	if s := k.newest(); s != nil {
		return slices.Clone(s.published)
	}
	return nil
}

// formatPublished writes the file "published".
func formatPublished(h directory.Hash, list []Publication) []byte {
	b := fmt.Appendf(nil, "postern-published 1\ndescriptor %s\n", h)
	for _, p := range list {
		b = fmt.Appendf(b, "authority %s %s\n", p.Authority, p.At.UTC().Format(timeForm))
	}
	return b
}

// parsePublished reads what formatPublished wrote.
func parsePublished(b []byte) (hash string, list []Publication, err error) {
	l := &lines{rest: b}
	if l.next("postern-published") != "1" {
		l.bad = true
	}
	hash = l.next("descriptor")
	for l.at("authority") && !l.bad {
		name, at, ok := strings.Cut(l.next("authority"), " ")
		t, err := time.Parse(timeForm, at)
		if !ok || err != nil || t.Format(timeForm) != at || name == "" || len(name) > maxAuthority || len(list) == directory.MaxAuthorities {
			l.bad = true
		}
		list = append(list, Publication{name, t})
	}
	if l.bad || len(l.rest) > 0 {
		return "", nil, errs.E("mixnet/keys.parsePublished", errs.Corrupt, "", nil)
	}
	return hash, list, nil
}
