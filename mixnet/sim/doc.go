// Package sim is the mix network in virtual time: the proof that it hides what it should, and the
// way to see how much that is for a number of users, mixes and parameters.
//
// What it runs is the node's own rule of mixing (mixnet/pool) and the client's own choices of ways,
// delays and moments (mixnet/client); nothing of both is written again here, and a test fails if
// it is. What is left out is bytes, links and disks: a packet is a number, and nothing takes time
// but the delays. The same seed gives the same result.
//
// The observer sees when each packet comes to each node and leaves it, and knows what is in the
// nodes that it runs. It is told more than it could see: which packets are the loops of mixes,
// so they hide nothing, and exactly how many packets each mix holds.
package sim
