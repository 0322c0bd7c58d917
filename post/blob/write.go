package blob

import (
	"bufio"
	"io"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/seal"
)

// Chunk is the number of bytes of a body that are sealed together: a sealed chunk is
// 64 KiB and the tag, because padding adds at least one byte.
const Chunk = 64<<10 - 1

// paddedLen gives the padded length of n bytes before they are cut into chunks.
func paddedLen(n int64) int64 { return int64(seal.PaddedLen(int(n))) }

// FileLen gives the length of the file for a body of n bytes.
func FileLen(n int64) int64 {
	n = paddedLen(n)
	size := n / Chunk * int64(seal.SealedLen(Chunk))
	if rest := n % Chunk; rest > 0 {
		size += int64(seal.SealedLen(int(rest)))
	}
	return size
}

// Write seals a body, given in pieces, under k into one file that has all the names: a
// hard link for each, so that a name can belong to exactly one record and no count
// can be wrong. names are fresh (NewNames, or random by other means), and k has sealed no
// body before. When Write returns nil the file and all names are on disk and in flight:
// call EndFlight or Landed for each. size is the length of the file in bytes. Neither names
// nor pieces are kept. Errors: errs.NoSpace, errs.Unavailable; then nothing is left.
func (s *Files) Write(k *seal.MailKey, names []Name, pieces ...[]byte) (size int64, err error) {
	const op = "post/blob.Write"
	if len(names) == 0 {
		return 0, errs.E(op, errs.Invalid, "", nil)
	}
	s.depart(names)
	defer func() {
		if err != nil {
			s.abandon(names)
			size, err = 0, errs.Wrap(op, err)
		}
	}()
	if size, err = s.writeFile(k, pieces, names[0]); err != nil {
		return size, err
	}
	for _, n := range names[1:] {
		if s.fs.Link(s.path(names[0]), s.path(n)) == nil {
			continue
		}
		// A disk without hard links: a copy each. The sealed bytes are the same, so
		// they are copied and not sealed again.
		if err = s.copyFile(names[0], n); err != nil {
			return size, err
		}
	}
	return size, s.syncDir()
}

// writeSynced makes a file of what fill writes. It is synced; its name is not yet.
func (s *Files) writeSynced(n Name, fill func(io.Writer) error) error {
	const op = "post/blob.writeSynced"
	f, err := s.fs.Create(s.path(n), category)
	if err != nil {
		return diskError(op, err)
	}
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil && errs.KindOf(err) == errs.Internal {
		return diskError(op, err) // else it is not the disk's, and has its kind
	}
	return err
}

func (s *Files) writeFile(k *seal.MailKey, pieces [][]byte, n Name) (size int64, err error) {
	err = s.writeSynced(n, func(w io.Writer) (err error) {
		size, err = writeChunks(w, k, pieces)
		return err
	})
	return size, err
}

func (s *Files) copyFile(from, to Name) error {
	in, err := s.fs.Open(s.path(from))
	if err != nil {
		return diskError("post/blob.copyFile", err)
	}
	defer in.Close()
	return s.writeSynced(to, func(out io.Writer) error {
		w := bufio.NewWriterSize(out, Chunk)
		if _, err := io.Copy(w, in); err != nil {
			return err
		}
		return w.Flush()
	})
}

func writeChunks(w io.Writer, k *seal.MailKey, pieces [][]byte) (size int64, err error) {
	body := pieceReader{pieces: slices.Clone(pieces)}
	total := int64(0)
	for _, p := range pieces {
		total += int64(len(p))
	}
	for c, left := uint32(0), paddedLen(total); left > 0; c++ {
		n := int(min(left, Chunk))
		left -= int64(n)
		sealed, err := k.SealPart(seal.PartBody, c, body.next(n))
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

// pieceReader gives a body in portions, copying only where one does not lie within a
// piece. Behind the body come zeros.
type pieceReader struct {
	pieces [][]byte
	buf    []byte
}

// next gives the next n bytes; they are valid until the following call.
func (r *pieceReader) next(n int) []byte {
	for len(r.pieces) > 0 && len(r.pieces[0]) == 0 {
		r.pieces = r.pieces[1:]
	}
	if len(r.pieces) > 0 && len(r.pieces[0]) >= n {
		out := r.pieces[0][:n]
		r.pieces[0] = r.pieces[0][n:]
		return out
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	out := r.buf[:n]
	filled := 0
	for filled < n && len(r.pieces) > 0 {
		m := copy(out[filled:], r.pieces[0])
		filled += m
		if r.pieces[0] = r.pieces[0][m:]; len(r.pieces[0]) == 0 {
			r.pieces = r.pieces[1:]
		}
	}
	clear(out[filled:])
	return out
}

func (s *Files) syncDir() error {
	s.dirMu.Lock()
	defer s.dirMu.Unlock()
	if err := s.handle.Sync(); err != nil {
		return diskError("post/blob.syncDir", err)
	}
	return nil
}
