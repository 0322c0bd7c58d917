// Package mtasts is MTA Strict Transport Security (RFC 8461): by a policy on a web page of
// its own a domain says which servers take its mail, and that they show certificates
// that the web trusts. The package reads and writes policies, fetches them, and keeps them
// for as long as they say.
package mtasts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Limits of a policy.
const (
	MaxPolicy                = 64 << 10                    // bytes (RFC 8461 §3.3 leaves it open; this is what it suggests for others)
	MaxMX                    = 500                         // patterns
	MaxAge                   = 31_557_600 * time.Second    // §3.2; more is taken for this
	maxID                    = 32                          // characters of an id, §3.1
	version                  = "STSv1"                     // of record and policy
	Path                     = "/.well-known/mta-sts.txt"  // of the policy, on the host HostPrefix + domain
	MediaType                = "text/plain; charset=utf-8" // of the policy
	OurMaxAge                = 2_419_200 * time.Second     // four weeks: what we publish
	HostPrefix, RecordPrefix = "mta-sts.", "_mta-sts."
)

// Mode says what a sender does with a server that does not fit the policy.
type Mode string

// The modes of §3.2 and §5.
const (
	Enforce Mode = "enforce" // nothing is delivered to it
	Testing Mode = "testing" // all goes on; a report may be sent
	None    Mode = "none"    // the domain gives the policy up
)

// Policy is a domain's policy.
type Policy struct {
	Mode   Mode
	MX     []string // host names in lower case, "*.example.org" among them
	MaxAge time.Duration
}

// Ours is the policy that a domain publishes whose mail goes to the given hosts, under
// certificates that the web trusts.
func Ours(hosts ...string) Policy { return Policy{Mode: Enforce, MX: hosts, MaxAge: OurMaxAge} }

// ParsePolicy reads the text of a policy (§3.2). Lines may end with LF or CRLF, unknown
// fields are passed over, of a field that comes twice the first counts. errs.Invalid, or
// errs.TooLarge.
func ParsePolicy(text string) (Policy, error) {
	const op = "wire/mtasts.ParsePolicy"
	bad := func(why string) (Policy, error) { return Policy{}, errs.E(op, errs.Invalid, why, nil) }
	if len(text) > MaxPolicy {
		return Policy{}, errs.E(op, errs.TooLarge, "the policy is too large", nil)
	}
	var p Policy
	seen := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), " \t")
		if line == "" {
			continue
		}
		field, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, " \t")
		switch {
		case !ok || !fieldName(field):
			return bad("a line of the policy is no field")
		case field == "mx":
			mx, ok := pattern(value)
			if !ok {
				return bad("the policy names an mx that is no host name")
			}
			if len(p.MX) == MaxMX {
				return Policy{}, errs.E(op, errs.TooLarge, "the policy names too many mx", nil)
			}
			p.MX = append(p.MX, mx)
		case field == "version", field == "mode", field == "max_age":
			if _, twice := seen[field]; !twice {
				seen[field] = value
			}
		}
	}
	p.Mode = Mode(strings.ToLower(seen["mode"]))
	age := seen["max_age"]
	seconds, err := strconv.ParseUint(age, 10, 64)
	switch {
	case seen["version"] != version:
		return bad("the policy is not of version STSv1")
	case p.Mode != Enforce && p.Mode != Testing && p.Mode != None:
		return bad("the policy has no mode")
	case err != nil || len(age) > 10:
		return bad("the policy has no max_age")
	case len(p.MX) == 0 && p.Mode != None:
		return bad("the policy names no mx")
	}
	p.MaxAge = MaxAge
	if seconds < uint64(MaxAge/time.Second) {
		p.MaxAge = time.Duration(seconds) * time.Second
	}
	if len(p.Text()) > MaxPolicy { // our form of it is kept, and must be readable
		return Policy{}, errs.E(op, errs.TooLarge, "the policy is too large", nil)
	}
	return p, nil
}

// fieldName is sts-policy-ext-name, which the known fields fit too.
func fieldName(s string) bool {
	if s == "" || len(s) > 32 || strings.ContainsRune("_-.", rune(s[0])) {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// pattern checks a host name, of which the first label may be "*".
func pattern(s string) (string, bool) {
	s = strings.ToLower(s)
	host := strings.TrimPrefix(s, "*.")
	a, err := mail.ParseAddress("x@" + host)
	return s, err == nil && a.Domain == host && host[0] != '[' && mail.CanonicalDomain(host) == host
}

// Match reports whether the policy names a mail server (§4.1). "*" stands for one whole
// label.
func (p Policy) Match(host string) bool {
	host = mail.CanonicalDomain(strings.TrimSuffix(host, "."))
	_, rest, dot := strings.Cut(host, ".")
	return slices.ContainsFunc(p.MX, func(mx string) bool {
		if under, wild := strings.CutPrefix(mx, "*."); wild {
			return dot && under == rest && host[0] != '.'
		}
		return mx == host
	})
}

// Text is the policy as it is published and kept: lines with CRLF, version first (§3.2).
func (p Policy) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: %s\r\nmode: %s\r\n", version, p.Mode)
	for _, mx := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", mx)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", p.MaxAge/time.Second)
	return b.String()
}

// Record is the TXT record that announces the policy (§3.1). Its id is made of the text:
// it changes exactly when the policy does.
func (p Policy) Record() string {
	sum := sha256.Sum256([]byte(p.Text()))
	return "v=" + version + "; id=" + hex.EncodeToString(sum[:maxID/2]) + ";"
}

const noneAnnounced = "the domain announces no MTA-STS policy"

// ParseRecord gives the id in the TXT records of RecordPrefix + domain (§3.1).
// errs.NotFound when not exactly one of them is of this kind, errs.Invalid when it has no
// id.
func ParseRecord(txts []string) (id string, err error) {
	const op = "wire/mtasts.ParseRecord"
	var fields string
	n := 0
	for _, t := range txts {
		if rest, ok := strings.CutPrefix(t, "v="+version); ok {
			if rest = strings.TrimLeft(rest, " \t"); strings.HasPrefix(rest, ";") {
				fields = rest[1:]
				n++
			}
		}
	}
	if n != 1 {
		return "", errs.E(op, errs.NotFound, noneAnnounced, nil)
	}
	for f := range strings.SplitSeq(fields, ";") {
		if v, ok := strings.CutPrefix(strings.Trim(f, " \t"), "id="); ok {
			id = v
			break
		}
	}
	if !validID(id) {
		return "", errs.E(op, errs.Invalid, "the record of the MTA-STS policy has no id", nil)
	}
	return id, nil
}

func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := 0; i < len(id); i++ {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return true
}
