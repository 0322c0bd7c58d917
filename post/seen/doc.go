// Package seen remembers for some days which mails an account got, so that a mail whose
// sender did not hear our 250 and sends it again is stored once.
//
// # Schema
//
// In the shard of the account, behind seal.AccountID.Prefix():
//
//	'h' mark(16)   version byte, day on which the mail came (uint32: days since 1970, UTC)
//
// In one of the first seal.MixShards shards, for letters of the mix network that came to the door
// of ordinary mailboxes, which are remembered for LetterDays:
//
//	'x' 'l' place(20)   version byte, day on which the letter came
//
// A mark is a keyed hash (seal.Root.SeenMark) over the account's number and what makes the
// mail this mail. Without the node key nothing can be learnt from it but that a mail from
// another host came on that day. With it, somebody who holds a mail with its signature can
// test whether it reached an account in the last days; nothing can be opened, so `store
// reveal` prints nothing of it. A place is a keyed hash of the letter's ID (seal.Root.MixPlace)
// and tells as little.
//
// The records of an account go with it: they lie behind its prefix, and Remove takes them away
// when an account is reset.
package seen
