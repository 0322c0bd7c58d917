package nym

import (
	"context"
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Run removes blocks that have expired, and names whose last block has, at the start and every
// SweepEvery until ctx ends. It returns nil.
func (s *Stock) Run(ctx context.Context) error {
	store.Every(ctx, s.o.Store, s.o.SweepEvery, s.o.Logger, "old reply blocks were not all removed", s.sweep)
	return nil
}

func (s *Stock) sweep(ctx context.Context) error {
	return errs.Wrap("post/nym.sweep", s.each(ctx, kindStock, func(in store.Shard, k, v []byte) error {
		if len(k) != keyLen {
			return nil // Check names it
		}
		p := place{[placeLen]byte(k[2:]), in}
		now := s.o.Now()
		if st, err := s.openStock(k, v); err != nil || st.until > seconds(now) && len(st.prune(seconds(now.Add(LeastLife)))) == 0 {
			return nil
		}
		gone, dead := 0, false
		err := s.o.Store.Update(ctx, in, func(tx store.Tx) error {
			gone, dead = 0, false
			st, err := s.read(tx, p)
			if err != nil {
				if errs.KindOf(err) == errs.NotFound {
					return nil
				}
				return err
			}
			old := st.prune(seconds(now.Add(LeastLife)))
			if gone = len(old); st.until <= seconds(now) {
				dead = true
				if err := tx.Delete(k); err != nil {
					return err
				}
			} else if err := s.write(tx, p, st); err != nil {
				return err
			}
			return deleteBlocks(tx, p, old)
		})
		if err != nil {
			return err
		}
		if dead {
			s.names.Add(-1)
			s.o.Deleted()
		}
		s.noteExpired(gone)
		return nil
	}))
}

// Check reports what cannot be read. It changes nothing.
func (s *Stock) Check(ctx context.Context, report func(what string)) error {
	const op = "post/nym.Check"
	err := s.each(ctx, kindStock, func(in store.Shard, k, v []byte) error {
		if _, err := s.openStock(k, v); err != nil || len(k) != keyLen {
			report("the stock of a reply address cannot be read")
		}
		return nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, s.each(ctx, kindOut, func(in store.Shard, k, v []byte) error {
		err := s.o.Store.View(ctx, in, func(r store.Reader) error {
			_, err := s.openOut(r, in, k, v)
			return err
		})
		if k := errs.KindOf(err); err != nil && (k == errs.Corrupt || k == errs.NotFound) {
			report("what is to be sent to a reply address cannot be read")
			return nil
		}
		return err
	}))
}

// Reveal prints what the node key opens here.
func (s *Stock) Reveal(ctx context.Context, emit func(purpose, line string)) error {
	const op = "post/nym.Reveal"
	say := func(line string) { emit(seal.PurposeMixReply.String(), line) }
	err := s.each(ctx, kindStock, func(_ store.Shard, k, v []byte) error {
		st, err := s.openStock(k, v)
		if err != nil {
			say("a reply address whose record cannot be opened")
			return nil
		}
		n, _ := st.left()
		say(fmt.Sprintf("a reply address with %d reply blocks in %d sets, the last good until %s", n, len(st.sets), time.Unix(int64(st.until), 0).UTC().Format(time.DateTime)))
		return nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, s.each(ctx, kindOut, func(store.Shard, []byte, []byte) error {
		say("a packet that is to be sent with a reply block (its body is sealed end to end)")
		return nil
	}))
}
