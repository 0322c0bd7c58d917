// Package names is the register of all names under which mail comes here: accounts and
// aliases. It is the one owner of the rule that a name is given out once.
//
// # Schema
//
// In the shard that the name says (seal.Root.NameShard):
//
//	'n' NameKey(20)   sealed for account-name, bound to NameKey: version 1; kind (0 account,
//	                  1 deleted account, 2 alias, 3 deleted alias); number of the account or of
//	                  the alias's owner (8 bytes); day on which it was given out or deleted
//	                  (uint32, big-endian: days since 1970, UTC)
//
// NameKey is a keyed hash of the canonical address. Without the node key a record shows neither
// name nor kind nor owner: all have one length.
//
// The name of a deleted account may be given out again where its operator wants that; that of an
// alias never is, since whoever got it next would read what sites send to the one before.
package names
