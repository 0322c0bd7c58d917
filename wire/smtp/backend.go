package smtp

import (
	"context"

	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/wire/sasl"
)

// Backend decides what the server only speaks about. Its methods, and those of all
// sessions, may be called by many goroutines; one session is used by one at a time.
//
// Errors become replies: a *Reply is sent as it is; any other error is translated
// by its errs.Kind (see ReplyFor), with its public text only.
type Backend interface {
	// NewSession begins a session when the client has connected (and again after
	// STARTTLS, which makes everybody forget what was said before). An error is
	// sent in place of the greeting and ends the connection.
	NewSession(ctx context.Context, c Info) (Session, error)
}

// Info is what a backend may know about a connection.
type Info struct {
	Peer limits.Peer // for limits only; never to be stored or logged
	TLS  bool        // the connection is encrypted by TLS
}

// Session is one client. ctx ends with the connection or when a shutdown's grace
// is over.
type Session interface {
	// Auth logs the client in. It is called at most once with success, never
	// inside a mail transaction, and only where sasl.MayAuth allows.
	Auth(ctx context.Context, c sasl.Credentials) error

	// Mail begins a transaction. from is the zero Address for the null path.
	Mail(ctx context.Context, from mail.Address, o MailOptions) error

	// Rcpt adds a recipient. to may be Address{Local: "postmaster"}. After an error
	// this recipient is not part of the transaction.
	Rcpt(ctx context.Context, to mail.Address, o RcptOptions) error

	// Data announces that the bytes of the mail will come now; at least one Rcpt
	// was accepted. An error refuses it before a byte was read.
	Data(ctx context.Context) (Transfer, error)

	// Reset ends the transaction, if there is one, without a mail. It may come
	// after an Abort and when there is nothing to reset.
	Reset()

	// Close ends the session; called exactly once.
	Close()
}

// Greeter is a Session that wants to know what the client calls itself, which nobody vouches for.
type Greeter interface {
	Session
	// Hello is told the word behind each EHLO or HELO that is accepted (RFC 5321 §4.1.1.1): printable as it came,
	// on one line.
	Hello(name string)
}

// Transfer is one mail on its way in. Exactly one of its methods is called, once;
// afterwards the transaction is over.
type Transfer interface {
	// Commit takes the whole mail: CRLF line ends, dots unstuffed, no more than
	// Options.MaxSize bytes, no NUL. raw is valid until Commit returns. nil means
	// that the mail is durable: the 250 follows at once.
	Commit(ctx context.Context, raw []byte) error
	// Abort says that no mail will come.
	Abort()
}

// Teller is a Transfer that has something to say about the mail that it took.
type Teller interface {
	Transfer
	// Text is asked after a Commit that gave nil: it stands behind "250 2.0.0". One line; empty: "OK".
	Text() string
}

// Body is the BODY parameter of MAIL.
type Body uint8

const (
	BodyUnset Body = iota
	Body7Bit
	Body8Bit
)

// Return is the RET parameter of MAIL (RFC 3461 §4.3).
type Return uint8

const (
	ReturnUnset Return = iota
	ReturnFull
	ReturnHeaders
)

// MailOptions are the parameters of MAIL.
type MailOptions struct {
	Size   int64 // declared size in octets; 0: not declared
	Body   Body
	UTF8   bool // SMTPUTF8 was given
	Return Return
	EnvID  string // decoded; at most 100 octets as sent
	// RequireTLS: REQUIRETLS was given (RFC 8689), which is possible only under TLS.
	// Whoever hands the mail on must do it the same way or not at all.
	RequireTLS bool
}

// Notify is the NOTIFY parameter of RCPT (RFC 3461 §4.1), a set; 0: not given.
// NotifyNever stands alone.
type Notify uint8

const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// RcptOptions are the parameters of RCPT.
type RcptOptions struct {
	Notify Notify
	// ORCPT (RFC 3461 §4.2): the type ("rfc822", "utf-8"; lower case) and the
	// decoded address; both empty when not given.
	OriginalType, OriginalAddress string
}
