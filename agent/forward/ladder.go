package forward

import (
	"slices"
	"time"

	"postern.email/kit/day"
)

// ladderDays is for how many days bounces are remembered.
const ladderDays = 10

// probation is for how long after a pause a single hard bounce leads to the long one again.
const probation = 7 * 24 * time.Hour

// tally is what came back on one day.
type tally struct {
	Day  uint32 `json:"d"`
	Hard uint32 `json:"h,omitempty"` // there is no such mailbox
	Soft uint32 `json:"s,omitempty"` // the mailbox is full, the host cannot be reached, and the like
}

// destination is what is known of a mailbox elsewhere, whoever's it is.
type destination struct {
	Days  []tally `json:"days,omitempty"`  // oldest first, at most ladderDays
	Until int64   `json:"until,omitempty"` // nothing is sent until then, in seconds since 1970; 0: never was a pause
	Hard  bool    `json:"hard,omitempty"`  // the pause is the long one
	Tell  bool    `json:"tell,omitempty"`  // of the pause, once it is over
	Asked []int64 `json:"asked,omitempty"` // when it was asked whether it agrees
	Never bool    `json:"never,omitempty"` // it wants no more questions
}

// paused reports whether nothing is sent at a moment, and whether for long.
func (d *destination) paused(now time.Time) (yes, long bool) {
	return now.Unix() < d.Until, d.Hard
}

// bounced counts what came back, and reports whether that begins a pause. What comes back during one
// was sent before it, and counts for nothing.
func (o *Options) bounced(d *destination, hard bool, now time.Time) (begins bool) {
	if yes, _ := d.paused(now); yes {
		return false
	}
	today := dayOf(now)
	d.Days = slices.DeleteFunc(d.Days, func(t tally) bool { return t.Day+ladderDays <= today || t.Day > today+1 })
	if n := len(d.Days); n == 0 || d.Days[n-1].Day < today {
		d.Days = append(d.Days, tally{Day: today})
	}
	last := &d.Days[len(d.Days)-1]
	if hard {
		last.Hard++
	} else {
		last.Soft++
	}
	var hardWeek, week uint32
	for _, t := range d.Days {
		if t.Day+7 > today {
			hardWeek += t.Hard
			week += t.Hard + t.Soft
		}
	}
	recent := d.Until != 0 && now.Unix() < d.Until+int64(probation/time.Second)
	switch {
	case hardWeek >= uint32(o.HardBounces), week >= uint32(o.SoftPerWeek), len(d.Days) >= o.BadDays, recent && hard:
		d.Until, d.Hard, d.Days = now.Add(o.HardPause).Unix(), true, nil
	case last.Hard+last.Soft >= uint32(o.SoftPerDay):
		d.Until, d.Hard = now.Add(o.SoftPause).Unix(), false
	default:
		return false
	}
	d.Tell = true
	return true
}

// dayOf gives the day of t as records and addresses hold it.
func dayOf(t time.Time) uint32 { return uint32(day.Of(t)) }

// class tells whether a status (RFC 3463) is about the mailbox, and whether it is hard: that the mailbox is
// not there. What is about the mail (too large, its content or form, a policy against its sender) counts
// for nothing, or whoever sends an owner much spam would turn its mail off.
func class(status string) (counts, hard bool) {
	if len(status) < 5 || status[1] != '.' || status[3] != '.' {
		return true, false
	}
	switch status[2] {
	case '5', '6', '7': // protocol, content, policy
		return false, false
	case '3':
		return status != "5.3.4" && status != "5.2.3", false
	}
	switch status {
	case "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1":
		return true, true
	case "5.2.3": // longer than the mailbox allows
		return false, false
	}
	return true, false
}
