// Package day counts days, for what is kept no finer than by the day.
package day

import "time"

// Day counts days since 1970-01-01 in UTC. 0 stands for never.
type Day uint32

// Of gives the day of t; what lies before 1970 is day 0.
func Of(t time.Time) Day { return Day(max(t.Unix(), 0) / 86400) }

// Time gives midnight UTC at the day's begin.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String gives the date, "2026-11-21", or "never".
func (d Day) String() string {
	if d == 0 {
		return "never"
	}
	return d.Time().Format(time.DateOnly)
}
