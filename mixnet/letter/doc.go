// Package letter is what packets carry from one user to another: a message of any kind and
// length, cut into fragments of which each fills a packet. docs/letter.md is the format, byte by
// byte.
//
// A letter is sealed to the recipient's X-Wing key once; each fragment opens and
// authenticates alone. It may be signed within the seal. Fragments may carry an erasure code,
// so that a letter arrives although some are lost, for ways on which nobody asks for a
// fragment again. The same fragments, unsealed, go to exits of the network.
//
// An Assembler makes letters of fragments in any order, within bounds. An Address names a
// mailbox and its key; a ReplyBlock is a way to answer somebody whom one does not know.
package letter
