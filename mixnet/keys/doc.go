// Package keys holds the private keys of a node of the mix network on its disk: the
// identity that signs its descriptor, the key of its links, the secret of its log of packets,
// and the packet keys, which come and go. docs/mixkeys.md is the format; this package obeys it.
//
// A packet key lies in a key set, a directory of its own. A set is made ahead of its time,
// so that every member of the network knows it before it is used; packets for it are accepted
// until some time after senders have stopped using it; then it is destroyed, and after it the
// memory of the packets that were sealed to it (replay.Log.Forget). Rotate does all of this.
//
// One process at a time may change the keys of a directory; its owner holds the lock (the pid
// file of role/mix). Everything but Create and Open may be called by many goroutines.
package keys
