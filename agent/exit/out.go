package exit

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/post/queue"
	"postern.email/post/seen"
	"postern.email/wire/smtp"
)

// Queue hands mail over to a relay's queue, from which it goes to other hosts by MX, over verified
// TLS where their domain asks for it, and signed (DKIM). What was handed over is remembered in the very
// transaction that takes it, for longer than its token is good.
type Queue struct {
	Deliver *deliver.Deliver // with Letters
	Letters *seen.Seen       // the same
}

// Hand puts a mail into the queue, which tells its sender when the mail is refused or given up. No other
// host is asked to tell anybody what becomes of it (RFC 3461 §4.1): its report would not find the sender.
func (q Queue) Hand(ctx context.Context, m Mail) error {
	l := q.Letters.Letter(m.Name, []byte("exit")...)
	return errs.Wrap("agent/exit.Queue.Hand", q.Deliver.Begin().Hand(ctx, deliver.Parcel{From: m.From, Tell: m.Tell, TellID: m.TellID,
		Remote: []queue.Rcpt{{To: m.To, Notify: uint8(smtp.NotifyNever)}}, Letter: &l, Home: l.Shard, Head: m.Head, Tail: m.Tail}))
}
