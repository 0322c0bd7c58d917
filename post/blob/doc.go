// Package blob keeps large sealed bodies in files of their own, for the mailboxes and
// for the queue. Each user has its own directory.
//
// A file is written once, under a random name, and is complete and synced before
// any record names it. A crash can only leave a file that nobody names, which Sweep
// removes. Deleting is one unlink, exact and at once.
//
// A body is padded as a whole and cut into chunks of Chunk bytes, each of which is
// sealed and can be opened alone; so a file's length tells no more than the length of
// a sealed record. The user keeps the key, the name and the exact size.
package blob
