// Package dmarc finds what a domain says of mail that is sent in its name (DMARC, RFC 9989, before it
// RFC 7489), as far as it tells which other domains may vouch for such mail: with strict alignment only
// the very domain may, else every one of the same organization. It has no input or output of its own:
// look-ups are passed in.
//
// What a domain asks to be done with mail for which nobody vouches is read and not followed here: who asks
// this package takes no such mail, whatever a domain's policy is.
//
// Organizations are those of mail/align. Within one a domain may draw a narrower border, by a record with
// psd=n (RFC 9989 §4.10.2).
package dmarc

import (
	"context"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/align"
)

// Prefix stands before a domain in the name of its record.
const Prefix = "_dmarc."

// Limits. What is beyond them is as good as not there.
const (
	MaxLookups = 8       // of one Find (RFC 9989 §4.10)
	MaxRecord  = 8 << 10 // bytes of a record
	MaxTags    = 64      // tags of a record that are read
)

// Policies of Record.
const (
	None       = "none"
	Quarantine = "quarantine"
	Reject     = "reject"
)

// Record is a DMARC record (RFC 9989 §4.7). Tags that are missing, or have no value of the RFC, have their
// defaults; others are passed over.
type Record struct {
	Policy     string // p: None, Quarantine or Reject
	Subdomains string // sp: the same for names below; default: Policy
	StrictDKIM bool   // adkim=s
	StrictSPF  bool   // aspf=s
	Own        bool   // psd=n: the domain is an organization of its own
}

// Parse reads a TXT record; false: it is none of DMARC's.
func Parse(txt string) (r Record, ok bool) {
	if len(txt) > MaxRecord {
		return Record{}, false
	}
	r.Policy = None
	n := 0
	for part := range strings.SplitSeq(txt, ";") {
		name, value, given := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if n++; n == 1 { // the version stands first, in just this case (RFC 9989 §4.7)
			if !given || name != "v" || value != "DMARC1" {
				return Record{}, false
			}
			continue
		}
		if n > MaxTags {
			break
		}
		value = strings.ToLower(value)
		switch strings.ToLower(name) {
		case "p":
			r.Policy = policy(value, r.Policy)
		case "sp":
			r.Subdomains = policy(value, r.Subdomains)
		case "adkim":
			r.StrictDKIM = value == "s"
		case "aspf":
			r.StrictSPF = value == "s"
		case "psd":
			r.Own = value == "n"
		}
	}
	if r.Subdomains == "" {
		r.Subdomains = r.Policy
	}
	return r, true
}

func policy(value, otherwise string) string {
	switch value {
	case None, Quarantine, Reject:
		return value
	}
	return otherwise
}

// Lookup gives the TXT records of a name (without a dot at its end), each with its strings joined. An
// error of kind errs.NotFound means that there are none, errs.Invalid that there can be none; any other is
// taken to be temporary.
type Lookup func(ctx context.Context, name string) (txts []string, authentic bool, err error)

// Alignment tells which domains may vouch for mail from a domain.
type Alignment struct {
	Domain       string // canonical
	Organization string // canonical; Domain is it, or lies below it
	StrictDKIM   bool
	StrictSPF    bool
}

// Find asks what a domain says. The record that counts is its own, else that of its organization (RFC 9989
// §4.10.1); without one the alignment is relaxed. errs.Unavailable: a look-up failed, and later the answer may
// be another one.
func Find(ctx context.Context, look Lookup, domain string) (Alignment, error) {
	const op = "mail/dmarc.Find"
	a := Alignment{Domain: mail.CanonicalDomain(domain), Organization: align.Organization(domain)}
	if a.Domain == "" || a.Domain[0] == '[' {
		return a, nil
	}
	at := a.Domain
	own := false // the domain itself has a record
	for n := 0; n < MaxLookups && len(at) >= len(a.Organization); n++ {
		r, ok, err := recordAt(ctx, look, at)
		if err != nil {
			return a, errs.E(op, errs.Unavailable, "the DMARC record cannot be looked up now", err)
		}
		if ok {
			if !own { // of those above the highest one counts
				a.StrictDKIM, a.StrictSPF = r.StrictDKIM, r.StrictSPF
			}
			own = own || at == a.Domain
			if r.Own {
				a.Organization = at
				break
			}
		}
		at = above(at)
	}
	return a, nil
}

// above gives the next name of the walk up the tree (RFC 9989 §4.10): one label less, and never more than
// seven.
func above(name string) string {
	_, name, _ = strings.Cut(name, ".")
	for strings.Count(name, ".") >= MaxLookups-1 {
		_, name, _ = strings.Cut(name, ".")
	}
	return name
}

// recordAt gives the record at one name; where there are several none counts (RFC 9989 §4.10).
func recordAt(ctx context.Context, look Lookup, domain string) (r Record, ok bool, err error) {
	txts, _, err := look(ctx, Prefix+domain)
	switch k := errs.KindOf(err); {
	case err == nil:
	case k == errs.NotFound || k == errs.Invalid:
		return r, false, nil
	default:
		return r, false, err
	}
	n := 0
	for _, t := range txts {
		if one, is := Parse(t); is {
			r = one
			n++
		}
	}
	return r, n == 1, nil
}

// DKIM reports whether a signature of domain d vouches (RFC 9989 §4.4.1).
func (a Alignment) DKIM(d string) bool { return a.aligned(d, a.StrictDKIM) }

// SPF reports whether a pass of SPF for domain d vouches (RFC 9989 §4.4.2).
func (a Alignment) SPF(d string) bool { return a.aligned(d, a.StrictSPF) }

func (a Alignment) aligned(d string, strict bool) bool {
	d = mail.CanonicalDomain(d)
	if d == "" || d[0] == '[' {
		return false
	}
	if strict {
		return d == a.Domain
	}
	return align.Relaxed(d, a.Domain) && (d == a.Organization || strings.HasSuffix(d, "."+a.Organization))
}
