package certs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// maxValue bounds one stored value, in bytes: a chain of certificates is a few KiB.
const maxValue = 1 << 20

// storage keeps what certmagic keeps (accounts, keys, certificates) as files under
// one directory. A value that was stored is on the disk, whole, before Store
// returns. Locks are in memory: the data directory has one process (kit/daemon).
type storage struct {
	fs  vfs.FS
	dir string

	mu     sync.Mutex // one writer at a time, as vfs.WriteFileAtomic wants it
	locks  map[string]chan struct{}
	idle   chan struct{} // closed and replaced whenever a lock is given back
	closed bool
}

var _ certmagic.Storage = (*storage)(nil)

func newStorage(f vfs.FS, dir string) (*storage, error) {
	if err := vfs.MkdirAll(f, dir, 0o700); err != nil {
		return nil, errs.E("wire/certs.newStorage", errs.KindOf(err), "cannot make the directory for certificates", err)
	}
	return &storage{fs: f, dir: dir, locks: make(map[string]chan struct{}), idle: make(chan struct{})}, nil
}

// path gives the file of a key. Keys have path components of safe characters;
// one that would lead elsewhere is refused all the same.
func (s *storage) path(key string) (string, error) {
	if key == "" {
		return s.dir, nil
	}
	if !fs.ValidPath(key) || strings.ContainsAny(key, "\\\x00") {
		return "", errs.E("wire/certs.storage", errs.Invalid, "", errors.New("bad key"))
	}
	return s.fs.PathJoin(append([]string{s.dir}, strings.Split(key, "/")...)...), nil
}

// writing enters a change; the caller calls mu.Unlock.
func (s *storage) writing(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errs.E("wire/certs.storage", errs.Canceled, "the server is stopping", nil)
	}
	return nil
}

func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	const op = "wire/certs.Store"
	name, err := s.path(key)
	if err != nil {
		return err
	}
	if len(value) > maxValue {
		return errs.E(op, errs.TooLarge, "", nil)
	}
	if err := s.writing(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := vfs.MkdirAll(s.fs, s.fs.PathDir(name), 0o700); err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, vfs.WriteFileAtomic(s.fs, name, value, 0o600))
}

func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	name, err := s.path(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	b, err := vfs.ReadFile(s.fs, name)
	return b, errs.Wrap("wire/certs.Load", err) // keeps fs.ErrNotExist, which certmagic looks for
}

func (s *storage) Delete(ctx context.Context, key string) error {
	const op = "wire/certs.Delete"
	name, err := s.path(key)
	if err != nil {
		return err
	}
	if err := s.writing(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if ok, err := vfs.Exists(s.fs, name); err != nil || !ok {
		return errs.Wrap(op, err)
	}
	if err := s.fs.RemoveAll(name); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	return errs.Wrap(op, vfs.SyncDir(s.fs, s.fs.PathDir(name)))
}

func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List gives the keys directly under prefix, directories too; recursive: all below.
func (s *storage) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	const op = "wire/certs.List"
	name, err := s.path(prefix)
	if err != nil {
		return nil, err
	}
	if _, err := s.Stat(ctx, prefix); err != nil {
		return nil, err
	}
	names, err := s.fs.List(name)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	slices.Sort(names)
	var all []string
	for _, n := range names {
		if strings.HasSuffix(n, ".tmp") { // left by a crash in the middle of a write
			continue
		}
		key := path.Join(prefix, n)
		all = append(all, key)
		if info, err := s.Stat(ctx, key); recursive && err == nil && !info.IsTerminal {
			below, err := s.List(ctx, key, true)
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
		}
	}
	return all, nil
}

func (s *storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	name, err := s.path(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	st, err := s.fs.Stat(name)
	if err != nil {
		kind := errs.Unavailable
		if errors.Is(err, fs.ErrNotExist) {
			kind = errs.NotFound
		}
		return certmagic.KeyInfo{}, errs.E("wire/certs.Stat", kind, "", err)
	}
	return certmagic.KeyInfo{Key: key, Modified: st.ModTime(), Size: st.Size(), IsTerminal: !st.IsDir()}, nil
}

func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		if err := s.writing(ctx); err != nil {
			return err
		}
		held, ok := s.locks[name]
		if !ok {
			s.locks[name] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.locks[name]
	if !ok {
		return errs.E("wire/certs.Unlock", errs.NotFound, "", nil)
	}
	delete(s.locks, name)
	close(held)
	close(s.idle)
	s.idle = make(chan struct{})
	return nil
}

// close waits until nobody works under a lock, but no longer than limit. After it
// nothing is written any more, whoever is still at work: the directory then belongs
// to the next process.
func (s *storage) close(limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	for late := false; ; {
		s.mu.Lock()
		if len(s.locks) == 0 || late {
			s.closed = true
			s.mu.Unlock()
			return
		}
		idle := s.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-t.C:
			late = true
		}
	}
}
