// Package postmap keeps lines of ours in a look-up table of Postfix (postmap(1)), beside the lines of
// whoever runs it. Those stay as they are, byte for byte; ours stand in a block between two marks.
//
// A look-up never sees half of a change: text and index are written under other names in the same
// directory, synced, and renamed; Postfix notices that a table was replaced (DATABASE_README). The index
// takes its place first, so that at every moment it is of this text or of a newer one, and a crash
// between the two leaves a text that Sync finds different, or an index that is older than its text.
package postmap
