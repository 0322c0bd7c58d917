// Package mixclient is the user's end of the mix network as a program: a directory with keys and
// what waits, registration with a relay, the consensus, and the line. It holds no rule of its
// own: see mixnet/client, mixnet/letter and mixnet/dircache.
package mixclient
