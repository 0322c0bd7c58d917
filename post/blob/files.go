package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
)

// MaxInline is the size in bytes up to which a body is better kept as a record of the
// store: both users go by it.
const MaxInline = 64 << 10

// category names these files in the disk's statistics.
const category = "postern-blob"

// Name is the random name of a file; on disk it is the hex form.
type Name [16]byte

// String gives the file's name: 32 hex digits.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// parseName reads the form that String gives.
func parseName(s string) (n Name, ok bool) {
	if len(s) != hex.EncodedLen(len(n)) {
		return n, false
	}
	_, err := hex.Decode(n[:], []byte(s))
	return n, err == nil && n.String() == s
}

// Files is a directory of bodies. All methods may be called by many goroutines.
type Files struct {
	fs   vfs.FS
	dir  string
	rand io.Reader

	mu     sync.Mutex
	flight map[Name]struct{} // prepared, and perhaps not yet named by a record

	dirMu  sync.Mutex
	handle vfs.File // the directory, for syncing
}

// New opens dir, which is made durably if it is missing. Names are drawn from rand.
func New(fs vfs.FS, dir string, rand io.Reader) (*Files, error) {
	const op = "post/blob.New"
	if err := vfs.MkdirAll(fs, dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	h, err := fs.OpenDir(dir)
	if err != nil {
		return nil, diskError(op, err)
	}
	return &Files{fs: fs, dir: dir, rand: rand, flight: make(map[Name]struct{}), handle: h}, nil
}

// Close gives the directory back. Nothing may be running; open bodies stay open.
func (s *Files) Close() error { return s.handle.Close() }

// diskError gives the kind that fits a failure of the disk.
func diskError(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.E(op, errs.NoSpace, "", err)
	case errors.Is(err, os.ErrNotExist):
		return errs.E(op, errs.NotFound, "", err)
	}
	return errs.E(op, errs.Unavailable, "", err)
}

func (s *Files) path(n Name) string { return s.fs.PathJoin(s.dir, n.String()) }

// NewNames draws count names.
func (s *Files) NewNames(count int) ([]Name, error) {
	names := make([]Name, count)
	for i := range names {
		if _, err := io.ReadFull(s.rand, names[i][:]); err != nil {
			return nil, errs.E("post/blob.NewNames", errs.Internal, "", err)
		}
	}
	return names, nil
}

// Size gives the length of a file in bytes, or errs.NotFound.
func (s *Files) Size(n Name) (int64, error) {
	info, err := s.fs.Stat(s.path(n))
	if err != nil {
		return 0, diskError("post/blob.Size", err)
	}
	return info.Size(), nil
}

// Remove deletes a file whose record is gone. One that is not there is no error.
func (s *Files) Remove(n Name) error {
	if err := s.fs.Remove(s.path(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return diskError("post/blob.Remove", err)
	}
	return nil
}

// depart notes that names are being prepared, before their files are made.
func (s *Files) depart(names []Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.flight[n] = struct{}{}
	}
}

// land ends the flight of names.
func (s *Files) land(names []Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		delete(s.flight, n)
	}
}

func (s *Files) inFlight(n Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.flight[n]
	return ok
}

// Flights gives the number of names that Write prepared and nobody ended.
func (s *Files) Flights() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.flight)
}

// abandon removes files that no record names, and ends their flight.
func (s *Files) abandon(names []Name) {
	for _, n := range names {
		_ = s.Remove(n) // what stays is an orphan, and swept later
	}
	s.land(names)
}

// EndFlight ends what Write began, whatever came of it: the file is removed unless the
// record under key names it. It must be called for each name when no transaction
// that sets the record is running or will follow. After a failed sync nobody knows what
// was committed; then the file stays, for the next start to judge.
func (s *Files) EndFlight(st store.Store, shard store.Shard, key []byte, n Name) {
	names := []Name{n}
	if st.Health() != nil {
		s.land(names)
		return
	}
	// Not a caller's context: its end may be why the flight ends.
	err := st.View(context.Background(), shard, func(r store.Reader) error {
		_, err := r.Get(key)
		return err
	})
	if err != nil && errs.KindOf(err) == errs.NotFound && st.Health() == nil {
		s.abandon(names)
		return
	}
	s.land(names)
}

// Landed ends the flight of a file whose record is known to be committed.
func (s *Files) Landed(n Name) { s.land([]Name{n}) }

// List gives the names of all files that are not in flight.
func (s *Files) List() ([]Name, error) {
	list, err := s.fs.List(s.dir)
	if err != nil {
		return nil, diskError("post/blob.List", err)
	}
	var names []Name
	for _, f := range list {
		if n, ok := parseName(f); ok && !s.inFlight(n) {
			names = append(names, n)
		}
	}
	return names, nil
}

// Sweep removes the files that no record names. named calls its argument for each name
// that a record holds; it is called only if there is any file. A file in flight is left
// alone: its name is noted before the file is made, so a name that is listed and
// not noted can never be named by a record any more unless one does already,
// and named reads the records after the listing.
func (s *Files) Sweep(st store.Store, named func(func(Name)) error) error {
	const op = "post/blob.Sweep"
	files, err := s.List()
	if err != nil || len(files) == 0 {
		return errs.Wrap(op, err)
	}
	orphans := make(map[Name]struct{}, len(files))
	for _, n := range files {
		orphans[n] = struct{}{}
	}
	if err := named(func(n Name) { delete(orphans, n) }); err != nil {
		return errs.Wrap(op, err)
	}
	if st.Health() != nil {
		return nil
	}
	for n := range orphans {
		if err := s.Remove(n); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}
