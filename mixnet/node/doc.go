// Package node is a node of the mix network at work: it joins the links, the packet format,
// the log with its replay check, the pool and the directory.
//
// A unit that comes over a link is unwrapped by one of a few workers, and goes with others
// into the log, in one sync; then it is acknowledged, and not before. The pool says when a
// packet leaves. What is for another node waits in that node's queue for its line; what ends
// here goes to the packet boxes or to an exit. A packet stays in the log until the next hop, the
// box or the exit has it on its own disk, so a crash loses nothing and doubles nothing.
//
// The roles (mix, relay) open keys, caches and boxes and give them to New; Run does the rest
// until its context ends.
package node
