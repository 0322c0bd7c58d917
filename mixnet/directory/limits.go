package directory

import "time"

// Bounds of documents, in bytes.
const (
	MaxLine        = 8192      // without its end; the longest known is a signature, 4,577
	MaxDescriptor  = 32 << 10  //
	MaxStats       = 128 << 10 //
	MaxVote        = 128 << 10 //
	MaxReveal      = 16 << 10  //
	MaxEndorsement = 16 << 10  //
	MaxConsensus   = 16 << 20  //
	MaxProof       = 48 << 20  // an endorsement with everything that it was computed from
)

// Bounds of what documents hold.
const (
	MaxAuthorities = 9
	MaxNodes       = 512  // of a vote or a consensus
	MaxAbsent      = 512  // of a consensus
	MaxAddresses   = 4    // of a node
	MaxPacketKeys  = 8    // of a node
	MaxDomains     = 8    // of a node
	MaxParameters  = 64   // of a vote, a consensus or a node
	MaxName        = 32   // characters of a network, family or parameter name, or a version
	MaxNickname    = 19   // characters, as Type III servers had
	MaxContact     = 254  // bytes of an operator's contact, and of its fingerprint
	MaxComments    = 1024 // bytes of an operator's comments, as Type III servers had
	MaxScore       = 1000 // of a node: everything that was sent through it came back
	MaxHeld        = 256  // nodes that wait for an operator's decision
	MaxRejected    = 1024 // identities that an operator rejected

	maxHost = 255 // characters of a host in an address
)

// MaxParameter is the largest value of a parameter: what every number format carries exactly.
const MaxParameter = 1<<53 - 1

// Times.
const (
	MaxSkew       = 10 * time.Minute    // between a clock and the consensus, or a node's and an authority's
	FreshEpochs   = 4                   // how old a descriptor may be, in epochs; nodes publish anew each epoch or two
	MaxKeyLife    = 33 * 24 * time.Hour // of a packet key: 30 days and 72 hours of overlap
	MaxResidence  = 30 * 24 * time.Hour // expected stay in a pool mix
	MinPeriod     = time.Second         // of an epoch, for tests in one process
	MaxPeriod     = 24 * time.Hour      // of an epoch
	DefaultPeriod = time.Hour           // of an epoch
	ValidEpochs   = 3                   // how long a consensus may be used
	AbsentEpochs  = 168                 // how long a layer is kept for a node that is not there
)
