package forward

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
	"postern.email/mail/pgpmime"
	"postern.email/mail/sanitize"
	"postern.email/mail/verp"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/wire/smtp"
)

// Recipient judges an address that Made knows, as RCPT does.
func (f *Forward) Recipient(ctx context.Context, to mail.Address) error {
	const op = "agent/forward.Recipient"
	to = to.Canonical()
	if verp.IsReturn(to.Local) {
		if _, err := f.codes.OpenReturn(to.Domain, to.Local, dayOf(f.o.Now()), f.o.ReturnDays); err != nil {
			return replyUnknown
		}
		return nil
	}
	p, err := f.read(ctx, to)
	if err == nil {
		_, err = f.answerable(ctx, p)
	}
	switch k := errs.KindOf(err); {
	case err != nil && (k == errs.NotFound || k == errs.Auth || k == errs.Invalid):
		return replyUnknown
	}
	return errs.Wrap(op, err)
}

// answerable gives the alias of a reverse address. errs.NotFound: it is gone, or its owner has no
// mailbox elsewhere any more.
func (f *Forward) answerable(ctx context.Context, p pair) (*alias.Alias, error) {
	const op = "agent/forward.answerable"
	al, err := f.o.Aliases.Lookup(ctx, p.alias)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	_, err = f.away(ctx, al.Owner)
	return al, errs.Wrap(op, err)
}

// Take takes responsibility for a mail for addresses that Made knows: what came back is counted, an answer
// goes out as the alias. The error, usually a *smtp.Reply, refuses it for all.
func (f *Forward) Take(ctx context.Context, m Incoming) error {
	var reverses []mail.Address
	for _, to := range m.To {
		if to = to.Canonical(); verp.IsReverse(to.Local) {
			reverses = append(reverses, to)
			continue
		}
		if err := f.back(ctx, to, m.Raw); err != nil {
			return err
		}
	}
	if len(reverses) == 0 {
		return nil
	}
	return f.answer(ctx, &m, reverses)
}

// answer sends what the mailbox elsewhere wrote to reverse addresses of one alias on, as the alias.
func (f *Forward) answer(ctx context.Context, m *Incoming, to []mail.Address) error {
	const op = "agent/forward.answer"
	var al *alias.Alias
	known := make(map[mail.Address]pair, len(to)) // by reverse address
	for _, a := range to {
		p, err := f.read(ctx, a)
		if err != nil {
			return replyUnknown
		}
		if al == nil {
			if al, err = f.answerable(ctx, p); err != nil {
				if errs.KindOf(err) == errs.NotFound {
					return replyUnknown
				}
				return errs.Wrap(op, err)
			}
		}
		if !p.alias.Equal(al.Address) {
			return replyOneAlias
		}
		known[p.at] = p
	}
	h, _, err := mail.ParseHeader(m.Raw)
	if err != nil {
		return replyMalformed
	}
	target, err := f.mayAnswer(ctx, m, h, al)
	if err != nil {
		return err
	}
	for _, p := range known {
		if err := f.ownAlias(ctx, al.Owner, p.sender); err != nil {
			return err
		}
	}
	rcpts := make([]mail.Address, 0, len(known))
	for _, a := range to {
		if s := known[a].sender; !slices.Contains(rcpts, s) {
			rcpts = append(rcpts, s)
		}
	}
	if !f.o.Cleartext || al.Class != alias.OpenMail {
		if !pgpmime.Check(m.Raw, pgpmime.Outgoing, rcpts).Encrypted {
			return replyCleartext
		}
	}
	// Each correspondent gets a mail of its own: one return address is about one of them.
	for i, a := range to {
		if slices.Contains(to[:i], a) {
			continue
		}
		if err := f.answerOne(ctx, m, h, al, target, known, known[a]); err != nil {
			return err
		}
	}
	return nil
}

// mayAnswer refuses what is not of the mailbox that mail of the alias goes to, and gives that.
func (f *Forward) mayAnswer(ctx context.Context, m *Incoming, h mail.Header, al *alias.Alias) (target mail.Address, err error) {
	const op = "agent/forward.mayAnswer"
	if target, err = f.target(ctx, al.Owner); err != nil {
		return target, errs.Wrap(op, err)
	}
	agreed, err := f.agreed(ctx, al.Owner, target)
	switch {
	case err != nil:
		return target, errs.Wrap(op, err)
	case !agreed, m.From.IsZero(), !m.From.Equal(target):
		return target, replyNotTarget
	case sanitize.Hops(h) >= f.o.MaxHops:
		return target, replyLoop
	case sanitize.Automatic(h):
		return target, replyAuto
	}
	ok, err := m.Vouched(ctx)
	if err == nil && !ok {
		err = replyNotTarget
	}
	return target, err
}

// answerOne sends an answer to one correspondent.
func (f *Forward) answerOne(ctx context.Context, m *Incoming, h mail.Header, al *alias.Alias, target mail.Address, known map[mail.Address]pair, p pair) error {
	const op = "agent/forward.answerOne"
	// Where a reverse address stands its sender shall stand, and the alias for the mailbox.
	names := map[string]string{target.String(): al.Address.String()}
	for at, x := range known {
		names[at.String()] = x.sender.String()
	}
	content, body, err := sanitize.Parts(m.Raw, sanitize.PartRules{Replace: names, Domain: al.Address.Domain, KeepKeys: f.o.KeepKeys})
	switch {
	case err == sanitize.ErrSigned:
		return replySigned
	case err != nil:
		return replyMalformed
	}
	id, err := f.ownID(al.Address, p, h.Get("Message-ID"))
	if err != nil {
		return errs.Wrap(op, err)
	}
	fields := sanitize.AnswerFields{From: "<" + al.Address.String() + ">", To: shown(h, "To", known), Cc: shown(h, "Cc", known), MessageID: id, Date: f.o.Now()}
	if fields.To == "" && !strings.Contains(fields.Cc, p.sender.String()) {
		fields.To = "<" + p.sender.String() + ">"
	}
	if fields.References, err = f.references(ctx, al.Address, p, h); err != nil {
		return errs.Wrap(op, err)
	}
	if n := len(fields.References); n > 0 {
		fields.InReplyTo = fields.References[n-1]
	}
	if f.o.KeepKeys {
		if key, err := openpgp.Autocrypt(h, target); err == nil {
			fields.More = append(fields.More, autocrypt(al.Address, key))
		}
	}
	head := sanitize.Answer(h, content, fields, sanitize.Replacing(names))
	if len(head) > mail.MaxHeaderBytes/2 {
		return replyHeader
	}
	var r verp.Return
	r.Kind, r.Day = verp.Answered, uint16(dayOf(f.o.Now()))
	rid, err := f.codes.OpenReverse(p.at.Domain, p.at.Local)
	if err != nil {
		return errs.Wrap(op, err)
	}
	r.Ref = rid
	from, err := f.returnOf(al.Address.Domain, r)
	if err != nil {
		return errs.Wrap(op, err)
	}
	sent, err := f.o.Book.Prepare(nameSent+id, mustJSON(messageID(h.Get("Message-ID"))), f.days(threadDays))
	if err != nil {
		return errs.Wrap(op, err)
	}
	parcel := deliver.Parcel{From: from, Head: append(head, body...), Options: smtp.MailOptions{UTF8: m.Options.UTF8 || !ascii(p.sender.String()), RequireTLS: m.Options.RequireTLS},
		Remote: []queue.Rcpt{{To: p.sender}}, Also: []deliver.Write{f.o.Aliases.WroteTo(al, []mail.Address{p.sender}), sent}}
	if f.ours(p.sender) {
		if err := f.here(ctx, &parcel, p.sender, id); err != nil {
			return err
		}
	}
	// A mail with the same id, to the same correspondent, is the same mail that came again.
	var proof []byte
	if messageID(h.Get("Message-ID")) != "" {
		proof = []byte("answer\x00" + id + "\x00" + p.at.String())
	}
	f.once(&parcel, proof, al.Address, al.Owner.Shard())
	return errs.Wrap(op, f.o.Deliver.Begin().Hand(ctx, parcel))
}

// here turns a parcel for somebody of this relay into one that does not leave it: the rules for what comes
// here hold, and nobody's mailbox takes in cleartext what it would not take from elsewhere.
func (f *Forward) here(ctx context.Context, p *deliver.Parcel, to mail.Address, id string) error {
	if f.o.Here == nil {
		return replyUnknown
	}
	account, copy, err := f.o.Here(ctx, p.Head, to, []byte("forward: answer "+id))
	if err != nil {
		return err
	}
	p.Remote = nil
	if account != nil {
		p.Local = append(p.Local, *account)
	}
	if copy != nil {
		p.Aliases = append(p.Aliases, *copy)
	}
	return nil
}

func mustJSON(s string) []byte {
	b, _ := json.Marshal(s) // of a string it cannot fail
	return b
}

// shown gives the correspondents in an address field: the reverse addresses of one alias, as those whom
// they stand for. All others are left out: who else got the mail, at what other address, is nobody's business.
func shown(h mail.Header, name string, known map[mail.Address]pair) string {
	var out []string
	for _, v := range h.All(name) {
		list, _ := mail.ParseAddressList(v)
		for _, x := range list {
			if p, ok := known[x.Address.Canonical()]; ok && x.Group == mail.NoGroup {
				if s := "<" + p.sender.String() + ">"; !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
		}
	}
	return strings.Join(out, ", ")
}

// ownID gives the message id of an answer: always the same one for a mail to a correspondent, so that what
// comes again is known there too, and so that later answers can name it. It tells nothing of the mail's own.
func (f *Forward) ownID(al mail.Address, p pair, id string) (string, error) {
	id = messageID(id)
	if id == "" {
		return mail.NewMessageID(f.o.Rand, al.Domain)
	}
	m := hmac.New(sha256.New, f.o.Key[:])
	m.Write([]byte("postern/forward: message id\x00" + p.at.String() + "\x00" + id))
	return "<" + codeForm.EncodeToString(m.Sum(nil)[:codeLen]) + "@" + mail.CanonicalDomain(al.Domain) + ">", nil
}

// maxReferences is how many message ids an answer names.
const maxReferences = 10

// references gives the message ids of an answer's thread: of those that the mail names, the last ones that
// the correspondent knows from mail of this alias. Others would link it to other mail.
func (f *Forward) references(ctx context.Context, al mail.Address, p pair, h mail.Header) (out []string, err error) {
	ids := messageIDs(h.Get("References"))
	for _, id := range messageIDs(h.Get("In-Reply-To")) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	ids = ids[max(len(ids)-2*maxReferences, 0):]
	for _, id := range ids {
		if yes, err := f.has(ctx, nameSeen+p.at.String()+"\x00"+id); err != nil {
			return nil, err
		} else if yes {
			out = append(out, id)
			continue
		}
		// Of an earlier answer the correspondent knows the id that was made here.
		own, err := f.ownID(al, p, id)
		if err != nil {
			return nil, err
		}
		if yes, err := f.has(ctx, nameSent+own); err != nil {
			return nil, err
		} else if yes {
			out = append(out, own)
		}
	}
	return out[max(len(out)-maxReferences, 0):], nil
}

// has reports whether there is a record.
func (f *Forward) has(ctx context.Context, name string) (bool, error) {
	_, _, err := f.o.Book.Load(ctx, name)
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return false, nil
	}
	return err == nil, errs.Wrap("agent/forward.has", err)
}
