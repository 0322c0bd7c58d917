package client

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/letter"
)

// put keeps a fragment under the number of its item. It is durable on return; the same item
// again changes nothing. errs.Full when too much was not collected.
func (s *Store) put(item uint64, f *letter.Fragment) error {
	const op = "mixnet/client.Store.put"
	name := fmt.Sprintf("%016x", item)
	path := s.path(inDir + "/" + name)
	if ok, err := vfs.Exists(s.fs, path); err != nil {
		return errs.Wrap(op, err)
	} else if ok {
		return errs.Wrap(op, vfs.SyncDir(s.fs, s.path(inDir))) // a crash may have come before that
	}
	names, err := s.items()
	if err != nil {
		return errs.Wrap(op, err)
	}
	if len(names) >= s.limits.Inbox {
		return errs.E(op, errs.Full, "the inbox is full", nil)
	}
	plain := strconv.AppendInt(nil, s.now().Unix(), 16)
	plain = append(plain, '\n')
	if plain, err = f.AppendBinary(plain); err != nil {
		return errs.Wrap(op, err)
	}
	b, err := s.id.seal(nil, name, plain, s.random)
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, vfs.WriteFileAtomic(s.fs, path, b, 0o600))
}

// stored reads a fragment, and when it came.
func (s *Store) stored(name string) (*letter.Fragment, time.Time, error) {
	b, err := vfs.ReadFile(s.fs, s.path(inDir+"/"+name))
	if err != nil {
		return nil, time.Time{}, err
	}
	if b, err = s.id.open(name, b); err != nil {
		return nil, time.Time{}, err
	}
	i := slices.Index(b, '\n')
	if i < 0 {
		return nil, time.Time{}, errs.E("mixnet/client.Store.stored", errs.Corrupt, "", nil)
	}
	at, err := strconv.ParseInt(string(b[:i]), 16, 64)
	if err != nil {
		return nil, time.Time{}, errs.E("mixnet/client.Store.stored", errs.Corrupt, "", err)
	}
	f, err := letter.ParseOpened(b[i+1:])
	return f, time.Unix(at, 0), err
}

// Received is a letter that has come, or an error in its place.
type Received struct {
	ID     letter.ID
	At     time.Time // when its last fragment came
	Letter *letter.Letter
	Err    error // the letter is whole, but not in order
	items  []string
}

// Inbox is what Collect found.
type Inbox struct {
	Letters []Received
	Partial int // letters that are not whole yet
	Damaged int // files that cannot be read; they stay
	Expired int // fragments that were given up
	known   []knownLetter
}

type knownLetter struct {
	ID letter.ID
	At time.Time
}

// maxKnown bounds the letters that are remembered, so that a fragment that comes again is not
// taken for another letter.
const maxKnown = 1 << 16

// Collect gives the letters that are whole, the oldest first. They stay in the inbox until
// Settle. One process at a time may use both.
func (s *Store) Collect() (*Inbox, error) {
	const op = "mixnet/client.Store.Collect"
	now := s.now()
	in := &Inbox{}
	var known []knownLetter
	if err := s.loadJSON(knownFile, &known); err != nil {
		return nil, errs.Wrap(op, err)
	}
	seen := make(map[letter.ID]bool)
	for _, k := range known {
		if now.Sub(k.At) < s.limits.Keep {
			in.known = append(in.known, k)
			seen[k.ID] = true
		}
	}
	names, err := s.items()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	type group struct {
		headers []letter.Header
		size    int
		items   []string
		last    time.Time
	}
	groups := make(map[letter.ID]*group)
	var order []letter.ID
	var over []string // not needed any more
	for _, n := range names {
		f, at, err := s.stored(n)
		switch {
		case err != nil && errs.KindOf(err) == errs.NotFound:
			continue
		case err != nil:
			in.Damaged++
			continue
		case seen[f.ID]:
			over = append(over, n)
			continue
		case now.Sub(at) > s.limits.Keep:
			in.Expired++
			over = append(over, n)
			continue
		}
		g := groups[f.ID]
		if g == nil {
			g = &group{size: len(f.Data)}
			groups[f.ID] = g
			order = append(order, f.ID)
		}
		g.headers = append(g.headers, f.Header)
		g.items = append(g.items, n)
		if at.After(g.last) {
			g.last = at
		}
	}
	if err := s.remove(inDir, over...); err != nil {
		return nil, errs.Wrap(op, err)
	}
	for _, id := range order {
		g := groups[id]
		if !letter.Enough(g.headers, g.size) {
			in.Partial++
			continue
		}
		l, err := s.assemble(g.items)
		if l == nil && err == nil {
			in.Partial++
			continue
		}
		in.Letters = append(in.Letters, Received{ID: id, At: g.last, Letter: l, Err: err, items: g.items})
	}
	return in, nil
}

// assemble makes one letter of its files.
func (s *Store) assemble(items []string) (*letter.Letter, error) {
	a := letter.NewAssembler(letter.Limits{Letters: 1, Bytes: 2 * letter.MaxWhole})
	for _, n := range items {
		f, at, err := s.stored(n)
		if err != nil {
			return nil, nil // it was readable a moment ago: the next time
		}
		if l, err := a.Add(f, at); l != nil || err != nil {
			return l, err
		}
	}
	return nil, nil
}

// Settle takes a letter out of the inbox, for good: a fragment of it that comes again is
// dropped. It is durable on return.
func (in *Inbox) Settle(s *Store, r Received) error {
	const op = "mixnet/client.Inbox.Settle"
	in.known = append(in.known, knownLetter{r.ID, s.now().Truncate(time.Second)})
	if n := len(in.known) - maxKnown; n > 0 {
		in.known = in.known[n:]
	}
	if err := s.saveJSON(knownFile, in.known); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, s.remove(inDir, r.items...))
}
