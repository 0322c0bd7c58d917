//go:build race

package racetest

// Enabled tells whether the race detector is at work.
const Enabled = true
