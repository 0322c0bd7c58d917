// Package mix puts a bare node of the mix network together: keys, statistics, the network's
// directory, the node, and for an end its clients, boxes and exits. It is the server of
// mixminiond(8) with its options, files and commands, over packets, links and a directory of
// our own. It holds no rule of the network itself.
package mix
