package deliver

import (
	"context"
	"time"

	"postern.email/post/queue"
	"postern.email/wire/smtp"
)

// DefaultDelay is how long a mail waits before a sender who asked for that (NOTIFY=DELAY, RFC 3461
// §4.1) is told that it does. He is told once for each recipient.
const DefaultDelay = 4 * time.Hour

// How often the queue is looked through for such mails: often enough that a report is not much
// later than it says.
const (
	latePart  = 10 // times within OutOptions.Delay …
	lateMost  = 10 * time.Minute
	lateLeast = 100 * time.Millisecond
)

// warn tells senders whose mail waits for long, until ctx ends.
func (o *Out) warn(ctx context.Context) {
	t := time.NewTicker(max(min(o.o.Delay/latePart, lateMost), lateLeast))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for more := true; more; {
			more = o.warnSome(ctx)
		}
	}
}

// warnSome tells some of them; more: there may be others.
func (o *Out) warnSome(ctx context.Context) (more bool) {
	items := o.q.Late(uint8(smtp.NotifyDelay), o.d.o.Now().Add(-o.o.Delay), batch)
	more = len(items) > 0
	for _, it := range items {
		if more = more && ctx.Err() == nil; more {
			if err := o.settleWith(ctx, it, o.waiting(it), nil); err != nil {
				o.o.Logger.Warn("a report of delay cannot be written; it is tried again", "err", err)
				more = false
			}
		}
		o.q.Release(it)
	}
	return more
}

// waiting says of each recipient that he waits, and what for.
func (o *Out) waiting(it *queue.Item) []result {
	rs := make([]result, len(it.Rcpts))
	for i, w := range it.Rcpts {
		reply := &smtp.Reply{Code: 451, Text: "Not delivered yet"}
		last := o.lastAnswer(it.Dest, w)
		if said, err := smtp.ParseReply(last); err == nil && said.Code/100 == 4 {
			reply.Code, reply.Enhanced = said.Code, said.Enhanced
		}
		if last != "" {
			reply.Text += "; the last answer was: " + last
		}
		rs[i] = result{rcpt: w, reply: reply, Result: queue.Result{N: w.N, Outcome: queue.Warned}}
	}
	return rs
}

// lastAnswer is what the last try for a recipient ended with, empty if there was none: why its whole
// destination cannot be reached, or else what was said about it.
func (o *Out) lastAnswer(dest string, w queue.Waiting) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d := o.dests[dest]; d != nil && d.why != "" {
		return d.why
	}
	return w.LastWhy
}
