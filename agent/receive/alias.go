package receive

import (
	"context"

	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
)

// rcptAlias judges a recipient that no account here has. An alias shares a mail with nobody: who
// its owner is must not show by what happens to others.
func (c *session) rcptAlias(ctx context.Context, to mail.Address) error {
	m := &c.mail
	a, err := c.r.o.Aliases.Recipient(ctx, to, c.peer)
	if err != nil {
		if err == aliasmail.Unknown {
			c.r.o.Unknown.Charge(c.network, 1)
			err = replyUnknown
		}
		return err
	}
	if len(m.to)+len(m.bounced) > 0 {
		return replySeparate
	}
	m.alias = a
	m.to = append(m.to, to)
	return nil
}

// commitAlias judges a whole mail for an alias, and delivers it.
func (c *session) commitAlias(ctx context.Context, raw []byte) error {
	m, d := &c.mail, c.r.o.Aliases
	in, err := d.Form(m.alias, raw, m.from.IsZero())
	if err != nil {
		return err
	}
	v, err := c.r.vouch(ctx, raw, in.From, c.voucher(d.Strict(m.alias)))
	if err != nil {
		return err
	}
	in.Vouched, in.KeyName, in.KeyRecord = v.word, v.keyName, v.keyRecord
	from := mail.Address{}
	if v.envelope || m.from.Equal(in.From) { // nothing vouches for another
		from = m.from
	}
	in.ReturnPath = from
	// The header of a signed mail holds the hash of its body; else the mail is its own name.
	proof := raw
	if v.keyName != "" {
		proof = in.Header
	}
	return d.Hand(ctx, m.alias, in, deliver.Parcel{From: from, Options: m.options, Head: raw, Proof: [][]byte{proof}})
}

// Alias judges a mail from the mix network for an alias here, as Recipient and Vouched do for an
// account: it is from somebody who is vouched for, or anonymous. is is false for an address that is no alias. c
// is the copy for the owner of the alias; nil without an error: the mail went to an owner elsewhere, once for
// the name of its letter. Its error, usually a *smtp.Reply, refuses the mail.
func (r *Receive) Alias(ctx context.Context, raw []byte, to mail.Address, anonymous bool, name []byte) (is bool, c *deliver.ForAlias, err error) {
	d := r.o.Aliases
	if !d.Ours(to) {
		return false, nil, nil
	}
	if _, err := r.o.Accounts.Resolve(ctx, to); err == nil || errs.KindOf(err) != errs.NotFound {
		return false, nil, nil // the rules for accounts are asked again, and say why not
	}
	// Networks cannot be told apart here: the limit of tries in all holds.
	a, err := d.Recipient(ctx, to, limits.Peer{})
	if err != nil {
		return true, nil, err
	}
	m, err := d.Form(a, raw, false)
	if err != nil {
		return true, nil, err
	}
	m.Vouched, m.ReturnPath = "end-to-end", m.From
	if anonymous {
		m.Nobody, m.Vouched, m.ReturnPath = true, "nobody", mail.Address{}
	}
	c, err = d.Copy(ctx, a, m, deliver.Parcel{Proof: [][]byte{name}})
	return true, c, err
}
