package seal

import (
	"encoding/binary"
	"encoding/hex"
	"io"

	"postern.email/kit/errs"
	"postern.email/store"
)

// AccountPrefix is the first byte of every key that belongs to an account.
const AccountPrefix = 'a'

// AccountID is the random number of an account. It is no secret, and nothing
// about the account can be learnt from it.
type AccountID [8]byte

// NewAccountID draws a number. It is never the zero number.
func NewAccountID(rand io.Reader) (AccountID, error) {
	var id AccountID
	for id == (AccountID{}) {
		if _, err := io.ReadFull(rand, id[:]); err != nil {
			return id, errs.E("seal.NewAccountID", errs.Internal, "", err)
		}
	}
	return id, nil
}

// ParseAccountID reads the form that String gives.
func ParseAccountID(s string) (AccountID, error) {
	var id AccountID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, errs.E("seal.ParseAccountID", errs.Invalid, "an account number has 16 hex digits", nil)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return AccountID{}, errs.E("seal.ParseAccountID", errs.Invalid, "an account number has 16 hex digits", nil)
	}
	return id, nil
}

// String gives 16 hex digits.
func (id AccountID) String() string { return hex.EncodeToString(id[:]) }

// Shard is where everything of the account lies.
func (id AccountID) Shard() store.Shard {
	return store.Shard(binary.BigEndian.Uint16(id[:2]) % store.Shards)
}

// Prefix gives a fresh slice: 'a' and the number. Every key of the account in
// its shard begins with it.
func (id AccountID) Prefix() []byte { return id.PrefixOf(AccountPrefix) }

// PrefixOf is Prefix with another first byte.
func (id AccountID) PrefixOf(first byte) []byte { return append([]byte{first}, id[:]...) }

// End gives the first key after all keys of the account, or nil for the end of
// the shard's keys.
func (id AccountID) End() []byte { return id.EndOf(AccountPrefix) }

// EndOf is End with another first byte.
func (id AccountID) EndOf(first byte) []byte { return store.Behind(id.PrefixOf(first)) }
