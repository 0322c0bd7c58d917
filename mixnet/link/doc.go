// Package link is how nodes of the mix network speak to each other, and a proxy to its
// relay: TLS 1.3 with a hybrid key exchange and pinned keys, frames of one size, units
// that are acknowledged when they are durable, and cover traffic. docs/link.md is the
// protocol, byte by byte.
//
// A Link is the node's own end: its key, whom it knows, its limits. Serve takes
// connections, a Line keeps one to a peer. What arrives goes to the Handler, which
// answers with the Receipt when its commit is on disk: before that nothing is
// acknowledged. What is sent is handed to a Line (or, by a relay to its client, to the
// Conn that the client opened); a Line sends again what a broken connection left open.
//
// The package carries units and does not look into them. It writes nothing to disk;
// who sends a unit keeps it until it is acknowledged.
package link
