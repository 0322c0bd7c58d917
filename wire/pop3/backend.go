// Package pop3 speaks the server's side of the Post Office Protocol, version 3:
// RFC 1939 with CAPA and RESP-CODES (RFC 2449), STLS (RFC 2595), SYS and AUTH
// response codes (RFC 3206), SASL (RFC 5034) and UTF8 (RFC 6856). It holds no
// mail and knows no accounts: a Backend gives it maildrops.
package pop3

import (
	"context"
	"io"

	"postern.email/kit/limits"
)

// Backend opens maildrops. All methods may be called by many goroutines.
type Backend interface {
	// Login checks name and password and locks the account's maildrop against
	// other POP3 sessions (RFC 1939 §4). Errors: errs.Auth for a wrong name or
	// password, errs.Exists when another session holds the lock, errs.Denied
	// when policy refuses, anything temporary otherwise.
	Login(ctx context.Context, peer limits.Peer, name, password string) (Maildrop, error)
}

// Maildrop is one account's INBOX as it was when the session began. Messages are
// named by their index, from 0. It is used by one goroutine.
type Maildrop interface {
	// Len is the number of messages.
	Len() int
	// Size gives the exact octets of message i as RETR would send them, before
	// byte-stuffing.
	Size(ctx context.Context, i int) (int64, error)
	// UID gives the unique-id of message i: 1 to 70 characters from 0x21 to
	// 0x7E, never given to another mail of this maildrop (RFC 1939 §7).
	UID(i int) string
	// Open gives the bytes of message i; the caller closes it. errs.NotFound
	// when another client has expunged it meanwhile.
	Open(ctx context.Context, i int) (io.ReadCloser, error)
	// Delete removes the messages for good; called at most once, by QUIT.
	Delete(ctx context.Context, indexes []int) error
	// Close gives the lock back. Nothing is deleted by it.
	Close()
}
