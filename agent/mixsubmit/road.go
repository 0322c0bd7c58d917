package mixsubmit

import (
	"slices"
	"strings"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/keybook"
	"postern.email/wire/smtp"
)

// kind says how mail for a recipient travels.
type kind uint8

const (
	toProxy kind = iota // sealed to the recipient's proxy
	toRelay             // sealed to the recipient's relay, for an ordinary mailbox
	lookUp              // a key is to be looked up
	held                // the key has changed: until the user decides
	toWorld             // sealed to an exit, which sends it on to other hosts
)

// road is the way to a recipient.
type road struct {
	kind  kind
	to    letter.Address // toProxy
	relay packet.ID      // toRelay, lookUp; zero: not known yet
	key   keybook.Entry  // held
	half  bool           // lookUp: of a recipient whose bare X25519 key is known, and no more
	reply bool           // toRelay: a reply address, whose relay seals what comes
}

// road finds the way of a mail, anonymous or not, to a recipient. The error is a *smtp.Reply: temporary
// while the directory of the network is not known.
func (s *Submit) road(a *Account, to mail.Address, anonymous bool) (road, error) {
	if own := s.account(to); own != nil {
		return road{kind: toProxy, to: own.Home}, nil
	}
	e, err := s.o.Book.Get(to)
	switch {
	case err == nil && e.Usable() && e.Key.Classical:
		return s.half(a, e)
	case err == nil && e.Usable():
		id, err := vouch.ParseIdentity([]byte(e.Key.Text))
		if err != nil {
			return road{}, &smtp.Reply{Code: 550, Enhanced: "5.7.5", Text: "Recipient address rejected: the key in the key book cannot be used: " + errs.Public(err)}
		}
		return road{kind: toProxy, to: id.To()}, nil
	case err == nil:
		return road{kind: held, key: e}, nil
	case errs.KindOf(err) != errs.NotFound:
		return road{}, &smtp.Reply{Code: 550, Enhanced: "5.7.5", Text: "Recipient address rejected: " + errs.Public(err)}
	}
	cons, err := a.Consensus()
	if err != nil {
		if a.Discover && a.Ask != nil {
			return road{kind: lookUp}, nil
		}
		return road{}, replyNoNetwork
	}
	relay := relayOf(cons, to)
	_, reply := anon.ReplyName(to)
	switch {
	case relay == nil && a.Fetch != nil && exitOf(cons, a, true, anonymous) != nil && strings.Contains(to.Domain, "."):
		return road{kind: toWorld}, nil
	case relay == nil:
		return road{}, replyNoRoad
	case a.Discover && a.Ask != nil && !reply: // reply addresses have no certificate
		return road{kind: lookUp, relay: relay.ID}, nil
	case relay.LetterKey == nil:
		return road{}, replyNoDoor
	}
	return road{kind: toRelay, relay: relay.ID, reply: reply}, nil
}

// half is the way to a recipient of whom only the classical half of a key is known, as mailproxy had
// them. Where the packet box is, and the other half, its relay says; and that is believed only where
// the classical half is the known one.
func (s *Submit) half(a *Account, e keybook.Entry) (road, error) {
	s.mu.Lock()
	p, ok := s.pins[e.Address]
	s.mu.Unlock()
	if ok && p.half == e.Key.Text && s.o.Now().Sub(p.at) < pinTime {
		return road{kind: toProxy, to: p.to}, nil
	}
	if a.Ask == nil {
		return road{}, replyNoRoad
	}
	way := road{kind: lookUp, half: true}
	cons, err := a.Consensus()
	if err != nil {
		return way, nil
	}
	relay := relayOf(cons, e.Address)
	if relay == nil {
		return road{}, replyNoRoad
	}
	way.relay = relay.ID
	return way, nil
}

// pin is what a relay said about a recipient of whom a half of the key was known.
type pin struct {
	half string // text of that half
	to   letter.Address
	at   time.Time
}

// pinTime is for how long that is believed.
const pinTime = 24 * time.Hour

// relayOf gives the relay that has mailboxes of an address's domain.
func relayOf(cons *directory.Consensus, to mail.Address) *directory.Entry {
	domain := mail.CanonicalDomain(to.Domain)
	for i := range cons.Nodes {
		if e := &cons.Nodes[i]; e.Mode.Has(directory.Mailbox) && slices.Contains(e.Domains, domain) {
			return e
		}
	}
	return nil
}

// exitOf gives a node that sends mail of an account into the world: the own relay if it does, for then
// the mail is signed by the domain that From names. For anonymous mail it is another one if there is any,
// so that not one relay alone sees the sender's line and what comes out.
func exitOf(cons *directory.Consensus, a *Account, encrypted, anonymous bool) (exit *directory.Entry) {
	var own *directory.Entry
	for i := range cons.Nodes {
		e := &cons.Nodes[i]
		if !anonymous && !e.SendsMail(a.Address.Domain, encrypted) || anonymous && !e.SendsAnonymous(encrypted) {
			continue
		}
		if e.ID == a.Home.Relay {
			own = e
		} else if exit == nil || e.Score > exit.Score {
			exit = e
		}
	}
	if own != nil && (exit == nil || !anonymous) {
		return own
	}
	return exit
}

// mayTake is the one owner of what the proxy takes for which way: anything to a known proxy, for it
// is sealed from end to end; to everybody else what the door there takes, which is mail that
// is encrypted already, or that the proxy encrypts itself (key), and, at a relay, the first step of a key
// exchange.
// clear: the user lets mail leave unencrypted, and there is somebody who takes it: an exit, or the relay of
// a reply address.
func mayTake(k kind, v pgpmime.Verdict, key, clear bool) bool {
	switch k {
	case toRelay:
		return v.Encrypted || key || clear || v.Exception == pgpmime.SecureJoinRequest
	case toWorld:
		return v.Encrypted || key || clear
	}
	return true
}
