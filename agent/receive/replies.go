package receive

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
)

// isReply reports whether an address here has the form of a reply address.
func (r *Receive) isReply(to mail.Address) bool {
	_, ok := anon.ReplyName(to)
	return ok && r.o.Replies != nil
}

// replyRoom judges a reply address as RCPT does. That there are not enough reply blocks now looks like
// a full mailbox; nothing else is said of the owner.
func (r *Receive) replyRoom(ctx context.Context, to mail.Address) error {
	err := r.o.Replies.Room(ctx, to)
	switch k := errs.KindOf(err); {
	case err == nil:
		return nil
	case k == errs.NotFound:
		return replyUnknown
	case k == errs.Full:
		return replyFull
	}
	return errs.Wrap("agent/receive.replyRoom", err)
}

// Reply judges a mail from the mix network for a reply address here, as Recipient and Vouched do for
// an account. false: the address is none.
func (r *Receive) Reply(ctx context.Context, raw []byte, to mail.Address) (is bool, err error) {
	if !r.isReply(to) {
		return false, nil
	}
	if err := r.replyRoom(ctx, to); err != nil {
		return true, err
	}
	m := &incoming{raw: raw, to: []mail.Address{to}, replies: true}
	if _, err := m.form(); err != nil {
		return true, err
	}
	return true, r.encrypted(ctx, m)
}
