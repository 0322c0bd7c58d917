// Package nodebench measures one node of the mix network as a process of its own, over real
// links and on a real disk: how many packets a second it takes from a socket and gives to
// another, with its log synced; how much longer than they ask for packets stay; and its memory.
// The sender and the next hop run in the benchmark's process, on the same processors.
//
//	go test ./bench/nodebench -run Node -v -timeout 20m -args -node
//
// What the disk takes of the same groups of records, and what one core unwraps, are measured in
// the same run. The bars: 3,000 packets a second or 60 % of the disk's rate, whichever is
// smaller; at half of the load 5 ms more than was asked for in the median, 50 ms in 99 of 100; 256 MB
// at 100 packets a second with 20 s in the mean. Packets are built before anything is measured.
package nodebench
