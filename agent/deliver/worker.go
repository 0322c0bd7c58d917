package deliver

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"time"

	"postern.email/agent/road"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// batch is how many mails a worker takes at one time. Few, so that several workers
// share what there is.
const batch = 4

// serve is one worker: it hands over what is due at its destination until nothing is left and
// nothing came for a while, or the destination cannot be reached. No new mail is begun
// after ctx has ended; work cuts what is under way.
func (o *Out) serve(ctx, work context.Context, d *destination, w *worker) {
	s := o.o.Roads.Session(d.name)
	defer s.Close()
	for ctx.Err() == nil {
		items := o.q.Lease(d.name, batch)
		for i, it := range items {
			if ctx.Err() != nil || !o.handle(ctx, work, d, w, s, it) {
				for _, rest := range items[i:] { // Release of what was settled does nothing
					o.q.Release(rest)
				}
				return
			}
		}
		if len(items) == batch {
			o.look() // there may be work for one more
			continue
		}
		if len(items) == 0 && !o.idle(ctx, d) {
			return
		}
	}
}

// idle waits for more, while the connection is open. false: the worker may go.
func (o *Out) idle(ctx context.Context, d *destination) bool {
	o.mu.Lock()
	if !d.reached || o.workers > o.o.Destinations/2 { // others may need the place
		o.mu.Unlock()
		return false
	}
	d.idle++
	o.mu.Unlock()
	t := time.NewTimer(o.o.Keep)
	defer t.Stop()
	more := false
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-d.more:
		more = true
	}
	o.mu.Lock()
	d.idle--
	o.mu.Unlock()
	return more
}

// handle sends one mail and puts down what became of it. false: the worker must end, because the
// destination cannot be served any more now or is slow. When begin ends no other host is asked to take the
// mail; what a host has begun to take goes on until ctx ends.
func (o *Out) handle(begin, ctx context.Context, d *destination, w *worker, s Session, it *queue.Item) bool {
	if o.expired(it) {
		return o.settle(ctx, it, o.all(it, queue.Failed, o.lateReply(d, it)))
	}
	if o.d.o.Accounts.Ours(mail.Address{Local: "x", Domain: d.name}) {
		return o.local(ctx, it)
	}
	body, err := o.q.Body(ctx, it)
	if err != nil {
		return o.damaged(ctx, it, err)
	}
	defer body.Close()
	j := job(it, body)
	j.Begin = begin
	out := o.send(ctx, d, w, s, j)
	if out.Unreached != nil {
		if begin.Err() != nil && out.Unreached.Code < 500 { // we are stopping: no fault of the destination
			return false
		}
		return o.unreached(ctx, d, it, out.Unreached)
	}
	o.mu.Lock()
	slow := w.slow
	first := !slow && !d.reached
	o.q.Unpause(d.name) // another worker may not have reached it. Under the lock: the later news counts
	d.reached, d.slow, d.failures, d.why = !slow, slow, 0, ""
	o.mu.Unlock()
	if first {
		o.look() // more workers may come now
	}
	results := make([]result, len(it.Rcpts))
	for i := range it.Rcpts {
		results[i] = o.judge(it, i, out.Answers[i], out.Host)
		results[i].told = out.Reports
	}
	return o.settle(ctx, it, results) && !slow
}

// send hands one mail over, and cuts it off where it takes long while too many others do: a mail
// that is cut is tried again later.
func (o *Out) send(ctx context.Context, d *destination, w *worker, s Session, j road.Job) road.Outcome {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	t := time.AfterFunc(o.o.Slow, func() {
		if !o.tooSlow(d, w) {
			cut()
		}
	})
	defer t.Stop()
	return s.Send(ctx, j)
}

// result is what became of one recipient.
type result struct {
	queue.Result
	rcpt  queue.Waiting
	reply *smtp.Reply // what the other side said, or would have
	host  string      // who said it; empty: this host
	here  bool        // it lies in a mailbox of this host
	told  bool        // the other host reports of success itself
}

// judge turns the answer for one recipient into what happens next.
func (o *Out) judge(it *queue.Item, i int, reply *smtp.Reply, host string) result {
	r := result{rcpt: it.Rcpts[i], reply: reply, host: host}
	r.N = r.rcpt.N
	r.Why = reply.String()
	switch {
	case reply.Code < 400:
		r.Outcome = queue.Delivered
	case reply.Code >= 500:
		r.Outcome = queue.Failed
	case o.expired(it):
		r.Outcome = queue.Failed
		r.reply = expiredReply(reply)
		r.Why = r.reply.String()
	default:
		r.Outcome = queue.Deferred
		r.Due = o.d.o.Now().Add(o.pause(r.rcpt.Tries + 1))
	}
	return r
}

// all gives every recipient the same result.
func (o *Out) all(it *queue.Item, outcome queue.Outcome, reply *smtp.Reply) []result {
	rs := make([]result, len(it.Rcpts))
	for i, w := range it.Rcpts {
		rs[i] = result{rcpt: w, reply: reply, Result: queue.Result{N: w.N, Outcome: outcome, Why: reply.String()}}
		if outcome == queue.Deferred {
			rs[i].Due = o.d.o.Now().Add(o.pause(w.Tries + 1))
		}
	}
	return rs
}

// unreached takes note that the destination cannot be reached: for good, which
// fails the mail, or now, which makes the destination pause and leaves the mail as it is.
func (o *Out) unreached(ctx context.Context, d *destination, it *queue.Item, reply *smtp.Reply) bool {
	if reply.Code >= 500 {
		return o.settle(ctx, it, o.all(it, queue.Failed, reply))
	}
	if ctx.Err() != nil { // we are stopping: no fault of the destination
		return false
	}
	o.mu.Lock()
	if d.reached || d.failures == 0 || d.workers == 1 { // of several workers one counts
		d.failures++
	}
	d.reached, d.last, d.why = false, o.d.o.Now(), reply.String()
	until := d.last.Add(o.pause(d.failures))
	o.q.Pause(d.name, until, reply.String())
	o.mu.Unlock()
	o.o.Logger.Debug("deliver: a destination cannot be reached", "destination", d.name, "reply", reply, "until", until)
	return false
}

// pause is how long to wait after the n-th failure in a row: twice as long each time, a
// fifth more or less by chance, so that many do not come at one time.
func (o *Out) pause(n int) time.Duration {
	p := o.o.LastRetry
	if n < 32 {
		if q := o.o.FirstRetry << (n - 1); q > 0 && q < p {
			p = q
		}
	}
	return p - p/5 + time.Duration(rand.Int64N(int64(2*p/5)+1))
}

// expired: a mail without an end never is.
func (o *Out) expired(it *queue.Item) bool {
	return !it.Mail.Expires.IsZero() && !o.d.o.Now().Before(it.Mail.Expires)
}

// expiredReply says that time is over, with what was said last.
func expiredReply(last *smtp.Reply) *smtp.Reply {
	return &smtp.Reply{Code: 550, Enhanced: "5.4.7", Text: "Delivery time expired; the last answer was: " + last.String()}
}

// lateReply is expiredReply for a mail that is not tried any more.
func (o *Out) lateReply(d *destination, it *queue.Item) *smtp.Reply {
	last := ""
	for _, w := range it.Rcpts {
		if last == "" {
			last = o.lastAnswer(d.name, w)
		}
	}
	if last == "" {
		return &smtp.Reply{Code: 550, Enhanced: "5.4.7", Text: "Delivery time expired"}
	}
	return &smtp.Reply{Code: 550, Enhanced: "5.4.7", Text: "Delivery time expired; the last answer was: " + last}
}

// job puts a queued mail in the words of the road.
func job(it *queue.Item, body queue.Body) road.Job {
	m := &it.Mail
	j := road.Job{From: m.From, Body: body, Verified: m.Verified,
		Options: smtp.MailOptions{Size: body.Size(), UTF8: m.UTF8, Return: smtp.Return(m.Return), EnvID: m.EnvID, RequireTLS: m.RequireTLS, Body: smtp.Body7Bit}}
	if m.EightBit {
		j.Options.Body = smtp.Body8Bit
	}
	for _, w := range it.Rcpts {
		j.Rcpts = append(j.Rcpts, smtp.Recipient{To: w.Rcpt.To, Options: smtp.RcptOptions{Notify: smtp.Notify(w.Rcpt.Notify),
			OriginalType: w.Rcpt.OriginalType, OriginalAddress: w.Rcpt.OriginalAddress}})
	}
	return j
}

// settle commits what became of a mail, with the report to its sender. false: nothing could
// be written; the mail stays as it is and will be tried again.
func (o *Out) settle(ctx context.Context, it *queue.Item, rs []result) bool {
	if err := o.settleWith(ctx, it, rs, nil); err != nil {
		o.o.Logger.Warn("what became of a mail cannot be written; it may be sent twice", "err", err)
		return false
	}
	return true
}

// settleWith is settle in one transaction with copies for accounts here; here may be nil. A
// report for which there is no room, or nobody, is left out: the mail must not be sent
// again for that.
func (o *Out) settleWith(ctx context.Context, it *queue.Item, rs []result, here *writes) error {
	// Not ctx: what the other side took must be put down even when we are stopping.
	ctx = context.WithoutCancel(ctx)
	var rep writes
	defer rep.discard()
	alone := here == nil
	if alone {
		here = &writes{}
	}
	if err := o.report(ctx, &rep, it, rs); err != nil {
		o.o.Logger.Warn("a report to a sender cannot be made", "err", errs.KindOf(err))
	}
	plain := make([]queue.Result, len(rs))
	for i := range rs {
		plain[i] = rs[i].Result
	}
	home := it.Mail.Shard
	err := o.q.Settle(ctx, it, plain, func(tx store.Tx) error {
		if err := rep.put(tx, home); err != nil {
			return err
		}
		return here.put(tx, home)
	})
	if err == nil {
		rep.committed()
		here.committed()
		return nil
	}
	if k := errs.KindOf(err); !rep.empty() && (k == errs.Full || k == errs.NotFound || k == errs.Unsupported) {
		err = o.q.Settle(ctx, it, plain, func(tx store.Tx) error { return here.put(tx, home) })
		if err == nil {
			here.committed()
		}
	}
	if k := errs.KindOf(err); err != nil && alone && (k == errs.NotFound || k == errs.Invalid) {
		return nil // an operator dropped the mail, which ended the lease
	}
	return err
}

// report adds what the sender of a mail is to be told.
func (o *Out) report(ctx context.Context, w *writes, it *queue.Item, rs []result) error {
	m := &it.Mail
	to, told := m.From, !m.Tell.IsZero()
	if told {
		to = m.Tell
	}
	if to.IsZero() {
		return nil
	}
	r := o.d.newReport(to, m.EnvID, smtp.Return(m.Return))
	r.Arrival = m.Created
	for i := range rs {
		x := dsn.Recipient{Final: rs[i].rcpt.To, Original: Original(rs[i].rcpt.OriginalType, rs[i].rcpt.OriginalAddress), Remote: rs[i].host, Diagnostic: rs[i].reply.String(),
			Status: rs[i].reply.Enhanced}
		switch rs[i].Outcome {
		case queue.Failed:
			x.Action = dsn.Failed
			if x.Status == "" || x.Status[0] == '2' {
				x.Status = "5.0.0"
			}
		case queue.Delivered:
			if rs[i].told { // the other host tells
				continue
			}
			x.Action = dsn.Relayed
			if rs[i].here {
				x.Action = dsn.Delivered
			}
			if x.Status == "" || x.Status[0] != '2' {
				x.Status = "2.0.0"
			}
		case queue.Warned:
			x.Action, x.RetryUntil = dsn.Delayed, m.Expires
			if rs[i].rcpt.Tries > 0 {
				x.LastAttempt = rs[i].rcpt.Since
			}
			if x.Status == "" || x.Status[0] != '4' {
				x.Status = "4.0.0"
			}
		default:
			continue
		}
		notify := smtp.Notify(rs[i].rcpt.Notify)
		if told { // what other hosts are asked is another thing
			notify = smtp.NotifyFailure
		}
		if Wanted(notify, x.Action) {
			r.Recipients = append(r.Recipients, x)
		}
	}
	if len(r.Recipients) == 0 {
		return nil
	}
	r.Header = o.header(ctx, it)
	if told {
		r.Header = known(r.Header, m.TellID)
	}
	if o.d.o.Returned != nil && !told {
		if instead, is := o.d.o.Returned(ctx, r); is {
			if instead == nil {
				return nil
			}
			r = *instead
		}
	}
	return o.d.addReport(ctx, w, r, m.Shard)
}

// header reads the header of a queued mail for a report; without it the report has none.
func (o *Out) header(ctx context.Context, it *queue.Item) []byte {
	b, err := o.q.Body(ctx, it)
	if err != nil {
		return nil
	}
	defer b.Close()
	text := make([]byte, min(b.Size(), dsn.MaxHeader))
	if _, err := b.ReadAt(text, 0); err != nil && err != io.EOF {
		return nil
	}
	if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 {
		text = text[:i+4]
	}
	return text
}

// damaged: the body cannot be opened. Later it may be, when the disk was at fault.
func (o *Out) damaged(ctx context.Context, it *queue.Item, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	o.o.Logger.Warn("a queued mail cannot be read", "err", errs.KindOf(err))
	return o.settle(ctx, it, o.all(it, queue.Deferred, &smtp.Reply{Code: 451, Enhanced: "4.3.0", Text: "Local error"}))
}
