package dsn

import (
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Limits of one report.
const (
	MaxRecipients = 10_000   // as many as a mail can have
	MaxDiagnostic = 500      // bytes of a remote text; what is beyond is cut
	MaxEnvelopeID = 100      // bytes (RFC 3461 §4.4); a longer one is left out
	MaxOriginal   = 500      // bytes (RFC 3461 §4.2); a longer one is left out
	MaxHeader     = 64 << 10 // bytes of the mail's header; fields beyond are left out
)

// Action is what became of a mail for one recipient (RFC 3464 §2.3.3).
type Action uint8

const (
	Failed    Action = iota + 1 // it will not be delivered
	Delayed                     // not yet delivered; it will be tried again
	Delivered                   // it lies in the mailbox
	Relayed                     // given to a server that sends no such reports
	Expanded                    // delivered to an address that sends it on to several
)

var actionNames = [...]string{Failed: "failed", Delayed: "delayed", Delivered: "delivered", Relayed: "relayed", Expanded: "expanded"}

// String gives the word that stands in a report.
func (a Action) String() string {
	if int(a) < len(actionNames) && a > 0 {
		return actionNames[a]
	}
	return "unknown"
}

// Recipient is one recipient of the mail that is reported on.
type Recipient struct {
	Final    mail.Address // whom delivery was tried for
	Original string       // ORCPT, xtext decoded: "rfc822;bob@example.org"; empty: none was given
	Action   Action
	Status   string // "5.1.1" (RFC 3463); empty: the least that fits Action

	// Remote is the server that said Diagnostic, a host name or address; empty: this one.
	Remote     string
	Diagnostic string // its reply, "550 5.1.1 no such user"; empty: none

	LastAttempt time.Time // of a delayed mail, in whole minutes; zero: not told
	RetryUntil  time.Time // of a delayed mail, in whole minutes; zero: not told
}

// Report is what a report tells. Domain, To, Recipients and Now are needed.
type Report struct {
	Domain     string       // ours: the report is from mailer-daemon@Domain
	To         mail.Address // the envelope sender of the mail
	Recipients []Recipient
	EnvelopeID string    // ENVID, xtext decoded; empty: none was given
	Arrival    time.Time // when the mail came; only its day (UTC) is told; zero: not told
	Header     []byte    // of the mail, with its empty line or without
	Full       bool      // the whole mail was asked for: the words say that only its header comes

	// Reporter is who reports, in words that fit behind "This is"; empty: the mail server of Domain.
	Reporter string
	// Delivered are the words above the recipients of Action Delivered; empty: those of a mailbox.
	Delivered string

	Now  time.Time // for Date
	Rand io.Reader // for Message-ID and boundary; nil: crypto/rand
}

// check gives the recipients' common faults.
func (r *Report) check() error {
	const op = "mail/dsn.check"
	switch {
	case len(r.Recipients) == 0:
		return errs.E(op, errs.Invalid, "a report needs a recipient", nil)
	case len(r.Recipients) > MaxRecipients:
		return errs.E(op, errs.TooLarge, "too many recipients for one report", nil)
	case r.To.IsZero():
		return errs.E(op, errs.Invalid, "nobody asked for a report: the sender is empty", nil)
	case !plainAddress(r.To) || !plainAddress(mail.Address{Local: "x", Domain: r.Domain}):
		return errs.E(op, errs.Invalid, "malformed address", nil)
	case r.Now.IsZero():
		return errs.E(op, errs.Internal, "", nil)
	}
	for _, x := range r.Recipients {
		switch {
		case !plainAddress(x.Final):
			return errs.E(op, errs.Invalid, "malformed address", nil)
		case x.Action < Failed || x.Action > Expanded:
			return errs.E(op, errs.Invalid, "unknown action", nil)
		case x.Status != "" && !x.fits():
			return errs.E(op, errs.Invalid, "the status does not fit the action", nil)
		}
	}
	return nil
}

// plainAddress reports whether an address is what mail.ParseAddress could have made.
func plainAddress(a mail.Address) bool {
	b, err := mail.ParseAddress(a.String())
	return err == nil && b == a
}

// fits checks the form of a status (RFC 3463 §2) and its class. A mail that was given up
// after many temporary failures failed with a status of class 4.
func (x Recipient) fits() bool {
	s := x.Status
	if len(s) < 5 || s[1] != '.' {
		return false
	}
	subject, detail := 0, 0
	i := 2
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		subject++
	}
	if i == len(s) || s[i] != '.' {
		return false
	}
	for i++; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		detail++
	}
	if i != len(s) || subject < 1 || subject > 3 || detail < 1 || detail > 3 {
		return false
	}
	switch x.Action {
	case Failed:
		return s[0] == '5' || s[0] == '4'
	case Delayed:
		return s[0] == '4'
	}
	return s[0] == '2'
}

// status is Status, or what stands for an empty one.
func (x Recipient) status() string {
	switch {
	case x.Status != "":
		return x.Status
	case x.Action == Failed:
		return "5.0.0"
	case x.Action == Delayed:
		return "4.0.0"
	}
	return "2.0.0"
}
