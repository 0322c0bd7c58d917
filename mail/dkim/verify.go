package dkim

import (
	"context"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Limits of one mail. What is beyond them is as good as not there.
const (
	MaxFields     = 100      // DKIM-Signature fields that are read
	MaxSignatures = 8        // signatures of the wanted domain that are verified, each with one look-up
	MaxField      = 32 << 10 // bytes of one DKIM-Signature field
	MaxRecords    = 3        // key records of one name that are tried
	MinRSA        = 1024     // bits of an RSA key (RFC 8301 §3.2)
	MaxRSA        = 8192     // bits; larger keys only cost time
)

// Lookup gives the TXT records of a name (without a dot at its end), each with its strings
// joined. authentic says that DNSSEC vouches for the answer. An error of kind
// errs.NotFound means that there are none; any other is taken to be temporary.
type Lookup func(ctx context.Context, name string) (txts []string, authentic bool, err error)

// Verdict is the answer of Verify.
type Verdict uint8

const (
	None      Verdict = iota // the mail has no DKIM-Signature field at all
	Invalid                  // it has, but no valid one of the domain
	Temporary                // a key could not be looked up; later the answer may be Valid
	Valid
)

// Result is what Verify found.
type Result struct {
	Verdict   Verdict
	Authentic bool   // of a Valid one: DNSSEC vouches for the key
	Reason    string // why not Valid: a fixed text for the debug log, of the last signature of the domain

	// Of a Valid one: whose signature it is, what it covers, and the key record that it fits, as it was looked up.
	Domain, Selector string   // canonical
	Signed           []string // names of the fields, in lower case, each as often as the signature names it
	Record           string
}

// Verifier verifies. It may be used by many goroutines.
type Verifier struct {
	Lookup Lookup
	// Forget is called when a signature does not fit the key of a name: whoever keeps
	// keys should ask again next time. nil: nobody does.
	Forget func(name string)
	Now    func() time.Time // nil: time.Now
}

// Verify looks for a valid signature whose d= equals domain (any case; A-labels and
// U-labels are equal; never a parent or child domain). raw is the whole mail as
// received, with CRLF line ends; it is not kept.
func (v *Verifier) Verify(ctx context.Context, raw []byte, domain string) Result {
	domain = mail.CanonicalDomain(domain)
	return v.VerifyFor(ctx, raw, func(d string) bool { return d == domain })
}

// VerifyFor is Verify for every domain that counts says of: it is asked with the d= of each
// signature, in canonical form, and costs nothing where it says no.
func (v *Verifier) VerifyFor(ctx context.Context, raw []byte, counts func(domain string) bool) Result {
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return Result{Verdict: Invalid, Reason: "malformed header"}
	}
	m := message{fields: h.Fields(), body: raw[off:]}
	res := Result{Reason: "no signature"}
	read, tried := 0, 0
	for i, f := range m.fields {
		if !strings.EqualFold(f.Name, signatureField) {
			continue
		}
		if read++; read > MaxFields || tried == MaxSignatures {
			break
		}
		if res.Verdict == None {
			res.Verdict, res.Reason = Invalid, "no signature of the domain"
		}
		s, why := parseSignature(f.Raw)
		if s.domain == "" || !counts(s.domain) {
			continue
		}
		tried++
		if why == "" {
			why = m.covers(s, v.now())
		}
		if why != "" {
			if res.Verdict != Temporary {
				res.Reason = why
			}
			continue
		}
		verdict, record, authentic, why := v.key(ctx, s, m.digest(s, i))
		switch {
		case verdict == Valid:
			return Result{Verdict: Valid, Authentic: authentic, Domain: s.domain, Selector: s.selector, Signed: s.headers, Record: record}
		case verdict == Temporary, res.Verdict != Temporary:
			res.Verdict, res.Reason = verdict, why
		}
	}
	return res
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

// key looks up the keys of a signature and tries them on the digest of the header.
func (v *Verifier) key(ctx context.Context, s signature, digest []byte) (verdict Verdict, record string, authentic bool, why string) {
	name := RecordName(s.selector, s.domain)
	txts, authentic, err := v.Lookup(ctx, name)
	switch {
	case err == nil:
	case errs.KindOf(err) == errs.NotFound:
		return Invalid, "", false, "no key"
	default:
		return Temporary, "", false, "the key cannot be looked up now"
	}
	why = "no key"
	for _, t := range txts[:min(len(txts), MaxRecords)] {
		k, fault := parseKey(t)
		if fault == "" {
			fault = k.verify(s, digest)
		}
		if fault == "" {
			return Valid, t, authentic, ""
		}
		why = fault
	}
	if v.Forget != nil {
		v.Forget(name)
	}
	return Invalid, "", false, why
}
