// Package nym keeps the reply blocks with which a relay answers people it does not know: for each
// reply address (docs/content.md §10) a stock, and what is to be sent with blocks of it.
//
// # Schema
//
// All in the shard that the place says, which is a keyed hash of the address's name
// (seal.Root.MixPlace):
//
//	'x' 'r' place(20)             sealed for mix-reply: version; serial of the last feed; number of the
//	                              next block; when the last block expires; the sets, each with its
//	                              hint, its key, and number and expiry of each block that is left
//	'x' 'b' place(20) number(4)   sealed for mix-reply: a reply block
//	'x' 'o' place(20) number(4)   sealed for mix-reply: what is to be sent with that block
//
// A block is used once. The transaction that takes a mail takes its blocks out of the first record
// and writes the third kind; block and body lie there until the node has the packet in its own log,
// and then both are deleted. A crash in between makes the node send the same packet with the same
// block again, which the first hop drops as a replay.
//
// Without the node key can be read: how many reply addresses there are, how many blocks each has,
// and what waits to be sent. With it also until when the blocks are good, and the first hop of
// each. Neither tells whose an address is: blocks come through the mix network, and lead back into it.
package nym
