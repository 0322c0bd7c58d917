package mixsubmit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"postern.email/agent/notice"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/keybook"
	"postern.email/wire/smtp"
)

// Times of look-ups.
const (
	firstRetry = time.Minute // after a look-up that gave no answer; doubled each time …
	lastRetry  = 20 * time.Minute
	forget     = 10 * time.Minute // for how long "unknown" is believed
	maxAsked   = 1000             // addresses that something is remembered of
)

// lookup is what is known of the look-up of one address.
type lookup struct {
	running bool
	tries   int
	due     time.Time // the next one
	unknown time.Time // when the relay said that it knows no such key; zero: it did not
	why     string    // the last one failed
}

// question is what is looked up: the key of an address at its relay, or, for an account, in the web.
type question struct{ to, web mail.Address }

// known finds out whether a recipient has a proxy, while mail waits for that. ordinary: its relay
// knows no key, so it is an ordinary mailbox, or nobody's. When a key has come it is in the key
// book, and the next look at the part finds it there.
func (s *Submit) known(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part, way road) (ordinary bool, err error) {
	var ask func(context.Context) (bool, error)
	to := p.Rcpts[0].To
	if way.relay != (packet.ID{}) { // else the directory is not known yet
		ask = func(ctx context.Context) (bool, error) { return s.ask(ctx, sp.a, way.relay, to) }
	}
	return s.inquire(ctx, wg, sp, e, p, question{to: to}, ask)
}

// inquire looks a key up while mail waits for it. none: there is no such key, as was answered a short time
// ago. ask is nil while there is nobody to ask. The error is a *smtp.Reply, when it has taken too long.
func (s *Submit) inquire(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part, q question, ask func(context.Context) (none bool, err error)) (none bool, err error) {
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.asked[q]
	if l != nil && !l.unknown.IsZero() && now.Sub(l.unknown) < forget {
		return true, nil
	}
	limit := sp.a.LookupTime
	if limit <= 0 {
		limit = DefaultLookupTime
	}
	if !now.Before(e.Created.Add(limit)) {
		why := "the key of the recipient could not be looked up in time"
		if l != nil && l.why != "" {
			why += ": " + l.why
		}
		return false, &smtp.Reply{Code: 550, Enhanced: "5.4.4", Text: why}
	}
	sp.mu.Lock()
	p.Why = "the recipient's key is being looked up"
	sp.mu.Unlock()
	switch {
	case ask == nil:
		return false, nil
	case l == nil:
		if len(s.asked) >= maxAsked {
			s.forgetAsked(now)
		}
		if len(s.asked) >= maxAsked {
			return false, nil
		}
		l = &lookup{}
		s.asked[q] = l
	}
	if l.running || now.Before(l.due) {
		return false, nil
	}
	if ok, _ := s.lookups.Allow(sp.a.Address.String()); !ok {
		return false, nil
	}
	l.running, l.unknown = true, time.Time{}
	l.tries++
	wg.Go(func() { s.lookUp(ctx, q, l, ask) })
	return false, nil
}

// forgetAsked makes room; s.mu is held.
func (s *Submit) forgetAsked(now time.Time) {
	for a, l := range s.asked {
		if !l.running && now.After(l.due) && now.Sub(l.unknown) >= forget {
			delete(s.asked, a)
		}
	}
}

// lookUp asks once, and notes what came of it.
func (s *Submit) lookUp(ctx context.Context, q question, l *lookup, ask func(context.Context) (none bool, err error)) {
	unknown, err := ask(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	l.running, l.why = false, ""
	switch {
	case unknown:
		l.unknown = now
	case err != nil:
		l.why = errs.Public(err)
		l.due = now.Add(min(firstRetry<<min(l.tries-1, 10), lastRetry))
		s.o.Logger.Debug("a key could not be looked up", "err", err)
	default:
		delete(s.asked, q)
	}
	s.Look()
}

// ask is one look-up: it asks a relay for the certificate of an address, through the mix network, and puts
// the key into the key book.
func (s *Submit) ask(ctx context.Context, a *Account, relay packet.ID, to mail.Address) (unknown bool, err error) {
	const op = "agent/mixsubmit.ask"
	request, err := content.AppendLookup(nil, to.Canonical().String())
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	status, answer, err := a.Ask(ctx, relay, content.ServiceCertificate, request)
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	switch status {
	case content.AnswerOK:
	case content.AnswerLater:
		return false, errs.E(op, errs.Busy, "the recipient's relay answers no questions now", nil)
	default:
		return true, nil
	}
	cert, err := vouch.Parse(answer)
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	cons, err := a.Consensus()
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	if err := cert.Verify(cons, s.o.Now()); err != nil {
		return false, errs.Wrap(op, err)
	}
	if !cert.Address.Equal(to) {
		return false, errs.E(op, errs.Denied, "the recipient's relay answered with the key of somebody else", nil)
	}
	return false, errs.Wrap(op, s.found(ctx, a, cert))
}

// found puts a key that was looked up into the key book, and tells the user.
func (s *Submit) found(ctx context.Context, a *Account, cert *vouch.Certificate) error {
	key := cert.BookKey()
	e, err := s.o.Book.Get(cert.Address)
	if err == nil && e.Key.Classical {
		return s.pin(cert, e)
	}
	if err != nil && errs.KindOf(err) == errs.NotFound {
		// Told before it is noted: the proof keeps it from being told twice.
		n := notice.Note{Subject: "A key was found", Proof: [][]byte{[]byte("mixsubmit: key found"), []byte(cert.Address.String()), []byte(key.Text)},
			Text: "The key of a recipient whom you wrote to was looked up at the recipient's relay:\n\n  " + cert.Address.String() + "\n  " + key.Fingerprint +
				"\n\nMail that waited for it is on its way now. Nobody but that relay vouches for this key: until you have compared the fingerprint with the recipient it is marked as unverified. " +
				"Compare it over another channel, and say so with:\n\n  postern proxy verify " + cert.Address.String()}
		if err := s.o.Desk.Tell(ctx, a.Address, n); err != nil {
			return err
		}
	}
	_, err = s.o.Book.Discovered(cert.Address, key)
	if errs.KindOf(err) == errs.Conflict {
		return nil // the part finds it held
	}
	return err
}

// refreshTime is for how long a key that was looked up is taken for the one that the relay says today.
const refreshTime = 24 * time.Hour

// refresh looks a key up again that came by look-up, once a day and when mail goes to it: who sets up a
// new program has a new key, and mail that is sealed to the old one is lost. The mail does not wait for
// that; what is found concerns the next one.
func (s *Submit) refresh(ctx context.Context, wg *sync.WaitGroup, a *Account, to mail.Address) {
	if !a.Discover || a.Ask == nil || s.account(to) != nil {
		return
	}
	e, err := s.o.Book.Get(to)
	if err != nil || e.State != keybook.Discovered {
		return
	}
	cons, err := a.Consensus()
	if err != nil {
		return
	}
	relay, now := relayOf(cons, to), s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.checked[e.Address]
	if !ok {
		at = e.Since
	}
	if relay == nil || now.Sub(at) < refreshTime {
		return
	}
	if ok, _ := s.lookups.Allow(a.Address.String()); !ok {
		return
	}
	s.checked[e.Address] = now
	wg.Go(func() {
		if _, err := s.ask(ctx, a, relay.ID, to); err != nil && ctx.Err() == nil {
			s.o.Logger.Debug("a key could not be looked up again", "err", err)
		}
	})
}

// pin notes the whole key of a recipient whose classical half is known, if the halves agree.
func (s *Submit) pin(cert *vouch.Certificate, e keybook.Entry) error {
	whole := cert.Letter.Bytes()
	if !bytes.Equal(whole[len(whole)-letter.ClassicalKeyLen:], e.Key.Bytes) {
		return errs.E("agent/mixsubmit.pin", errs.Denied, "the recipient's relay says another key than your key book", nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[cert.Address] = pin{half: e.Key.Text, to: cert.To(), at: s.o.Now()}
	return nil
}

// tellChanged tells a user, once for each key, that a recipient's key has changed.
func (s *Submit) tellChanged(ctx context.Context, to mail.Address, e keybook.Entry) error {
	sum := sha256.Sum256([]byte(e.New.Text))
	return s.o.Desk.Tell(ctx, to, notice.Note{Subject: "A key has changed: mail is held back", Proof: [][]byte{[]byte("mixsubmit: key changed"), []byte(e.Address.String()), sum[:]},
		Text: "The key of a recipient has changed, and mail to this address is held back until you decide:\n\n  " + e.Address.String() + "\n  before: " + e.Key.Fingerprint +
			"\n  now:    " + e.New.Fingerprint + "\n\nThis happens when somebody sets up a new program. It also happens when somebody else wants to read the mail. Ask the recipient over another channel for the " +
			"fingerprint, and if it is the new one type:\n\n  postern proxy verify " + e.Address.String() + "\n\nMail that is held back for too long comes back to you with a report."})
}
