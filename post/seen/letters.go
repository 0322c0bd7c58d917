package seen

import (
	"context"
	"crypto/sha256"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// LetterDays is for how many days at least letters of the mix network are remembered: a sender
// gives one up after fewer.
const LetterDays = 30

const (
	prefixLetter = 'x' // at the begin of a key
	kindLetter   = 'l'
	placeLen     = 20
)

// Letter stands for one letter of the mix network, whoever it is for.
type Letter struct {
	Shard store.Shard // where it is remembered
	place [placeLen]byte
}

// Letter gives the mark of a letter by its ID; parts keeps apart what is made of one letter.
func (s *Seen) Letter(id [16]byte, parts ...byte) Letter {
	h := sha256.New()
	h.Write(id[:])
	h.Write(parts)
	place, shard := s.o.Root.MixPlace(kindLetter, [sha256.Size]byte(h.Sum(nil)))
	return Letter{shard, place}
}

func letterKey(place [placeLen]byte) []byte {
	return append([]byte{prefixLetter, kindLetter}, place[:]...)
}

// OnceLetter is Once for a letter; tx lies in its shard.
func (s *Seen) OnceLetter(tx store.Tx, l Letter, now time.Time) (first bool, err error) {
	const op = "post/seen.OnceLetter"
	k, today := letterKey(l.place), dayOf(now)
	v, err := tx.Get(k)
	switch {
	case err == nil:
		if day, err := decode(v); err == nil && within(day, today, LetterDays) {
			return false, nil
		}
	case errs.KindOf(err) != errs.NotFound:
		return false, errs.Wrap(op, err)
	}
	return true, errs.Wrap(op, tx.Set(k, encode(today)))
}

// KnowsLetter reports whether a letter came before and is remembered.
func (s *Seen) KnowsLetter(ctx context.Context, l Letter) (yes bool, err error) {
	err = s.o.Store.View(ctx, l.Shard, func(r store.Reader) error {
		v, err := r.Get(letterKey(l.place))
		if err != nil {
			if yes = false; errs.KindOf(err) == errs.NotFound {
				return nil
			}
			return err
		}
		day, err := decode(v)
		yes = err == nil && within(day, dayOf(s.o.Now()), LetterDays)
		return nil
	})
	return yes, errs.Wrap("post/seen.KnowsLetter", err)
}

// sweepLetters forgets letters that came long ago.
func (s *Seen) sweepLetters(ctx context.Context) error {
	return s.eachLetter(ctx, func(in store.Shard, k, v []byte) error {
		gone := func(v []byte) bool {
			day, err := decode(v)
			return err == nil && !within(day, dayOf(s.o.Now()), LetterDays)
		}
		if !gone(v) {
			return nil
		}
		return s.o.Store.Update(ctx, in, func(tx store.Tx) error {
			v, err := tx.Get(k)
			if err != nil || !gone(v) { // it may have been written anew
				if errs.KindOf(err) == errs.NotFound {
					return nil
				}
				return err
			}
			return tx.Delete(k)
		})
	})
}

// eachLetter calls fn for each letter that is remembered, outside of any transaction.
func (s *Seen) eachLetter(ctx context.Context, fn func(in store.Shard, k, v []byte) error) error {
	for in := range store.Shard(seal.MixShards) {
		err := store.Walk(ctx, s.o.Store, in, []byte{prefixLetter, kindLetter}, []byte{prefixLetter, kindLetter + 1}, func(k, v []byte) (bool, error) { return true, fn(in, k, v) })
		if err != nil {
			return err
		}
	}
	return nil
}
