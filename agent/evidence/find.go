package evidence

import (
	"context"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/align"
	"postern.email/mail/sanitize"
	"postern.email/post/mailbox"
)

// Limits of Find.
const (
	DefaultWithin = 90 * 24 * time.Hour
	MaxLooked     = 200_000 // mails of a mailbox that are looked at
)

// Search says which mails of an alias are wanted.
type Search struct {
	Alias    mail.Address
	Stranger mail.Address  // whose mail is the second one; zero: the last of anybody unexpected
	Site     string        // host of the site that the alias was made for, whose organization is no stranger; "": not known
	Within   time.Duration // older mail is not taken; 0: DefaultWithin
	Now      time.Time
}

// found is a mail that fits.
type found struct {
	box   uint32
	entry mailbox.Entry
	date  time.Time
}

// Find looks through all folders of an account for two mails for an evidence file: the first of whom the alias was given
// to, and one of a stranger. Signed ones go before others. errs.NotFound with a text that says which of the two there is
// not, errs.TooLarge for one that is too large.
func Find(ctx context.Context, a *mailbox.Account, s Search) (expected, stranger Stored, err error) {
	const op = "agent/evidence.Find"
	if s.Within <= 0 {
		s.Within = DefaultWithin
	}
	folders, err := a.Folders(ctx)
	if err != nil {
		return expected, stranger, errs.Wrap(op, err)
	}
	var first, other *found
	var firstSigned, otherSigned bool
	looked := 0
	for _, f := range folders {
		if f.NoSelect || f.NonExistent {
			continue
		}
		v, err := a.View(ctx, f.Box)
		if err != nil {
			return expected, stranger, errs.Wrap(op, err)
		}
		for _, e := range v.Range(0, v.Len()) {
			if looked++; looked > MaxLooked {
				break
			}
			// The hour of arrival is readable without opening anything.
			if time.Unix(int64(e.Hour+1)*3600, 0).Before(s.Now.Add(-s.Within)) {
				continue
			}
			sum, err := a.Summary(ctx, f.Box, e)
			if errs.KindOf(err) == errs.NotFound && err != nil {
				continue // it was deleted meanwhile
			} else if err != nil {
				return expected, stranger, errs.Wrap(op, err)
			}
			x, _, ok := sanitize.ReadAlias(sum.Header)
			if !ok || !x.Alias.Equal(s.Alias) || sum.Date.Before(s.Now.Add(-s.Within)) {
				continue
			}
			signed, at := x.KeyRecord != "", &found{f.Box, e, sum.Date}
			if x.Sender != sanitize.SenderUnexpected {
				// The first one: of it the alias was new.
				if first == nil || signed && !firstSigned || signed == firstSigned && at.date.Before(first.date) {
					first, firstSigned = at, signed
				}
				continue
			}
			by := from(sum.Header)
			if !s.Stranger.IsZero() && !by.Equal(s.Stranger) {
				continue
			}
			// The relay does not know the site, and so takes its mail for unexpected where somebody else wrote first.
			if s.Site != "" && align.Organization(by.Domain) == align.Organization(s.Site) {
				continue
			}
			if other == nil || signed && !otherSigned || signed == otherSigned && at.date.After(other.date) {
				other, otherSigned = at, signed
			}
		}
	}
	switch {
	case first == nil:
		return expected, stranger, errs.E(op, errs.NotFound, "there is no mail of whom the alias was given to, in the time for which evidence is kept", nil)
	case other == nil:
		return expected, stranger, errs.E(op, errs.NotFound, "there is no mail of a stranger to this alias, in the time for which evidence is kept", nil)
	}
	if expected, err = read(ctx, a, first); err == nil {
		stranger, err = read(ctx, a, other)
	}
	return expected, stranger, errs.Wrap(op, err)
}

// from gives the address in From, behind our own fields.
func from(header []byte) mail.Address {
	h, _, err := mail.ParseHeader(header)
	if err != nil {
		return mail.Address{}
	}
	a, err := mail.FromAddress(h)
	if err != nil {
		return mail.Address{}
	}
	return a
}

func read(ctx context.Context, a *mailbox.Account, f *found) (Stored, error) {
	b, err := a.Body(ctx, f.box, f.entry)
	if err != nil {
		return Stored{}, err
	}
	defer b.Close()
	if b.Size() > MaxMail {
		return Stored{}, errs.E("agent/evidence.read", errs.TooLarge, "the mail is too large for an evidence file", nil)
	}
	raw, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	return Stored{Raw: raw, Received: f.date}, err
}

// OfMailbox is Find and Make in one: the whole file as JSON. random nil: crypto/rand.Reader.
func OfMailbox(ctx context.Context, a *mailbox.Account, s Search, random io.Reader) ([]byte, error) {
	const op = "agent/evidence.OfMailbox"
	expected, stranger, err := Find(ctx, a, s)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	f, err := Make(s.Alias, expected, stranger, s.Now, random)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	b, err := f.Encode()
	return b, errs.Wrap(op, err)
}
