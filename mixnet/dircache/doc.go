// Package dircache keeps the consensus of a mix network for everybody who is no authority: it
// fetches the next one in time, from whoever has it, keeps it on disk, and gives it to others.
// docs/directory.md §8 is what is checked, §11 what is asked, §13 when.
//
// Nothing that a source says is believed: a consensus counts by the signatures of the
// authorities, and one that is older than what was here before, or another one of the same
// epoch, is refused, also after a restart. Sources are compared with each other (Gossip); two
// consensuses of one epoch are the proof against the authorities that signed both.
//
// A Cache holds at most maxKept consensuses in memory, and as many files.
package dircache
