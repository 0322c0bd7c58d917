package packet

import (
	"errors"

	"postern.email/kit/errs"
)

// rejected is all that the outside learns of a packet that is not taken.
const rejected = "rejected"

// Causes of a rejection, private.
var (
	errSize      = errors.New("size is not that of its layer")
	errPrefix    = errors.New("prefix is not canonical")
	errKeyID     = errors.New("sealed to another key")
	errHeader    = errors.New("header does not open")
	errRouting   = errors.New("routing is not canonical")
	errPayload   = errors.New("payload is not whole")
	errContent   = errors.New("content is not canonical")
	errSURB      = errors.New("reply block is not canonical")
	errPublicKey = errors.New("public key is malformed")
)

// reject makes the error for what came from outside.
func reject(op string, kind errs.Kind, cause error) error {
	return errs.E(op, kind, rejected, cause)
}
