// Package passhash is the hash of passwords and passphrases, Argon2id (RFC 9106), with
// its cost written beside each record.
package passhash

import (
	"fmt"

	"golang.org/x/crypto/argon2"

	"postern.email/kit/errs"
)

// Bounds of a cost. A record that names more is refused before any memory is taken, so a
// damaged disk cannot exhaust the machine.
const (
	MaxTime    = 16       // passes
	MaxMemory  = 64 << 10 // KiB
	MaxThreads = 4
)

// Sizes in bytes.
const (
	SaltLen = 16
	KeyLen  = 32 // of what Key gives
)

// Cost is what one hash takes.
type Cost struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// Password is the cost for passwords that are checked many times a second: 2 passes over 19 MiB
// by one thread.
func Password() Cost { return Cost{Time: 2, Memory: 19 << 10, Threads: 1} }

// Passphrase is the cost for what is asked for once a start: 4 passes over 64 MiB by one
// thread.
func Passphrase() Cost { return Cost{Time: 4, Memory: MaxMemory, Threads: 1} }

// Valid reports whether c lies within the bounds.
func (c Cost) Valid() bool {
	return c.Time >= 1 && c.Time <= MaxTime && c.Threads >= 1 && c.Threads <= MaxThreads &&
		c.Memory >= 8*uint32(c.Threads) && c.Memory <= MaxMemory
}

// String gives the stored form: "argon2id t=2 m=19456 p=1".
func (c Cost) String() string {
	return fmt.Sprintf("argon2id t=%d m=%d p=%d", c.Time, c.Memory, c.Threads)
}

// Parse reads exactly what String gives. errs.Corrupt for anything else, and for a cost
// out of bounds.
func Parse(s string) (Cost, error) {
	var c Cost
	_, err := fmt.Sscanf(s, "argon2id t=%d m=%d p=%d", &c.Time, &c.Memory, &c.Threads)
	if err != nil || c.String() != s || !c.Valid() {
		return Cost{}, errs.E("kit/passhash.Parse", errs.Corrupt, "", err)
	}
	return c, nil
}

// Key gives the KeyLen bytes that follow from a secret and SaltLen bytes of salt. c must be
// valid.
func (c Cost) Key(secret, salt []byte) []byte {
	return argon2.IDKey(secret, salt, c.Time, c.Memory, c.Threads, KeyLen)
}

// Burn costs as much as Key: for names that do not exist, which must look like wrong
// passwords.
func (c Cost) Burn(secret string) {
	var salt [SaltLen]byte
	clear(c.Key([]byte(secret), salt[:]))
}
