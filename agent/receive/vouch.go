package receive

import (
	"context"
	"net/netip"

	"postern.email/agent/aliasmail"
	"postern.email/mail"
	"postern.email/mail/align"
	"postern.email/mail/dkim"
	"postern.email/mail/dmarc"
	"postern.email/mail/spf"
)

// voucher is what is known of a mail beside its bytes.
type voucher struct {
	exact    bool // only a DKIM signature of the very domain in From counts, as for accounts
	envelope mail.Address
	addr     netip.Addr
	hello    string // what the client calls itself; "" where it does not say
}

// voucher gives what is known of the mail of a session.
func (c *session) voucher(exact bool) voucher {
	return voucher{exact: exact, envelope: c.mail.from, addr: c.addr(), hello: c.hello}
}

// addr is where a mail comes from; not valid where that is a proxy's address.
func (c *session) addr() netip.Addr {
	if c.peer.Exempt {
		return netip.Addr{}
	}
	return c.peer.Addr
}

// vouched is who vouches for the sender of a mail.
type vouched struct {
	word               string // as sanitize.AliasFields has it
	envelope           bool   // also for the envelope's sender
	keyName, keyRecord string // of a DKIM signature
}

// vouch looks for somebody who vouches for the domain in From: a DKIM signature, or SPF, of a domain
// that is aligned with it, as that domain's DMARC record has it. Its error, a *smtp.Reply, refuses the mail.
func (r *Receive) vouch(ctx context.Context, raw []byte, from mail.Address, o voucher) (vouched, error) {
	ctx, cancel := context.WithTimeout(ctx, CheckTime)
	defer cancel()
	by := aligned{r: r, domain: mail.CanonicalDomain(from.Domain)}
	res := r.verifier.VerifyFor(ctx, raw, func(d string) bool {
		return d == by.domain || !o.exact && by.allows(ctx, d, dmarc.Alignment.DKIM)
	})
	switch {
	case res.Verdict == dkim.Valid:
		return vouched{word: "dkim:" + res.Domain, keyName: dkim.RecordName(res.Selector, res.Domain), keyRecord: res.Record}, nil
	case o.exact:
		r.o.Logger.Debug("receive: no valid signature", "reason", res.Reason)
		return vouched{}, replyFor(res)
	}
	later := res.Verdict == dkim.Temporary
	sender := spf.Sender(o.envelope, o.hello)
	if d := mail.CanonicalDomain(sender.Domain); d == by.domain || by.allows(ctx, d, dmarc.Alignment.SPF) {
		switch r.o.SPF.Check(ctx, o.addr, o.envelope, o.hello) {
		case spf.Pass:
			return vouched{word: "spf:" + d, envelope: true}, nil
		case spf.Temporary:
			later = true
		}
	}
	if later || by.failed {
		return vouched{}, replyVouchLater
	}
	r.o.Logger.Debug("receive: nothing vouches for the sender", "reason", res.Reason)
	return vouched{}, aliasmail.NotAligned
}

// aligned asks what the domain in From says of other domains of its organization (mail/dmarc). It is
// asked once a mail, and only where the answer counts: the domain itself always vouches for itself.
type aligned struct {
	r      *Receive
	domain string // canonical
	asked  bool
	failed bool // it could not be asked
	found  dmarc.Alignment
}

// allows reports whether another domain may vouch, by what (DKIM or SPF) it does. Where that cannot be told now
// it may not.
func (a *aligned) allows(ctx context.Context, d string, by func(dmarc.Alignment, string) bool) bool {
	if !align.Relaxed(d, a.domain) {
		return false
	}
	if !a.asked {
		a.asked = true
		var err error
		a.found, err = dmarc.Find(ctx, dmarc.Lookup(a.r.o.Keys), a.domain)
		a.failed = err != nil
	}
	return !a.failed && by(a.found, d)
}
