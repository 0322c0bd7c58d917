package replay

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// segment is one file of the log.
type segment struct {
	header
	aead cipher.AEAD
	file vfs.File
	tags []tagged // not in their keys' files yet; the committer's while active, then the cleaner's

	// Under Log.mu:
	blocks  uint32 // written and synced; only the committer changes it
	pending int    // packets that wait
	live    int64  // their blocks
	readers int
	active  bool // the committer writes to it
	gone    bool // dropped, or the log was closed
}

// tagged is the tag of a record.
type tagged struct {
	k *keyState
	f uint64
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x.log", number) }

// parseSegmentName reads what segmentName gives.
func parseSegmentName(s string) (number uint64, ok bool) {
	if _, err := fmt.Sscanf(s, "%016x.log", &number); err != nil {
		return 0, false
	}
	return number, segmentName(number) == s
}

func (l *Log) path(name string) string { return l.o.FS.PathJoin(l.o.Dir, name) }

// newSegment makes the file of a segment, durably, with its header.
func (l *Log) newSegment(h header) (*segment, error) {
	const op = "mixnet/replay.newSegment"
	if _, err := io.ReadFull(l.o.Rand, h.salt[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	a, err := newAEAD(l.secret, h.salt[:])
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	path := l.path(segmentName(h.number))
	if err := vfs.WriteFileAtomic(l.o.FS, path, h.block(a), 0o600); err != nil {
		return nil, errs.Wrap(op, err)
	}
	f, err := l.o.FS.OpenReadWrite(path, vfs.Unspecified)
	if err != nil {
		return nil, diskError(op, err)
	}
	return &segment{header: h, aead: a, file: f, blocks: 1}, nil
}

// write writes whole blocks behind the last and syncs; the caller counts them. After an error nobody knows what is on the disk,
// and nothing may be written to the segment any more.
func (s *segment) write(b []byte) error {
	const op = "mixnet/replay.write"
	if _, err := s.file.WriteAt(b, int64(s.blocks)*blockLen); err != nil {
		return diskError(op, err)
	}
	if err := s.file.SyncData(); err != nil {
		return diskError(op, err)
	}
	return nil
}

// read gives the body of the record at a block.
func (s *segment) read(block uint32, size int, buf []byte) ([]byte, error) {
	const op = "mixnet/replay.read"
	n := size + sealOverhead
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := s.file.ReadAt(buf, int64(block)*blockLen+sealedHead); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errs.E(op, errs.Corrupt, "", err)
		}
		return nil, diskError(op, err)
	}
	return openBody(s.aead, new(scratch), block, buf)
}
