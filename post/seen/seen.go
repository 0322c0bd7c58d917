package seen

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Defaults of Options.
const (
	DefaultDays       = 3 // longer than a sender of ours tries again
	DefaultSweepEvery = time.Hour
)

// MaxDays is the longest time that can be asked for.
const MaxDays = 30

const (
	kindMark = 'h' // behind the account's prefix
	version  = 1
	valueLen = 1 + 4
)

// Mark stands for one mail in one account.
type Mark [16]byte

// Options of a Seen. Store and Root are needed.
type Options struct {
	Store      store.Store
	Root       *seal.Root
	Days       int           // how long a mail is remembered at least; 0: DefaultDays
	SweepEvery time.Duration // 0: DefaultSweepEvery
	Now        func() time.Time
	Logger     *slog.Logger // nil: nothing is logged
}

// Seen is the memory. It may be used by many goroutines.
type Seen struct{ o Options }

// New makes a Seen.
func New(o Options) *Seen {
	defaults.Positive(&o.Days, DefaultDays)
	o.Days = min(o.Days, MaxDays)
	defaults.Positive(&o.SweepEvery, DefaultSweepEvery)
	defaults.Clock(&o.Now)
	defaults.Logger(&o.Logger)
	return &Seen{o: o}
}

// Mark gives the mark of the mail that parts stand for, in the account id.
func (s *Seen) Mark(id seal.AccountID, parts ...[]byte) Mark {
	return Mark(s.o.Root.SeenMark(id, parts...))
}

// Once notes in tx, a transaction in the account's shard, that the mail of m comes now. first
// is false when it came before and is remembered: then nothing is written. What makes
// the mail's copy durable must be the same transaction. A record that cannot be read is written
// anew: twice is better than never.
func (s *Seen) Once(tx store.Tx, id seal.AccountID, m Mark, now time.Time) (first bool, err error) {
	const op = "post/seen.Once"
	k := key(id, m)
	today := dayOf(now)
	v, err := tx.Get(k)
	switch {
	case err == nil:
		if day, err := decode(v); err == nil && s.fresh(day, today) {
			return false, nil
		}
	case errs.KindOf(err) != errs.NotFound:
		return false, errs.Wrap(op, err)
	}
	return true, errs.Wrap(op, tx.Set(k, encode(today)))
}

// fresh reports whether what came on day is still remembered. A day that lies far ahead was
// written while the clock was wrong; it must not be remembered for ever.
func (s *Seen) fresh(day, today uint32) bool { return within(day, today, s.o.Days) }

func within(day, today uint32, days int) bool {
	age := int64(today) - int64(day)
	return -int64(days) <= age && age <= int64(days)
}

// Run removes what is old every SweepEvery until ctx ends. It returns nil.
func (s *Seen) Run(ctx context.Context) error {
	store.Every(ctx, s.o.Store, s.o.SweepEvery, s.o.Logger, "old marks of mails were not all removed", s.sweep)
	return nil
}

// sweepPage is how many old records one transaction removes, scanPage how many are looked
// at under one snapshot.
const (
	sweepPage = 512
	scanPage  = 4096
)

func (s *Seen) sweep(ctx context.Context) error {
	if err := s.sweepLetters(ctx); err != nil {
		return errs.Wrap("post/seen.sweep", err)
	}
	return errs.Wrap("post/seen.sweep", seal.EachAccount(ctx, s.o.Store, func(in store.Shard, id seal.AccountID) error {
		for start := prefix(id); start != nil; {
			old, next, err := s.old(ctx, in, id, start)
			if err != nil {
				return err
			}
			if err := s.drop(ctx, in, old); err != nil {
				return err
			}
			start = next
		}
		return nil
	}))
}

// old gives the keys of old records from start on, and where to go on.
func (s *Seen) old(ctx context.Context, in store.Shard, id seal.AccountID, start []byte) (old [][]byte, next []byte, err error) {
	err = s.o.Store.View(ctx, in, func(r store.Reader) error {
		old, next = nil, nil
		n := 0
		today := dayOf(s.o.Now())
		return r.Scan(start, end(id), func(k, v []byte) (bool, error) {
			if n++; n > scanPage || len(old) == sweepPage {
				next = append([]byte(nil), k...)
				return false, nil
			}
			if day, err := decode(v); err == nil && !s.fresh(day, today) { // Check names the unreadable
				old = append(old, append([]byte(nil), k...))
			}
			return true, nil
		})
	})
	return old, next, err
}

// drop removes records that are still old: one may have been written anew.
func (s *Seen) drop(ctx context.Context, in store.Shard, old [][]byte) error {
	if len(old) == 0 {
		return nil
	}
	today := dayOf(s.o.Now())
	return s.o.Store.Update(ctx, in, func(tx store.Tx) error {
		for _, k := range old {
			v, err := tx.Get(k)
			if errs.KindOf(err) == errs.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			if day, err := decode(v); err != nil || s.fresh(day, today) {
				continue
			}
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove forgets all mails of an account.
func (s *Seen) Remove(ctx context.Context, id seal.AccountID) error {
	return errs.Wrap("post/seen.Remove", s.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
		return tx.DeleteRange(prefix(id), end(id))
	}))
}

// Finding is one record that cannot be read.
type Finding struct {
	What    string
	Account string // its number; empty: of none
}

// Check reports records that cannot be read. It needs no key and changes nothing.
func (s *Seen) Check(ctx context.Context, report func(Finding)) error {
	err := s.eachLetter(ctx, func(_ store.Shard, k, v []byte) error {
		if _, err := decode(v); err != nil || len(k) != len(letterKey([placeLen]byte{})) {
			report(Finding{What: "the mark of a letter of the mix network cannot be read"})
		}
		return nil
	})
	if err != nil {
		return errs.Wrap("post/seen.Check", err)
	}
	return errs.Wrap("post/seen.Check", seal.EachAccount(ctx, s.o.Store, func(in store.Shard, id seal.AccountID) error {
		return s.o.Store.View(ctx, in, func(r store.Reader) error {
			return r.Scan(prefix(id), end(id), func(k, v []byte) (bool, error) {
				if _, err := decode(v); err != nil || len(k) != len(key(id, Mark{})) {
					report(Finding{What: "the mark of a mail cannot be read", Account: id.String()})
				}
				return true, nil
			})
		})
	}))
}

func prefix(id seal.AccountID) []byte { return append(id.Prefix(), kindMark) }

func end(id seal.AccountID) []byte { return append(id.Prefix(), kindMark+1) }

func key(id seal.AccountID, m Mark) []byte { return append(prefix(id), m[:]...) }

// dayOf gives the days since 1970 in UTC.
func dayOf(t time.Time) uint32 { return uint32(t.Unix() / (24 * 60 * 60)) }

func encode(day uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{version}, day)
}

func decode(v []byte) (day uint32, err error) {
	if len(v) != valueLen || v[0] != version {
		return 0, errs.E("post/seen.decode", errs.Corrupt, "", nil)
	}
	return binary.BigEndian.Uint32(v[1:]), nil
}
