// Package mbox is an exit of the mix network to the mailboxes of people whom the operator
// of a node knows: it takes mail for the names of an address file, puts its fragments
// together, and hands it to a mail server or a command. docs/mbox.md is the format of what waits on the
// disk, and how a mail looks.
//
// Exit returns when what it was given is on the disk. From there Run sends it. What cannot be delivered is
// tried again by a schedule for each destination, not for each mail, so that the time of a try tells
// nothing about when a mail came. Nobody is told when a mail is given up: its sender is unknown.
//
// The same packet under the same name is taken once, and so is the same letter, however its
// fragments came.
package mbox
