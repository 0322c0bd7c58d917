package evidence

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/align"
	"postern.email/mail/dkim"
)

// What Checked.Key says of a key today.
const (
	KeyPublished = "published" // the DNS has the very record
	KeyOther     = "other"     // the DNS has another key under its name
	KeyGone      = "gone"      // the DNS has none any more
	KeyUnknown   = "unknown"   // nobody was asked, or nobody answered
)

// Report is what Verify found.
type Report struct {
	Alias    string    `json:"alias"`
	Made     time.Time `json:"made"`
	Whole    bool      `json:"whole"` // the commitment fits: nothing was changed behind its back
	Expected Checked   `json:"expected"`
	Stranger Checked   `json:"stranger"`
	Holds    bool      `json:"holds"`  // whole, and both signatures are valid with the keys in the file
	Proved   []string  `json:"proved"` // in words
	Unproved []string  `json:"unproved"`
}

// Checked is what was found of one mail.
type Checked struct {
	From      string    `json:"from"`
	Received  time.Time `json:"received"`         // as the file says
	Vouched   string    `json:"vouched"`          // as the file says
	Signature string    `json:"signature"`        // "valid", or why not
	Domain    string    `json:"domain,omitempty"` // that signed
	Date      string    `json:"date,omitempty"`   // of the mail, where it is signed; RFC 3339
	ToAlias   bool      `json:"to_alias"`         // the alias stands in a signed To or Cc
	KeyName   string    `json:"key_name,omitempty"`
	Key       string    `json:"key"` // today: KeyPublished, KeyOther, KeyGone, KeyUnknown
}

// SignatureValid is the value of Checked.Signature where it is.
const SignatureValid = "valid"

// Verify checks a file: its signatures with the keys that are in it, as of the time of each mail, and then whether these
// keys are in the DNS today (lookup nil: nobody is asked). It never fails: what does not hold is in the report.
func Verify(ctx context.Context, f *File, lookup dkim.Lookup) *Report {
	r := &Report{Alias: f.Alias, Made: f.Made, Whole: f.Whole()}
	alias, _ := mail.ParseAddress(f.Alias)
	r.Expected = check(ctx, alias, &f.Expected, lookup)
	r.Stranger = check(ctx, alias, &f.Stranger, lookup)
	r.Holds = r.Whole && r.Expected.Signature == SignatureValid && r.Stranger.Signature == SignatureValid
	r.words()
	return r
}

func check(ctx context.Context, alias mail.Address, m *Mail, lookup dkim.Lookup) Checked {
	c := Checked{Received: m.Received, Vouched: m.Vouched, KeyName: m.KeyName, Key: KeyUnknown}
	h, _, err := mail.ParseHeader(m.Raw)
	if err != nil {
		c.Signature = "malformed mail"
		return c
	}
	from, err := mail.FromAddress(h)
	if err != nil {
		c.Signature = "malformed From"
		return c
	}
	c.From = from.Canonical().String()
	if m.KeyRecord == "" {
		c.Signature = "none"
		return c
	}
	v := dkim.Verifier{Now: func() time.Time { return m.Received }, Lookup: func(_ context.Context, name string) ([]string, bool, error) {
		if name != m.KeyName {
			return nil, false, errs.E("agent/evidence.check", errs.NotFound, "", nil)
		}
		return []string{m.KeyRecord}, false, nil
	}}
	// A key of a domain that is not the sender's says nothing of the sender.
	res := v.VerifyFor(ctx, m.Raw, func(d string) bool { return align.Relaxed(d, from.Domain) })
	if res.Verdict != dkim.Valid {
		c.Signature = res.Reason
		return c
	}
	c.Signature, c.Domain = SignatureValid, res.Domain
	c.ToAlias = signedTo(h, res.Signed, alias)
	if d, err := mail.ParseDate(h.Get("Date")); err == nil && signedOnce(h, res.Signed, "Date") {
		c.Date = d.UTC().Format(time.RFC3339)
	}
	c.Key = today(ctx, m, lookup)
	return c
}

// signedOnce reports whether a field occurs once, and is signed.
func signedOnce(h mail.Header, signed []string, name string) bool {
	return h.Count(name) == 1 && slices.Contains(signed, strings.ToLower(name))
}

// signedTo reports whether the alias stands in a signed To or Cc.
func signedTo(h mail.Header, signed []string, alias mail.Address) bool {
	for _, name := range []string{"To", "Cc"} {
		if !signedOnce(h, signed, name) {
			continue
		}
		list, _ := mail.ParseAddressList(h.Get(name))
		for _, b := range list {
			if b.Group == mail.NoGroup && b.Address.Equal(alias) {
				return true
			}
		}
	}
	return false
}

// today tells what the DNS says of a key now.
func today(ctx context.Context, m *Mail, lookup dkim.Lookup) string {
	if lookup == nil {
		return KeyUnknown
	}
	txts, _, err := lookup(ctx, m.KeyName)
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return KeyGone
	case err != nil:
		return KeyUnknown
	case slices.Contains(txts, m.KeyRecord):
		return KeyPublished
	case len(txts) == 0:
		return KeyGone
	}
	return KeyOther
}

// words says what the findings prove, and what not.
func (r *Report) words() {
	r.Proved, r.Unproved = []string{}, []string{}
	yes := func(format string, args ...any) { r.Proved = append(r.Proved, fmt.Sprintf(format, args...)) }
	no := func(format string, args ...any) { r.Unproved = append(r.Unproved, fmt.Sprintf(format, args...)) }
	if !r.Whole {
		no("The file was changed after it was made, or is damaged: its commitment does not fit. Nothing else in it counts.")
		return
	}
	for _, c := range []*Checked{&r.Expected, &r.Stranger} {
		switch {
		case c.Signature != SignatureValid:
			no("Who sent the mail of %s: it has no signature that can be checked (%s). The file's maker says who vouched for it: %s.", cmp.Or(c.From, "an unknown sender"), c.Signature, cmp.Or(c.Vouched, "nobody"))
		case c.Key == KeyPublished && c.ToAlias:
			yes("%s signed a mail to %s%s, with a key that it publishes today.", c.Domain, r.Alias, dated(c))
		case c.Key == KeyPublished:
			yes("%s signed the mail of %s%s, with a key that it publishes today.", c.Domain, c.From, dated(c))
			no("That this mail was sent to %s: the address does not stand in a field that is signed.", r.Alias)
		case c.ToAlias:
			yes("A mail to %s%s is signed with the key of the file, which it names as that of %s.", r.Alias, dated(c), c.Domain)
		default:
			yes("The mail of %s%s is signed with the key of the file, which it names as that of %s.", c.From, dated(c), c.Domain)
			no("That this mail was sent to %s: the address does not stand in a field that is signed.", r.Alias)
		}
		if c.Signature != SignatureValid {
			continue
		}
		switch c.Key {
		case KeyGone, KeyOther:
			no("That the key was that of %s: its DNS does not have it any more, as is usual after some months. Who saw it there then, or keeps a record of it (archives of DKIM keys do), can tell.", c.Domain)
		case KeyUnknown:
			no("That the key is that of %s: its DNS was not asked, or did not answer.", c.Domain)
		}
	}
	no("That %s was given to nobody else than the first sender: that is the word of its owner.", r.Alias)
	no("That the first sender passed it on on purpose: it may have been stolen there, or on the way.")
}

func dated(c *Checked) string {
	if c.Date == "" {
		return ""
	}
	return " dated " + c.Date
}
