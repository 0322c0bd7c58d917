package mixreceive

import (
	"context"
	"mime"
	"strings"

	"postern.email/agent/vouch"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/client"
)

// Whoever can make the owner of a reply address treat mail for the account as mail for the address, or
// the other way round, learns that both are one person's. So what counts is the way that a letter took:
// with reply blocks, which were given away under one address each, or without.

// through tells of a letter that came with reply blocks for which address it is, as words behind those about
// its sender; why is not empty if it says another thing than the way that it took.
func through(a *Account, with string, v *vouch.Vouched) (words, why string) {
	var to []mail.Address
	for _, r := range v.Mail.Recipients {
		if _, ok := anon.ReplyName(r); ok {
			to = append(to, r)
		}
	}
	switch {
	case with == "" && v.Kind == vouch.Relay && len(to) > 0:
		return "", "your relay says that it is for a reply address, and sent it to your account instead. Only somebody who wants to find out whose the reply address is would do that"
	case with == "":
		return "", ""
	}
	if len(to) == 1 && len(v.Mail.Recipients) == 1 && v.Kind == vouch.Relay {
		if name, _ := anon.ReplyName(to[0]); name == with {
			return "; for reply address " + to[0].String() + " (" + a.called(to[0]) + ")", ""
		}
	}
	return "", "it came with the reply blocks of one of your reply addresses, and is no mail for that address"
}

// called is the name of a reply address, for a header.
func (a *Account) called(to mail.Address) string {
	if a.Nyms != nil {
		if name, ok := a.Nyms.Find(to); ok {
			return `"` + mime.BEncoding.Encode("utf-8", name) + `"`
		}
	}
	return "which you gave up"
}

// came notes a mail for a reply address, so that an answer does not leave under another name.
func (a *Account) came(with string, v *vouch.Vouched) error {
	if with == "" || a.Nyms == nil {
		return nil
	}
	name, ok := a.Nyms.Find(v.Mail.Recipients[0])
	h, _, err := mail.ParseHeader(v.Mail.Raw)
	if !ok || err != nil {
		return nil
	}
	for _, id := range mail.MessageIDs(h.Get("Message-ID")) {
		if err := a.Nyms.Came(name, id); err != nil {
			return err
		}
	}
	return nil
}

// lures warns of a mail for the account that names one of its reply addresses in its header: mail programs
// choose by that under which address they answer.
func (r *Receive) lures(ctx context.Context, a *Account, got client.Received, v *vouch.Vouched) error {
	if got.With != "" || a.Nyms == nil {
		return nil
	}
	h, _, err := mail.ParseHeader(v.Mail.Raw)
	if err != nil {
		return nil
	}
	for _, field := range []string{"To", "Cc"} {
		for _, value := range h.All(field) {
			list, err := mail.ParseAddressList(value)
			if err != nil {
				continue
			}
			for _, m := range list {
				if name, ok := a.Nyms.Find(m.Address); ok {
					return r.tell(ctx, a, got, "A mail may want to find out that a reply address is yours", "A mail came for "+a.Address.String()+" whose header names your reply address "+strings.TrimSpace(name+" <"+m.Address.String())+
						">. It did not come through that address: its sender knows both, and may want to find out whether they belong to the same person. If you answer, look under which address your mail program does so.\n\nThe mail was delivered.")
				}
			}
		}
	}
	return nil
}
