package blob

import (
	"io"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
)

// Body is an open mail: its exact bytes. It is safe for use by many goroutines, Close
// excepted.
type Body interface {
	io.ReaderAt
	io.WriterTo
	Size() int64
	Close() error
}

// Memory is a body that was a record of the store.
type Memory []byte

// Size implements Body.
func (m Memory) Size() int64 { return int64(len(m)) }

// Close implements Body.
func (m Memory) Close() error { return nil }

// ReadAt implements Body.
func (m Memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errs.E("post/blob.ReadAt", errs.Invalid, "", nil)
	}
	if off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo implements Body.
func (m Memory) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(m)
	return int64(n), err
}

// Open opens the body of size bytes that Write sealed under k. Chunks are opened when
// they are read; memory is at most two of them. Errors: errs.NotFound (no such file: the
// caller knows whether there should be one), errs.Corrupt (wrong length; from reading: a
// chunk that was changed), errs.Unavailable.
func (s *Files) Open(n Name, k *seal.MailKey, size int64) (Body, error) {
	const op = "post/blob.Open"
	f, err := s.fs.Open(s.path(n))
	if err != nil {
		return nil, diskError(op, err)
	}
	info, err := f.Stat()
	if err != nil {
		err = diskError(op, err)
	} else if info.Size() != FileLen(size) {
		err = errs.E(op, errs.Corrupt, "", nil)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileBody{f: f, key: k, size: size, at: -1}, nil
}

// fileBody is a body in a file. It keeps the chunk opened last.
type fileBody struct {
	f    vfs.File
	key  *seal.MailKey
	size int64

	mu     sync.Mutex
	at     int64 // number of the open chunk, -1: none
	plain  []byte
	memory []byte // where chunks are opened, one after the other
}

// sealedChunks holds buffers for chunks as they lie on disk.
var sealedChunks = sync.Pool{New: func() any {
	b := make([]byte, 0, seal.SealedLen(Chunk))
	return &b
}}

// Size implements Body.
func (b *fileBody) Size() int64 { return b.size }

func (b *fileBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plain, b.memory, b.at = nil, nil, -1
	return b.f.Close()
}

// chunk gives the exact bytes of chunk c. mu is held.
func (b *fileBody) chunk(c int64) ([]byte, error) {
	const op = "post/blob.chunk"
	if c == b.at {
		return b.plain, nil
	}
	n := min(paddedLen(b.size)-c*Chunk, Chunk)
	buf := sealedChunks.Get().(*[]byte)
	defer sealedChunks.Put(buf)
	sealed := (*buf)[:seal.SealedLen(int(n))]
	if _, err := b.f.ReadAt(sealed, c*int64(seal.SealedLen(Chunk))); err != nil {
		return nil, diskError(op, err)
	}
	if b.at = -1; b.memory == nil {
		b.memory = make([]byte, seal.PaddedLen(int(min(paddedLen(b.size), Chunk))))
	}
	plain, err := b.key.OpenPartInto(b.memory, seal.PartBody, uint32(c), sealed)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if int64(len(plain)) != n {
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	b.at, b.plain = c, plain[:min(n, b.size-c*Chunk)] // without the zeros at the end
	return b.plain, nil
}

func (b *fileBody) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errs.E("post/blob.ReadAt", errs.Invalid, "", nil)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) {
		if off >= b.size {
			return n, io.EOF
		}
		plain, err := b.chunk(off / Chunk)
		if err != nil {
			return n, err
		}
		m := copy(p[n:], plain[off%Chunk:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

func (b *fileBody) WriteTo(w io.Writer) (n int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < b.size {
		plain, err := b.chunk(n / Chunk)
		if err != nil {
			return n, err
		}
		m, err := w.Write(plain)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
