// Package imap is an IMAP server: RFC 3501 (IMAP4rev1), RFC 9051 (IMAP4rev2) and
// extensions, listed with their tests in docs/imap.md. It turns bytes into calls
// of a Backend and results into bytes. It holds no policy and no state but what
// the protocol asks of one session: what this client was told about the mailbox.
//
// One goroutine reads a session; each command runs on a stack of its own that is
// given back, and buffers come from pools and are held only while bytes are on
// the way, because most sessions of a mail server wait in IDLE.
package imap
