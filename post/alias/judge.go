package alias

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"postern.email/mail"
	"postern.email/mail/align"
)

// Judge says what the alias's own rules make of a mail of from at now. from is the sender that
// somebody vouches for (the aligned From); zero: nobody does. It reads nothing but the alias.
//
// What decides, in this order: pause; the end; what the owner said of the sender, then of its
// domain (of several the nearest, and a block before a permission); whether it is pinned or was
// written to; the mode.
func (a *Alias) Judge(from mail.Address, now time.Time) Verdict {
	switch {
	case a.Paused:
		return Verdict{Action: Paused}
	case a.Ended(now) != "":
		return Verdict{Action: Expired}
	}
	known := a.who(from)
	switch {
	case known&isBlocked != 0:
		return Verdict{Action: Refuse, Blocked: true}
	case known&(isAllowed|isPinned|isWritten) != 0:
		return Verdict{Action: Take, Expected: true, Pins: a.pins(from)}
	}
	switch a.Mode {
	case ModePinned:
		if !a.pins(from) {
			return Verdict{Action: Refuse}
		}
	case ModeAllowList:
		return Verdict{Action: Refuse}
	case ModeAsk:
		if from.IsZero() {
			return Verdict{Action: Refuse} // nobody whom the owner could be asked about
		}
		i := a.person(a.tagOf(from))
		if i < 0 || a.people[i].is&isAsking == 0 {
			return Verdict{Action: Later, Asks: a.asked(DayOf(now)) < MaxAsks}
		}
		if first := a.people[i].first; int64(DayOf(now))-int64(first) > int64(a.askDays) {
			return Verdict{Action: Refuse}
		}
		return Verdict{Action: Later}
	}
	return Verdict{Action: Take, Pins: a.pins(from)}
}

// MaxAsks is about how many new senders a day the owner of an alias is asked. Others are put off
// without a word, and come up when they try on another day.
const MaxAsks = 16

// asked counts the senders about whom the owner was asked on a day.
func (a *Alias) asked(t Day) (n int) {
	for _, p := range a.people {
		if p.is&isAsking != 0 && p.first == t {
			n++
		}
	}
	return n
}

// pins reports whether a mail of from that is taken makes it the pinned sender: the first one, in
// the modes open (where it only tells who was expected) and pinned.
func (a *Alias) pins(from mail.Address) bool {
	return !from.IsZero() && (a.Mode == ModeOpen || a.Mode == ModePinned) &&
		!slices.ContainsFunc(a.people, func(p person) bool { return p.is&isPinned != 0 })
}

// who gives what decides about a sender: one of isBlocked, isAllowed, isWritten, isPinned, or 0.
func (a *Alias) who(from mail.Address) byte {
	if from.IsZero() || len(a.people) == 0 {
		return 0
	}
	var implied byte // what follows from what happened, where the owner said nothing
	for i, t := range a.tagsOf(from) {
		n := a.person(t)
		if n < 0 {
			continue
		}
		is := a.people[n].is
		if (is&isDomain != 0) != (i > 0) {
			continue
		}
		switch {
		case is&isBlocked != 0:
			return isBlocked
		case is&isAllowed != 0:
			return isAllowed
		}
		implied |= is & (isPinned | isWritten)
	}
	return implied
}

// maxDomains is how many of a sender's domains are looked for, its own and those above it: as many as
// a name can have (RFC 1035 §2.3.4), or labels in front would lead round a block.
const maxDomains = 127

// tagsOf gives the tags under which rules about a sender may lie: of the address itself, then of
// its domain and those above it, down to two labels.
func (a *Alias) tagsOf(from mail.Address) []tag {
	list := append(make([]tag, 0, 4), a.tagOf(from))
	d := from.Canonical().Domain
	for range maxDomains {
		if !strings.Contains(d, ".") && len(list) > 1 {
			break
		}
		list = append(list, a.tagOf(mail.Address{Domain: d}))
		_, above, ok := strings.Cut(d, ".")
		if !ok {
			break
		}
		d = above
	}
	return list
}

// tagOf is the keyed hash of an address, or of a domain where the local part is empty, which
// no address's is.
func (a *Alias) tagOf(addr mail.Address) (t tag) {
	c := addr.Canonical()
	m := hmac.New(sha256.New, a.tags[:])
	m.Write([]byte(c.Local))
	m.Write([]byte{0}) // neither half can hold a NUL
	m.Write([]byte(c.Domain))
	var sum [sha256.Size]byte
	copy(t[:], m.Sum(sum[:0]))
	return t
}

// person gives the index of a tag's person, or -1.
func (a *Alias) person(t tag) int { return find(a.people, t) }

func find(people []person, t tag) int {
	return slices.IndexFunc(people, func(p person) bool { return p.tag == t })
}

// Ended says why an alias has ended at now: "date", "count" or "idle"; "": it has not.
func (a *Alias) Ended(now time.Time) string {
	switch {
	case !a.Expires.IsZero() && !now.Before(a.Expires):
		return EndDate
	case a.MaxMails > 0 && a.Received-a.base >= a.MaxMails:
		return EndCount
	case a.IdleDays > 0 && int64(DayOf(now))-int64(a.active()) > int64(a.IdleDays):
		return EndIdle
	}
	return ""
}

// Why an alias ends.
const (
	EndDate  = "date"  // Expires has come
	EndCount = "count" // MaxMails were received
	EndIdle  = "idle"  // nothing came or went for IdleDays
)

// active is the day from which idleness is counted.
func (a *Alias) active() Day { return max(a.Last, a.since, a.Created) }

// endDay gives the day on which an alias that has ended did so.
func (a *Alias) endDay(why string) Day {
	switch why {
	case EndDate:
		return DayOf(a.Expires)
	case EndIdle:
		return a.active() + Day(a.IdleDays)
	}
	return a.Last
}

// Left is how many mails an alias still takes before its count ends it; false: its count does
// not end it.
func (a *Alias) Left() (mails uint32, ok bool) {
	if a.MaxMails == 0 {
		return 0, false
	}
	return a.MaxMails - min(a.MaxMails, a.Received-a.base), true
}

// pinOf is who is pinned with a mail of from: the sender, or its registrable domain.
func (a *Alias) pinOf(from mail.Address) mail.Address {
	if !a.PinDomain {
		return from
	}
	return mail.Address{Domain: align.Organization(from.Canonical().Domain)}
}

// timeOf is the time of stored seconds; 0 is none.
func timeOf(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
