package vouch

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// Kind says who vouches for a mail.
type Kind uint8

// Kinds.
const (
	User      Kind = iota + 1 // a relay, for one of its accounts
	Relay                     // the account's own relay, which took the mail by its own rules
	Anonymous                 // nobody, and the mail says so
)

func (k Kind) String() string {
	switch k {
	case User:
		return "user"
	case Relay:
		return "relay"
	case Anonymous:
		return "anonymous"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Times that a letter may be under way: from the date that its sender signed to the check. A
// certificate must be valid at that date, not at that of the check, since a letter is sealed once and
// may take days. Who has lost the right to an address can date letters back and use it for so
// long after its last certificate.
const (
	DoorTransit  = 6 * 24 * time.Hour  // to a relay or an exit: a sender gives up after five days
	InboxTransit = 36 * 24 * time.Hour // to a proxy, for which the relay keeps letters 30 days more
)

// Door is where a letter is checked.
type Door struct {
	// Home is the relay of the account that the letter came for, whose own letters are taken
	// here too; zero: no relay's. Only the inbox of a proxy has one.
	Home packet.ID
	// Transit is how long a letter may be under way; 0: DoorTransit.
	Transit time.Duration
}

// Vouched is a mail and who vouches for it.
type Vouched struct {
	Kind Kind
	Mail *Mail

	Address     mail.Address // User: the sender, canonical, as the From field says
	Certificate *Certificate // User

	Relay  packet.ID // User, Relay: who vouches
	Domain string    // Relay: the domain that it took the mail for

	Name   string       // Anonymous: what the sender calls itself, cleaned
	Return mail.Address // Anonymous: where answers go, an address that nobody logs in to
}

// Cleartext reports whether the mail came to the relay in cleartext from the world.
func (v *Vouched) Cleartext() bool { return v.Mail.Flags&FromWorld != 0 }

// Check takes the mail out of a letter and says who vouches for it. errs.Invalid,
// errs.Unsupported and errs.TooLarge for what is no mail; errs.Auth where a signature or key
// is not the right one; errs.Denied where nobody vouches for the sender that the mail names. Each
// reason has a public text of its own, which names no address.
//
// Whose mail is taken for which recipient, and whether it must be encrypted, is left to the
// caller.
func Check(cons *directory.Consensus, now time.Time, l *letter.Letter, d Door) (*Vouched, error) {
	const op = "agent/vouch.Check"
	m, err := ParseMail(l.Content)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	h, err := header(m.Raw)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	v := &Vouched{Mail: m}
	switch {
	case l.From == nil:
		err = v.anonymous(cons, h)
	case m.Flags&FromOrdinary != 0:
		err = v.relay(cons, now, l, d)
	default:
		err = v.user(cons, now, l, d, h)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return v, nil
}

// header reads the header of a mail in which every line ends in CRLF: where lines end must
// not depend on the reader, or one could be shown another From than another.
func header(raw []byte) (mail.Header, error) {
	const op = "agent/vouch.header"
	for rest := raw; len(rest) > 0; {
		i := bytes.IndexAny(rest, "\r\n\x00")
		if i < 0 {
			break
		}
		if rest[i] != '\r' || i+1 == len(rest) || rest[i+1] != '\n' {
			return mail.Header{}, errs.E(op, errs.Invalid, "the mail has a line that does not end in CRLF", nil)
		}
		rest = rest[i+2:]
	}
	h, _, err := mail.ParseHeader(raw)
	return h, errs.Wrap(op, err)
}

func deny(text string) error { return errs.E("agent/vouch.Check", errs.Denied, text, nil) }

// dated gives the date at which a certificate must have been valid.
func dated(now time.Time, l *letter.Letter, d Door) (time.Time, error) {
	transit := d.Transit
	if transit <= 0 {
		transit = DoorTransit
	}
	switch {
	case l.Date.IsZero():
		return l.Date, deny("the letter does not say when it was written")
	case l.Date.After(now.Add(directory.MaxSkew)):
		return l.Date, deny("the letter was written in the future: one clock is wrong")
	case now.Sub(l.Date) > transit:
		return l.Date, deny("the letter was under way for too long")
	}
	return l.Date, nil
}

func (v *Vouched) user(cons *directory.Consensus, now time.Time, l *letter.Letter, d Door, h mail.Header) error {
	if len(v.Mail.Certificate) == 0 {
		return deny("the mail is signed, but nobody vouches for its sender")
	}
	c, err := Parse(v.Mail.Certificate)
	if err != nil {
		return err
	}
	date, err := dated(now, l, d)
	if err != nil {
		return err
	}
	if err := c.Verify(cons, date); err != nil {
		return err
	}
	if l.From.ID() != c.Key.ID() {
		return errs.E("agent/vouch.Check", errs.Auth, "the mail is signed with another key than the sender's certificate has", nil)
	}
	if a, err := mail.ParseAddress(l.Sender); err != nil || !a.Equal(c.Address) {
		return deny("the letter names another sender than the certificate")
	}
	from, err := mail.FromAddress(h)
	if err != nil {
		return errs.E("agent/vouch.Check", errs.Denied, errs.Public(err), err)
	}
	if !from.Equal(c.Address) {
		return deny("the From field names another sender than the certificate")
	}
	if s := v.Mail.Sender; !s.IsZero() && !s.Equal(c.Address) {
		return deny("the envelope names another sender than the certificate")
	}
	for _, name := range alsoSenders {
		for _, value := range h.All(name) {
			list, err := mail.ParseAddressList(value)
			if err != nil || slices.ContainsFunc(list, func(m mail.Mailbox) bool {
				return m.Group != mail.NoGroup || !m.Address.Equal(c.Address)
			}) {
				return deny("the " + name + " field names another sender than the certificate")
			}
		}
	}
	v.Kind, v.Address, v.Certificate, v.Relay = User, c.Address, c, c.Relay
	return nil
}

// alsoSenders are fields beside From that say who sent a mail (RFC 5322 §3.6.2, §3.6.6).
var alsoSenders = []string{"Sender", "Resent-From", "Resent-Sender"}

func (v *Vouched) relay(cons *directory.Consensus, now time.Time, l *letter.Letter, d Door) error {
	if len(v.Mail.Certificate) != 0 {
		return errs.E("agent/vouch.Check", errs.Invalid, "a relay's mail has no certificate", nil)
	}
	if d.Home == (packet.ID{}) {
		return deny("mail that a relay took is only for its own accounts")
	}
	if _, err := dated(now, l, d); err != nil {
		return err
	}
	e := cons.Find(d.Home)
	switch {
	case e == nil || e.NameKey == nil:
		return deny("the account's relay is not in the network")
	case e.NameKey.ID() != l.From.ID():
		return errs.E("agent/vouch.Check", errs.Auth, "the mail says that a relay took it, but is not signed by the account's relay", nil)
	case !slices.Contains(e.Domains, l.Sender):
		return deny("the relay does not speak for this domain")
	}
	v.Kind, v.Relay, v.Domain = Relay, d.Home, l.Sender
	return nil
}

// namesSender are the fields besides From with which a mail could name a sender, or a proof of one, to
// its reader's program.
var namesSender = []string{"Sender", "Resent-From", "Resent-Sender", "Resent-Reply-To", "Return-Path", "Autocrypt",
	"DKIM-Signature", "ARC-Seal", "Authentication-Results", "ARC-Authentication-Results", "Received-SPF",
	"Disposition-Notification-To", "Return-Receipt-To", "Errors-To", "X-Sender", "X-Original-From",
	"X-Postern-Sender", "X-Katzenpost-Sender"}

func (v *Vouched) anonymous(cons *directory.Consensus, h mail.Header) error {
	switch {
	case v.Mail.Flags != 0:
		return errs.E("agent/vouch.Check", errs.Auth, "the mail says that a relay took it, but is not signed", nil)
	case len(v.Mail.Certificate) != 0:
		return errs.E("agent/vouch.Check", errs.Auth, "the mail has a certificate, but is not signed", nil)
	case h.Count("From") != 1:
		return deny("an anonymous mail has exactly one From field")
	}
	name, ret, ok := anon.Parse(h.Get("From"))
	if !ok {
		return deny(`nobody vouches for the sender: the From field of anonymous mail is "[Anon] name" <return address>`)
	}
	if !v.mayReturn(cons, ret) {
		return deny("the return address of the anonymous mail could be somebody's own")
	}
	for _, n := range namesSender {
		if h.Count(n) > 0 {
			return errs.E("agent/vouch.Check", errs.Denied, "an anonymous mail has no field "+n, nil)
		}
	}
	for _, value := range h.All("Reply-To") {
		list, err := mail.ParseAddressList(value)
		if err != nil || len(list) != 1 || list[0].Group != mail.NoGroup || list[0].Name != "" || !list[0].Address.Equal(ret) {
			return deny("the Reply-To field of an anonymous mail is its return address")
		}
	}
	if s := v.Mail.Sender; !s.IsZero() && !s.Equal(ret) {
		return deny("the envelope of an anonymous mail names its return address or nobody")
	}
	v.Kind, v.Name, v.Return = Anonymous, name, ret
	return nil
}

// mayReturn reports whether an address is a return address: reserved, and at no domain or one
// of a relay in the network, which keeps it from everybody.
func (v *Vouched) mayReturn(cons *directory.Consensus, a mail.Address) bool {
	a = a.Canonical()
	if a == anon.NoReturn() {
		return true
	}
	if !anon.Reserved(a) {
		return false
	}
	for i := range cons.Nodes {
		if slices.Contains(cons.Nodes[i].Domains, a.Domain) {
			return true
		}
	}
	return false
}
