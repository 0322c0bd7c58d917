package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"postern.email/kit/errs"
)

// TestHoldLockFile: IM-22, whatever the mask is; IM-64: a second one is told at once.
func TestHoldLockFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "lock", "sub", "incognito.lock")
	l, err := HoldLockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for p, mode := range map[string]os.FileMode{path: 0o644, filepath.Dir(path): 0o755, filepath.Dir(filepath.Dir(path)): 0o755} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != fmt.Sprintf("%10d\n", os.Getpid()) || len(b) != 11 {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := HoldLockFile(path); errs.KindOf(err) != errs.Exists || !strings.HasPrefix(errs.Public(err), fmt.Sprintf("already running: %s is held by process %d, since 20", path, os.Getpid())) {
		t.Errorf("twice: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	// One that a killed process left does not count.
	if err := os.WriteFile(path, []byte("     99999\n and more"), 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err = HoldLockFile(path); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != fmt.Sprintf("%10d\n", os.Getpid()) {
		t.Errorf("%q", b)
	}
	l.Close()
	// What a link in its place names is not touched, and nothing but a file is taken.
	victim := filepath.Join(filepath.Dir(path), "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := HoldLockFile(path); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a link: %v", err)
	}
	if b, err := os.ReadFile(victim); string(b) != "precious" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	pipe := filepath.Join(filepath.Dir(path), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := HoldLockFile(pipe); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.Public(err), "something else in the place of the lock file") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := HoldLockFile(filepath.Dir(path)); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a directory: %v", err)
	}
}

// TestLockFileHasOneHolder: also while its holders come and go.
func TestLockFileHasOneHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders, held atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				l, err := HoldLockFile(path)
				if err != nil {
					continue
				}
				held.Add(1)
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				holders.Add(-1)
				l.Close()
			}
		})
	}
	all.Wait()
	if held.Load() == 0 {
		t.Error("nobody ever held it")
	}
}
