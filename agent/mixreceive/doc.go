// Package mixreceive takes what has come to the accounts of a mail proxy out of the mix network and
// puts it into their mailboxes: letters that are whole, one after the other, each of them checked by
// agent/vouch. A letter stays, sealed, in the inbox of the mix client until its mail is in the mailbox;
// its name goes along into that transaction, so that a crash in between doubles nothing.
//
// What cannot be delivered is told to the user, without its content, within the bounds of
// agent/notice.
package mixreceive
