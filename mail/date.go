package mail

import (
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
)

const maxDateText = 256

// ParseDate reads an RFC 5322 §3.3 date-time, and what real mail has instead: comments,
// obsolete zones and two-digit years (§4.3), no weekday, no seconds, "2-Jan-2006", the
// order of asctime. The weekday is not checked. The zone of the header is kept;
// an unknown one counts as +0000. Errors are errs.Invalid.
func ParseDate(value string) (time.Time, error) {
	bad := func(why string) (time.Time, error) {
		return time.Time{}, errs.E("mail.ParseDate", errs.Invalid, "malformed date", errs.E("mail.ParseDate", errs.Invalid, why, nil))
	}
	if len(value) > maxDateText {
		return bad("too long")
	}
	f := dateWords(value)
	if len(f) > 0 && monthOf(f[0]) == 0 && !isDigit(f[0][0]) {
		f = f[1:] // weekday
	}
	if len(f) > 3 && monthOf(f[0]) != 0 { // asctime: Jan 2 15:04:05 [zone] 2006
		f[0], f[1] = f[1], f[0]
		last := f[len(f)-1]
		f = append([]string{f[0], f[1], last}, f[2:len(f)-1]...)
	}
	if len(f) < 4 {
		return bad("too short")
	}
	day, err := strconv.ParseUint(f[0], 10, 8)
	month := monthOf(f[1])
	year, err2 := strconv.ParseUint(f[2], 10, 16)
	if err != nil || err2 != nil || month == 0 || day < 1 || day > 31 || year > 9999 {
		return bad("day, month or year")
	}
	switch { // §4.3
	case len(f[2]) <= 2 && year < 50:
		year += 2000
	case len(f[2]) <= 3:
		year += 1900
	}
	var hms [3]uint64
	for i, s := range strings.SplitN(f[3], ":", 3) {
		if hms[i], err = strconv.ParseUint(s, 10, 8); err != nil {
			return bad("time")
		}
	}
	if !strings.Contains(f[3], ":") || hms[0] > 23 || hms[1] > 59 || hms[2] > 60 {
		return bad("time")
	}
	zone := ""
	if len(f) > 4 {
		zone = f[4]
	}
	t := time.Date(int(year), month, int(day), int(hms[0]), int(hms[1]), int(hms[2]), 0, zoneOf(zone))
	if hms[2] < 60 && t.Day() != int(day) {
		return bad("no such day")
	}
	return t, nil
}

// FormatDate writes an RFC 5322 date-time.
func FormatDate(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }

// dateWords splits a date at white space, commas and the dashes of RFC 850, and
// leaves comments out.
func dateWords(s string) []string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
			b.WriteByte(' ')
		case depth > 0:
		case c == ',', c < ' ', c == 0x7f:
			b.WriteByte(' ')
		case c == '-' && i > 0 && i+1 < len(s) && (isLetter(s[i-1]) || isLetter(s[i+1])) && s[i-1] != ' ':
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return strings.Fields(b.String())
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

const monthNames = "janfebmaraprmayjunjulaugsepoctnovdec"

func monthOf(s string) time.Month {
	if len(s) < 3 {
		return 0
	}
	i := strings.Index(monthNames, lower(s[:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	return time.Month(i/3 + 1)
}

// zoneOf reads "+hhmm", "+hh:mm" and the names of RFC 5322 §4.3.
func zoneOf(s string) *time.Location {
	if s == "" {
		return time.UTC
	}
	if s[0] == '+' || s[0] == '-' {
		n, err := strconv.ParseUint(strings.Replace(s[1:], ":", "", 1), 10, 16)
		if err != nil || n/100 > 23 || n%100 > 59 {
			return time.UTC
		}
		sec := int(n/100*60+n%100) * 60
		if s[0] == '-' {
			sec = -sec
		}
		return time.FixedZone("", sec)
	}
	hours := 0
	switch strings.ToUpper(s) {
	case "EDT":
		hours = -4
	case "EST", "CDT":
		hours = -5
	case "CST", "MDT":
		hours = -6
	case "MST", "PDT":
		hours = -7
	case "PST":
		hours = -8
	default: // UT, GMT, Z, and military letters, whose signs nobody agreed on
		return time.UTC
	}
	return time.FixedZone("", hours*3600)
}
