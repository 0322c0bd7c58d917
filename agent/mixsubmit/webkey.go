package mixsubmit

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"postern.email/agent/notice"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/openpgp"
)

// webLife is for how long a key is taken for the one that its domain shows.
const webLife = 24 * time.Hour

// asksWeb reports whether the domain of a recipient may be asked for a key (Web Key Directory). For mail
// without its sender's name nobody is asked: who runs the domain would see a look-up, and then the mail.
// Reply addresses have no such keys.
func (a *Account) asksWeb(e *entry, to mail.Address) bool {
	_, reply := anon.ReplyName(to)
	return a.WebKey != nil && e.Anon == nil && !reply
}

// pgp sets PGP of a part that must be encrypted and has one recipient, if there is a key, and notes NoKey
// where the recipient's domain shows none. wait: it is not known yet.
func (s *Submit) pgp(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part) (wait bool, err error) {
	to := p.Rcpts[0].To
	if p.PGP || len(p.Rcpts) != 1 {
		return false, nil
	}
	if s.pgpKey(sp.a, to, e.Anon != nil) != nil {
		p.PGP = true
		return false, nil
	}
	if p.NoKey || !sp.a.asksWeb(e, to) {
		return false, nil
	}
	p.NoKey, err = s.inquire(ctx, wg, sp, e, p, question{to: to.Canonical(), web: sp.a.Address}, func(ctx context.Context) (bool, error) {
		return s.webKey(ctx, sp, to)
	})
	if err != nil && p.World && s.o.AllowCleartext { // nobody can tell, and the user lets it go
		p.NoKey, err = true, nil
	}
	return !p.NoKey && err == nil, err
}

// webKey asks the domain of an address, notes its key and tells the user of a new one. What a mail of the
// recipient carried stays, while it works. none: the domain shows no key that can be used, and one that it showed before is
// forgotten.
func (s *Submit) webKey(ctx context.Context, sp *spool, to mail.Address) (none bool, err error) {
	const op = "agent/mixsubmit.webKey"
	b, err := sp.a.WebKey(ctx, to)
	k := errs.KindOf(err)
	none = err != nil && (k == errs.NotFound || k == errs.Invalid || k == errs.TooLarge) // what is no key of the address is none
	if err != nil && !none {
		return false, errs.Wrap(op, err)
	}
	now := s.o.Now()
	sp.peers.Lock()
	defer sp.peers.Unlock()
	old, oldErr := sp.peer(to)
	switch k := errs.KindOf(oldErr); {
	case oldErr != nil && k != errs.NotFound && k != errs.Corrupt:
		return false, errs.Wrap(op, oldErr)
	case none && oldErr == nil && old.Web:
		return true, sp.remove(sp.a.FS.PathJoin(peersDir, sp.peerFile(to)))
	case none:
		return true, nil
	}
	key, err := openpgp.ParseKey(b, now)
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	var before *openpgp.Key
	if oldErr == nil {
		if before, err = openpgp.ParseKey(old.Key, now); err == nil && !old.Web {
			return false, nil // it came with a mail that somebody vouches for
		}
	}
	if before == nil || before.Fingerprint() != key.Fingerprint() {
		if err := s.tellWebKey(ctx, sp.a.Address, to, before, key); err != nil { // before it is noted, as with found
			return false, errs.Wrap(op, err)
		}
	}
	return false, errs.Wrap(op, sp.note(peer{Address: to.Canonical(), Key: b, Date: now.UTC(), Web: true}, errs.KindOf(oldErr) == errs.NotFound && oldErr != nil))
}

// tellWebKey tells a user of a key that a domain shows, once for each.
func (s *Submit) tellWebKey(ctx context.Context, account, to mail.Address, before, key *openpgp.Key) error {
	sum := sha256.Sum256([]byte(key.Fingerprint()))
	n := notice.Note{Subject: "An OpenPGP key was found", Proof: [][]byte{[]byte("mixsubmit: web key"), []byte(to.Canonical().String()), sum[:]},
		Text: "The OpenPGP key of a recipient whom you wrote to was looked up at the recipient's domain (Web Key Directory):\n\n  " + to.Canonical().String() + "\n  " + key.Fingerprint() +
			"\n\nMail to this address is encrypted to it from now on. Nobody but that domain vouches for this key: to be sure, compare the fingerprint with the recipient over another channel."}
	if before != nil {
		n.Subject = "An OpenPGP key has changed"
		n.Text += "\n\nBefore, the domain showed another key:\n\n  " + before.Fingerprint()
	}
	return s.o.Desk.Tell(ctx, account, n)
}

// refreshWeb asks again for a key that a domain showed, once a day and when mail goes to it, which does not
// wait for that.
func (s *Submit) refreshWeb(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, to mail.Address) {
	if !sp.a.asksWeb(e, to) {
		return
	}
	now := s.o.Now()
	if p, err := sp.peer(to); err != nil || !p.Web || now.Sub(p.Date) < webLife {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := question{to: to.Canonical(), web: sp.a.Address}
	if at, ok := s.webChecked[q]; ok && now.Sub(at) < webLife {
		return
	}
	if ok, _ := s.lookups.Allow(sp.a.Address.String()); !ok {
		return
	}
	if len(s.webChecked) >= maxAsked {
		clear(s.webChecked)
	}
	s.webChecked[q] = now
	wg.Go(func() {
		if _, err := s.webKey(ctx, sp, to); err != nil && ctx.Err() == nil {
			s.o.Logger.Debug("a key could not be looked up again", "err", err)
		}
	})
}
