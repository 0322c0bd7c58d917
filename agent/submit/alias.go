package submit

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/openpgp"
	"postern.email/mail/sanitize"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/wire/smtp"
)

// owned gives the alias that an address is, if it may be one of the sender's; nil where it is none.
func (s *Submit) owned(ctx context.Context, from mail.Address, peer limits.Peer) (*alias.Alias, error) {
	al, err := s.o.Aliases.Alias(ctx, from, peer)
	if err == aliasmail.Unknown {
		return nil, nil
	}
	return al, err
}

// rcptAlias judges a recipient that no account here has.
func (c *session) rcptAlias(ctx context.Context, to mail.Address) error {
	m := &c.mail
	r, err := c.s.o.Aliases.Recipient(ctx, to, c.peer)
	if err != nil {
		return err
	}
	if m.alias != nil {
		return replySeparate
	}
	if err := c.s.o.Aliases.Refuses(ctx, r, m.from); err != nil {
		return err
	}
	m.alias = r
	m.to = append(m.to, to)
	return nil
}

// mayCleartext judges a mail that is not encrypted: an alias of class open-mail may answer in
// cleartext who wrote to it or whom its owner added.
func (s *Submit) mayCleartext(m *envelope) error {
	if m.as == nil {
		return replyCleartext
	}
	if !s.o.Aliases.SendsCleartext(m.as) {
		return replyStrictAlias
	}
	for _, a := range m.rcpts {
		if !a.AcceptCleartext {
			return replyCleartext
		}
	}
	if len(m.replies) > 0 {
		return replyCleartext
	}
	for _, to := range m.to {
		if !s.o.Aliases.MayAnswer(m.as, to) {
			return replyStranger
		}
	}
	return nil
}

// maxReferences is how many ids of a thread stay in a mail as an alias.
const maxReferences = 10

// asAlias gives a mail that the owner of an alias wrote as it goes out as the alias: its header is written
// anew, and holds nothing of the account. What is encrypted stays as it is.
func (s *Submit) asAlias(m *envelope, h mail.Header, raw []byte, cleartext bool) (header, body []byte, err error) {
	from, own := m.as.Address, m.sender.Address
	replace := map[string]string{own.String(): from.String()}
	content, body, err := sanitize.Parts(raw, sanitize.PartRules{Replace: replace, Domain: from.Domain, KeepKeys: s.o.AliasKeys})
	switch {
	case errors.Is(err, sanitize.ErrSigned) && s.o.AliasKeys:
		if content, body, err = asWritten(raw); err != nil {
			return nil, nil, replyParse(err)
		}
	case errors.Is(err, sanitize.ErrSigned):
		return nil, nil, replySigned
	case err != nil:
		return nil, nil, replyParse(err)
	}
	f := sanitize.AnswerFields{From: "<" + from.String() + ">", To: addresses(h.All("To")), Cc: addresses(h.All("Cc")), MessageID: h.Get("Message-ID"),
		References: thread(h.Get("References"), from, own)}
	if s.o.AliasNames {
		f.From = sanitize.Replacing(replace)(h.Get("From"))
	}
	if !ownID(f.MessageID, from, own) {
		if f.MessageID, err = mail.NewMessageID(s.o.Rand, from.Domain); err != nil {
			return nil, nil, err
		}
	}
	if ids := thread(h.Get("In-Reply-To"), from, own); len(ids) > 0 {
		f.InReplyTo = ids[len(ids)-1]
	}
	if f.Date, err = mail.ParseDate(h.Get("Date")); err != nil {
		f.Date = s.o.Now()
	}
	for _, x := range h.Fields() {
		if stays(x.Name) {
			f.More = append(f.More, [2]string{x.Name, sanitize.Replacing(replace)(x.Value())})
		}
	}
	if key := autocrypt(h, from, own); key != "" {
		f.More = append(f.More, [2]string{"Autocrypt", key})
	}
	subject := sanitize.Replacing(replace)
	if !cleartext {
		subject = func(string) string { return "[...]" } // as everybody's (sanitize.Submission)
	}
	header = sanitize.Answer(h, content, f, subject)
	if len(header) > mail.MaxHeaderBytes/2 {
		return nil, nil, &smtp.Reply{Code: 552, Enhanced: "5.3.4", Text: "message header too large"}
	}
	return header, body, nil
}

// asWritten gives the fields that say how a body is read, and the body, as they are.
func asWritten(raw []byte) (content, body []byte, err error) {
	h, off, err := mail.ParseHeader(raw)
	for _, f := range h.Fields() {
		if strings.HasPrefix(strings.ToLower(f.Name), "content-") {
			content = mail.AppendField(content, f)
		}
	}
	return content, raw[off:], err
}

// addresses gives those of lists, without names and comments: how somebody is called in an address
// book tells of whose it is.
func addresses(values []string) string {
	var out []string
	for _, value := range values {
		list, _ := mail.ParseAddressList(value)
		for _, b := range list {
			if a, err := mail.ParseAddress(b.Address.String()); err == nil && b.Group == mail.NoGroup {
				out = append(out, "<"+a.String()+">")
			}
		}
	}
	if len(out) == 0 && len(values) > 0 {
		return "undisclosed-recipients:;"
	}
	return strings.Join(out, ", ")
}

// ownID reports whether a message id was made for the alias: its right side is the alias's domain, and
// it does not hold the account's name.
func ownID(id string, from, own mail.Address) bool {
	right, ok := rightOf(id)
	return ok && right == mail.CanonicalDomain(from.Domain) && !holds(id, own.Local)
}

// thread gives the ids of a list that do not tell of the account, the last ten at most.
func thread(value string, from, own mail.Address) (ids []string) {
	ours, account := mail.CanonicalDomain(from.Domain), mail.CanonicalDomain(own.Domain)
	for _, id := range mail.MessageIDs(value) {
		right, ok := rightOf(id)
		if !ok || holds(id, own.Local) || account != ours && (right == account || strings.HasSuffix(right, "."+account)) {
			continue
		}
		ids = append(ids, id)
	}
	return ids[max(0, len(ids)-maxReferences):]
}

// rightOf gives the right side of a message id in angle brackets, canonical.
func rightOf(id string) (string, bool) {
	at := strings.LastIndexByte(id, '@')
	if len(id) < 3 || len(id) > 998 || id[0] != '<' || id[len(id)-1] != '>' || at < 0 {
		return "", false
	}
	return mail.CanonicalDomain(id[at+1 : len(id)-1]), true
}

// holds reports whether a text holds a name: as a word, or anywhere where it is long enough to be no
// accident.
func holds(text, name string) bool {
	text, name = strings.ToLower(text), strings.ToLower(name)
	if len(name) >= 5 {
		return strings.Contains(text, name)
	}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune("<>@.-_+=$!", r) }) {
		if word == name {
			return true
		}
	}
	return false
}

// stays tells of the fields that go along as they are: what programs that encrypt need of each other,
// and that nobody wrote the mail.
func stays(name string) bool {
	name = strings.ToLower(name)
	return name == "auto-submitted" || name == "secure-join" || strings.HasPrefix(name, "secure-join-") || strings.HasPrefix(name, "chat-")
}

// autocrypt gives the value of an Autocrypt field with the key that a mail carries for the alias, if that
// does not name the account; "": there is none. It is written anew: a field may hold more than is read of it.
func autocrypt(h mail.Header, from, own mail.Address) string {
	key, err := openpgp.Autocrypt(h, from)
	if err != nil || bytes.Contains(bytes.ToLower(key), []byte(strings.ToLower(own.String()))) {
		return ""
	}
	mutual := slices.ContainsFunc(h.All("Autocrypt"), func(v string) bool { return strings.Contains(strings.ToLower(v), "prefer-encrypt=mutual") })
	return openpgp.AutocryptField(from, key, mutual)
}

// forAlias judges a mail for an alias as it goes on: with the header that leaves. An owner elsewhere has
// it with that; else the copy for the owner is given.
func (s *Submit) forAlias(ctx context.Context, m *envelope, p *deliver.Parcel) (*deliver.ForAlias, error) {
	d := s.o.Aliases
	in, err := d.Form(m.alias, slices.Concat(p.Head, p.Tail), false)
	if err != nil {
		return nil, err
	}
	in.Vouched, in.ReturnPath = "login", m.from
	c, err := d.Copy(ctx, m.alias, in, deliver.Parcel{Options: p.Options})
	if err == aliasmail.Full && len(m.to) > 1 { // it comes behind RCPT: say of whom
		full := *aliasmail.Full
		full.Text += ": " + m.alias.To.String()
		err = &full
	}
	return c, err
}

// SenderAllowed is the one owner of "sender = login": whether who logged in as login may write as
// from, in the envelope and in the From field. That is the account's own address, or as, an alias whose
// owner it is; nil: there is none.
func SenderAllowed(login account.Account, from mail.Address, as *alias.Alias) bool {
	switch {
	case from.IsZero():
		return false
	case login.Address.Equal(from):
		return true
	}
	return as != nil && as.Owner == login.ID && as.Deleted == 0 && as.Address.Equal(from)
}
