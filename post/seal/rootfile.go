package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// DefaultRootFile is the name of the root key's file in the data directory.
const DefaultRootFile = "root.key"

// rootFileVersion is the format of that file; maxSmallFile bounds what is read.
const (
	rootFileVersion = 1
	maxSmallFile    = 4096
)

// rootFile is the root key's file: one JSON object, so that an operator can see
// where the node key should come from.
type rootFile struct {
	Version int    `json:"postern-root-key"`
	Source  string `json:"node-key"`            // Source.Name
	Hash    string `json:"passphrase,omitzero"` // Params of a passphrase
	Salt    []byte `json:"salt,omitzero"`
	Wrapped []byte `json:"wrapped"` // nonce and sealed root key
}

// aad is what the sealed root key is bound to.
func (h *rootFile) aad() []byte {
	return fmt.Appendf(nil, "%s\x00%d\x00%s\x00%s\x00%x", labelRootWrap, h.Version, h.Source, h.Hash, h.Salt)
}

func rootAEAD(k nodeKey) (cipher.AEAD, error) {
	var wrap [KeyLen]byte
	defer clear(wrap[:])
	if err := expandInto(wrap[:], k[:], labelRootWrap); err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(wrap[:])
}

func (h *rootFile) encode() ([]byte, error) {
	b, err := json.MarshalIndent(h, "", "  ")
	return append(b, '\n'), err
}

func decodeRootFile(b []byte) (*rootFile, error) {
	const op = "seal.decodeRootFile"
	const text = "the file of the root key is damaged"
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	h := new(rootFile)
	if err := d.Decode(h); err != nil {
		return nil, errs.E(op, errs.Corrupt, text, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errs.E(op, errs.Corrupt, text, nil)
	}
	if h.Version != rootFileVersion {
		return nil, errs.E(op, errs.Corrupt, "the file of the root key has a format that this version does not know", errVersion)
	}
	return h, nil
}

// OpenRoot opens the root key that lies at path, wrapped by the node key of src.
// If there is none yet it draws one, and lets src make its node key. Everything
// is on the disk when it returns. errs.Auth: the node key is the wrong one.
// random nil means crypto/rand.
func OpenRoot(ctx context.Context, fs vfs.FS, path string, src Source, random io.Reader) (*Root, error) {
	const op = "seal.OpenRoot"
	defaults.Rand(&random)
	b, err := readSmall(fs, path)
	if err != nil && errs.KindOf(err) == errs.NotFound {
		r, err := newRootFile(ctx, fs, path, src, random)
		return r, errs.Wrap(op, err)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	h, err := decodeRootFile(b)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	root, err := h.open(ctx, src)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	defer clear(root)
	return NewRoot(root, random)
}

func (h *rootFile) open(ctx context.Context, src Source) ([]byte, error) {
	if h.Source != src.Name() {
		return nil, errs.E("seal.OpenRoot", errs.Invalid,
			fmt.Sprintf("this data directory takes its node key from a %s, not from a %s", h.Source, src.Name()), nil)
	}
	k, err := src.key(ctx, h, false)
	if err != nil {
		return nil, err
	}
	defer clear(k[:])
	return unwrapRoot(k, h)
}

func newRootFile(ctx context.Context, fs vfs.FS, path string, src Source, random io.Reader) (*Root, error) {
	const op = "seal.newRootFile"
	root := make([]byte, KeyLen)
	defer clear(root)
	if _, err := io.ReadFull(random, root); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	if err := putRoot(ctx, fs, path, src, root, random); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return NewRoot(root, random)
}

// putRoot wraps root by the node key of src, and replaces the file at path.
func putRoot(ctx context.Context, fs vfs.FS, path string, src Source, root []byte, random io.Reader) error {
	h := &rootFile{Version: rootFileVersion, Source: src.Name()}
	k, err := src.key(ctx, h, true)
	if err != nil {
		return err
	}
	defer clear(k[:])
	if err := wrapRoot(k, h, root, random); err != nil {
		return err
	}
	b, err := h.encode()
	if err != nil {
		return err
	}
	return writePrivate(fs, path, b)
}

// Rewrap moves the node key: what from opened, to opens afterwards. Only the 32
// bytes of the root key are wrapped anew; nothing else on the disk changes. After
// a crash either the old or the new node key opens. The old node key is not
// removed: whoever moves it does that, when the new one was seen to work.
func Rewrap(ctx context.Context, fs vfs.FS, path string, from, to Source, random io.Reader) error {
	const op = "seal.Rewrap"
	defaults.Rand(&random)
	b, err := readSmall(fs, path)
	if err != nil {
		return errs.Wrap(op, err)
	}
	h, err := decodeRootFile(b)
	if err != nil {
		return errs.Wrap(op, err)
	}
	root, err := h.open(ctx, from)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer clear(root)
	return errs.Wrap(op, putRoot(ctx, fs, path, to, root, random))
}

// readSmall reads a file of at most maxSmallFile bytes.
func readSmall(fs vfs.FS, path string) ([]byte, error) {
	return readChecked(fs, path, func(vfs.File) error { return nil })
}

// readPrivate is readSmall, and refuses a file that others may read.
func readPrivate(fs vfs.FS, path string) ([]byte, error) {
	return readChecked(fs, path, func(f vfs.File) error { return vfs.CheckPrivate(f, "the file of the node key") })
}

func readChecked(fs vfs.FS, path string, check func(vfs.File) error) ([]byte, error) {
	const op = "seal.read"
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errs.E(op, errs.NotFound, "", err)
	}
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	defer func() { _ = f.Close() }()
	if err := check(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSmallFile+1))
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	if len(b) > maxSmallFile {
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	return b, nil
}

// writePrivate puts a file in place whole or not at all, readable by its owner
// only from the first moment, and durable: temporary file, sync, rename, sync of
// the directory.
func writePrivate(fs vfs.FS, path string, data []byte) error {
	const op = "seal.write"
	dir := fs.PathDir(path)
	if err := makeDir(fs, dir); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	tmp := path + ".new"
	if err := writeSynced(fs, tmp, data); err != nil {
		_ = fs.Remove(tmp)
		return errs.E(op, errs.Unavailable, "", err)
	}
	if err := fs.Rename(tmp, path); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	if err := syncDir(fs, dir); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	return nil
}

// makeDir makes dir if it is missing, so that it outlives a crash.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir))
}

func writeSynced(fs vfs.FS, path string, data []byte) (err error) {
	f, err := fs.Create(path, "node key")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := makePrivate(f); err != nil {
		return err
	}
	if _, err := f.Write(bytes.Clone(data)); err != nil { // a vfs.File may change what it is given
		return err
	}
	return f.Sync()
}

func syncDir(fs vfs.FS, dir string) (err error) {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
