// Package packet is P1, the packet of the mix network: 32 KiB in layers, one for each
// hop, each sealed to the hop's hybrid key (X-Wing). docs/packet.md is the format, byte
// by byte; this package obeys it, and the vectors under testdata show it.
//
// A sender calls Build. A node calls ParsePrefix, which tells the layer and the key,
// then Unwrap, and gets the packet for the next hop in the same buffer. A single-use
// reply block (SURB) is a header made by whoever wants an answer: NewSURB makes it,
// SURB.Use puts an answer behind it, OpenReply opens what came back.
//
// The package is pure: no clock, no disk, no network. It does not know which node is
// in which layer, does not remember what it has seen (Result.Tag is for whoever does),
// and does not wait (Result.Delay). Functions may be called by many goroutines at
// once, with buffers of their own.
//
// Whatever is wrong with what came from outside, the public text of the error is
// "rejected"; the kind and the private cause tell more to logs and tests.
package packet
