// Package authority puts a directory authority of the mix network together: the keys of one
// of the network's authorities, the nodes that its operator approved, the agreement with the
// others on one consensus an epoch, and the listeners that give it out. The rules of the
// agreement are those of mixnet/directory (docs/directory.md); here they get a clock, a disk
// and a network.
//
// What the authority knows is held by one core behind one lock (core.go), whose every change
// is on the disk before anybody hears of it (disk.go). Pullers (pull.go) fetch what the others
// made, over links; the doors (answer.go, pages.go, commands.go) answer nodes, browsers and
// the operator.
package authority
