package smtp

import (
	"math"
	"strconv"
	"strings"
)

// Extensions is what a server offered in its answer to EHLO; all zero after HELO.
type Extensions struct {
	StartTLS   bool // RFC 3207
	Pipelining bool // RFC 2920
	Chunking   bool // RFC 3030
	EightBit   bool // 8BITMIME, RFC 6152
	UTF8       bool // SMTPUTF8, RFC 6531
	DSN        bool // RFC 3461
	Enhanced   bool // ENHANCEDSTATUSCODES, RFC 2034
	RequireTLS bool // REQUIRETLS, RFC 8689; only ever true under TLS

	SizeKnown bool  // SIZE, RFC 1870
	Size      int64 // largest mail in octets; 0: the server names no limit

	Limits Limits
}

// Limits are those of RFC 9422; 0: not told.
type Limits struct {
	MailMax       int // mails of one connection; Reusable obeys it
	RcptMax       int // recipients of one mail: the user of Send splits
	RcptDomainMax int // domains among the recipients of one mail: likewise
}

// line reads one line of the answer to EHLO behind the first (RFC 5321 §4.1.1.1). What
// it does not understand, it leaves: other extensions are none of ours.
func (e *Extensions) line(text string) {
	keyword, rest, _ := strings.Cut(strings.TrimRight(text, " "), " ")
	switch strings.ToUpper(keyword) {
	case "STARTTLS":
		e.StartTLS = true
	case "PIPELINING":
		e.Pipelining = true
	case "CHUNKING":
		e.Chunking = true
	case "8BITMIME":
		e.EightBit = true
	case "SMTPUTF8":
		e.UTF8 = true
	case "DSN":
		e.DSN = true
	case "ENHANCEDSTATUSCODES":
		e.Enhanced = true
	case "REQUIRETLS":
		e.RequireTLS = true
	case "SIZE":
		e.SizeKnown, e.Size = true, parseMaxSize(rest)
	case "LIMITS":
		for p := range strings.FieldsSeq(rest) {
			e.Limits.set(p)
		}
	}
}

// parseMaxSize reads the parameter of SIZE (RFC 1870 §4): 0 or none is no limit, and what no
// int64 holds is none either.
func parseMaxSize(s string) int64 {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > math.MaxInt64 {
		return 0
	}
	return int64(n)
}

// maxLimitDigits is the longest value of a limit (RFC 9422 §4).
const maxLimitDigits = 6

func (l *Limits) set(param string) {
	name, value, _ := strings.Cut(param, "=")
	if len(value) > maxLimitDigits || strings.Trim(value, "0123456789") != "" {
		return
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return
	}
	switch strings.ToUpper(name) {
	case "MAILMAX":
		l.MailMax = n
	case "RCPTMAX":
		l.RcptMax = n
	case "RCPTDOMAINMAX":
		l.RcptDomainMax = n
	}
}
