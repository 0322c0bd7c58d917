//go:build race

package directory

// raceEnabled: the race detector makes signatures many times slower.
const raceEnabled = true
