// Package lab runs a whole world of private mail on one machine: directory authorities, mixes,
// relays, mail proxies, and a small piece of the ordinary Internet with names and a mail host.
//
// Every role is a process of its own, started from the program's own file, with its own
// directory and its own ports on 127.0.0.1. The lab sets them up with the commands that operators
// use, starts them, asks them how they do over their control sockets, and ends them. It calls
// nothing of a role in memory: what goes from one to another goes through sockets, as between
// machines. No root and no Internet is needed.
//
// See docs/lab.md.
package lab
