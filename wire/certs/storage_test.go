package certs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// TestStorage: what certmagic asks of a storage.
func TestStorage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	s, err := newStorage(vfs.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for k, v := range map[string]string{"a/b/c.key": "one", "a/b/c.crt": "two", "a/d": "three", "e": ""} {
		if err := s.Store(ctx, k, []byte(v)); err != nil {
			t.Fatal(k, err)
		}
	}
	if err := s.Store(ctx, "a/d", []byte("four")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load(ctx, "a/d"); err != nil || string(b) != "four" {
		t.Errorf("%q, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "a", "b", "c.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	os.WriteFile(filepath.Join(dir, "a", "d.tmp"), nil, 0o600) // left by a crash
	for _, x := range []struct {
		prefix    string
		recursive bool
		want      []string
	}{{"", false, []string{"a", "e"}}, {"a", false, []string{"a/b", "a/d"}}, {"a", true, []string{"a/b", "a/b/c.crt", "a/b/c.key", "a/d"}}} {
		if got, err := s.List(ctx, x.prefix, x.recursive); err != nil || !slices.Equal(got, x.want) {
			t.Errorf("%q: %v, %v", x.prefix, got, err)
		}
	}
	if i, err := s.Stat(ctx, "a/d"); err != nil || i.Size != 4 || !i.IsTerminal || i.Modified.IsZero() || i.Key != "a/d" {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := s.Stat(ctx, "a"); err != nil || i.IsTerminal || !s.Exists(ctx, "a") {
		t.Errorf("%+v, %v", i, err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil || s.Exists(ctx, "a/b/c.key") || s.Delete(ctx, "a/b") != nil {
		t.Errorf("delete: %v", err)
	}
	// What is missing is fs.ErrNotExist, which certmagic looks for.
	if _, err := s.Load(ctx, "a/b/c.key"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := s.List(ctx, "a/b", false); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := s.Stat(ctx, "x"); !errors.Is(err, fs.ErrNotExist) || errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
	for _, k := range []string{"../x", "/etc/x", "a/../../x", "a//b", `a\..\x`, "a\x00"} {
		if err := s.Store(ctx, k, nil); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", k, err)
		}
	}
	if err := s.Store(ctx, "big", make([]byte, maxValue+1)); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if s.Store(gone, "a/d", nil) == nil || s.Delete(gone, "a/d") == nil {
		t.Error("a change for a caller that went away")
	}
	if _, err := s.Load(gone, "a/d"); err == nil {
		t.Error("a look-up for a caller that went away")
	}
}

// TestStorageDurable: what Store has returned for survives a crash, whole.
func TestStorageDurable(t *testing.T) {
	disk := vfs.NewCrashDisk()
	s, err := newStorage(disk, "/data/tls/acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"one", "two"} {
		if err := s.Store(t.Context(), "certificates/ca/x/x.key", []byte(v)); err != nil {
			t.Fatal(err)
		}
		after, err := newStorage(disk.Clone(vfs.Dropped, 1), "/data/tls/acme")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := after.Load(t.Context(), "certificates/ca/x/x.key"); err != nil || !bytes.Equal(b, []byte(v)) {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// TestStorageLocks: one holder at a time; close waits for it, but not for ever, and
// nothing is written afterwards.
func TestStorageLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newStorage(vfs.NewCrashDisk(), "/x")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if err := s.Lock(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := s.Lock(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() { second <- s.Lock(ctx, "a") }()
		synctest.Wait()
		select {
		case <-second:
			t.Fatal("two holders")
		default:
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Lock(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := s.Unlock(ctx, "a"); err != nil || <-second != nil {
			t.Error(err)
		}
		if err := s.Unlock(ctx, "c"); errs.KindOf(err) != errs.NotFound {
			t.Error(err)
		}
		began := time.Now()
		closed := make(chan struct{})
		go func() { s.close(time.Minute); close(closed) }()
		time.Sleep(time.Second)
		s.Unlock(ctx, "a")
		s.Unlock(ctx, "b")
		<-closed
		if d := time.Since(began); d != time.Second {
			t.Errorf("closed after %v", d)
		}
		if err := s.Store(ctx, "x", nil); errs.KindOf(err) != errs.Canceled {
			t.Errorf("written after close: %v", err)
		}
		if err := s.Lock(ctx, "x"); err == nil {
			t.Error("locked after close")
		}

		late, _ := newStorage(vfs.NewCrashDisk(), "/x")
		if err := late.Lock(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		late.close(time.Minute)
		if d := time.Since(began); d != time.Minute {
			t.Errorf("closed after %v", d)
		}
	})
}
