// Package replay is the memory of a mix: one append-only log that holds the tag of every
// packet it took and, until they are sent, the packets themselves. docs/mixlog.md is the
// format and the reasons; this package obeys it.
//
// Tag and packet are one record with one sync. Add returns when the sync that covers its
// records has ended: only then may a link acknowledge, and only then is there anything
// that could leave. A record whose tag is known is told apart and not kept. What waits is
// read back with Read and ended with Sent; marks of what was sent are written in batches,
// as a packet that is sent again after a crash is dropped by the next hop's own log.
//
// The log is a row of segments. The oldest is dropped whole when nothing in it waits, after
// its tags were written to the compact file of their key; that file dies with the key
// (Forget). All records are sealed, and what is dropped loses its key first.
//
// One goroutine, the committer, owns the tags and writes the segments; another, the cleaner,
// drops them, so that no packet waits for that. Everything else may be called by many goroutines.
package replay
