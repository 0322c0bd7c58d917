package forward

import (
	"context"
	"encoding/json"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Names of records in Options.Book. Between the parts stands a NUL, which is in none of them.
const (
	nameDestination = "forward\x00destination\x00" // and an address elsewhere
	nameConsent     = "forward\x00consent\x00"     // owner, address elsewhere
	nameCode        = "forward\x00code\x00"        // code of a question
	nameReverse     = "forward\x00reverse\x00"     // reverse address
	nameAlias       = "forward\x00alias\x00"       // alias
	nameSeen        = "forward\x00seen\x00"        // alias, sender, message id that the sender knows
	nameSent        = "forward\x00sent\x00"        // message id that we gave an answer
)

// Days for which records are kept after their last use. A use within the last touchDays is not noted
// again.
const (
	destinationDays = 400
	consentDays     = 800
	aliasDays       = 4000
	threadDays      = 180
	touchDays       = 30
)

// days gives a moment so many days from now.
func (f *Forward) days(n int) time.Time { return f.o.Now().Add(time.Duration(n) * 24 * time.Hour) }

// load reads a record into v. errs.NotFound: there is none. fresh: it ends long enough from now, of its keep
// days, to be left as it is.
func (f *Forward) load(ctx context.Context, name string, v any, keep int) (fresh bool, err error) {
	const op = "agent/forward.load"
	b, ends, err := f.o.Book.Load(ctx, name)
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, errs.E(op, errs.Corrupt, "", err)
	}
	return ends.After(f.days(keep - touchDays)), nil
}

// save writes a record that is kept for so many days.
func (f *Forward) save(ctx context.Context, name string, v any, keep int) error {
	const op = "agent/forward.save"
	b, err := json.Marshal(v)
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	return errs.Wrap(op, f.o.Book.Save(ctx, name, b, f.days(keep)))
}

// change changes what is known of a mailbox elsewhere. fn may be run again; false: nothing is to be
// written.
func (f *Forward) change(ctx context.Context, target mail.Address, fn func(d *destination) bool) error {
	const op = "agent/forward.change"
	err := f.o.Book.Change(ctx, nameDestination+target.Canonical().String(), func(old []byte) ([]byte, time.Time, error) {
		var d destination
		if old != nil && json.Unmarshal(old, &d) != nil {
			d = destination{} // better to begin anew than to stop
		}
		if !fn(&d) {
			return nil, time.Time{}, errUnchanged
		}
		b, err := json.Marshal(d)
		return b, f.days(destinationDays), err
	})
	if errs.KindOf(err) == errs.Exists {
		return nil
	}
	return errs.Wrap(op, err)
}

// errUnchanged ends a change that changes nothing.
var errUnchanged = errs.E("agent/forward.change", errs.Exists, "", nil)

// destination reads what is known of a mailbox elsewhere.
func (f *Forward) destination(ctx context.Context, target mail.Address) (d destination, err error) {
	_, err = f.load(ctx, nameDestination+target.Canonical().String(), &d, destinationDays)
	if k := errs.KindOf(err); err != nil && (k == errs.NotFound || k == errs.Corrupt) {
		return destination{}, nil
	}
	return d, errs.Wrap("agent/forward.destination", err)
}
