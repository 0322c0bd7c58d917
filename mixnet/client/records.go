package client

import (
	"io"

	"postern.email/kit/errs"
)

// Seal closes a record of another room that lies beside the client's own files, with the same
// key. name binds it to its place, and says which room it is of ("submit/4f1c"). random is
// crypto/rand, but for tests.
func (id *Identity) Seal(name string, plain []byte, random io.Reader) ([]byte, error) {
	b, err := id.seal(nil, roomLabel+name, plain, random)
	return b, errs.Wrap("mixnet/client.Identity.Seal", err)
}

// Open opens what Seal closed. errs.Corrupt for what was made under another name or key, or changed.
func (id *Identity) Open(name string, sealed []byte) ([]byte, error) {
	b, err := id.open(roomLabel+name, sealed)
	return b, errs.Wrap("mixnet/client.Identity.Open", err)
}

// roomLabel keeps the records of other rooms apart from the client's own.
const roomLabel = "room: "
