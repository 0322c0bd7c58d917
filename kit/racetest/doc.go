// Package racetest tells tests whether the race detector is at work. It makes signatures ten
// times as slow, and Pebble then notes a stack for every reference to a file, so that a walk
// over all shards takes a second: tests that go through very many cases take a part of them.
package racetest
