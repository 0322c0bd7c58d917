package client

import (
	"bytes"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// A seed opens the answers to all blocks that were made with it, so there is a new one each
// day, and the old one is destroyed when its last block has expired and what was sent with it
// has had time to arrive.
const (
	seedAge    = 24 * time.Hour
	seedLinger = 24 * time.Hour
)

// seedRecord is a seed on disk.
type seedRecord struct {
	Seed  []byte
	Made  time.Time
	Until time.Time // the last expiry of its blocks
}

func (r *seedRecord) seed() *packet.Seed {
	s := packet.Seed(r.Seed)
	return &s
}

// keepSeeds drops what is over.
func keepSeeds(list []seedRecord, now time.Time) []seedRecord {
	var out []seedRecord
	for _, r := range list {
		if len(r.Seed) == len(packet.Seed{}) && now.Before(r.Until.Add(seedLinger)) {
			out = append(out, r)
		}
	}
	return out
}

// useSeed gives the seed for a block that expires at until, and the list with it: the newest, or
// a new one. changed: the list must be on disk before the block is given away.
func useSeed(list []seedRecord, now, until time.Time, random io.Reader) (out []seedRecord, i int, changed bool, err error) {
	out = keepSeeds(list, now)
	changed = len(out) != len(list)
	i = len(out) - 1
	if i < 0 || now.Sub(out[i].Made) >= seedAge || now.Before(out[i].Made) {
		r := seedRecord{Seed: make([]byte, len(packet.Seed{})), Made: now, Until: until}
		if _, err := io.ReadFull(random, r.Seed); err != nil {
			return nil, 0, false, errs.E("mixnet/client.useSeed", errs.Internal, "", err)
		}
		return append(out, r), len(out), true, nil
	}
	if until.After(out[i].Until) {
		out[i].Until = until
		changed = true
	}
	return out, i, changed, nil
}

// MadeBlock is a reply block that this user gave away.
type MadeBlock struct {
	Name     []byte // packet.SURB.Name
	Mark     packet.Mark
	Hint     letter.Hint
	Made     time.Time
	Expires  time.Time
	Seed     []byte // it was made with
	Note     string `json:",omitempty"`
	Answered bool   `json:"-"` // filled in by Blocks
}

// Bounds of what is remembered of reply blocks.
const (
	maxMade = 10_000
	maxUsed = 100_000
)

// Seed gives a new seed for a set of reply blocks.
func (s *Store) Seed() (*packet.Seed, error) {
	var seed packet.Seed
	if _, err := io.ReadFull(s.random, seed[:]); err != nil {
		return nil, errs.E("mixnet/client.Store.Seed", errs.Internal, "", err)
	}
	return &seed, nil
}

// RememberSet notes a set of reply blocks before it is given away, so that answers can be
// opened. It is durable on return. errs.Full when too many blocks are remembered.
func (s *Store) RememberSet(set Set, seed *packet.Seed, note string) error {
	const op = "mixnet/client.Store.RememberSet"
	list, err := s.made()
	if err != nil {
		return errs.Wrap(op, err)
	}
	if len(list)+len(set.Blocks) > maxMade {
		return errs.E(op, errs.Full, "10,000 reply blocks are remembered already: wait until some have expired", nil)
	}
	for i, b := range set.Blocks {
		name := b.SURB.Name()
		list = append(list, MadeBlock{Name: name[:], Mark: set.Marks[i], Hint: set.Hint, Made: s.now().Truncate(time.Second), Expires: b.SURB.Expires(), Seed: bytes.Clone(seed[:]), Note: note})
	}
	return errs.Wrap(op, s.saveJSON(blocksFile, list))
}

// made gives the blocks that were given away and can still be answered.
func (s *Store) made() ([]MadeBlock, error) {
	var list, out []MadeBlock
	if err := s.loadJSON(blocksFile, &list); err != nil {
		return nil, err
	}
	for _, b := range list {
		if s.now().Before(b.Expires.Add(seedLinger)) && len(b.Seed) == len(packet.Seed{}) {
			out = append(out, b)
		}
	}
	return out, nil
}

// Blocks gives the reply blocks that were given away and have not expired for more than a day.
func (s *Store) Blocks() ([]MadeBlock, error) {
	const op = "mixnet/client.Store.Blocks"
	list, err := s.made()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	answered, err := s.answered()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	for i := range list {
		_, list[i].Answered = answered[list[i].Mark]
	}
	return list, nil
}

// answered are the marks whose answer has come, with the expiry of their blocks.
func (s *Store) answered() (map[packet.Mark]time.Time, error) {
	var list []answeredMark
	if err := s.loadJSON(answeredFile, &list); err != nil {
		return nil, err
	}
	m := make(map[packet.Mark]time.Time, len(list))
	for _, a := range list {
		if s.now().Before(a.Until) {
			m[a.Mark] = a.Until
		}
	}
	return m, nil
}

type answeredMark struct {
	Mark  packet.Mark
	Until time.Time
}

func (s *Store) saveAnswered(m map[packet.Mark]time.Time) error {
	list := make([]answeredMark, 0, len(m))
	for mark, until := range m {
		list = append(list, answeredMark{mark, until})
	}
	return s.saveJSON(answeredFile, list)
}

// usedBlock is a reply block of somebody else that was used.
type usedBlock struct {
	Name    []byte
	Expires time.Time
}

// Spend notes that reply blocks of others are used now: it is durable on return, so that none is used
// twice, whatever happens afterwards. errs.Denied, with a public text, if one was used before
// or has expired; then none is noted.
func (s *Store) Spend(blocks []*packet.SURB) error {
	const op = "mixnet/client.Store.Spend"
	now := s.now()
	var list, out []usedBlock
	if err := s.loadJSON(usedFile, &list); err != nil {
		return errs.Wrap(op, err)
	}
	seen := make(map[string]bool, len(list))
	for _, u := range list {
		if now.Before(u.Expires.Add(seedLinger)) {
			out = append(out, u)
			seen[string(u.Name)] = true
		}
	}
	for _, b := range blocks {
		name := b.Name()
		switch {
		case !now.Before(b.Expires()):
			return errs.E(op, errs.Denied, "the reply block has expired: it could be used until "+b.Expires().Format("2006-01-02 15:04 MST"), nil)
		case seen[string(name[:])]:
			return errs.E(op, errs.Denied, "the reply block was used before: each can be used once", nil)
		case len(out) >= maxUsed:
			return errs.E(op, errs.Full, "too many reply blocks were used lately", nil)
		}
		seen[string(name[:])] = true
		out = append(out, usedBlock{Name: name[:], Expires: b.Expires()})
	}
	return errs.Wrap(op, s.saveJSON(usedFile, out))
}

// Unspent reports whether a reply block could be used now, and why not.
func (s *Store) Unspent(b *packet.SURB) (bool, string, error) {
	var list []usedBlock
	if err := s.loadJSON(usedFile, &list); err != nil {
		return false, "", errs.Wrap("mixnet/client.Store.Unspent", err)
	}
	name := b.Name()
	for _, u := range list {
		if bytes.Equal(u.Name, name[:]) {
			return false, "used", nil
		}
	}
	if !s.now().Before(b.Expires()) {
		return false, "expired", nil
	}
	return true, "", nil
}
