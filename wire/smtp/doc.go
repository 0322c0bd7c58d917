// Package smtp is an SMTP server (RFC 5321) for submission (RFC 6409) and for mail
// exchange. It knows the protocol and no policy: every decision about senders,
// recipients and mails is the Backend's.
//
// Extensions: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8
// (RFC 6531), CHUNKING (RFC 3030, without BINARYMIME), DSN (RFC 3461),
// ENHANCEDSTATUSCODES (RFC 2034), LIMITS (RFC 9422), STARTTLS (RFC 3207) and AUTH
// (RFC 4954).
//
// Lines end in CRLF and in nothing else. A bare CR, a bare LF or a NUL in a command
// or in a mail closes the connection after a reply, so that no reading of the
// stream but ours can be smuggled past us. What the client calls itself in EHLO
// is forgotten at once.
package smtp
