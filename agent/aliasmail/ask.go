package aliasmail

import (
	"context"
	"fmt"
	"strings"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/alias"
)

// askSubject is that of the note to an owner who is asked.
const askSubject = "Somebody new wrote to an alias of yours"

// askText is the note. Addresses stand on lines of their own, so that they are not wrapped. The sender chose
// its address: one in which a shell would read anything but a word stands in no command to be copied.
func askText(al, from mail.Address) string {
	decide := fmt.Sprintf("To let it through, and all mail of this sender from then on:\n\n"+
		"    postern alias allow %s %s\n\nTo refuse it:\n\n    postern alias block %s %s\n\nBoth are on the page of the alias as well.", al, from, al, from)
	if !oneWord(from.String()) {
		decide = "To let it through, or to refuse it, with all mail of this sender from then on, go to the page of the alias. Do not copy this address into a command line: a shell could read commands in it."
	}
	return fmt.Sprintf("A mail came for your alias\n\n    %s\n\nfrom somebody whom it has not got mail from before:\n\n    %s\n\n"+
		"The mail was put off, and nothing of it was kept. Its sender's mail server tries again for some days, and what you decide until then counts. %s "+
		"If you do nothing the mail is refused after four days. You are told of a sender once.", al, from, decide)
}

// oneWord reports whether every shell takes an address for one word that is no option.
func oneWord(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("@._+-=", r)
	})
}

// ask puts a mail off. The first time a sender comes the owner gets a note, in the transaction that
// remembers it.
func (d *Door) ask(ctx context.Context, r *Recipient, from mail.Address, v alias.Verdict) error {
	switch {
	case !v.Asks: // one mail is tried many times, and counted once
		return nil
	case r.Elsewhere: // who asks stands in the list of the alias
		d.record(ctx, r, from, v)
		return nil
	}
	raw, err := dsn.Note{Domain: d.o.Domain, To: r.Alias.Address, Subject: askSubject, Text: askText(r.Alias.Address, from), Now: d.o.Now(), Rand: d.o.Rand}.Build()
	if err != nil {
		return err
	}
	switch err := d.room(ctx, r, len(raw)); {
	case err == Full: // the owner is told when there is room, by a later try
		return nil
	case err != nil:
		return err
	}
	err = d.o.Deliver.Begin().Hand(ctx, deliver.Parcel{Local: []account.Account{r.Owner}, Head: raw, Also: []deliver.Write{d.o.Register.Arrive(r.Alias, from, v)}})
	if errs.KindOf(err) == errs.Denied {
		return nil // the owner was asked by another mail, or has decided: the next try will show
	}
	return err
}
