package parts

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

// Handle names what waits: 16 bytes that say nothing.
type Handle [16]byte

func (h Handle) String() string { return hex.EncodeToString(h[:]) }

// State is the state of a file, as mixminiond's pools have it (docs/mbox.md §2). The second name is
// that of the metadata in the same state.
type State string

// The states.
const (
	Inp  State = "inp"  // it is being written
	Msg  State = "msg"  // it waits
	Rmv  State = "rmv"  // it is being removed
	Crp  State = "crp"  // it could not be read, and is kept
	Inpm State = "inpm" // metadata
	Meta State = "meta"
	Rmvm State = "rmvm" // what stays of a mail that is gone: its name
	Crpm State = "crpm"
)

// States gives all states.
func States() []State { return []State{Inp, Msg, Rmv, Crp, Inpm, Meta, Rmvm, Crpm} }

// FileName is the name of a file in a state.
func FileName(p State, h Handle) string { return string(p) + "_" + h.String() }

// ParseFileName reads what FileName gives.
func ParseFileName(s string) (p State, h Handle, ok bool) {
	name, id, found := strings.Cut(s, "_")
	b, err := hex.DecodeString(id)
	if !found || err != nil || len(b) != len(h) || strings.ToLower(id) != id || !slices.Contains(States(), State(name)) {
		return "", h, false
	}
	return State(name), Handle(b), true
}

// Files is a directory of files in these states, each sealed under a key of the node.
type Files struct {
	fs   vfs.FS
	dir  string
	rand io.Reader
	aead cipher.AEAD
}

const (
	fileMagic  = "PSTNMBX\x01"
	formatName = "format"
	maxFile    = 64 << 20

	// Extra is how much longer a file is than what it holds.
	Extra = len(fileMagic) + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// OpenFiles opens a directory, makes it if it is missing, and gives the files that are in it, by
// state. What was being written or removed is destroyed. errs.Denied: it is sealed under another
// secret.
func OpenFiles(fs vfs.FS, dir string, secret []byte, random io.Reader) (*Files, map[State][]Handle, error) {
	const op = "agent/parts.OpenFiles"
	key, err := hkdf.Key(sha256.New, secret, nil, "postern/mbox files", chacha20poly1305.KeySize)
	if err != nil {
		return nil, nil, errs.E(op, errs.Internal, "", err)
	}
	s := &Files{fs: fs, dir: dir, rand: random}
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
	found := make(map[State][]Handle)
	for _, n := range names {
		p, h, ok := ParseFileName(n)
		switch {
		case !ok && n != formatName+".tmp":
		case p == Inp || p == Inpm || p == Rmv || !ok:
			if err := vfs.Shred(fs, s.Path(n), -1); err != nil {
				return nil, nil, errs.Wrap(op, err)
			}
		default:
			found[p] = append(found[p], h)
		}
	}
	return s, found, errs.Wrap(op, s.Sync())
}

// Path is where a file of this name lies.
func (s *Files) Path(name string) string { return s.fs.PathJoin(s.dir, name) }

// Sync makes names durable.
func (s *Files) Sync() error { return vfs.SyncDir(s.fs, s.dir) }

// checkFormat sees to it that what is in the directory is of this version and this secret.
func (s *Files) checkFormat() error {
	const op = "agent/parts.checkFormat"
	b, err := vfs.ReadFile(s.fs, s.Path(formatName))
	switch errs.KindOf(err) {
	case errs.NotFound:
		b, err := s.seal(formatName, nil)
		if err != nil {
			return err
		}
		return errs.Wrap(op, vfs.WriteFileAtomic(s.fs, s.Path(formatName), b, 0o600))
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
func (s *Files) seal(what string, plain []byte) ([]byte, error) {
	b := make([]byte, len(fileMagic)+chacha20poly1305.NonceSizeX, Extra+len(plain))
	nonce := b[copy(b, fileMagic):]
	if _, err := io.ReadFull(s.rand, nonce); err != nil {
		return nil, errs.E("agent/parts.seal", errs.Internal, "", err)
	}
	return s.aead.Seal(b, nonce, plain, []byte(fileMagic+what)), nil
}

// open reads what seal made. errs.Corrupt.
func (s *Files) open(what string, b []byte) ([]byte, error) {
	const op = "agent/parts.open"
	if len(b) < Extra || string(b[:len(fileMagic)]) != fileMagic {
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

// Write puts a file into the state to by way of the state from, durably.
func (s *Files) Write(from, to State, h Handle, plain []byte) (size int64, err error) {
	const op = "agent/parts.write"
	b, err := s.seal(FileName(to, h), plain)
	if err != nil {
		return 0, err
	}
	path := s.Path(FileName(from, h))
	w, err := s.fs.Create(path, vfs.Unspecified)
	if err == nil {
		_, err = w.Write(b)
		if err == nil {
			err = w.Sync()
		}
		err = errors.Join(err, w.Close())
	}
	if err == nil {
		err = s.fs.Rename(path, s.Path(FileName(to, h)))
	}
	if err != nil {
		_ = s.fs.Remove(path)
		return 0, vfs.Error(op, err)
	}
	return int64(len(plain) + Extra), errs.Wrap(op, s.Sync())
}

// Read reads a file that was written in the state p. errs.Corrupt, errs.NotFound,
// errs.Unavailable.
func (s *Files) Read(p State, h Handle) ([]byte, error) { return s.ReadAs(p, p, h) }

// ReadAs reads a file that is in one state now and was written in another.
func (s *Files) ReadAs(now, written State, h Handle) ([]byte, error) {
	const op = "agent/parts.read"
	b, err := vfs.ReadFile(s.fs, s.Path(FileName(now, h)))
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	plain, err := s.open(FileName(written, h), b)
	return plain, errs.Wrap(op, err)
}

// Move changes the state of a file, durably. A file that is not there is no error.
func (s *Files) Move(from, to State, h Handle) error {
	const op = "agent/parts.move"
	err := s.fs.Rename(s.Path(FileName(from, h)), s.Path(FileName(to, h)))
	if err = vfs.Error(op, err); err != nil && errs.KindOf(err) != errs.NotFound {
		return err
	}
	return errs.Wrap(op, s.Sync())
}

// Remove destroys a file: it is never seen again in the state p, and its bytes are overwritten.
func (s *Files) Remove(p State, h Handle) error {
	const op = "agent/parts.remove"
	if p == Msg {
		if err := s.Move(Msg, Rmv, h); err != nil {
			return err
		}
		p = Rmv
	}
	return errs.Wrap(op, vfs.Shred(s.fs, s.Path(FileName(p, h)), -1))
}
