// Package mixsubmit is the message submission agent (RFC 6409) of a mail proxy: the policy for
// mail that its users hand in, and the way of that mail into the mix network. It is the Backend of
// wire/smtp on the proxy's port.
//
// A mail is answered "250" when it lies sealed on the disk, as an entry of the account's spool, and
// not before. From then on Submit.Run sees to it: it finds out what each recipient's copy is
// sealed to, looks keys up where the user allowed it, queues letters in the mix client's store,
// and tells the sender in the own mailbox what became of them. Whatever is done twice after a
// crash has a name that was put down before, so that nothing is sent, and nothing told, twice.
//
// Mail from one account of a proxy to another goes through the mix network like all other: who
// watches the line must not see that it did not.
package mixsubmit
