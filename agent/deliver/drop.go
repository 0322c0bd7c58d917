package deliver

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/post/queue"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// Drop removes a mail from the queue and tells its sender, in the same transaction, that those of its
// recipients who were left do not get it. told is false where there is nobody to tell: the mail is a
// report itself, its sender is gone or wanted no report. errs.Busy: the mail is being sent at this
// moment; errs.Corrupt: it cannot be read; errs.Full: there is no room for the report. Nothing was removed then.
func (o *Out) Drop(ctx context.Context, id queue.ID) (told bool, err error) {
	const op = "agent/deliver.Out.Drop"
	reply := &smtp.Reply{Code: 554, Enhanced: "5.0.0", Text: "The operator of this server has removed the mail from its queue"}
	var rep writes
	defer rep.discard()
	err = o.q.DropWith(ctx, id, func(l queue.Listed) (func(store.Tx) error, error) {
		it := &queue.Item{ID: id, Mail: l.Mail}
		rs := make([]result, len(l.Rcpts))
		for i, r := range l.Rcpts {
			rs[i] = result{rcpt: r.Waiting, reply: reply, Result: queue.Result{N: r.N, Outcome: queue.Failed}}
		}
		if err := o.report(ctx, &rep, it, rs); err != nil {
			return nil, err
		}
		return func(tx store.Tx) error { return rep.put(tx, l.Mail.Shard) }, nil
	})
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	rep.committed()
	return !rep.empty(), nil
}
