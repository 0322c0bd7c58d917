package mailbox

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
)

// blobCategory names these files in the disk's statistics.
const blobCategory = "postern-blob"

// blobs are the files of large bodies. Each is written once, under a random name, and
// is complete and synced before any record names it. A mail to several accounts
// is one file with a name (a hard link) for each of them, so that a name belongs to exactly one
// message record: deleting it is one unlink, exact and at once, without a
// count that could be wrong, and needs no transaction over several accounts.
type blobs struct {
	fs   vfs.FS
	dir  string
	rand io.Reader

	mu     sync.Mutex
	flight map[blobName]struct{} // prepared, and perhaps not yet named by a record

	dirMu  sync.Mutex
	handle vfs.File // the directory, for syncing
}

func openBlobs(fs vfs.FS, dir string, rand io.Reader) (*blobs, error) {
	const op = "post/mailbox.openBlobs"
	if err := vfs.MkdirAll(fs, dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	h, err := fs.OpenDir(dir)
	if err != nil {
		return nil, diskError(op, err)
	}
	return &blobs{fs: fs, dir: dir, rand: rand, flight: make(map[blobName]struct{}), handle: h}, nil
}

func (s *blobs) close() error { return s.handle.Close() }

// diskError gives the kind that fits a failed write.
func diskError(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.E(op, errs.NoSpace, "", err)
	case errors.Is(err, os.ErrNotExist):
		return errs.E(op, errs.NotFound, "", err)
	}
	return errs.E(op, errs.Unavailable, "", err)
}

func (s *blobs) path(n blobName) string {
	return s.fs.PathJoin(s.dir, hex.EncodeToString(n[:]))
}

func parseBlobName(s string) (n blobName, ok bool) {
	if len(s) != hex.EncodedLen(len(n)) {
		return n, false
	}
	_, err := hex.Decode(n[:], []byte(s))
	return n, err == nil && hex.EncodeToString(n[:]) == s
}

// write stores raw, sealed under k, with count names. When it returns nil the
// file and all names are on disk. size is the length of the file.
func (s *blobs) write(k *seal.MailKey, raw []byte, count int) (names []blobName, size int64, err error) {
	const op = "post/mailbox.blobs.write"
	names = make([]blobName, count)
	for i := range names {
		if _, err := io.ReadFull(s.rand, names[i][:]); err != nil {
			return nil, 0, errs.E(op, errs.Internal, "", err)
		}
	}
	s.mu.Lock()
	for _, n := range names {
		s.flight[n] = struct{}{}
	}
	s.mu.Unlock()
	defer func() {
		if err != nil {
			s.abandon(names)
			names = nil
		}
	}()
	if size, err = s.writeFile(k, raw, names[0]); err != nil {
		return names, 0, err
	}
	for _, n := range names[1:] {
		if s.fs.Link(s.path(names[0]), s.path(n)) == nil {
			continue
		}
		// A disk without hard links: a copy each. The sealed bytes are the same, so
		// they are copied and not sealed again.
		if err = s.copyFile(names[0], n); err != nil {
			return names, 0, err
		}
	}
	return names, size, s.syncDir()
}

func (s *blobs) writeFile(k *seal.MailKey, raw []byte, n blobName) (int64, error) {
	f, err := s.fs.Create(s.path(n), blobCategory)
	if err != nil {
		return 0, diskError("post/mailbox.writeFile", err)
	}
	size, err := writeChunks(f, k, raw)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil && errs.KindOf(err) == errs.Internal {
		err = diskError("post/mailbox.writeFile", err)
	}
	return size, err
}

// blobLen gives the padded length of n bytes before it is cut into chunks. The whole is
// padded, and not only each chunk, so that the file's length tells no more
// than the length of a body record.
func blobLen(n int64) int64 { return int64(seal.PaddedLen(int(n))) }

// blobFileLen gives the length of the file for a body of n bytes.
func blobFileLen(n int64) int64 {
	n = blobLen(n)
	size := n / blobChunk * int64(seal.SealedLen(blobChunk))
	if rest := n % blobChunk; rest > 0 {
		size += int64(seal.SealedLen(int(rest)))
	}
	return size
}

func writeChunks(w io.Writer, k *seal.MailKey, raw []byte) (size int64, err error) {
	total := int(blobLen(int64(len(raw))))
	for c, at := uint32(0), 0; at < total; c, at = c+1, at+blobChunk {
		end := min(at+blobChunk, total)
		var plain []byte
		if end <= len(raw) {
			plain = raw[at:end]
		} else { // the last chunk, or two: zeros behind the body
			plain = make([]byte, end-at)
			copy(plain, raw[min(at, len(raw)):])
		}
		sealed, err := k.SealPart(seal.PartBody, c, plain)
		if err != nil {
			return 0, err
		}
		if _, err := w.Write(sealed); err != nil {
			return 0, err
		}
		size += int64(len(sealed))
	}
	return size, nil
}

func (s *blobs) copyFile(from, to blobName) (err error) {
	const op = "post/mailbox.copyFile"
	in, err := s.fs.Open(s.path(from))
	if err != nil {
		return diskError(op, err)
	}
	defer in.Close()
	out, err := s.fs.Create(s.path(to), blobCategory)
	if err != nil {
		return diskError(op, err)
	}
	w := bufio.NewWriterSize(out, blobChunk)
	_, err = io.Copy(w, in)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return diskError(op, err)
	}
	return nil
}

func (s *blobs) syncDir() error {
	s.dirMu.Lock()
	defer s.dirMu.Unlock()
	if err := s.handle.Sync(); err != nil {
		return diskError("post/mailbox.syncDir", err)
	}
	return nil
}

// abandon removes files that no record names, and ends their flight.
func (s *blobs) abandon(names []blobName) {
	for _, n := range names {
		_ = s.remove(n) // what stays is an orphan, and swept later
	}
	s.landed(names)
}

// landed ends the flight of names.
func (s *blobs) landed(names []blobName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		delete(s.flight, n)
	}
}

func (s *blobs) inFlight(n blobName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.flight[n]
	return ok
}

func (s *blobs) remove(n blobName) error {
	if err := s.fs.Remove(s.path(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
