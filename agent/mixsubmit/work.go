package mixsubmit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/openpgp"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/wire/smtp"
)

// Pauses before something is tried again.
const (
	shortPause = 30 * time.Second // for a certificate, or room in the client's store
	longPause  = 10 * time.Minute // for room in the own mailbox
)

// Run works on the mails that were taken until ctx ends. What is not done then stays on the disk.
func (s *Submit) Run(ctx context.Context) error {
	t := time.NewTicker(s.o.Every)
	defer t.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s.pass(ctx, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-s.o.Book.Watch():
		case <-t.C:
		}
	}
}

// pass looks at every part once. Look-ups that it begins run in wg.
func (s *Submit) pass(ctx context.Context, wg *sync.WaitGroup) {
	for _, a := range s.o.Accounts() {
		sp, err := s.spool(a)
		if err != nil {
			continue // spool says why
		}
		s.refill(ctx, wg, sp)
		for _, e := range sp.list() {
			for _, p := range e.Parts {
				if ctx.Err() != nil {
					return
				}
				if err := s.step(ctx, wg, sp, e, p); err != nil && ctx.Err() == nil {
					s.o.Logger.Debug("a mail waits", "err", err)
				}
			}
		}
	}
}

// step brings a part on as far as it can be now.
func (s *Submit) step(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part) error {
	sp.mu.Lock()
	rests := p.Stage == settled || s.o.Now().Before(p.due)
	sp.mu.Unlock()
	if rests {
		return nil
	}
	var err error
	if p.Stage == waiting {
		if err = s.send(ctx, wg, sp, e, p); err != nil && p.Stage != waiting {
			return err
		}
	}
	switch p.Stage {
	case waiting:
		return errors.Join(err, s.delayed(ctx, sp, e, p))
	case queued:
		if err := s.end(ctx, sp, e, p); err != nil || p.Stage == settled {
			return err
		}
		return s.delayed(ctx, sp, e, p)
	case failed:
		return s.fail(ctx, sp, e, p)
	}
	return nil
}

// wait notes why a part waits, and until when it is not looked at.
func (s *Submit) wait(sp *spool, p *part, why string, pause time.Duration) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	p.Why, p.due = why, s.o.Now().Add(pause)
}

// hurry has all that waits be looked at now.
func (sp *spool) hurry() {
	for _, e := range sp.list() {
		sp.mu.Lock()
		for _, p := range e.Parts {
			if p.Stage == waiting {
				p.due = time.Time{}
			}
		}
		sp.mu.Unlock()
	}
}

// give notes that a part got no letter, and what its recipients are to hear.
func (s *Submit) give(sp *spool, e *entry, p *part, r *smtp.Reply) error {
	sp.mu.Lock()
	p.Stage, p.Why = failed, ""
	for i := range p.Rcpts {
		p.Rcpts[i].refuse(r)
	}
	sp.mu.Unlock()
	return sp.changed(e)
}

// send makes the letter of a part, or notes what it waits for.
func (s *Submit) send(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part) error {
	a := sp.a
	if !s.o.Now().Before(e.Expires) {
		text := "the mail could not be sent in time"
		if p.Why != "" {
			text += ": " + p.Why
		}
		return s.give(sp, e, p, &smtp.Reply{Code: 450, Enhanced: "4.4.7", Text: text})
	}
	if ok, err := s.answerable(sp, e, p); err != nil || !ok {
		return err
	}
	to, kind, err := s.target(ctx, wg, sp, e, p)
	var refused *smtp.Reply
	switch {
	case errors.As(err, &refused) && refused.Code/100 == 5:
		return s.give(sp, e, p, refused)
	case err != nil:
		why := errs.Public(err)
		if refused != nil {
			why = refused.Text
		}
		s.wait(sp, p, why, shortPause)
		return nil
	case to == nil:
		return nil // it waits for a key
	}
	o, err := s.letter(sp, e, p, to, kind)
	if err == nil {
		if kind == toWorld {
			s.leaves(sp, e, p)
		}
		_, err = a.Store.Queue(*o)
	}
	switch k := errs.KindOf(err); {
	case err == nil, k == errs.Exists: // a crash came before it was noted
	case k == errs.Corrupt, k == errs.TooLarge, k == errs.Invalid:
		return s.give(sp, e, p, &smtp.Reply{Code: 554, Enhanced: "5.3.0", Text: errs.Public(err)})
	default:
		s.wait(sp, p, errs.Public(err), shortPause)
		return err
	}
	sp.mu.Lock()
	p.Stage, p.Why = queued, ""
	sp.mu.Unlock()
	if err := sp.changed(e); err != nil {
		return err
	}
	if a.Poke != nil {
		a.Poke()
	}
	switch {
	case kind == toProxy:
		s.refresh(ctx, wg, a, p.Rcpts[0].To)
	case p.PGP:
		s.refreshWeb(ctx, wg, sp, e, p.Rcpts[0].To)
	}
	return nil
}

// target is what the letter of a part is sealed to. nil without an error: not known yet.
func (s *Submit) target(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part) (*letter.Address, kind, error) {
	a := sp.a
	if p.World {
		return s.exit(ctx, wg, sp, e, p)
	}
	way := road{kind: toRelay, relay: p.Relay}
	if p.Relay == (packet.ID{}) {
		var err error
		if way, err = s.road(a, p.Rcpts[0].To, e.Anon != nil); err != nil {
			return nil, 0, err
		}
	}
	switch way.kind {
	case held:
		return nil, 0, s.hold(ctx, sp, p, way)
	case lookUp:
		ordinary, err := s.known(ctx, wg, sp, e, p, way)
		if err != nil || !ordinary {
			return nil, 0, err
		}
		if way.half {
			return nil, 0, replyNoBox
		}
		way.kind = toRelay
	case toProxy:
		return &way.to, toProxy, nil
	case toWorld: // the directory was not known before
		p.World = true
		return s.exit(ctx, wg, sp, e, p)
	}
	cons, err := a.Consensus()
	if err != nil {
		return nil, 0, err
	}
	relay := cons.Find(way.relay)
	switch {
	case relay == nil:
		return nil, 0, errs.E("agent/mixsubmit.target", errs.Unavailable, "the recipient's relay is not in the directory of the network now", nil)
	case relay.LetterKey == nil:
		return nil, 0, replyNoDoor
	}
	if !e.Ordinary {
		if wait, err := s.pgp(ctx, wg, sp, e, p); err != nil || wait {
			return nil, 0, err
		}
	}
	switch {
	case e.Ordinary || p.PGP:
	case !s.o.AllowCleartext || slices.ContainsFunc(p.Rcpts, func(r recipient) bool { _, reply := anon.ReplyName(r.To); return !reply }):
		return nil, 0, replyCleartext
	}
	key, err := letter.ParsePublicKey(relay.LetterKey)
	if err != nil {
		return nil, 0, err
	}
	return &letter.Address{Relay: relay.ID, Key: key}, toRelay, nil
}

// letter seals the mail to a part's target.
func (s *Submit) letter(sp *spool, e *entry, p *part, to *letter.Address, k kind) (*client.Outgoing, error) {
	const op = "agent/mixsubmit.letter"
	a := sp.a
	m, t := vouch.Mail{Sender: e.sender(p), Token: p.Token}, letter.Message{}
	if e.Anon == nil {
		cert, err := a.Certificate()
		if err == nil {
			var cons *directory.Consensus
			if cons, err = a.Consensus(); err == nil {
				err = cert.Verify(cons, s.o.Now())
			}
		}
		if err != nil { // it comes over the line; until then nobody would believe the letter
			return nil, errs.E(op, errs.Unavailable, "the certificate of this account is not there yet, or has expired", err)
		}
		m.Certificate = cert.Bytes()
		t.Date, t.Signer, t.Sender = s.o.Now().Truncate(time.Second), a.Identity.Sign, cert.Address.String()
	}
	raw, err := sp.text(e)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if p.PGP {
		if raw, err = s.encrypt(a, e, p, raw); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	m.Raw = raw
	for _, r := range p.Rcpts {
		m.Recipients = append(m.Recipients, r.To)
	}
	t.Content = m.Append(nil)
	sealed, err := letter.Seal(to.Key, t, rooms(e.Unreliable))
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	o := &client.Outgoing{Name: p.Name, Created: e.Created, Expires: e.Expires, Kind: content.Letter, Relay: to.Relay, Mailbox: to.Mailbox,
		Ack: !e.Unreliable, Note: note(p), Bodies: sealed.Bodies}
	if k != toProxy {
		o.Kind = content.Mail
	}
	return o, nil
}

// encrypt makes OpenPGP/MIME of a mail to an ordinary mailbox.
func (s *Submit) encrypt(a *Account, e *entry, p *part, raw []byte) ([]byte, error) {
	const op = "agent/mixsubmit.encrypt"
	key := s.pgpKey(a, p.Rcpts[0].To, e.Anon != nil)
	if key == nil {
		return nil, errs.E(op, errs.Invalid, "the OpenPGP key of the recipient has expired", nil)
	}
	out, err := openpgp.Encrypt(raw, []*openpgp.Key{key}, s.o.Now(), s.o.Rand)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if v := pgpmime.Check(out, pgpmime.Incoming, nil); !v.Encrypted {
		return nil, errs.E(op, errs.Invalid, "the mail could not be encrypted in a form that the recipient's relay takes", errors.New(v.Reason))
	}
	return out, nil
}

// note is what the user's own list says of a part.
func note(p *part) string {
	text := p.Rcpts[0].To.String()
	if len(p.Rcpts) > 1 {
		text += " …"
	}
	return text
}

// hold keeps a mail back whose recipient has another key than before, and tells the user once for each
// such key.
func (s *Submit) hold(ctx context.Context, sp *spool, p *part, way road) error {
	s.wait(sp, p, "the key of the recipient has changed: compare the fingerprint and verify it", longPause)
	return s.tellChanged(ctx, sp.a.Address, way.key)
}

// Waiting is a mail that is not settled, for the user's eyes.
type Waiting struct {
	ID      string
	From    mail.Address
	To      []mail.Address // those who are not settled
	Created time.Time
	Expires time.Time
	Size    int64
	Why     string   // why it is not on its way; empty: it is
	Names   []string // of its messages in the client's store
}

// Waiting lists the mails of all accounts that are not settled, the oldest first of each.
func (s *Submit) Waiting() ([]Waiting, error) {
	var out []Waiting
	for _, a := range s.o.Accounts() {
		sp, err := s.spool(a)
		if err != nil {
			return nil, err
		}
		for _, e := range sp.list() {
			out = append(out, sp.show(e))
		}
	}
	return out, nil
}

func (s *spool) show(e *entry) Waiting {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := Waiting{ID: e.ID, From: e.From, Created: e.Created, Expires: e.Expires, Size: e.Size}
	for _, p := range e.Parts {
		if p.Stage == settled {
			continue
		}
		for _, r := range p.Rcpts {
			w.To = append(w.To, r.To)
		}
		switch p.Stage {
		case waiting:
			w.Why = p.Why
			if w.Why == "" {
				w.Why = "it is being made ready"
			}
		case queued:
			w.Names = append(w.Names, p.Name)
		}
	}
	return w
}
