// Package access is where mailboxes meet the protocols that read them: it gives
// accounts and their mailboxes to wire/imap and wire/pop3 and holds the policy of
// that door: how many sessions a user may have, what may be appended, which
// annotations are shown and what becomes of those that are set.
//
// # What may be appended
//
// APPEND takes any message, encrypted or not, also into the folders of a strict
// account. The encryption check protects what comes from others and what goes to
// them; APPEND is a user writing into the user's own mailbox: drafts and copies
// of sent mail of ordinary mail programs, and imports. Like all mail it is sealed
// to the account before it is written, and nothing appended ever leaves by itself.
// Size limit and quota hold as for any mail.
package access
