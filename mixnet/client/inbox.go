package client

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/letter"
)

// put keeps a fragment under the number of its item. with is the Note of the reply block that it came
// with, empty without one. It is durable on return; the same item again changes nothing. errs.Full
// when too much was not collected.
func (s *Store) put(item uint64, f *letter.Fragment, with string) error {
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
	if with != "" {
		plain = strconv.AppendQuoteToASCII(append(plain, ' '), with)
	}
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

// storedItem is a fragment of the inbox.
type storedItem struct {
	*letter.Fragment
	at   time.Time // it came
	with string    // of put
}

func (s *Store) stored(name string) (it storedItem, err error) {
	const op = "mixnet/client.Store.stored"
	b, err := vfs.ReadFile(s.fs, s.path(inDir+"/"+name))
	if err != nil {
		return it, err
	}
	if b, err = s.id.open(name, b); err != nil {
		return it, err
	}
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return it, errs.E(op, errs.Corrupt, "", nil)
	}
	stamp, with, ok := strings.Cut(string(line), " ")
	if ok {
		if it.with, err = strconv.Unquote(with); err != nil {
			return it, errs.E(op, errs.Corrupt, "", err)
		}
	}
	at, err := strconv.ParseInt(stamp, 16, 64)
	if err != nil {
		return it, errs.E(op, errs.Corrupt, "", err)
	}
	it.at = time.Unix(at, 0)
	it.Fragment, err = letter.ParseOpened(rest)
	return it, err
}

// Received is a letter that has come, or an error in its place.
type Received struct {
	ID     letter.ID
	At     time.Time // when its last fragment came
	Letter *letter.Letter
	Err    error // the letter is whole, but not in order
	// With is the Note of the reply blocks that it came with; empty: it came without. Only who got those
	// blocks can have sent it so.
	With  string
	items []string
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
		with    string
	}
	groups := make(map[letter.ID]*group)
	var order []letter.ID
	var over []string // not needed any more
	for _, n := range names {
		f, err := s.stored(n)
		switch {
		case err != nil && errs.KindOf(err) == errs.NotFound:
			continue
		case err != nil:
			in.Damaged++
			continue
		case seen[f.ID]:
			over = append(over, n)
			continue
		case now.Sub(f.at) > s.limits.Keep:
			in.Expired++
			over = append(over, n)
			continue
		}
		g := groups[f.ID]
		if g == nil {
			g = &group{size: len(f.Data), with: f.with}
			groups[f.ID] = g
			order = append(order, f.ID)
		}
		g.headers = append(g.headers, f.Header)
		g.items = append(g.items, n)
		if f.at.After(g.last) {
			g.last = f.at
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
		in.Letters = append(in.Letters, Received{ID: id, At: g.last, Letter: l, Err: err, With: g.with, items: g.items})
	}
	return in, nil
}

// assemble makes one letter of its files.
func (s *Store) assemble(items []string) (*letter.Letter, error) {
	a := letter.NewAssembler(letter.Limits{Letters: 1, Bytes: 2 * letter.MaxWhole})
	for _, n := range items {
		f, err := s.stored(n)
		if err != nil {
			return nil, nil // it was readable a moment ago: the next time
		}
		if l, err := a.Add(f.Fragment, f.at); l != nil || err != nil {
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
