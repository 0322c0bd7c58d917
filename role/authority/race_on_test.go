//go:build race

package authority

// raceDetector makes signatures ten times as slow.
const raceDetector = true
