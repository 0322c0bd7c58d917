package seal

import (
	"context"
	"encoding/base64"
	"io"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
)

// The node key wraps the root key, and the wrapped root key lies in the data
// directory (rootfile.go). Where the node key lies is the operator's choice:
//
//   - FileSource: a file, by default in the same directory. Whoever takes the disk
//     has it; put it on another one.
//   - PassphraseSource: in the operator's head, typed at each start.
//   - CredentialSource: what systemd hands to the service ($CREDENTIALS_DIRECTORY,
//     systemd.exec(5) LoadCredential=, LoadCredentialEncrypted=).
//
// A TPM is used through systemd: `systemd-creds encrypt --with-key=tpm2` seals a
// key file to the machine's TPM, LoadCredentialEncrypted= opens it at start, and
// CredentialSource reads it. Postern does not speak to a TPM itself.

// Source gives the node key.
type Source interface {
	// Name stands in the root key's file, so that a wrong configuration is told
	// apart from a wrong key: "file", "passphrase" or "credential".
	Name() string
	// key gives the node key. h is the file of the root key; fresh: there is no
	// root key yet, so a node key may be made and parameters put into h.
	key(ctx context.Context, h *rootFile, fresh bool) (nodeKey, error)
}

type nodeKey [KeyLen]byte

// DefaultKeyFile and DefaultCredential are names of the node key.
const (
	DefaultKeyFile    = "node.key"
	DefaultCredential = "postern-node-key"
)

// nodeKeyPrefix begins a node key file; base64 of 32 bytes follows, and a line end.
const nodeKeyPrefix = "postern-node-key-1:"

// FileSource keeps the node key in a file that only its owner may read.
type FileSource struct {
	FS   vfs.FS
	Path string
	Rand io.Reader // default crypto/rand.Reader
}

// Name is "file".
func (FileSource) Name() string { return "file" }

func (s FileSource) key(_ context.Context, _ *rootFile, fresh bool) (k nodeKey, err error) {
	const op = "seal.FileSource"
	b, err := readPrivate(s.FS, s.Path)
	switch {
	case err == nil:
		defer clear(b)
		k, err = decodeNodeKey(b)
		return k, errs.Wrap(op, err)
	case errs.KindOf(err) != errs.NotFound:
		return k, errs.Wrap(op, err)
	case !fresh:
		// Never make a new one: it would open nothing, and its presence would hide
		// that the right one is missing.
		return k, errs.E(op, errs.NotFound, "the file of the node key is missing; bring it back, without it nothing in the store can be opened", err)
	}
	random := s.Rand
	defaults.Rand(&random)
	if _, err := io.ReadFull(random, k[:]); err != nil {
		return k, errs.E(op, errs.Internal, "", err)
	}
	text := encodeNodeKey(k)
	defer clear(text)
	return k, errs.Wrap(op, writePrivate(s.FS, s.Path, text))
}

func encodeNodeKey(k nodeKey) []byte {
	b := base64.StdEncoding.AppendEncode([]byte(nodeKeyPrefix), k[:])
	return append(b, '\n')
}

// decodeNodeKey reads a node key file or credential: the text form, or 32 raw
// bytes as `head -c 32 /dev/urandom` makes them.
func decodeNodeKey(b []byte) (k nodeKey, err error) {
	const op = "seal.decodeNodeKey"
	if len(b) == KeyLen {
		return nodeKey(b), nil
	}
	rest, ok := strings.CutPrefix(strings.TrimRight(string(b), "\r\n"), nodeKeyPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(rest)
	if !ok || err != nil || len(raw) != KeyLen {
		return k, errs.E(op, errs.Invalid, "this is not a node key: one line \""+nodeKeyPrefix+"\" and 44 characters, or 32 bytes", nil)
	}
	copy(k[:], raw)
	clear(raw)
	return k, nil
}

// CredentialSource reads the node key that systemd hands to the service. It never
// makes one: `postern` cannot write there.
type CredentialSource struct {
	FS   vfs.FS
	Dir  string // $CREDENTIALS_DIRECTORY
	File string // default DefaultCredential
}

// Name is "credential".
func (CredentialSource) Name() string { return "credential" }

func (s CredentialSource) key(context.Context, *rootFile, bool) (k nodeKey, err error) {
	const op = "seal.CredentialSource"
	if s.Dir == "" {
		return k, errs.E(op, errs.Invalid, "the node key should come from a systemd credential, but CREDENTIALS_DIRECTORY is not set; is LoadCredential= in the unit?", nil)
	}
	name := s.File
	if name == "" {
		name = DefaultCredential
	}
	if strings.ContainsAny(name, `/\`) {
		return k, errs.E(op, errs.Invalid, "the name of a credential has no slash", nil)
	}
	b, err := readSmall(s.FS, s.FS.PathJoin(s.Dir, name))
	if err != nil {
		return k, errs.Wrap(op, err)
	}
	defer clear(b)
	k, err = decodeNodeKey(b)
	return k, errs.Wrap(op, err)
}

// PassphraseSource derives the node key from a passphrase by Argon2id, with
// parameters and salt that stand beside the wrapped root key.
type PassphraseSource struct {
	// Ask gives the passphrase; the slice is erased after use. confirm: it is a
	// new one, so ask twice.
	Ask func(ctx context.Context, confirm bool) ([]byte, error)
	// Params is the cost for a new root key or Rewrap; default passhash.Passphrase.
	Params passhash.Cost
	Rand   io.Reader // default crypto/rand.Reader
}

// MinPassphrase is the shortest passphrase in bytes: it guards everything, and is
// typed rarely.
const MinPassphrase = 12

// Name is "passphrase".
func (PassphraseSource) Name() string { return "passphrase" }

func (s PassphraseSource) key(ctx context.Context, h *rootFile, fresh bool) (k nodeKey, err error) {
	const op = "seal.PassphraseSource"
	if s.Ask == nil {
		return k, errs.E(op, errs.Invalid, "the node key comes from a passphrase, but there is nobody to ask", nil)
	}
	if fresh {
		p, random := s.Params, s.Rand
		if p == (passhash.Cost{}) {
			p = passhash.Passphrase()
		}
		defaults.Rand(&random)
		salt := make([]byte, passhash.SaltLen)
		if _, err := io.ReadFull(random, salt); err != nil {
			return k, errs.E(op, errs.Internal, "", err)
		}
		if !p.Valid() {
			return k, errs.E(op, errs.Invalid, "", nil)
		}
		h.Hash, h.Salt = p.String(), salt
	}
	p, err := passhash.Parse(h.Hash)
	if err != nil || len(h.Salt) != passhash.SaltLen {
		return k, errs.E(op, errs.Corrupt, "", err)
	}
	phrase, err := s.Ask(ctx, fresh)
	if err != nil {
		return k, errs.Wrap(op, err)
	}
	defer clear(phrase)
	if fresh && len(phrase) < MinPassphrase {
		return k, errs.E(op, errs.Denied, "a node passphrase has at least 12 characters", nil)
	}
	b := p.Key(phrase, h.Salt)
	copy(k[:], b)
	clear(b)
	return k, nil
}

// wrapRoot and unwrapRoot seal the 32 bytes of the root key under the node key,
// with the head of the file bound to them.
func wrapRoot(k nodeKey, h *rootFile, root []byte, random io.Reader) error {
	aead, err := rootAEAD(k)
	if err != nil {
		return err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(random, nonce); err != nil {
		return err
	}
	h.Wrapped = aead.Seal(nonce, nonce, root, h.aad())
	return nil
}

func unwrapRoot(k nodeKey, h *rootFile) ([]byte, error) {
	const op = "seal.unwrapRoot"
	aead, err := rootAEAD(k)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	if len(h.Wrapped) != chacha20poly1305.NonceSizeX+KeyLen+chacha20poly1305.Overhead {
		return nil, errs.E(op, errs.Corrupt, "", errShort)
	}
	n := h.Wrapped[:chacha20poly1305.NonceSizeX]
	root, err := aead.Open(nil, n, h.Wrapped[len(n):], h.aad())
	if err != nil {
		return nil, errs.E(op, errs.Auth, "the node key does not open this data directory", nil)
	}
	return root, nil
}
