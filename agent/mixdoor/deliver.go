package mixdoor

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/dsn"
	"postern.email/mixnet/letter"
	"postern.email/post/account"
	"postern.email/post/queue"
	"postern.email/wire/smtp"
)

// sorted are the recipients of a mail by what becomes of them.
type sorted struct {
	here    []account.Account
	replies []mail.Address // reply addresses here
	aliases []deliver.ForAlias
	wait    []queue.Rcpt // here, and their mailboxes are full: the queue tries again, and reports in the end
	refused []dsn.Recipient
	away    []mail.Address // at other hosts
	all     int            // recipients
}

// replyAway answers for recipients at other hosts where there is no exit.
var replyAway = &smtp.Reply{Code: 550, Enhanced: "5.1.2", Text: "this relay does not send mail from the mix network to other hosts"}

// replyBoth answers for those at other hosts in a letter that is for recipients here too.
var replyBoth = &smtp.Reply{Code: 550, Enhanced: "5.5.4", Text: "a letter for other hosts has no recipients at this relay"}

// deliver judges the recipients of a mail, and hands it over with a report of refusals, if its sender
// can be told: all of it in one transaction, and once, however often the letter comes. A temporary
// kind of error means that nothing was handed over.
func (d *Door) deliver(ctx context.Context, id letter.ID, v *vouch.Vouched) error {
	s, err := d.sort(ctx, id, v)
	if err != nil {
		return err
	}
	if len(s.away) > 0 {
		if err := d.send(ctx, v, s); err != nil {
			return err
		}
	}
	p := d.parcel(id, v)
	p.Local, p.Replies, p.Aliases, p.Remote, p.Refused = s.here, s.replies, s.aliases, s.wait, s.refused
	if len(p.Local)+len(p.Replies)+len(p.Aliases)+len(p.Remote)+len(p.Refused) == 0 {
		return nil // all of it went to the exit or to owners of aliases elsewhere, which know it when it comes again
	}
	err = d.o.Deliver.Begin().Hand(ctx, p)
	if len(p.Aliases) > 0 && errs.KindOf(err) == errs.Denied {
		return errs.E("agent/mixdoor.deliver", errs.Unavailable, "", err) // an alias has changed: it is judged again
	}
	return err
}

// parcel begins what becomes of a letter.
func (d *Door) parcel(id letter.ID, v *vouch.Vouched) deliver.Parcel {
	l := d.o.Letters.Letter(id)
	p := deliver.Parcel{Head: v.Mail.Raw, Unsigned: true, Letter: &l, Home: l.Shard}
	// Who writes anonymously is told something only at a reply address, where the envelope names one.
	if _, reply := anon.ReplyName(v.Mail.Sender); v.Kind == vouch.User || reply {
		p.From = v.Mail.Sender
	}
	return p
}

// expire gives a letter up that could not be delivered in all the time for that, and tells its sender: it was
// acknowledged, so nobody else does. why is what was in the way last.
func (d *Door) expire(ctx context.Context, id letter.ID, v *vouch.Vouched, why error) error {
	p := d.parcel(id, v)
	reply := &smtp.Reply{Code: 550, Enhanced: "5.4.7", Text: "Delivery time expired; the last answer was: " + errs.Public(why)}
	for _, to := range v.Mail.Recipients {
		p.Refused = append(p.Refused, refusal(to, reply))
	}
	return errs.Wrap("agent/mixdoor.expire", d.o.Deliver.Begin().Hand(ctx, p))
}

// Answers where the relay takes no such mail at all.
var (
	replyShut      = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "mailboxes here take no mail from the mix network"}
	replyAnonymous = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "mailboxes here take no anonymous mail"}
)

// replyMany answers for reply addresses beyond deliver.MaxReplies.
var replyMany = &smtp.Reply{Code: 550, Enhanced: "5.5.3", Text: "too many reply addresses in one letter"}

// maxAliases is how many aliases one letter may be for: each has a copy of its own.
const maxAliases = 4

// replyManyAliases answers for aliases beyond that.
var replyManyAliases = &smtp.Reply{Code: 550, Enhanced: "5.5.3", Text: "too many aliases in one letter"}

// sort judges each recipient by the rules for other hosts' mail. An error is one that may pass.
func (d *Door) sort(ctx context.Context, id letter.ID, v *vouch.Vouched) (*sorted, error) {
	s := &sorted{}
	seen := make(map[mail.Address]bool, len(v.Mail.Recipients))
	for _, to := range v.Mail.Recipients {
		if c := to.Canonical(); seen[c] {
			continue
		} else {
			seen[c] = true
		}
		s.all++
		if !d.o.Ours(to) {
			s.away = append(s.away, to)
			continue
		}
		if d.o.Shut {
			s.refused = append(s.refused, refusal(to, replyShut))
			continue
		}
		if d.o.NoAnonymous && v.Kind == vouch.Anonymous {
			s.refused = append(s.refused, refusal(to, replyAnonymous))
			continue
		}
		if is, err := d.o.Rules.Reply(ctx, v.Mail.Raw, to); is {
			switch {
			case err == nil && len(s.replies) < deliver.MaxReplies:
				s.replies = append(s.replies, to)
			case err == nil:
				s.refused = append(s.refused, refusal(to, replyMany))
			default:
				// There may be reply blocks later: until then the letter waits.
				reply := smtp.ReplyFor(err)
				if reply.Code < 500 {
					return nil, errs.E("agent/mixdoor.sort", errs.Unavailable, "", err)
				}
				s.refused = append(s.refused, refusal(to, reply))
			}
			continue
		}
		if is, c, err := d.o.Rules.Alias(ctx, v.Mail.Raw, to, v.Kind == vouch.Anonymous, append([]byte("mixdoor: letter "), id[:]...)); is {
			switch reply := smtp.ReplyFor(err); {
			case err == nil && c != nil && len(s.aliases) == maxAliases:
				s.refused = append(s.refused, refusal(to, replyManyAliases))
			case err == nil && c != nil:
				s.aliases = append(s.aliases, *c)
			case err == nil:
			case reply.Code < 500:
				// Its owner may be asked, or its mailbox be full: until then the letter waits.
				return nil, errs.E("agent/mixdoor.sort", errs.Unavailable, "", err)
			default:
				s.refused = append(s.refused, refusal(to, reply))
			}
			continue
		}
		a, err := d.o.Rules.Recipient(ctx, to, int64(len(v.Mail.Raw)))
		full := false
		if err != nil {
			reply := smtp.ReplyFor(err)
			full = reply.Code == 452
			switch {
			case reply.Code >= 500:
				s.refused = append(s.refused, refusal(to, reply))
				continue
			case !full:
				return nil, errs.E("agent/mixdoor.sort", errs.Unavailable, "", err)
			}
		}
		if err := d.o.Rules.Vouched(ctx, v.Mail.Raw, a, to); err != nil {
			reply := smtp.ReplyFor(err)
			if reply.Code < 500 {
				return nil, errs.E("agent/mixdoor.sort", errs.Unavailable, "", err)
			}
			s.refused = append(s.refused, refusal(to, reply))
			continue
		}
		if full {
			s.wait = append(s.wait, queue.Rcpt{To: to})
			continue
		}
		s.here = append(s.here, a)
	}
	return s, nil
}

// send gives the mail for other hosts to the exit. Nobody needs to send one letter to both sides: a
// letter for the exit has a token, which the relay's own mailboxes do not ask for.
func (d *Door) send(ctx context.Context, v *vouch.Vouched, s *sorted) error {
	reply := replyAway
	switch {
	case d.o.Exit == nil:
	case len(s.away) < s.all:
		reply = replyBoth
	default:
		err := d.o.Exit.Send(ctx, v)
		switch k := errs.KindOf(err); {
		case err == nil:
			return nil
		case k.Temporary() && k != errs.Full:
			return err
		}
		reply = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: errs.Public(err)}
	}
	for _, to := range s.away {
		s.refused = append(s.refused, refusal(to, reply))
	}
	return nil
}

func refusal(to mail.Address, reply *smtp.Reply) dsn.Recipient {
	status := reply.Enhanced
	if status == "" || status[0] != '5' {
		status = "5.7.1"
	}
	return dsn.Recipient{Final: to, Action: dsn.Failed, Status: status, Diagnostic: reply.String()}
}
