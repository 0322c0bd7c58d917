package seal

import "errors"

// Causes of errs.Corrupt.
var (
	errShort   = errors.New("sealed record is too short")
	errVersion = errors.New("unknown format version")
	errClosed  = errors.New("the account key is closed")
)
