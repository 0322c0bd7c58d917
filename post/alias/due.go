package alias

import (
	"context"
	"time"

	"postern.email/kit/errs"
)

// Due calls fn for each alias that ends soon and of which its owner was not told, with why ("date",
// "count", "idle"): by its date or its idleness within d, or by its count with the next mail or the
// last tenth of them. When fn returns nil it is noted that the owner was told; an error ends the
// walk. Aliases of one owner come one after another.
func (a *Aliases) Due(ctx context.Context, d time.Duration, fn func(al *Alias, why string) error) error {
	const op = "post/alias.Due"
	return errs.Wrap(op, a.eachOwner(ctx, func(owner Owner) error {
		return a.eachStored(ctx, owner, nil, func(s stored) (bool, error) {
			if s.err != nil || s.rules.deleted != 0 || s.rules.noticed {
				return true, nil
			}
			al := a.aliasOf(owner, s.rules, s.state)
			why := al.ends(a.o.Now(), d)
			if why == "" {
				return true, nil
			}
			if err := fn(al, why); err != nil {
				return false, err
			}
			err := a.turn(ctx, owner, al.Address, func(rs *rules, _ *state, _ *ownerRecord) error {
				if rs.deleted != 0 || rs.expires != s.rules.expires || rs.since != s.rules.since || rs.base != s.rules.base {
					return errs.E(op, errs.Conflict, "", nil) // put off meanwhile: there is another end to be told of
				}
				rs.noticed = true
				return nil
			})
			if is(err, errs.NotFound) || is(err, errs.Conflict) {
				err = nil
			}
			return err == nil, err
		})
	}))
}

// ends says by what an alias that has not ended will end within d; "": it will not.
func (a *Alias) ends(now time.Time, d time.Duration) string {
	if a.Ended(now) != "" {
		return ""
	}
	soon := now.Add(d)
	left, counted := a.Left()
	switch {
	case !a.Expires.IsZero() && !soon.Before(a.Expires):
		return EndDate
	case counted && left <= max(1, a.MaxMails/10) && a.Received > a.base:
		return EndCount
	case a.IdleDays > 0 && int64(DayOf(soon))-int64(a.active()) > int64(a.IdleDays):
		return EndIdle
	}
	return ""
}
