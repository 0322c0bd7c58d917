//go:build race

package storetest

// raceDetector makes everything several times slower: the suite looks at a sample.
const raceDetector = true
