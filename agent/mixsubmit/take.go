package mixsubmit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/pgpmime"
	"postern.email/mail/sanitize"
	"postern.email/mixnet/client"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/wire/smtp"
)

// take judges a whole mail and puts it into the spool: nil, with words for the sender, means that it
// is durable.
func (s *Submit) take(m *envelope, raw []byte) (text string, err error) {
	a := m.account
	if err := s.fits(a, int64(len(raw))); err != nil {
		return "", err
	}
	h, _, err := mail.ParseHeader(raw)
	if err != nil {
		return "", replyParse(err)
	}
	from, err := mail.FromAddress(h)
	if err != nil {
		return "", replyFromHeader(err)
	}
	g, asked, err := a.goes(m.from, from, h)
	if err != nil {
		return "", err
	}
	if g != nil {
		if raw, err = sanitize.Unmarked(raw, anon.NoReturn().Domain); err != nil {
			return "", replyParse(err)
		}
	}
	answers, err := a.answers(g, h)
	if err != nil {
		return "", err
	}
	now := s.o.Now()
	header, off, err := s.header(raw, g, answers, from, now)
	if err != nil {
		return "", err
	}
	if err := g.tells(a, header, m.rcpts); err != nil {
		return "", err
	}
	whole := slices.Concat(header, raw[off:])
	if err := s.wouldPass(a, whole, m, g); err != nil {
		return "", err
	}
	var to []mail.Address
	for _, r := range m.rcpts {
		to = append(to, r.To)
	}
	verdict := pgpmime.Check(whole, pgpmime.Incoming, to)
	e := &entry{From: a.Address.Canonical(), Anon: g, Created: now.Truncate(time.Second), EnvID: m.options.EnvID, Return: uint8(m.options.Return),
		Unreliable: asked.Unreliable, Encrypted: verdict.Encrypted, Ordinary: mayTake(toRelay, verdict, false, false)}
	unknown := s.split(a, e, m.rcpts, verdict)
	if len(e.Parts) == 1 && e.Parts[0].Stage == failed { // nobody gets it
		return "", unknown
	}
	if g != nil {
		if err := g.address(a, len(whole)); err != nil {
			return "", err
		}
		if header, off, err = s.header(raw, g, answers, from, now); err != nil {
			return "", err
		}
		whole = slices.Concat(header, raw[off:])
	}
	e.Size, e.Header = int64(len(whole)), cutHeader(header)
	expected := s.forecast(a, e, len(whole))
	e.Expires = e.Created.Add(max(lifetime(a), Patience*expected))
	for _, p := range e.Parts {
		if p.Name, err = a.Store.NewName(); err != nil {
			return "", errs.Wrap("agent/mixsubmit.take", err)
		}
	}
	sp, err := s.spool(a)
	if err == nil {
		err = sp.add(e, whole, s.o.MaxMails, s.o.MaxBytes)
	}
	if err != nil {
		if errs.KindOf(err) == errs.Full {
			return "", &smtp.Reply{Code: 452, Enhanced: "4.3.1", Text: errs.Public(err)}
		}
		return "", errs.Wrap("agent/mixsubmit.take", err)
	}
	s.Look()
	return e.said(a, expected), nil
}

func lifetime(a *Account) time.Duration {
	if a.Lifetime > 0 {
		return a.Lifetime
	}
	return client.Lifetime
}

// wouldPass asks the one check of all doors (agent/vouch) before the mail is taken, as far as the
// network is known: what no door lets in is refused at once.
func (s *Submit) wouldPass(a *Account, raw []byte, m *envelope, g *anonymous) error {
	cons, err := a.Consensus()
	if err != nil {
		return nil
	}
	now := s.o.Now()
	content := vouch.Mail{Recipients: []mail.Address{m.rcpts[0].To}, Raw: raw}
	l := &letter.Letter{}
	if g == nil {
		cert, err := a.Certificate()
		if err != nil {
			return nil // it waits for one
		}
		if cert.Verify(cons, now) != nil {
			return nil // the same
		}
		content.Certificate, content.Sender = cert.Bytes(), a.Address.Canonical()
		l.Date, l.From, l.Sender = now, a.Identity.Sign.Public(), cert.Address.String()
	}
	l.Content = content.Append(nil)
	if _, err := vouch.Check(cons, now, l, vouch.Door{}); err != nil {
		return &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "no door of the network would let this mail in: " + errs.Public(err)}
	}
	return nil
}

// split puts the recipients into parts: each proxy its own, all ordinary mailboxes of a relay one, and
// all who cannot get the mail one more. It gives the refusal of the first of those.
func (s *Submit) split(a *Account, e *entry, rcpts []recipient, v pgpmime.Verdict) error {
	var refused *part
	var first error
	relays := make(map[packet.ID]*part)
	exit := s.o.AllowCleartext && s.clearExit(a, e.Anon != nil)
	var world *part
	for _, r := range rcpts {
		way, err := s.road(a, r.To, e.Anon != nil)
		clear := s.o.AllowCleartext && way.reply || way.kind == toWorld && exit
		if err == nil {
			e.held, e.asks = e.held || way.kind == held, e.asks || way.kind == lookUp
		}
		made, key := false, false
		if err == nil && !mayTake(way.kind, v, false, false) {
			// Better encrypted by the proxy than in cleartext, where both may be.
			key = s.pgpKey(a, r.To, e.Anon != nil) != nil
			made = mayTake(way.kind, v, key || a.asksWeb(e, r.To), false)
			e.asks = e.asks || made && !key
			if !made && !mayTake(way.kind, v, false, clear) {
				err = s.needs(way)
			}
		}
		switch {
		case err != nil && !later(err):
			if refused == nil {
				refused, first = &part{Stage: failed}, err
			}
			r.refuse(smtp.ReplyFor(err))
			refused.Rcpts = append(refused.Rcpts, r)
		case made:
			e.Parts = append(e.Parts, &part{Relay: way.relay, World: way.kind == toWorld, PGP: key, Rcpts: []recipient{r}})
		case err == nil && way.kind == toWorld:
			if world == nil || len(world.Rcpts) == worldRcpts {
				world = &part{World: true}
				e.Parts = append(e.Parts, world)
			}
			world.Rcpts = append(world.Rcpts, r)
		case err == nil && way.kind == toRelay:
			p := relays[way.relay]
			if p == nil {
				p = &part{Relay: way.relay}
				relays[way.relay] = p
				e.Parts = append(e.Parts, p)
			}
			p.Rcpts = append(p.Rcpts, r)
		default:
			e.Parts = append(e.Parts, &part{Rcpts: []recipient{r}})
		}
	}
	if refused != nil {
		e.Parts = append(e.Parts, refused)
	}
	return first
}

// worldRcpts is how many recipients a letter to an exit has: each letter costs a token, and exits take
// no more recipients for one.
const worldRcpts = 5

// clearExit reports whether an exit takes cleartext of an account.
func (s *Submit) clearExit(a *Account, anonymous bool) bool {
	cons, err := a.Consensus()
	return err == nil && exitOf(cons, a, false, anonymous) != nil
}

// needs says why a mail must be encrypted that is not.
func (s *Submit) needs(way road) *smtp.Reply {
	switch {
	case way.kind == toWorld && s.o.AllowCleartext:
		return replyNoExit
	case way.kind == toWorld:
		return replyWorldClear
	case way.reply:
		return replyReplyClear
	}
	return replyCleartext
}

// refuse notes what a recipient's report says.
func (r *recipient) refuse(why *smtp.Reply) {
	r.Status, r.Why = why.Enhanced, why.String()
	if r.Status == replyCleartext.Enhanced {
		r.Status = "5.7.0" // the other means TLS to most readers
	}
}

// later tells a refusal that is only for now.
func later(err error) bool {
	var r *smtp.Reply
	return errors.As(err, &r) && r.Code/100 == 4
}

// rooms tells how a letter is cut.
func rooms(unreliable bool) letter.Options {
	if unreliable {
		return letter.Options{Room: letter.RoomPlain, Coded: true}
	}
	return letter.Options{Room: letter.RoomACK}
}

// around is about what a letter has besides the mail: certificate, proof, addresses.
const around = 13 << 10

// forecast is when all letters of a mail are expected to arrive. What compresses needs less.
func (s *Submit) forecast(a *Account, e *entry, size int) time.Duration {
	n := letter.Packets(size+around, rooms(e.Unreliable))
	letters := 0
	for _, p := range e.Parts {
		if p.Stage == waiting {
			letters++
		}
	}
	return s.expect(a, n*letters).Mean
}

// said is what the sender is told at once.
func (e *entry) said(a *Account, expected time.Duration) string {
	how, after := e.Anon.said(a)
	switch how = "queued" + how; {
	case e.held:
		return how + ", and held back: the key of a recipient has changed, a report in your mailbox says more" + after
	case expected <= 0:
		return how + ", leaves when the network can be reached" + after
	case e.asks:
		return how + ", arrives in " + about(expected) + " once the key of a recipient is found" + after
	}
	return how + ", arrives in " + about(expected) + after
}

// about is a time for people.
func about(d time.Duration) string {
	switch minutes, hours := d.Minutes(), d.Hours(); {
	case d < 15*time.Second:
		return "a few seconds"
	case d < 45*time.Second:
		return "about half a minute"
	case minutes < 1.5:
		return "about 1 min"
	case minutes < 90:
		return fmt.Sprintf("about %.0f min", math.Round(minutes))
	case hours < 48:
		return fmt.Sprintf("about %.0f h", math.Round(hours))
	default:
		return fmt.Sprintf("about %.0f days", math.Round(hours/24))
	}
}

// cutHeader keeps whole fields of a header, as many as a report may hold.
func cutHeader(header []byte) []byte {
	h, _, _ := mail.ParseHeader(header)
	var out []byte
	for _, f := range h.Fields() {
		n := len(out)
		if out = mail.AppendField(out, f); len(out) > maxHeader {
			return out[:n]
		}
	}
	return out
}
