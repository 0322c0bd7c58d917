// Package smtp is an SMTP server (RFC 5321) for submission (RFC 6409) and for mail
// exchange, and a Client that hands mail to other servers. Both know the protocol and no
// policy: every decision about senders, recipients and mails is the Backend's, and
// whom to trust and when to try again is for the user of the Client to say.
//
// Extensions, of both unless said otherwise: PIPELINING (RFC 2920), SIZE (RFC 1870),
// 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), CHUNKING (RFC 3030, without BINARYMIME), DSN
// (RFC 3461), ENHANCEDSTATUSCODES (RFC 2034), LIMITS (RFC 9422), STARTTLS (RFC 3207),
// REQUIRETLS (RFC 8689) and AUTH (RFC 4954; the server only).
//
// Lines end in CRLF and in nothing else. A bare CR, a bare LF or a NUL in a command
// or in a mail closes the connection after a reply, so that no reading of the
// stream but ours can be smuggled past us. What the client calls itself in EHLO
// is told to the backend that asks for it (Greeter), and kept nowhere.
//
// The Client converts nothing, since signatures would break: what a server cannot take
// as it is gets an error in the server's place.
package smtp
