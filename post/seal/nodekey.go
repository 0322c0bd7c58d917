package seal

import (
	"context"
	"io"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Source gives the node key. The sources are FileSource, PassphraseSource and
// CredentialSource.
type Source interface {
	// Name is what stands in the root key's file, so that a wrong configuration
	// is told apart from a wrong key.
	Name() string
	key(ctx context.Context, h *rootFile, fresh bool) ([KeyLen]byte, error)
}

type rootFile struct{}

// OpenRoot opens the root key that lies at path, wrapped by the node key of src.
// If there is none yet it draws one, and lets src make its node key.
func OpenRoot(ctx context.Context, fs vfs.FS, path string, src Source, random io.Reader) (*Root, error) {
	return nil, errs.E("seal.OpenRoot", errs.Unsupported, "", nil)
}

// Rewrap replaces the wrapping of the root key at path: what src from opened, src
// to opens afterwards. Nothing else on the disk changes.
func Rewrap(ctx context.Context, fs vfs.FS, path string, from, to Source, random io.Reader) error {
	return errs.E("seal.Rewrap", errs.Unsupported, "", nil)
}
