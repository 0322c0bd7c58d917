package exit

import (
	"bytes"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/sanitize"
)

// blockText is what a mail says of how to get none any more.
const blockText = "This message came through an anonymity network, whose operators do not know who wrote it. To get no more of them, follow this link: "

// compose makes the mail that leaves for one recipient, in two pieces of which the first holds the
// header. id makes the Message-ID of an anonymous mail, the same whenever the mail comes again.
func (e *Exit) compose(c *Config, v *vouch.Vouched, encrypted bool, to mail.Address, id []byte, now time.Time) (head, tail []byte, err error) {
	link := c.BlockURL + e.links.to(person(to))
	more := [][2]string{
		{"List-Unsubscribe", "<" + link + ">"},                  // RFC 2369 §3.2
		{"List-Unsubscribe-Post", "List-Unsubscribe=One-Click"}, // RFC 8058 §3.1
	}
	if v.Kind == vouch.User {
		return userMail(c, v, encrypted, more)
	}
	f := c.Form
	f.Message = blockText + link
	if c.Form.Message != "" {
		f.Message = c.Form.Message + "\n" + f.Message
	}
	from := anon.Bare("", f.ReturnAddress)
	if f.AllowFrom && v.Name != "" {
		from = anon.From(f.FromTag, v.Name, f.ReturnAddress)
	}
	if v.Return.Canonical().Local != anon.AnonymousLocal {
		more = append([][2]string{{"Reply-To", anon.Bare("", v.Return)}}, more...)
	}
	return f.ComposeFrom(from, to, v.Mail.Raw, append(bytes.Clone(id), to.Canonical().String()...), now, more...), nil, nil
}

// userMail is the mail of a user whom a relay vouches for: as it came, under the rules for what
// users hand in anywhere (mail/sanitize), with the fields of the exit before it.
func userMail(c *Config, v *vouch.Vouched, encrypted bool, more [][2]string) (head, tail []byte, err error) {
	const op = "agent/exit.userMail"
	raw := v.Mail.Raw
	b, off, err := sanitize.Submission(raw)
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	h, _, err := mail.ParseHeader(b)
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	if !encrypted { // the subject is not inside
		old, _, err := mail.ParseHeader(raw)
		if err != nil {
			return nil, nil, errs.Wrap(op, err)
		}
		if h = h.Remove("Subject"); old.Count("Subject") > 0 {
			h = h.Append("Subject", old.Get("Subject"))
		}
	}
	h = h.Remove("X-Anonymous", "X-Abuse", "Comments")
	if c.Form.Comments != "" {
		h = h.Prepend("Comments", c.Form.EncodeWords(c.Form.Comments))
	}
	if c.Form.Abuse != "" {
		h = h.Prepend("X-Abuse", c.Form.EncodeWords(c.Form.Abuse))
	}
	for _, m := range more {
		h = h.Remove(m[0]).Prepend(m[0], m[1])
	}
	return h.Bytes(), raw[off:], nil
}
