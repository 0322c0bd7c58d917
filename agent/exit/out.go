package exit

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
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

// Hand puts a mail into the queue, which tells its sender when the mail is refused or given up. No other
// host is asked to tell anybody what becomes of it (RFC 3461 §4.1): its report would not find the sender.
func (q Queue) Hand(ctx context.Context, m Mail) error {
	return errs.Wrap("agent/exit.Queue.Hand", q.Deliver.Begin().Hand(ctx, deliver.Parcel{From: m.From, Tell: m.Tell, TellID: m.TellID,
		Remote: []queue.Rcpt{{To: m.To, Notify: uint8(smtp.NotifyNever)}}, Home: q.Home, Head: m.Head, Tail: m.Tail}))
}
