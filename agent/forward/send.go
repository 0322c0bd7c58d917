package forward

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/openpgp"
	"postern.email/mail/pgpmime"
	"postern.email/mail/sanitize"
	"postern.email/mail/verp"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/post/seen"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// Forward takes responsibility for a mail that an alias takes: with nil it is in the queue, on its way to
// the owner's mailbox elsewhere, and what it changes of the alias is written in the same transaction. The
// error, usually a *smtp.Reply, refuses it; errs.Denied when the alias has changed meanwhile.
func (f *Forward) Forward(ctx context.Context, m Mail) error {
	const op = "agent/forward.Forward"
	t, err := f.open(ctx, m.Alias.Owner)
	switch {
	case err != nil:
		return err
	case t.IsZero():
		return replyUnknown
	}
	h, _, err := mail.ParseHeader(m.Raw)
	if err != nil {
		return replyMalformed
	}
	if err := f.circle(ctx, h, m.Alias, m.From); err != nil {
		return err
	}
	rev, err := f.reverseOf(ctx, m.Alias.Address, m.From)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if rev.blocked {
		return replyBlocked
	}
	raw, err := f.compose(ctx, &m, h, rev)
	if err != nil {
		return err
	}
	from, err := f.returnPath(m.Alias.Address.Domain, verp.Forwarded, m.Alias.Owner, m.Alias.Address)
	if err != nil {
		return errs.Wrap(op, err)
	}
	p := deliver.Parcel{From: from, Head: raw, Options: smtp.MailOptions{UTF8: m.Options.UTF8 || !ascii(t.String()), RequireTLS: m.Options.RequireTLS},
		Remote: []queue.Rcpt{{To: t}}, Also: []deliver.Write{f.o.Aliases.Arrive(m.Alias, m.From, m.Verdict)}}
	if p.Also, err = f.knows(p.Also, rev, h.Get("Message-ID")); err != nil {
		return errs.Wrap(op, err)
	}
	f.once(&p, m.Proof, m.Alias.Address, m.Alias.Owner.Shard())
	f.afterPause(ctx, m.Alias.Owner, t)
	return errs.Wrap(op, f.o.Deliver.Begin().Hand(ctx, p))
}

// once makes a parcel one that is taken once, where there is something that makes the mail this mail.
func (f *Forward) once(p *deliver.Parcel, proof []byte, al mail.Address, home store.Shard) {
	p.Home = home
	if f.o.Seen == nil || len(proof) == 0 {
		return
	}
	sum := sha256.Sum256(proof)
	var l seen.Letter = f.o.Seen.Letter([16]byte(sum[:]), []byte(al.Canonical().String())...)
	p.Letter, p.Home = &l, l.Shard
}

// circle refuses a mail that goes, or would go, in a circle: one that has passed too many hosts, that comes
// from an address which was given out here, or from an alias of the same owner.
func (f *Forward) circle(ctx context.Context, h mail.Header, al *alias.Alias, from mail.Address) error {
	if sanitize.Hops(h) >= f.o.MaxHops || f.Made(from) {
		return replyLoop
	}
	return f.ownAlias(ctx, al.Owner, from)
}

// ownAlias refuses mail between two aliases of one owner.
func (f *Forward) ownAlias(ctx context.Context, owner alias.Owner, other mail.Address) error {
	if !f.o.Aliases.Ours(other) {
		return nil
	}
	a, err := f.o.Aliases.Lookup(ctx, other)
	switch {
	case err == nil && a.Owner == owner:
		return replyLoop
	case err != nil && errs.KindOf(err) != errs.NotFound:
		return errs.Wrap("agent/forward.ownAlias", err)
	}
	return nil
}

// returnPath gives the envelope sender of a mail of a kind, for an owner and an alias (zero: none).
func (f *Forward) returnPath(domain string, kind verp.Kind, owner alias.Owner, al mail.Address) (mail.Address, error) {
	r := verp.Return{Kind: kind, Day: uint16(dayOf(f.o.Now()))}
	copy(r.Ref[:], owner[:])
	if !al.IsZero() {
		sum := sha256.Sum256([]byte(al.Canonical().String()))
		copy(r.Ref[len(owner):], sum[:])
	}
	return f.returnOf(domain, r)
}

func (f *Forward) returnOf(domain string, r verp.Return) (mail.Address, error) {
	domain = mail.CanonicalDomain(domain)
	local, err := f.codes.Return(domain, r)
	return mail.Address{Local: local, Domain: domain}, errs.Wrap("agent/forward.returnOf", err)
}

// compose makes the mail that goes to the mailbox elsewhere.
func (f *Forward) compose(ctx context.Context, m *Mail, h mail.Header, rev pair) ([]byte, error) {
	const op = "agent/forward.compose"
	encrypted := pgpmime.Check(m.Raw, pgpmime.Incoming, nil).Encrypted
	fields := sanitize.ForwardFields{Received: f.received(), From: anon.Bare(display(h, m.From), rev.at), Hops: min(sanitize.Hops(h)+1, f.o.MaxHops),
		Unsubscribe: f.o.Unsubscribe == UnsubscribeKeep}
	if m.Mark != "" {
		fields.More = append(fields.More, [2]string{sanitize.AliasField, m.Mark})
	}
	if f.o.Unsubscribe == UnsubscribeBlock && f.o.URL() != "" {
		fields.More = append(fields.More, [2]string{"List-Unsubscribe", "<" + f.blockURL(rev) + ">"}, [2]string{"List-Unsubscribe-Post", "List-Unsubscribe=One-Click"})
	}
	// The sender's key goes along, as that of the address that answers go to: the mailbox can encrypt to
	// the sender (Autocrypt level 1, §2.1).
	if key, err := openpgp.Autocrypt(h, m.From); err == nil {
		fields.More = append(fields.More, autocrypt(rev.at, key))
	}
	head, off, err := sanitize.Forward(m.Raw, fields)
	if err != nil {
		if errs.KindOf(err) == errs.TooLarge {
			return nil, replyHeader
		}
		return nil, replyMalformed
	}
	raw := append(head, m.Raw[off:]...)
	s, err := f.Settings(ctx, m.Alias.Address)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if len(s.Key) == 0 || encrypted {
		return raw, nil
	}
	key, err := openpgp.ParseKey(s.Key, f.o.Now())
	if err != nil {
		// Its owner wants nobody else to read the mail: it waits for another key.
		return nil, errs.E(op, errs.Unavailable, "the recipient's key cannot be used now", err)
	}
	raw, err = openpgp.Encrypt(raw, []*openpgp.Key{key}, f.o.Now(), f.o.Rand)
	return raw, errs.Wrap(op, err)
}

// autocrypt is the field that says which key an address has.
func autocrypt(a mail.Address, key []byte) [2]string {
	return [2]string{"Autocrypt", openpgp.AutocryptField(a, key, false)}
}

// received is the one line of trace that is written: it names no other host.
func (f *Forward) received() string {
	return "by " + mail.CanonicalDomain(f.o.Domain) + " (on behalf of an alias); " + mail.FormatDate(f.o.Now().UTC())
}

// Settings are what an owner can set for an alias whose mail goes elsewhere.
type Settings struct {
	Key []byte `json:"key,omitempty"` // OpenPGP, binary: mail that is not encrypted is encrypted to it; nil: is not
}

// Settings gives those of an alias; the zero value where nothing was set.
func (f *Forward) Settings(ctx context.Context, al mail.Address) (s Settings, err error) {
	const op = "agent/forward.Settings"
	name := nameAlias + al.Canonical().String()
	fresh, err := f.load(ctx, name, &s, aliasDays)
	switch k := errs.KindOf(err); {
	case err != nil && k == errs.NotFound:
		return Settings{}, nil
	case err != nil:
		return s, errs.Wrap(op, err)
	case !fresh:
		err = f.save(ctx, name, s, aliasDays)
	}
	return s, errs.Wrap(op, err)
}

// Set sets them: who may is the caller's affair. The key is one OpenPGP key, binary or in ASCII armor; empty: none.
// errs.Invalid, errs.TooLarge.
func (f *Forward) Set(ctx context.Context, al mail.Address, s Settings) error {
	const op = "agent/forward.Set"
	if len(s.Key) > 0 {
		var err error
		if s.Key, err = openpgp.Dearmor(s.Key); err == nil {
			_, err = openpgp.ParseKey(s.Key, f.o.Now())
		}
		if err != nil {
			return errs.Wrap(op, err)
		}
	}
	return errs.Wrap(op, f.save(ctx, nameAlias+al.Canonical().String(), s, aliasDays))
}

// afterPause tells the owner, once, that there was a pause.
func (f *Forward) afterPause(ctx context.Context, owner alias.Owner, t mail.Address) {
	tell := false
	d, err := f.destination(ctx, t)
	if err == nil && d.Tell {
		err = f.change(ctx, t, func(d *destination) bool {
			tell = d.Tell
			d.Tell = false
			return tell
		})
	}
	if err == nil && tell {
		err = f.note(ctx, owner, t, verp.Asked, Note{"Mail was not sent on to this mailbox for a while", "Mail for aliases at " + f.o.Domain +
			" goes to this mailbox. Too much of it came back, so nothing was sent on for a while; it begins again now. Mail that came for the aliases meanwhile was put off or refused, and its senders were told."})
	}
	if err != nil {
		f.o.Logger.Debug("forward: no word about a pause", "kind", errs.KindOf(err))
	}
}

// knows adds to writes that the sender of a reverse address knows a message id, so that it may stand in
// an answer.
func (f *Forward) knows(writes []deliver.Write, rev pair, id string) ([]deliver.Write, error) {
	if id = messageID(id); id == "" {
		return writes, nil
	}
	w, err := f.o.Book.Prepare(nameSeen+rev.at.String()+"\x00"+id, []byte("{}"), f.days(threadDays))
	if err != nil {
		return nil, errs.Wrap("agent/forward.knows", err)
	}
	return append(writes, w), nil
}

// maxID bounds a message id, in bytes; a longer one counts as none.
const maxID = 500

// messageID gives a message id with its angle brackets, "" for what is none.
func messageID(s string) string {
	s = strings.TrimSpace(s)
	if len(s) < 3 || len(s) > maxID || s[0] != '<' || s[len(s)-1] != '>' || strings.ContainsAny(s[1:len(s)-1], "<> \t\x00") || !ascii(s) {
		return ""
	}
	return s
}

// messageIDs gives the message ids in a value such as that of References.
func messageIDs(v string) []string {
	return slices.DeleteFunc(mail.MessageIDs(v), func(id string) bool { return messageID(id) == "" })
}
