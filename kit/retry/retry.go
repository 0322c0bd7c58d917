// Package retry reads and follows schedules of repeated attempts, in the words that
// mixminiond's configuration has for them: "every 1 hour for 1 day, 7 hours for 5 days, 1 week".
package retry

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
)

// Bounds of a schedule.
const (
	MaxText     = 1024                      // bytes
	MaxSteps    = 64                        // elements between commas
	MaxInterval = 10 * 365 * 24 * time.Hour // of one interval, and of a whole schedule
	MaxAttempts = 1 << 20                   // of a schedule
)

// Schedule says after which times something that failed is tried again. The zero Schedule
// never tries again. It is not changed once it was made, and may be copied.
type Schedule struct{ steps []step }

// step is an interval and how often it is waited.
type step struct {
	every time.Duration
	times int64
}

// Parse reads a schedule: elements with commas between them, each an interval ("7 hours": one
// attempt after it) or an interval, "for", and how long ("every 1 hour for 1 day": as many
// attempts as begin within it; "every" may be left out). Capitals do not matter. errs.Invalid
// and errs.TooLarge, with a text for the operator.
func Parse(s string) (Schedule, error) {
	const op = "kit/retry.Parse"
	if len(s) > MaxText {
		return Schedule{}, errs.E(op, errs.TooLarge, fmt.Sprintf("a retry schedule is longer than %d bytes", MaxText), nil)
	}
	var out Schedule
	total, attempts := time.Duration(0), int64(0)
	for item := range strings.SplitSeq(s, ",") {
		st, err := parseStep(strings.Join(strings.Fields(strings.ToLower(item)), " "))
		if err != nil {
			return Schedule{}, errs.Wrap(op, err)
		}
		// Neither sum can overflow: each addend is bounded.
		total += st.every * time.Duration(st.times)
		attempts += st.times
		if total > MaxInterval || attempts > MaxAttempts || len(out.steps) == MaxSteps {
			return Schedule{}, errs.E(op, errs.TooLarge, "a retry schedule has more than 64 elements, a million attempts or ten years", nil)
		}
		if n := len(out.steps); n > 0 && out.steps[n-1].every == st.every {
			out.steps[n-1].times += st.times
		} else {
			out.steps = append(out.steps, st)
		}
	}
	return out, nil
}

// parseStep reads one element in lower case with single spaces.
func parseStep(s string) (step, error) {
	const op = "kit/retry.Parse"
	rest, every := strings.CutPrefix(s, "every ")
	interval, long, repeated := strings.Cut(rest, " for ")
	if every && !repeated {
		return step{}, errs.E(op, errs.Invalid, fmt.Sprintf("%q in a retry schedule does not say for how long; did you mean %q?", s, s+" for 1 day"), nil)
	}
	d, err := ParseInterval(interval)
	if err != nil {
		return step{}, err
	}
	if !repeated {
		return step{d, 1}, nil
	}
	total, err := ParseInterval(long)
	if err != nil {
		return step{}, err
	}
	if d < time.Second {
		return step{}, errs.E(op, errs.Invalid, fmt.Sprintf("%q in a retry schedule repeats without a pause", s), nil)
	}
	return step{d, int64((total + d - 1) / d)}, nil
}

// Every gives the schedule "every interval for total", for defaults in the program; both in
// whole seconds, interval at least one.
func Every(interval, total time.Duration) Schedule {
	interval = max(interval, time.Second)
	return Schedule{[]step{{interval, min(int64((total+interval-1)/interval), MaxAttempts)}}}
}

// ParseInterval reads a time as mixminiond writes it: a decimal number and a unit ("90 min", "1.5
// hours"). Units are second, minute, hour, day, week, month (30 days), year (365 days), their
// plurals and sec, min, mon, s, h, d, w; white space between number and unit may be missing.
// Fractions of a second are cut off. errs.Invalid and errs.TooLarge (beyond ten years).
func ParseInterval(s string) (time.Duration, error) {
	const op = "kit/retry.ParseInterval"
	s = strings.ToLower(strings.TrimSpace(s))
	n := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	bad := errs.E(op, errs.Invalid, fmt.Sprintf("%q is not a time like \"90 minutes\" or \"1.5 hours\"", clip(s)), nil)
	if n <= 0 || len(s) > MaxText {
		return 0, bad
	}
	unit := unitSeconds(strings.TrimSpace(s[n:]))
	number, err := strconv.ParseFloat(s[:n], 64)
	if unit == 0 || err != nil {
		return 0, bad
	}
	sec := math.Floor(number * unit)
	if sec > MaxInterval.Seconds() {
		return 0, errs.E(op, errs.TooLarge, fmt.Sprintf("%q is longer than ten years", clip(s)), nil)
	}
	return time.Duration(sec) * time.Second, nil
}

// clip keeps what is quoted in an error short.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// unitSeconds gives the length of a unit; 0 for what is none.
func unitSeconds(s string) float64 {
	const minute, hour, day = 60, 3600, 86400
	switch strings.TrimSuffix(s, "s") {
	case "second", "sec":
		return 1
	case "minute", "min":
		return minute
	case "hour":
		return hour
	case "day":
		return day
	case "week":
		return 7 * day
	case "month", "mon":
		return 30 * day
	case "year":
		return 365 * day
	}
	switch s {
	case "s":
		return 1
	case "h":
		return hour
	case "d":
		return day
	case "w":
		return 7 * day
	}
	return 0
}

// Next gives the time of the first attempt of the schedule that lies after last, counted from
// first, when the thing was tried for the first time. It may lie in the past: then an attempt was
// missed, and one is due now. ok is false when there is none left: it is given up. Times
// depend on first alone, not on when attempts really were, so that all things that wait for
// one destination since first are tried together.
func (s Schedule) Next(first, last time.Time) (next time.Time, ok bool) {
	passed := last.Sub(first)
	at := time.Duration(0)
	for _, st := range s.steps {
		whole := st.every * time.Duration(st.times)
		if at+whole <= passed {
			at += whole
			continue
		}
		n := int64(1) // of the attempts of this step, the first after last
		if passed >= at {
			n = int64((passed-at)/st.every) + 1
		}
		return first.Add(at + st.every*time.Duration(n)), true
	}
	return time.Time{}, false
}

// Total is how long after the first attempt the last one is.
func (s Schedule) Total() time.Duration {
	total := time.Duration(0)
	for _, st := range s.steps {
		total += st.every * time.Duration(st.times)
	}
	return total
}

// Attempts is how many attempts there are after the first one.
func (s Schedule) Attempts() int {
	n := int64(0)
	for _, st := range s.steps {
		n += st.times
	}
	return int(n)
}

// Shortest is the shortest interval; 0 for the zero Schedule.
func (s Schedule) Shortest() time.Duration {
	var d time.Duration
	for i, st := range s.steps {
		if i == 0 || st.every < d {
			d = st.every
		}
	}
	return d
}

// LastInterval is the interval before the last attempt; 0 for the zero Schedule.
func (s Schedule) LastInterval() time.Duration {
	if len(s.steps) == 0 {
		return 0
	}
	return s.steps[len(s.steps)-1].every
}

// Concerns says in words what is unusual about a schedule for mail or packets; mixInterval is how
// often the node sends, 0 where it does so all the time. The bounds are mixminiond's.
func (s Schedule) Concerns(mixInterval time.Duration) []string {
	const day = 24 * time.Hour
	var out []string
	say := func(unusual bool, text string) {
		if unusual {
			out = append(out, text)
		}
	}
	say(s.Total() < day, "it gives up in less than a day")
	say(s.Total() > 14*day, "it goes on for more than 14 days")
	say(s.Attempts() < 5, "it tries again fewer than 5 times")
	say(s.Attempts() > 50, "it tries again more than 50 times")
	switch short := s.Shortest(); {
	case len(s.steps) == 0:
	case short < mixInterval-2*time.Second:
		say(true, "it tries again more often than the mix sends; attempts wait for that")
	default:
		say(short < 5*time.Minute, "it tries again after less than 5 minutes")
	}
	return out
}

// String gives the schedule in the form that Parse reads, and what Parse reads back is the
// same schedule.
func (s Schedule) String() string {
	var b strings.Builder
	for i, st := range s.steps {
		if i > 0 {
			b.WriteString(", ")
		}
		if st.times == 1 {
			b.WriteString(FormatInterval(st.every))
		} else {
			fmt.Fprintf(&b, "every %s for %s", FormatInterval(st.every), FormatInterval(st.every*time.Duration(st.times)))
		}
	}
	return b.String()
}

// FormatInterval writes whole seconds in the largest unit that divides them.
func FormatInterval(d time.Duration) string {
	units := []struct {
		name string
		d    time.Duration
	}{{"week", 7 * 24 * time.Hour}, {"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}}
	for _, u := range units {
		if n := d / u.d; d%u.d == 0 && n > 0 {
			if n == 1 {
				return "1 " + u.name
			}
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}
