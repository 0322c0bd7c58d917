package alias

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// MaxPage is the largest page of List.
const MaxPage = 1000

// walkPage is how many aliases one snapshot is held for.
const walkPage = 256

// List gives up to limit (at most MaxPage) aliases of an owner behind the cursor ("" to begin), in an
// order that says nothing and does not change, and the next cursor, "" at the end. Deleted ones and
// those that cannot be read are left out. What Vault.Notes needs is read with them.
func (a *Aliases) List(ctx context.Context, owner Owner, cursor string, limit int) ([]*Alias, string, error) {
	list, next, err := a.list(ctx, owner, cursor, limit, func(rs *rules) bool { return rs.deleted == 0 })
	return list, next, errs.Wrap("post/alias.List", err)
}

// Trash is List of the aliases that were deleted and can be restored.
func (a *Aliases) Trash(ctx context.Context, owner Owner, cursor string, limit int) ([]*Alias, string, error) {
	list, next, err := a.list(ctx, owner, cursor, limit, func(rs *rules) bool { return rs.deleted != 0 && !a.overdue(rs) })
	return list, next, errs.Wrap("post/alias.Trash", err)
}

// Restorable is the last day on which a deleted alias can be restored; 0 for one that is not deleted.
func (a *Aliases) Restorable(al *Alias) Day {
	if al.Deleted == 0 {
		return 0
	}
	return al.Deleted + Day(a.o.UndoDays)
}

func (a *Aliases) list(ctx context.Context, owner Owner, cursor string, limit int, want func(*rules) bool) (list []*Alias, next string, err error) {
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	limit = min(max(limit, 1), MaxPage)
	err = a.eachStored(ctx, owner, after, func(s stored) (bool, error) {
		if s.err != nil || !want(s.rules) {
			return true, nil
		}
		al := a.aliasOf(owner, s.rules, s.state)
		al.names = s.names
		if list = append(list, al); len(list) == limit {
			next = hex.EncodeToString(s.place[:])
			return false, nil
		}
		return true, nil
	})
	return list, next, err
}

func parseCursor(c string) (*place, error) {
	if c == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(c)
	if err != nil || len(b) != placeLen {
		return nil, errs.E("post/alias.parseCursor", errs.Invalid, textCursor, nil)
	}
	return (*place)(b), nil
}

// stored is an alias as it lies among those of its owner.
type stored struct {
	place place
	rules *rules
	state *state
	sent  []sentMail     // nil: there is no record
	names map[tag][]byte // addresses of correspondents, sealed
	err   error          // rules or state cannot be read, or lie in the wrong place
	deaf  bool           // what was sent cannot be read
	keys  int            // keys of another form
}

// eachStored calls fn for every alias of an owner behind a place (nil: all), outside of any
// transaction, until it returns false or an error.
func (a *Aliases) eachStored(ctx context.Context, owner Owner, after *place, fn func(stored) (bool, error)) error {
	start := ownerPrefix(owner, kindAlias)
	if after != nil {
		start = store.Behind(aliasPrefix(owner, *after))
	}
	for start != nil {
		page, next, err := a.storedPage(ctx, owner, start)
		if err != nil {
			return err
		}
		for _, s := range page {
			if ok, err := fn(s); err != nil || !ok {
				return err
			}
		}
		start = next
	}
	return nil
}

// maxPageBytes bounds what one page of sealed addresses holds beside the aliases.
const maxPageBytes = 4 << 20

func (a *Aliases) storedPage(ctx context.Context, owner Owner, start []byte) (page []stored, next []byte, err error) {
	prefix := ownerPrefix(owner, kindAlias)
	err = a.o.Store.View(ctx, owner.Shard(), func(r store.Reader) error {
		page, next = nil, nil
		size := 0
		var cur *stored
		err := r.Scan(start, store.Behind(prefix), func(k, v []byte) (bool, error) {
			if len(k) < headLen {
				page = append(page, stored{err: errs.E("post/alias.walk", errs.Corrupt, "", nil), keys: 1, names: map[tag][]byte{}})
				return true, nil
			}
			p := place(k[len(prefix):])
			if cur == nil || cur.place != p {
				if len(page) == walkPage || size > maxPageBytes {
					next = slices.Clone(k[:headLen])
					return false, nil
				}
				page = append(page, stored{place: p, names: make(map[tag][]byte), state: new(state)})
				cur = &page[len(page)-1]
			}
			size += len(v)
			a.takePart(cur, k, v)
			return true, nil
		})
		for i := range page {
			s := &page[i]
			if s.err == nil && (s.rules == nil || place(a.o.Root.AliasPlace(owner, s.rules.addr)) != s.place) {
				s.err = errs.E("post/alias.walk", errs.Corrupt, "", nil)
			}
		}
		return err
	})
	return page, next, err
}

// takePart reads one record of an alias.
func (a *Aliases) takePart(s *stored, k, v []byte) {
	part := k[headLen:]
	fail := func(err error) {
		if err != nil && s.err == nil {
			s.err = err
		}
	}
	switch {
	case bytes.Equal(part, []byte{partRules}), bytes.Equal(part, []byte{partState}):
		plain, err := a.o.Root.Open(seal.PurposeAliasRules, k, v)
		if err == nil && part[0] == partRules {
			s.rules, err = decodeRules(plain)
		} else if err == nil {
			var st *state
			if st, err = decodeState(plain); err == nil {
				s.state = st
			}
		}
		fail(err)
	case bytes.Equal(part, []byte{partSent}):
		plain, err := a.o.Root.Open(seal.PurposeAliasRules, k, v)
		if err == nil {
			s.sent, err = decodeSent(plain)
		}
		s.deaf = err != nil
	case len(part) == 1+tagLen && part[0] == partPerson:
		s.names[tag(part[1:])] = slices.Clone(v)
	default:
		s.keys++
	}
}
