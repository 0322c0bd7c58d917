package names

import (
	"encoding/binary"

	"postern.email/kit/day"
	"postern.email/kit/errs"
	"postern.email/post/seal"
)

// Kind says what a name is. The values are part of the stored format.
type Kind uint8

const (
	Account   Kind = 0
	Gone      Kind = 1 // was an account's
	Alias     Kind = 2
	GoneAlias Kind = 3 // was an alias: never given out again
	numKinds       = 4
)

// Dead reports whether the name is a tombstone.
func (k Kind) Dead() bool { return k == Gone || k == GoneAlias }

// Record says whose a name is, or whose it was.
type Record struct {
	Kind Kind
	ID   seal.AccountID // of the account or of the alias's owner, also a deleted one
	Day  day.Day        // on which it was given out or deleted
}

const (
	letter  = 'n'
	version = 1

	recordLen = 1 + 1 + len(seal.AccountID{}) + 4
)

func recordKey(k [20]byte) []byte { return append([]byte{letter}, k[:]...) }

func (r Record) encode() []byte {
	b := append(make([]byte, 0, recordLen), version, byte(r.Kind))
	b = append(b, r.ID[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(r.Day))
}

func decode(b []byte) (Record, error) {
	if len(b) != recordLen || b[0] != version || b[1] >= numKinds {
		return Record{}, errs.E("post/names.decode", errs.Corrupt, "", nil)
	}
	return Record{Kind: Kind(b[1]), ID: seal.AccountID(b[2:10]), Day: day.Day(binary.BigEndian.Uint32(b[10:]))}, nil
}
