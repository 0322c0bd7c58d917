package mbox

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// handle names what waits: 16 bytes that say nothing.
type handle [16]byte

func (h handle) String() string { return hex.EncodeToString(h[:]) }

// prefix is the state of a file, as mixminiond's pools have it (docs/mbox.md §2). The second name is
// that of the metadata in the same state.
type prefix string

const (
	inp  prefix = "inp"  // it is being written
	msg  prefix = "msg"  // it waits
	rmv  prefix = "rmv"  // it is being removed
	crp  prefix = "crp"  // it could not be read, and is kept
	inpm prefix = "inpm" // metadata
	meta prefix = "meta"
	rmvm prefix = "rmvm" // what stays of a mail that is gone: its name
	crpm prefix = "crpm"
)

func prefixes() []prefix { return []prefix{inp, msg, rmv, crp, inpm, meta, rmvm, crpm} }

func fileName(p prefix, h handle) string { return string(p) + "_" + h.String() }

// parseFileName reads what fileName gives.
func parseFileName(s string) (p prefix, h handle, ok bool) {
	name, id, found := strings.Cut(s, "_")
	b, err := hex.DecodeString(id)
	if !found || err != nil || len(b) != len(h) || strings.ToLower(id) != id || !slices.Contains(prefixes(), prefix(name)) {
		return "", h, false
	}
	return prefix(name), handle(b), true
}

// store is a directory of files in these states, each sealed under a key of the node.
type store struct {
	fs   vfs.FS
	dir  string
	rand io.Reader
	aead cipher.AEAD
}

const (
	fileMagic  = "PSTNMBX\x01"
	formatName = "format"
	maxFile    = 64 << 20
	sealExtra  = len(fileMagic) + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// openStore opens a directory, makes it if it is missing, and gives the files that are in it, by
// state. What was being written or removed is destroyed. errs.Denied: it is sealed under another
// secret.
func openStore(fs vfs.FS, dir string, secret []byte, random io.Reader) (*store, map[prefix][]handle, error) {
	const op = "agent/mbox.openStore"
	key, err := hkdf.Key(sha256.New, secret, nil, "postern/mbox files", chacha20poly1305.KeySize)
	if err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	s := &store{fs: fs, dir: dir, rand: random}
	if s.aead, err = chacha20poly1305.NewX(key); err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	if err := vfs.MkdirAll(fs, dir, 0o700); err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	if err := s.checkFormat(); err != nil {
		return nil, nil, err
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, nil, vfs.Error(op, err)
	}
	found := make(map[prefix][]handle)
	for _, n := range names {
		p, h, ok := parseFileName(n)
		switch {
		case !ok && n != formatName+".tmp":
		case p == inp || p == inpm || p == rmv || !ok:
			if err := vfs.Shred(fs, s.path(n), -1); err != nil {
				return nil, nil, errs.Wrap(op, err)
			}
		default:
			found[p] = append(found[p], h)
		}
	}
	return s, found, errs.Wrap(op, s.sync())
}

func (s *store) path(name string) string { return s.fs.PathJoin(s.dir, name) }

func (s *store) sync() error { return vfs.SyncDir(s.fs, s.dir) }

// checkFormat sees to it that what is in the directory is of this version and this secret.
func (s *store) checkFormat() error {
	const op = "agent/mbox.checkFormat"
	b, err := vfs.ReadFile(s.fs, s.path(formatName))
	switch errs.KindOf(err) {
	case errs.NotFound:
		b, err := s.seal(formatName, nil)
		if err != nil {
			return err
		}
		return errs.Wrap(op, vfs.WriteFileAtomic(s.fs, s.path(formatName), b, 0o600))
	}
	if err != nil {
		return errs.Wrap(op, err)
	}
	if _, err := s.open(formatName, b); err != nil {
		return errs.E(op, errs.Denied, "the mail that waits was written under another secret or by a later version", err)
	}
	return nil
}

// seal makes the content of a file. what is bound to it: a file is not taken for another.
func (s *store) seal(what string, plain []byte) ([]byte, error) {
	b := make([]byte, len(fileMagic)+chacha20poly1305.NonceSizeX, sealExtra+len(plain))
	nonce := b[copy(b, fileMagic):]
	if _, err := io.ReadFull(s.rand, nonce); err != nil {
		return nil, errs.E("agent/mbox.seal", errs.Internal, "", err)
	}
	return s.aead.Seal(b, nonce, plain, []byte(fileMagic+what)), nil
}

// open reads what seal made. errs.Corrupt.
func (s *store) open(what string, b []byte) ([]byte, error) {
	const op = "agent/mbox.open"
	if len(b) < sealExtra || string(b[:len(fileMagic)]) != fileMagic {
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	b = b[len(fileMagic):]
	n := chacha20poly1305.NonceSizeX
	plain, err := s.aead.Open(nil, b[:n], b[n:], []byte(fileMagic+what))
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	return plain, nil
}

// write puts a file into the state to by way of the state from, durably.
func (s *store) write(from, to prefix, h handle, plain []byte) (size int64, err error) {
	const op = "agent/mbox.write"
	b, err := s.seal(fileName(to, h), plain)
	if err != nil {
		return 0, err
	}
	path := s.path(fileName(from, h))
	w, err := s.fs.Create(path, vfs.Unspecified)
	if err == nil {
		_, err = w.Write(b)
		if err == nil {
			err = w.Sync()
		}
		err = errors.Join(err, w.Close())
	}
	if err == nil {
		err = s.fs.Rename(path, s.path(fileName(to, h)))
	}
	if err != nil {
		_ = s.fs.Remove(path)
		return 0, vfs.Error(op, err)
	}
	return int64(len(plain) + sealExtra), errs.Wrap(op, s.sync())
}

// read reads a file that was written in the state p. errs.Corrupt, errs.NotFound,
// errs.Unavailable.
func (s *store) read(p prefix, h handle) ([]byte, error) { return s.readAs(p, p, h) }

// readAs reads a file that is in one state now and was written in another.
func (s *store) readAs(now, written prefix, h handle) ([]byte, error) {
	const op = "agent/mbox.read"
	b, err := vfs.ReadFile(s.fs, s.path(fileName(now, h)))
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	plain, err := s.open(fileName(written, h), b)
	return plain, errs.Wrap(op, err)
}

// move changes the state of a file, durably. A file that is not there is no error.
func (s *store) move(from, to prefix, h handle) error {
	const op = "agent/mbox.move"
	err := s.fs.Rename(s.path(fileName(from, h)), s.path(fileName(to, h)))
	if err = vfs.Error(op, err); err != nil && errs.KindOf(err) != errs.NotFound {
		return err
	}
	return errs.Wrap(op, s.sync())
}

// remove destroys a file: it is never seen again in the state p, and its bytes are overwritten.
func (s *store) remove(p prefix, h handle) error {
	const op = "agent/mbox.remove"
	if p == msg {
		if err := s.move(msg, rmv, h); err != nil {
			return err
		}
		p = rmv
	}
	return errs.Wrap(op, vfs.Shred(s.fs, s.path(fileName(p, h)), -1))
}
