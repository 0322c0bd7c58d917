package client

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
)

// Identity are the secrets of a client: its link key, the key that letters to it are sealed to,
// the key that its user's mail is signed with, and the key that its files are sealed with. It
// shows nothing of itself when printed.
type Identity struct {
	Link   ed25519.PrivateKey
	Letter *letter.PrivateKey
	Sign   *directory.PrivateKey
	files  cipher.AEAD
	names  [sha256.Size]byte // from which the names of windows follow
}

// Format of the file of an Identity: a magic word, a version, three seeds of 32 bytes. The key
// that signs follows from all three, so that files from before it was needed have one too.
const (
	identityMagic = "PSTNCLI\n"
	identityLen   = len(identityMagic) + 1 + 3*32
	labelSign     = "postern/client: key that signs mail"
	labelWindows  = "postern/client: names of windows"
)

// KeyFile is the name of the file of the Identity in the client's directory.
const KeyFile = "client.key"

// NewIdentity makes an Identity from 96 bytes of random, and writes it to the client's directory,
// which must exist. errs.Exists if there is one already.
func NewIdentity(fs vfs.FS, dir string, random io.Reader) (*Identity, error) {
	const op = "mixnet/client.NewIdentity"
	path := fs.PathJoin(dir, KeyFile)
	if ok, err := vfs.Exists(fs, path); err != nil {
		return nil, errs.Wrap(op, err)
	} else if ok {
		return nil, errs.E(op, errs.Exists, "there is a client in this directory already", nil)
	}
	b := append(make([]byte, 0, identityLen), identityMagic...)
	b = append(b, 1)
	b = b[:identityLen]
	defer clear(b)
	if _, err := io.ReadFull(random, b[len(identityMagic)+1:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	if err := vfs.WriteFileAtomic(fs, path, b, 0o600); err != nil {
		return nil, errs.Wrap(op, err)
	}
	id, err := parseIdentity(b)
	return id, errs.Wrap(op, err)
}

// OpenIdentity reads the file of an Identity. errs.NotFound without one; errs.Denied if others may
// read it, unless careless; errs.Corrupt.
func OpenIdentity(fs vfs.FS, dir string, careless bool) (*Identity, error) {
	const op = "mixnet/client.OpenIdentity"
	path := fs.PathJoin(dir, KeyFile)
	if ok, err := vfs.Exists(fs, path); err != nil {
		return nil, errs.Wrap(op, err)
	} else if !ok {
		return nil, errs.E(op, errs.NotFound, "there is no client in this directory", nil)
	}
	if f, err := fs.Open(path); err != nil {
		return nil, vfs.Error(op, err)
	} else {
		err := vfs.CheckPrivate(f, "the file of the client's keys, "+KeyFile+",")
		if cerr := f.Close(); err == nil || careless {
			err = cerr
		}
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	b, err := vfs.ReadFile(fs, path)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	defer clear(b)
	id, err := parseIdentity(b)
	return id, errs.Wrap(op, err)
}

func parseIdentity(b []byte) (*Identity, error) {
	const op = "mixnet/client.Identity"
	if len(b) != identityLen || string(b[:len(identityMagic)]) != identityMagic || b[len(identityMagic)] != 1 {
		return nil, errs.E(op, errs.Corrupt, "the file of the client's keys is damaged", nil)
	}
	b = b[len(identityMagic)+1:]
	id := &Identity{Link: ed25519.NewKeyFromSeed(b[:32])}
	var err error
	if id.Letter, err = letter.NewPrivateKey(b[32:64]); err != nil {
		return nil, errs.Wrap(op, err)
	}
	sign, err := hkdf.Key(sha256.New, b, nil, labelSign, directory.PrivateLen)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	defer clear(sign)
	names, err := hkdf.Key(sha256.New, b, nil, labelWindows, len(id.names))
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	copy(id.names[:], names)
	if id.Sign, err = directory.NewPrivateKey(sign); err != nil {
		return nil, errs.Wrap(op, err)
	}
	block, err := aes.NewCipher(b[64:])
	if err == nil {
		id.files, err = cipher.NewGCM(block)
	}
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	return id, nil
}

// window names a window of a message, to everybody else a random number. It need not be kept: after
// a crash the same fragments go into the same window.
func (id *Identity) window(message string, group int) (name [16]byte) {
	h := hmac.New(sha256.New, id.names[:])
	fmt.Fprintf(h, "%s %d", message, group)
	copy(name[:], h.Sum(nil))
	return name
}

const sealOverhead = 12 + 16 // nonce and tag

// seal closes a record. name binds it to its place. The nonce is random: a client writes far
// fewer than 2³² records in its life.
func (id *Identity) seal(dst []byte, name string, plain []byte, random io.Reader) ([]byte, error) {
	from := len(dst)
	dst = append(dst, make([]byte, 12)...)
	if _, err := io.ReadFull(random, dst[from:]); err != nil {
		return nil, errs.E("mixnet/client.seal", errs.Internal, "", err)
	}
	return id.files.Seal(dst, dst[from:], plain, []byte(name)), nil
}

func (id *Identity) open(name string, b []byte) ([]byte, error) {
	const op = "mixnet/client.open"
	if len(b) < sealOverhead {
		return nil, errs.E(op, errs.Corrupt, "a file of the client is damaged", errors.New(name))
	}
	plain, err := id.files.Open(nil, b[:12], b[12:], []byte(name))
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "a file of the client is damaged, or was made with another key", errors.New(name))
	}
	return plain, nil
}

// saveJSON seals a value into a file of the store.
func (s *Store) saveJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return errs.E("mixnet/client.Store", errs.Internal, "", err)
	}
	if b, err = s.id.seal(nil, name, b, s.random); err != nil {
		return err
	}
	return vfs.WriteFileAtomic(s.fs, s.path(name), b, 0o600)
}

// loadJSON reads what saveJSON wrote. Without the file v stays as it is.
func (s *Store) loadJSON(name string, v any) error {
	b, err := vfs.ReadFile(s.fs, s.path(name))
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	if err == nil {
		b, err = s.id.open(name, b)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return errs.E("mixnet/client.Store", errs.Corrupt, "a file of the client is damaged", err)
	}
	return nil
}
