// Package packetbox keeps the packets of the mix network that wait for an account's clients,
// and who those clients are.
//
// # Schema
//
// In the shard of the account, behind seal.AccountID.Prefix():
//
//	'u' 'c'                sealed for mix-client: the link keys of its clients, and the day on
//	                       which each was registered
//	'u' 'i'                sealed for mix-identity: the public keys of its mail proxy, whether they
//	                       are published, how many it had, the day. All have one length
//	'u' 's'                version; number of the next packet (uint64); how many wait (uint32)
//	'u' 'n' mark(16)       version; day on which a packet came (uint32): days since 1970, UTC
//	'u' 'p' number(8)      sealed for mix-packet: version, kind, day, mark of the reply block,
//	                       payload. All have one length
//
// In the shard that the place says (seal.Root.MixPlace):
//
//	'x' 'm' place(20)      sealed for mix-name: the account with this mailbox
//	'x' 'k' place(20)      sealed for mix-name: the account with a client of this link key
//	'x' 'i' place(20)      sealed for mix-name: until when an invitation can be used, and the
//	                       account that used it
//
// Without the node key can be read: which account numbers have a mailbox, which of them are read
// with a mail proxy, how many packets wait in it and came so far, and on which of the last days packets came. With it everything can be
// opened that lies here: a client is known by its link key, not by a password, so the server
// must be able to hand the packets over without one. What a payload says is sealed end to end.
//
// The mailbox of an account follows from its number and the node's root key: it does not change
// when the account is reset, and nobody without the root key can tell that two addresses or a
// mailbox and an address belong together.
//
// A mark is a keyed hash of the name that the node gives a packet; it is kept for Remember days,
// also when the packet was handed over meanwhile, so that a packet which is put again after a
// crash is there once.
package packetbox
