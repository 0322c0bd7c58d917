package mixreceive

import (
	"context"
	"fmt"
	"strings"

	"postern.email/agent/deliver"
	"postern.email/agent/notice"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mail/sanitize"
	"postern.email/mixnet/client"
	"postern.email/post/account"
	"postern.email/post/keybook"
)

// letter delivers one letter, or tells the user why there is nothing to deliver. nil: it is
// done with. An error is for now.
func (r *Receive) letter(ctx context.Context, a *Account, to account.Account, got client.Received) error {
	if got.Err != nil {
		return r.tell(ctx, a, got, "Mail that could not be opened", "A mail came for you that could not be opened: "+errs.Public(got.Err)+
			".\n\nNothing of it was kept, and nobody knows who sent it.")
	}
	cons, err := a.Consensus()
	if err != nil {
		return err // who vouches cannot be judged now
	}
	v, err := vouch.Check(cons, r.o.Now(), got.Letter, vouch.Door{Home: a.Relay, Transit: vouch.InboxTransit})
	switch k := errs.KindOf(err); {
	case err == nil:
	case k == errs.Unsupported:
		return err // a later version of this program can read it
	case k == errs.Invalid, k == errs.TooLarge:
		return r.tell(ctx, a, got, "Malformed mail", "A letter came for you that holds no mail in order: "+errs.Public(err)+".\n\nNothing of it was kept.")
	case k == errs.Auth, k == errs.Denied:
		return r.tell(ctx, a, got, "Mail was refused: nobody vouches for its sender", "A mail came for you whose sender may not be who it says, so it was not delivered. The reason: "+
			errs.Public(err)+".\n\nIf you wait for mail of somebody whose program is old or whose clock is wrong, tell them. Nothing of the mail was kept.")
	default:
		return err
	}
	by, why := through(a, got.With, v)
	if why != "" {
		return r.tell(ctx, a, got, "Mail was refused: it did not come the way that it says", "A mail came for you that was not delivered. The reason: "+why+".\n\nNothing of the mail was kept.")
	}
	word := r.word(v) + by
	p, forged, err := parcel(v, to, word)
	if err != nil {
		return r.tell(ctx, a, got, "Malformed mail", "A letter came for you that holds no mail in order: "+errs.Public(err)+".\n\nNothing of it was kept.")
	}
	if forged {
		err := r.tell(ctx, a, got, "A mail came with a forbidden header", "A mail came for you with header fields that only this proxy writes ("+sanitize.SenderField+" and others that begin like it). They were taken out, and the "+
			"rest of the mail was delivered. Whoever sent it wanted it to look as if somebody else vouched for it.\n\nWho really vouches for it: "+word)
		if err != nil {
			return err
		}
	}
	if err := a.came(got.With, v); err != nil {
		return err
	}
	if err := r.lures(ctx, a, got, v); err != nil {
		return err
	}
	p.Proof = [][]byte{[]byte("mixreceive: letter"), got.ID[:]}
	if err := r.o.Deliver.Begin().Hand(ctx, p); err != nil {
		return err
	}
	r.learn(a, v)
	r.returned(a, v)
	return nil
}

// parcel is what goes into the mailbox. Mail for an alias is kept there as the relay took it, behind what the relay
// and word say of it, so that it can be shown to others (agent/evidence).
func parcel(v *vouch.Vouched, to account.Account, word string) (p deliver.Parcel, forged bool, err error) {
	p.From = v.Mail.Sender
	if v.Mail.Flags&vouch.ForAlias != 0 {
		front, raw, forged, err := sanitize.ArrivalForAlias(v.Mail.Raw, word)
		p.Head, p.Aliases = raw, []deliver.ForAlias{{Owner: to, Fields: front}}
		return p, forged, err
	}
	header, off, forged, err := sanitize.Arrival(v.Mail.Raw, word)
	if err == nil {
		p.Head, p.Tail, p.Local = header, v.Mail.Raw[off:], []account.Account{to}
	}
	return p, forged, err
}

// returned tells of a report. Relays make them, so they come as mail of the own relay.
func (r *Receive) returned(a *Account, v *vouch.Vouched) {
	if r.o.Returned == nil || v.Kind != vouch.Relay {
		return
	}
	h, _, err := mail.ParseHeader(v.Mail.Raw)
	if err != nil || !strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "multipart/report") {
		return
	}
	if rcpts, header, err := dsn.Read(v.Mail.Raw); err == nil {
		r.o.Returned(a.Address, rcpts, header)
	}
}

// tell reports on a letter, once.
func (r *Receive) tell(ctx context.Context, a *Account, got client.Received, subject, text string) error {
	return r.o.Desk.Tell(ctx, a.Address, notice.Note{Subject: subject, Text: text, Stranger: true,
		Proof: [][]byte{[]byte("mixreceive: report"), []byte(subject), got.ID[:]}})
}

// lost tells of fragments that never became a letter (mailproxy's ReceiveTimeout), and of files that
// cannot be read.
func (r *Receive) lost(ctx context.Context, a *Account, in *client.Inbox) error {
	r.mu.Lock()
	l := r.losses[a.Address]
	if l == nil {
		l = &losses{}
		r.losses[a.Address] = l
	}
	r.mu.Unlock()
	if l.expired += in.Expired; l.expired > 0 {
		n := notice.Note{Subject: "Mail did not come whole", Stranger: true, Text: fmt.Sprintf("Parts of mails came for you (%d packets), and the rest of them did not come in all the time in which it was waited for. They were given up. "+
			"Their senders were told, if they asked for acknowledgements.", l.expired)}
		if err := r.o.Desk.Tell(ctx, a.Address, n); err != nil {
			return err
		}
		l.expired = 0
	}
	if in.Damaged > l.damaged {
		n := notice.Note{Subject: "Stored mail cannot be read", Stranger: true,
			Text: fmt.Sprintf("%d files with packets that came for you cannot be opened any more: the disk may be damaged, or client.key is another one than before. They were left where they are.", in.Damaged)}
		if err := r.o.Desk.Tell(ctx, a.Address, n); err != nil {
			return err
		}
	}
	l.damaged = in.Damaged
	return nil
}

// word says who vouches for a mail, for its reader: an address and how far it is to be believed.
func (r *Receive) word(v *vouch.Vouched) string {
	switch v.Kind {
	case vouch.User:
		return v.Address.String() + "; " + r.keyWord(v)
	case vouch.Relay:
		if v.Cleartext() {
			return v.Domain + "; world (unencrypted mail from the Internet)"
		}
		return v.Domain + "; relay (mail that your relay took by its own rules)"
	}
	return "anonymous"
}

// keyWord says how the key of a sender is known.
func (r *Receive) keyWord(v *vouch.Vouched) string {
	const alone = "certificate (the sender's relay vouches; the key is not in your key book)"
	if r.o.Book == nil {
		return alone
	}
	e, err := r.o.Book.Get(v.Address)
	if err != nil {
		return alone
	}
	id, err := vouch.ParseIdentity([]byte(e.Key.Text))
	if err != nil {
		return alone
	}
	if !id.SameKeys(&v.Certificate.Identity) {
		return "changed (the sender's relay vouches; your key book has another key)"
	}
	switch e.State {
	case keybook.Discovered, keybook.Changed:
		return "unverified (the sender's relay vouches; the key is that of your key book)"
	}
	return "verified (the key is that of your key book)"
}

// learn puts a vouched sender's key into the key book, where the user allowed that, and tells who
// asked. What another key than before means is told when mail is sent to it.
func (r *Receive) learn(a *Account, v *vouch.Vouched) {
	if v.Kind == vouch.User && a.Discover && r.o.Book != nil {
		if _, err := r.o.Book.Discovered(v.Address, v.Certificate.BookKey()); err != nil && errs.KindOf(err) != errs.Conflict {
			r.o.Logger.Debug("a key was not noted", "err", err)
		}
	}
	if r.o.Arrived == nil || v.Kind == vouch.Anonymous {
		return
	}
	h, _, err := mail.ParseHeader(v.Mail.Raw)
	if err != nil {
		return
	}
	if from, err := mail.FromAddress(h); err == nil {
		r.o.Arrived(a.Address, from, h)
	}
}
