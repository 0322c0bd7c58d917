package mail

import "postern.email/kit/errs"

// MaxMailboxes bounds one address list.
const MaxMailboxes = 4096

// GroupMark says whether a list entry is a mailbox or a border of a group.
type GroupMark uint8

const (
	NoGroup    GroupMark = iota // a mailbox
	GroupStart                  // Name and RawName are the group's name
	GroupEnd                    // nothing else is set
)

// Mailbox is one entry of an address list (RFC 5322 §3.4).
type Mailbox struct {
	Name    string // display name for people: encoded words decoded to UTF-8
	RawName string // display name unquoted, encoded words as written: for IMAP ENVELOPE
	Address Address
	Group   GroupMark
}

// ParseAddressList reads the value of a To-like field: mailboxes and groups,
// comments, quoted strings, obsolete forms. Groups are kept as GroupStart,
// members, GroupEnd. Addresses are not held to the strict rules of ParseAddress: Domain may be
// empty. With an error (errs.Invalid, errs.TooLarge) the entries read so far are returned.
func ParseAddressList(value string) ([]Mailbox, error) {
	return nil, errs.E("mail.ParseAddressList", errs.Unsupported, "", nil)
}

// FromAddress gives the only address of the only From field, checked by the strict
// rules of ParseAddress; anything else is errs.Invalid.
func FromAddress(h Header) (Address, error) {
	return Address{}, errs.E("mail.FromAddress", errs.Unsupported, "", nil)
}
