package pebble

import "github.com/cockroachdb/pebble/v2"

// What tests of this package see beyond its surface.

func (d *DB) Metrics() *pebble.Metrics { return d.pdb.Metrics() }

// Fatal is what Pebble calls where it cannot go on.
func (d *DB) Fatal(words string) { logger{d.log, d.guard}.Fatalf("%s", words) }

// Raw writes past the committer and all checks.
func (d *DB) Raw(key, value []byte) error { return d.pdb.Set(key, value, pebble.Sync) }

const BornFile = bornFile
