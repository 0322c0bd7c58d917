package exit

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// Queue hands mail over to a relay's queue, from which it goes to other hosts by MX, over verified
// TLS where their domain asks for it, and signed (DKIM). Home is the shard in which it waits.
type Queue struct {
	Deliver *deliver.Deliver
	Home    store.Shard
}

// Hand puts a mail into the queue. No host is asked to tell anybody what becomes of it (RFC 3461
// §4.1): there is nobody to be told.
func (q Queue) Hand(ctx context.Context, from, to mail.Address, head, tail []byte) error {
	return errs.Wrap("agent/exit.Queue.Hand", q.Deliver.Begin().Hand(ctx, deliver.Parcel{From: from,
		Remote: []queue.Rcpt{{To: to, Notify: uint8(smtp.NotifyNever)}}, Home: q.Home, Head: head, Tail: tail}))
}
