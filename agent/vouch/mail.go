package vouch

import (
	"encoding/binary"
	"errors"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Flags of a Mail.
const (
	FromOrdinary uint8 = 1 << iota // the account's own relay took it from ordinary mail
	FromWorld                      // and it came in cleartext; only with FromOrdinary

	withToken // Token is there; Append and ParseMail see to it

	// ForAlias: the mail came for an alias of the account, and begins with the relay's fields about that
	// (mail/sanitize.Alias); only with FromOrdinary.
	ForAlias
)

// MaxToken bounds a token, in bytes.
const MaxToken = 1024

// MaxRecipients bounds the recipients of one letter. More are several letters.
const MaxRecipients = 1000

const (
	mailMagic   = "PMAIL"
	mailVersion = 1
)

// Mail is the content of a letter that carries mail (docs/vouch.md §3).
type Mail struct {
	Flags       uint8
	Certificate []byte         // of the sender; empty: anonymous, or from a relay
	Token       []byte         // for an exit (mixnet/token); empty: none
	Recipients  []mail.Address // at least one
	Sender      mail.Address   // of the envelope; zero: the null path
	Raw         []byte         // the mail, every line ended by CRLF
}

// Append writes the mail as it stands in a letter.
func (m *Mail) Append(b []byte) []byte {
	b = append(b, mailMagic...)
	flags := m.Flags
	if len(m.Token) > 0 {
		flags |= withToken
	}
	b = append(b, mailVersion, flags, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Certificate)))
	b = append(b, m.Certificate...)
	if len(m.Token) > 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Token)))
		b = append(b, m.Token...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Recipients)))
	for _, r := range m.Recipients {
		b = appendAddress(b, r)
	}
	b = appendAddress(b, m.Sender)
	return append(b, m.Raw...)
}

func appendAddress(b []byte, a mail.Address) []byte {
	s := a.String()
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// IsMail reports whether the content of a letter says that it is mail.
func IsMail(content []byte) bool {
	return len(content) >= len(mailMagic) && string(content[:len(mailMagic)]) == mailMagic
}

// ParseMail reads what Append wrote. Raw and Certificate share the bytes of b. errs.Invalid;
// errs.Unsupported for a later version; errs.TooLarge for too many recipients.
func ParseMail(b []byte) (*Mail, error) {
	const op = "agent/vouch.ParseMail"
	bad := func(why string) (*Mail, error) {
		return nil, errs.E(op, errs.Invalid, "the letter holds no mail", errors.New(why))
	}
	if !IsMail(b) || len(b) < len(mailMagic)+7 {
		return bad("its head")
	}
	b = b[len(mailMagic):]
	if b[0] != mailVersion {
		return nil, errs.E(op, errs.Unsupported, "the mail is in the form of a later version of Postern: update this one", nil)
	}
	m := &Mail{Flags: b[1] &^ withToken}
	token := b[1]&withToken != 0
	if b[2] != 0 || m.Flags&^(FromOrdinary|FromWorld|ForAlias) != 0 || m.Flags != 0 && m.Flags&FromOrdinary == 0 {
		return bad("its flags")
	}
	n := binary.BigEndian.Uint32(b[3:])
	if b = b[7:]; n > MaxCertificate || int(n) > len(b) {
		return bad("the length of its certificate")
	}
	m.Certificate, b = b[:n:n], b[n:]
	if token {
		if len(b) < 2 {
			return bad("its token")
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n == 0 || n > MaxToken || n > len(b) {
			return bad("the length of its token")
		}
		m.Token, b = b[:n:n], b[n:]
	}
	if len(b) < 2 {
		return bad("its recipients")
	}
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	switch {
	case count == 0:
		return bad("it has no recipient")
	case count > MaxRecipients:
		return nil, errs.E(op, errs.TooLarge, "the mail has too many recipients", nil)
	}
	var a mail.Address
	var ok bool
	for range count {
		if a, b, ok = cutAddress(b); !ok || a.IsZero() {
			return bad("a recipient")
		}
		m.Recipients = append(m.Recipients, a)
	}
	if m.Sender, b, ok = cutAddress(b); !ok {
		return bad("its sender")
	}
	m.Raw = b
	return m, nil
}

// cutAddress reads a length and an address in the one form that String writes; nothing: the
// null path.
func cutAddress(b []byte) (a mail.Address, rest []byte, ok bool) {
	if len(b) < 2 {
		return a, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; n > len(b) || n > MaxAddress {
		return a, nil, false
	}
	s, rest := string(b[:n]), b[n:]
	if n == 0 {
		return a, rest, true
	}
	a, err := mail.ParseAddress(s)
	return a, rest, err == nil && a.Domain != "" && a.String() == s
}
