package exit

import (
	"time"

	"postern.email/agent/vouch"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/post/queue"
)

// teller gives who is told if a mail cannot be delivered, and the Message-ID by which it knows the mail,
// where that is to leave with another. Only who is known to have sent it is told anything: a user whom a
// relay vouches for, at the address of the certificate, and who wrote anonymously, at the reply address that
// answers go to. That the envelope names no other was checked (docs/vouch.md §4); where it names nobody, no
// report is wanted.
func teller(v *vouch.Vouched) (to mail.Address, id string) {
	to = v.Mail.Sender
	if v.Kind == vouch.User {
		return to, ""
	}
	if _, reply := anon.ReplyName(to); !reply {
		return mail.Address{}, ""
	}
	if h, _, err := mail.ParseHeader(v.Mail.Raw); err == nil {
		if ids := mail.MessageIDs(h.Get("Message-ID")); len(ids) > 0 && len(ids[0]) <= queue.MaxTellID {
			id = ids[0]
		}
	}
	return to, id
}

// tells reports whether somebody hears of one more mail today. Nobody proves that a reply address is theirs, and
// a report takes reply blocks of it, so it hears of so many mails and no more. One that comes again is not
// counted again.
func (e *Exit) tells(to mail.Address, now time.Time, again bool) (bool, error) {
	if _, reply := anon.ReplyName(to); !reply || again {
		return !to.IsZero(), nil // who is vouched for hears at most as often as it has tokens
	}
	return e.add("told", to.Canonical().String(), now, e.o.MaxTold)
}
