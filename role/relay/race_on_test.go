//go:build race

package relay

// raceDetector: Pebble then notes a stack for every reference to a file, which
// makes a walk over all 4,096 shards take a second.
const raceDetector = true
