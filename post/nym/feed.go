package nym

import (
	"context"
	"encoding/binary"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Block is a reply block.
type Block struct {
	Raw     []byte // BlockLen
	Expires time.Time
}

// Fed are blocks of one set for one name. That they are its owner's is the caller's to know.
type Fed struct {
	Serial uint64 // above that of every Fed with blocks before
	Hint   [HintLen]byte
	Key    [KeyLen]byte
	Blocks []Block // none: it is only asked how many there are
}

// Held is what a name has.
type Held struct {
	Blocks int
	Until  time.Time // the last of them expires; zero without any
}

// Feed adds blocks to the stock of a name, which begins with them, and tells how many there are then.
// What came before, by its serial, adds nothing, nor do blocks that expire too early or too late, nor
// those beyond MaxBlocks and MaxSets: the answer tells. A name that is not known has none.
//
// errs.Busy when there are too many names, or too many new ones came at once; errs.Invalid for blocks
// of another length, or more than MaxFeed.
func (s *Stock) Feed(ctx context.Context, name string, f Fed) (Held, error) {
	const op = "post/nym.Feed"
	if len(f.Blocks) > MaxFeed {
		return Held{}, errs.E(op, errs.Invalid, "", nil)
	}
	now := s.o.Now()
	p := s.place(name)
	var sealed [][]byte
	var expires []uint64
	for _, b := range f.Blocks {
		if len(b.Raw) != BlockLen {
			return Held{}, errs.E(op, errs.Invalid, "", nil)
		}
		if b.Expires.Before(now.Add(LeastLife)) || b.Expires.After(now.Add(MostLife)) {
			continue
		}
		v, err := s.o.Root.Seal(seal.PurposeMixReply, p.key(kindBlock), b.Raw)
		if err != nil {
			return Held{}, errs.Wrap(op, err)
		}
		sealed, expires = append(sealed, v), append(expires, seconds(b.Expires))
	}
	known, err := s.known(ctx, p)
	if err != nil {
		return Held{}, errs.Wrap(op, err)
	}
	if !known {
		if len(sealed) == 0 {
			return Held{}, nil
		}
		full := s.names.Load() >= int64(s.o.MaxNames)
		if !full {
			ok, _ := s.fresh.Allow(newAll)
			full = !ok
		}
		if full {
			return Held{}, errs.E(op, errs.Busy, "there are too many reply addresses here now", nil)
		}
	}
	var st *stock
	var began bool
	var gone, added int
	err = s.o.Store.Update(ctx, p.shard, func(tx store.Tx) error {
		began, gone, added = false, 0, 0
		var err error
		if st, err = s.read(tx, p); err != nil {
			if errs.KindOf(err) != errs.NotFound {
				return err
			}
			st, began = &stock{}, true
			if st.next, err = freeNumber(tx, p); err != nil {
				return err
			}
		}
		old := st.prune(seconds(now.Add(LeastLife)))
		take := f.Serial > st.serial && len(sealed) > 0
		if gone = len(old); !take && gone == 0 {
			began = false
			return nil
		}
		if err := deleteBlocks(tx, p, old); err != nil {
			return err
		}
		if take {
			if added, err = s.add(tx, p, st, &f, sealed, expires); err != nil {
				return err
			}
			st.serial = f.Serial
		}
		return s.write(tx, p, st)
	})
	if err != nil {
		return Held{}, errs.Wrap(op, err)
	}
	if began {
		s.names.Add(1)
	}
	s.count.fed.Add(uint64(added))
	s.noteExpired(gone)
	h := Held{}
	var until uint64
	if h.Blocks, until = st.left(); h.Blocks > 0 {
		h.Until = time.Unix(int64(until), 0).UTC()
	}
	return h, nil
}

// add puts as many of the blocks as have room.
func (s *Stock) add(tx store.Tx, p place, st *stock, f *Fed, sealed [][]byte, expires []uint64) (added int, err error) {
	n, _ := st.left()
	set := st.find(f.Hint, &f.Key)
	if n >= MaxBlocks || set == nil && len(st.sets) >= MaxSets {
		return 0, nil
	}
	if set == nil {
		st.sets = append(st.sets, blockSet{hint: f.Hint, key: f.Key})
		set = &st.sets[len(st.sets)-1]
	}
	for i := range sealed {
		if n+i >= MaxBlocks {
			break
		}
		if err := tx.Set(p.numbered(kindBlock, st.add(set, expires[i])), sealed[i]); err != nil {
			return added, err
		}
		added++
	}
	return added, nil
}

// freeNumber is the first number for a block of a name that begins, or begins anew: above those of
// blocks that are still to be sent with.
func freeNumber(r store.Reader, p place) (n uint32, err error) {
	err = r.ScanReverse(p.numbered(kindOut, 0), append(p.numbered(kindOut, 1<<32-1), 0), func(k, _ []byte) (bool, error) {
		if len(k) == keyLen+numberLen {
			n = binary.BigEndian.Uint32(k[keyLen:]) + 1
		}
		return false, nil
	})
	return n, err
}

func (s *Stock) known(ctx context.Context, p place) (yes bool, err error) {
	err = s.o.Store.View(ctx, p.shard, func(r store.Reader) error {
		_, err := r.Get(p.key(kindStock))
		if yes = err == nil; err != nil && errs.KindOf(err) == errs.NotFound {
			return nil
		}
		return err
	})
	return yes, err
}

func deleteBlocks(tx store.Tx, p place, numbers []uint32) error {
	for _, n := range numbers {
		if err := tx.Delete(p.numbered(kindBlock, n)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stock) noteExpired(n int) {
	if n > 0 {
		s.count.expired.Add(uint64(n))
		s.o.Deleted()
	}
}
