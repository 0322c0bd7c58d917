// Package directory is the directory of the mix network: what nodes say of themselves
// (Descriptor), what they measured (Stats), and how 1 to 9 authorities agree on one signed
// list of nodes (Vote, Reveal, Endorsement, Consensus). docs/directory.md is the format and
// the computation; this package obeys it.
//
// A node signs a Descriptor. An authority keeps a Registry of nodes that its operator
// approved, and one Machine an epoch, which takes the documents of the others in and says
// what to publish. A client calls ParseConsensus, then Verify. Who lies is shown by a Proof,
// which anybody can check with VerifyProof. What members ask each other is a Request; answers
// can be made small (Pack, Consensus.Delta). A network file (ParseNetwork) is what a member is
// told once.
//
// The package is pure: no clock, no disk, no network, and no randomness but what is passed
// in. A parsed document keeps the exact bytes it came in, and signatures are over those. All
// documents are bounded by the constants of this package before anything is allocated for
// them. Documents are not changed after they were made; a Machine and a Registry belong to
// one goroutine, everything else may be used by many.
package directory
