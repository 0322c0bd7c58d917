// Package alias holds the aliases of accounts, and of owners whose mailbox is elsewhere: their
// rules, what came for them, the tokens that stand for their owners, and the keys of derived
// aliases, of which nothing is stored before their first mail.
//
// # Schema
//
// In the shard of the owner's number (seal.AccountID.Shard), behind 'o' and the number (8 bytes);
// docs/aliases-store.md has every field:
//
//	'o'                      sealed for alias-owner: days, number of aliases, address elsewhere, the
//	                         vault's seed as sealed to the account
//	'v'                      version; public half of the vault, readable
//	'k'                      sealed for alias-key: the key of derived aliases
//	't' id(8)                sealed for alias-token: scopes, days, where its place is, its name sealed
//	                         to the vault
//	'a' place(20) 'a'        sealed for alias-rules: address, mode, class, dates and limits, the notes
//	                         sealed to the vault
//	'a' place(20) 's'        sealed for alias-rules: counts, and of each correspondent a tag, state and
//	                         days
//	'a' place(20) 'm'        sealed for alias-rules: keyed hashes of the Message-IDs of what was sent lately
//	'a' place(20) 'c' tag(16)  a correspondent's address, sealed to the vault
//
// In the shard that the token says (seal.Root.TokenPlace):
//
//	'h' place(20)            sealed for alias-token: owner, id, scopes, the vault's seed wrapped by
//	                         the token
//
// The name of an alias lies in post/names and points to the owner; the place of an alias is another
// keyed hash than that of its name, so that the disk does not tell which names are whose.
//
// # Order of writing
//
// In one log everything of a change is one transaction. In two, a name is claimed before the alias is
// written, and becomes a tombstone before the alias is removed: what a crash leaves is a name that
// leads nowhere, which housekeeping makes a tombstone, or an alias that is deleted already. No name
// is ever free again.
package alias
