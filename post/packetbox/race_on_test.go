//go:build race

package packetbox

// raceDetector: Pebble then notes a stack for every reference to a file, which
// makes each walk over all 4,096 shards, and so each Open, take a third of a second.
const raceDetector = true
