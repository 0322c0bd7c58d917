// Package account holds the accounts of a post office: their names, keys and
// settings, and the one door through which every password goes (Login).
//
// # Schema
//
// A name lies in its own shard (seal.Root.NameShard) and points to an account
// number; all else lies in the account's shard under its prefix.
//
//	shard of the name
//	  'n' NameKey(20)        sealed under the node key: account number and kind
//	                         (account), or the day of deletion (tombstone)
//	shard of the account, behind seal.AccountID.Prefix()
//	  'i'                    sealed under the node key: address, class, blocked,
//	                         accept-cleartext, quota, days of creation and last login
//	  'k'                    public key, readable; seed wrapped by the password, and
//	                         that sealed under the node key
//	  't'                    sealed under the node key: device tokens
//	shard 0
//	  'm'                    sealed under the node key: a constant, so that a store
//	                         is never opened with another root key
//
// Other letters behind the account's prefix belong to post/mailbox, 'h' to post/seen. Readable
// without any key are only: that an account exists, its number, its public key.
package account
