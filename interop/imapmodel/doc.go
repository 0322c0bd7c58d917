// Package imapmodel holds a running IMAP server against a model of what the
// RFCs allow, over sockets and without a look inside.
//
// Several sessions of one account do random things to one or two mailboxes, one
// after another or a few at the same moment. After each step a further session,
// the observer, opens the mailboxes anew and reads all of them; the step's
// commands must explain what changed (truth.go). Then each session's responses
// are taken in as a client must take them, and each is held against the history
// of the mailbox: a server may tell late, but never wrong, never backwards, and
// never at a forbidden moment (view.go). After NOOP nothing may be left untold.
//
// The rules come from RFC 9051 and 3501 (numbers, §7.5.1 and §7.4.1), RFC 7162
// (MODSEQ, VANISHED, QRESYNC), RFC 6851 (MOVE), RFC 4315 (UIDPLUS) and RFC 2177
// (IDLE). The package shares no code with the server.
//
// A run is a sequence of steps, and each step draws from its own random stream
// (seed, number of the step). So steps can be left out, and a failing run is
// made short by leaving out what the failure does not need (Shrink). Steps with
// one command repeat exactly; where commands run at the same moment the server
// chooses their order, and a failure may need a few tries.
package imapmodel
