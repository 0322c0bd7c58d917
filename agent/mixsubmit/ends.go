package mixsubmit

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail/dsn"
	"postern.email/mixnet/client"
	"postern.email/wire/smtp"
)

// end looks at what became of a part's message, and tells the sender if that was wanted.
func (s *Submit) end(ctx context.Context, sp *spool, e *entry, p *part) error {
	m, err := sp.a.Store.Progress(p.Name)
	if err != nil {
		if errs.KindOf(err) != errs.NotFound && errs.KindOf(err) != errs.Corrupt {
			return err
		}
		m = client.Progress{Result: client.Failed, Why: "it is not known any more what became of it"}
	}
	var all []dsn.Recipient
	for _, r := range p.Rcpts {
		d := dsn.Recipient{Final: r.To, Original: original(r)}
		switch m.Result {
		case "":
			return nil
		case client.Delivered:
			d.Action, d.Status = dsn.Delivered, "2.1.5"
		case client.Sent:
			d.Action, d.Status = dsn.Relayed, "2.0.0"
			d.Diagnostic = "given to the mix network without asking for an acknowledgement"
		default:
			d.Action, d.Status, d.Diagnostic = dsn.Failed, "5.4.7", m.Why
		}
		if deliver.Wanted(smtp.Notify(r.Notify), d.Action) {
			all = append(all, d)
		}
	}
	return s.settle(ctx, sp, e, p, all)
}

// delayed tells a sender who asked for it (NOTIFY=DELAY), once, that a part takes long: a quarter of the
// time is over after which it is given up, and that is the expected time at least.
func (s *Submit) delayed(ctx context.Context, sp *spool, e *entry, p *part) error {
	if p.Delayed || s.o.Now().Before(e.Created.Add(e.Expires.Sub(e.Created)/Patience)) {
		return nil
	}
	var all []dsn.Recipient
	for _, r := range p.Rcpts {
		if deliver.Wanted(smtp.Notify(r.Notify), dsn.Delayed) {
			all = append(all, dsn.Recipient{Final: r.To, Original: original(r), Action: dsn.Delayed, Status: "4.4.7", Diagnostic: p.Why, RetryUntil: e.Expires})
		}
	}
	if len(all) > 0 {
		if err := s.o.Desk.Report(ctx, e.report(all), []byte("mixsubmit: delay"), []byte(e.ID), []byte(p.Name)); err != nil {
			return err
		}
	}
	sp.mu.Lock()
	p.Delayed = true
	sp.mu.Unlock()
	return sp.save(e)
}

// report is one about recipients of the mail.
func (e *entry) report(all []dsn.Recipient) dsn.Report {
	return dsn.Report{To: e.From, Recipients: all, EnvelopeID: e.EnvID, Arrival: e.Created, Header: e.Header, Full: smtp.Return(e.Return) == smtp.ReturnFull}
}

// fail tells the sender that a part got no letter.
func (s *Submit) fail(ctx context.Context, sp *spool, e *entry, p *part) error {
	var all []dsn.Recipient
	for _, r := range p.Rcpts {
		if deliver.Wanted(smtp.Notify(r.Notify), dsn.Failed) {
			all = append(all, dsn.Recipient{Final: r.To, Original: original(r), Action: dsn.Failed, Status: r.Status, Diagnostic: r.Why})
		}
	}
	return s.settle(ctx, sp, e, p, all)
}

// settle reports, and then forgets the part. The report's proof is the part's name, so that it is
// there once if a crash comes in between.
func (s *Submit) settle(ctx context.Context, sp *spool, e *entry, p *part, all []dsn.Recipient) error {
	if len(all) > 0 {
		err := s.o.Desk.Report(ctx, e.report(all), []byte("mixsubmit: report"), []byte(e.ID), []byte(p.Name))
		if err != nil {
			// Without room, or without a mailbox, it waits; not for ever.
			if s.o.Now().Before(e.Expires.Add(reportTime)) {
				s.wait(sp, p, "a report about it waits for room in the own mailbox", longPause)
				return err
			}
			s.o.Logger.Warn("a report could not be put into a mailbox, and is given up", "kind", errs.KindOf(err))
		}
	}
	sp.mu.Lock()
	p.Stage, p.Why = settled, ""
	sp.mu.Unlock()
	return sp.changed(e)
}

// reportTime is for how long after its mail a report waits for a place.
const reportTime = client.DefaultResults

// original is ORCPT as a report shows it.
func original(r recipient) string {
	return deliver.Original(r.OriginalType, r.OriginalAddress)
}
