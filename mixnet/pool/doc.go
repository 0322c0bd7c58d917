// Package pool decides which packets leave a mix, and when: Poisson, where each packet
// brings its own delay, and the three rules of the Type III remailers, Timed, DynamicPool
// (Cottrell's) and BinomialDynamicPool, which send some of what they hold every interval.
//
// Pool is the rule alone, without clock, disk or goroutine, so that a simulation runs what
// a node runs. Mix is the rule over the log of mixnet/replay: what it takes is on the disk,
// what leaves is read back from there when it is not in memory, and a restart goes on
// where it stopped.
package pool
