// Package storetest is the one suite that every engine of the store contract must
// pass: the contract's sentences one by one, random operations against a model,
// linearizability of concurrent histories, crashes at every sync, kill -9 of a
// real process, failing disks, and the purge of deleted bytes.
//
// An engine's own test calls Main from TestMain and Run from a test. The checks
// behind the suite (CrashCheck, LinearCheck, FaultCheck) return errors, so that a
// test can also demand that they find a defect planted in an engine.
package storetest

import (
	"context"
	"testing"

	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/store"
)

// Engine is what the suite needs to know of an engine.
type Engine struct {
	// Open opens or makes a store in dir on fs. Small buffers make the suite see
	// more of the engine: choose the smallest that work.
	Open func(ctx context.Context, fs vfs.FS, dir string) (store.Store, error)

	// OneLog says that Tx.Other works for every shard.
	OneLog bool
}

// dir is where the suite puts a store on a disk of its own.
const dir = "/store"

// Run runs the whole suite. TestMain of the package must call Main.
func Run(t *testing.T, e Engine) {
	t.Run("Contract", func(t *testing.T) { contract(t, e) })
	t.Run("Model", func(t *testing.T) { model(t, e) })
	t.Run("Linearizable", func(t *testing.T) { linearizable(t, e) })
	t.Run("Crash", func(t *testing.T) { crash(t, e) })
	t.Run("Kill", func(t *testing.T) { kill(t, e) })
	t.Run("Faults", func(t *testing.T) { faults(t, e) })
	t.Run("Purge", func(t *testing.T) { purge(t, e) })
}

// sample reports whether to look at a part of all cases only.
func sample() bool { return testing.Short() || racetest.Enabled }

// open opens a store that the test closes at its end.
func open(t *testing.T, e Engine, fs vfs.FS) store.Store {
	t.Helper()
	st, err := e.Open(t.Context(), fs, dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil && st.Health() == nil {
			t.Errorf("close: %v", err)
		}
	})
	return st
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
