// Package mailbox holds the mails of a post office: folders, UIDs, flags, sealed
// mails, quota and their end.
package mailbox
