// Package racetest tells tests whether the race detector is at work. It makes signatures ten
// times as slow, and Pebble then notes a stack for every reference to a file, so that a reading
// takes ten times as long too: tests that go through very many cases take a part of them.
package racetest
