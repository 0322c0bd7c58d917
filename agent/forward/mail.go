package forward

import (
	"context"

	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/wire/smtp"
)

// Mail is a mail that came for an alias, and that the alias takes.
type Mail struct {
	Alias   *alias.Alias
	From    mail.Address  // of the field From, vouched for
	Verdict alias.Verdict // Take
	Mark    string        // the value of the field X-Postern-Alias (mail/sanitize)
	Options smtp.MailOptions
	Raw     []byte // as received
	Proof   []byte // what makes this mail this mail, where it comes again; may be empty
}

// Incoming is a mail for addresses that Made knows.
type Incoming struct {
	To   []mail.Address
	From mail.Address // of the field From; zero where there is none that can be read
	// Vouched reports whether the domain of From vouches for it: a valid DKIM signature or SPF, aligned.
	// Its error, usually a *smtp.Reply, says that this cannot be told now.
	Vouched func(context.Context) (bool, error)
	Options smtp.MailOptions
	Raw     []byte // as received
}

// Note is what an owner is told.
type Note struct {
	Subject string // ASCII
	Text    string // paragraphs, see mail/dsn.Note
}
