package mixsubmit

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Query looks the key of a recipient up for an account, as a mail would (mailproxy's
// QUERY_RECIPIENT), and waits for the answer; what it gives is in the key book then. errs.NotFound
// for an account that the proxy has not, and for a recipient whose relay knows no key; errs.Denied
// where the account looks no keys up; errs.Busy beyond Options.Lookups; errs.Unavailable when no
// answer came, or the recipient's relay is not in the directory.
func (s *Submit) Query(ctx context.Context, from, to mail.Address) error {
	const op = "agent/mixsubmit.Query"
	a := s.account(from)
	switch {
	case a == nil:
		return errs.E(op, errs.NotFound, "this proxy has no such account", nil)
	case !a.Discover:
		return errs.E(op, errs.Denied, "the account looks no keys up: InsecureKeyDiscovery is off", nil)
	case a.Ask == nil:
		return errs.E(op, errs.Unavailable, "nobody can be asked now", nil)
	}
	cons, err := a.Consensus()
	if err != nil {
		return errs.E(op, errs.Unavailable, "the directory of the network is not known yet", err)
	}
	relay := relayOf(cons, to)
	if relay == nil {
		return errs.E(op, errs.Unavailable, "the recipient's relay is not in the network's directory", nil)
	}
	if ok, _ := s.lookups.Allow(a.Address.String()); !ok {
		return errs.E(op, errs.Busy, "too many keys are looked up, try again later", nil)
	}
	unknown, err := s.ask(ctx, a, relay.ID, to)
	if unknown {
		return errs.E(op, errs.NotFound, "the recipient's relay knows no such key", nil)
	}
	s.Look()
	return errs.Wrap(op, err)
}
