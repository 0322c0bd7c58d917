package keys

import (
	"context"
	"slices"
	"time"

	"postern.email/kit/errs"
)

// Rotate makes the sets that are needed until now + Ahead, and destroys those whose Overlap and
// Skew have passed: first the key file, then, by forget, the memory of its packets, then the
// rest. changed: there are other sets than before, so a new descriptor is due. It may be
// called at any time, after a crash, or with a clock that was set back or forward; what it
// could not do it tells, and does when it is called again. A set that was made is never
// made twice, one that ended is never taken up again.
//
// What is destroyed cannot be brought back: now must be a time that is known to be right,
// such as one for which there is a consensus. With forget nil nothing is destroyed.
//
// Kinds of errors: errs.NoSpace, errs.Full (60 sets: the clock jumps about), errs.Canceled,
// errs.Unavailable, and those of forget.
func (k *Keys) Rotate(ctx context.Context, now time.Time, forget func(ctx context.Context, id uint32) error) (changed bool, err error) {
	const op = "mixnet/keys.Rotate"
	unlock, err := k.lock(ctx, op)
	if err != nil {
		return false, err
	}
	defer unlock()
	made, err := k.makeAhead(now)
	if forget == nil {
		return made, errs.Wrap(op, err)
	}
	due := func(s *set) bool { return !now.Before(k.destroyAt(s)) }
	ended, fault := k.destroyAll(ctx, due, forget)
	if err == nil {
		err = fault
	}
	return made || ended, errs.Wrap(op, err)
}

// DeleteAll destroys all packet keys (mixminiond's DELKEYS), and lets forget take the memory of
// their packets. Identity, link key and log secret stay. The next Rotate makes new keys, and packets
// that are on their way to this node are lost. Kinds of errors as Rotate.
func (k *Keys) DeleteAll(ctx context.Context, forget func(ctx context.Context, id uint32) error) error {
	const op = "mixnet/keys.DeleteAll"
	unlock, err := k.lock(ctx, op)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = k.destroyAll(ctx, func(*set) bool { return true }, forget)
	return errs.Wrap(op, err)
}

// destroyAt is when a set that lives is destroyed. What is damaged stays, for its operator.
func (k *Keys) destroyAt(s *set) time.Time {
	if s.damaged && !s.ended {
		return time.Unix(1<<40, 0)
	}
	if s.key == nil {
		return time.Time{} // ended already, or a directory without a key
	}
	return k.acceptedUntil(s).Add(k.o.Skew)
}

// needed gives the begins of the sets that are not there and should be: one for each multiple
// of Every from the last one before now until Ahead after now.
func (k *Keys) needed(now time.Time) []time.Time {
	var out []time.Time
	t := k.grid(now)
	for ; !t.After(now.Add(k.o.Ahead)); t = t.Add(k.o.Every) {
		if !k.covered(t) {
			out = append(out, t)
		}
	}
	return out
}

// grid gives the last multiple of Every since 1970 that is not after t. All nodes that
// rotate as often do so together.
func (k *Keys) grid(t time.Time) time.Time {
	sec, every := t.Unix(), int64(k.o.Every/time.Second)
	return time.Unix(sec-((sec%every)+every)%every, 0).UTC()
}

// covered reports whether a living set began at t or less than Every before.
func (k *Keys) covered(t time.Time) bool {
	return slices.ContainsFunc(k.all(), func(s *set) bool {
		return s.key != nil && !s.from.After(t) && s.from.After(t.Add(-k.o.Every)) && t.Before(s.until)
	})
}

func (k *Keys) makeAhead(now time.Time) (made bool, err error) {
	for _, from := range k.needed(now) {
		sets := k.all()
		s, err := k.make(sets, from)
		if err != nil {
			return made, err
		}
		made = true
		k.setAll(append(slices.Clone(sets), s))
		k.o.Log.Info("a new packet key was made", "set", setName(s.number), "from", s.from, "until", s.until)
	}
	return made, nil
}

// destroyAll destroys the sets that are due. One that fails does not keep the others; the
// first error is given.
func (k *Keys) destroyAll(ctx context.Context, due func(*set) bool, forget func(context.Context, uint32) error) (ended bool, err error) {
	failed := func(fault error) bool {
		if err == nil {
			err = fault
		}
		return fault != nil
	}
	for _, s := range slices.Clone(k.all()) {
		if !due(s) {
			continue
		}
		if s.key != nil {
			e, fault := k.end(s)
			if failed(fault) {
				continue
			}
			k.replace(s, e)
			s, ended = e, true
		}
		if failed(k.destroy(ctx, s, forget)) {
			continue
		}
		k.replace(s, nil)
		if s.ended {
			k.o.Log.Info("a packet key was destroyed", "set", setName(s.number))
		}
	}
	return ended, err
}

// replace puts e in the place of s, or nothing.
func (k *Keys) replace(s, e *set) {
	sets := slices.DeleteFunc(slices.Clone(k.all()), func(o *set) bool { return o.number == s.number })
	if e != nil {
		sets = append(sets, e)
	}
	k.setAll(sets)
}

// Next gives the time at which Rotate has something to do; now or earlier where it has it
// already.
func (k *Keys) Next() time.Time {
	now := k.o.Now()
	if len(k.needed(now)) > 0 {
		return now
	}
	next := k.grid(now.Add(k.o.Ahead)).Add(k.o.Every - k.o.Ahead)
	for _, s := range k.all() {
		if at := k.destroyAt(s); at.Before(next) {
			next = at
		}
	}
	return next
}
