// Package dkimkey keeps the keys that sign the mail of the domain (DKIM), and moves them
// through their lives.
//
// # Pairs
//
// Keys come in pairs, one RSA (2048 bits, which everybody verifies) and one Ed25519, with a
// name such as "p2026a": the year, and a letter counting up. Their selectors are the name with
// "-rsa" and "-ed". A name is never given twice, because the DNS and its caches may still
// answer with the old key; so a pair's name is kept when its keys are gone.
//
// # Life of a pair
//
//	new       made by Rotate; waits until both its records are seen in the DNS
//	active    signs; there is one, and it is made on first use
//	retiring  signs no more, but mail that it signed is still under way: its records must
//	          stay until Options.Overlap is over
//	removed   its private halves are destroyed, or published (Options.Publish)
//
// The first pair is active at once: there is no older one that could sign instead.
//
// # Publishing
//
// Somebody who has a mail can show everybody its signature, and so prove for ever what the
// domain vouched for. Once the private halves are known to all, anybody could have made that
// signature, and it proves nothing. They may be known only when nobody takes them for valid
// any more: so they are published when the overlap is over and the resolver has not seen the
// records for PublishWait.
//
// # Schema
//
// In shard 0:
//
//	'd' name   sealed under the node key: state, times, public and private halves
package dkimkey
