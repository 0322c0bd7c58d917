package letter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Address is all that somebody needs to know to write to a packet box.
type Address struct {
	Relay   packet.ID // the node where the box is
	Mailbox packet.ID
	Key     *PublicKey
}

// AddressPrefix is what the text form of an Address begins with.
const AddressPrefix = "pb:"

const (
	addressVersion = 1
	checkLen       = 8
	addressLen     = 1 + 32 + 32 + PublicKeyLen + checkLen
)

// MaxAddress bounds the text of an address with all that may stand around and within it, in bytes.
const MaxAddress = 8 << 10

// check is a checksum: it shows what was damaged in copying, not what was changed on purpose.
func check(label string, b []byte) []byte {
	h := sha256.New()
	h.Write([]byte(label))
	h.Write(b)
	return h.Sum(nil)[:checkLen]
}

// String gives the text form: "pb:" and base64url (RFC 4648 §5) without padding of a version,
// both IDs, the key and a checksum. It has no form for a classical key, and is "" then.
func (a Address) String() string {
	if a.Key.classical {
		return ""
	}
	b := append(make([]byte, 0, addressLen), addressVersion)
	b = append(append(append(b, a.Relay[:]...), a.Mailbox[:]...), a.Key.Bytes()...)
	b = append(b, check(labelAddress, b)...)
	return AddressPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseAddress reads the text form; white space within it, as mail programs put it there, does
// not count. errs.Invalid, with a public text.
func ParseAddress(s string) (Address, error) {
	const op = "mixnet/letter.ParseAddress"
	bad := func(text string) (Address, error) { return Address{}, errs.E(op, errs.Invalid, text, nil) }
	if len(s) > MaxAddress {
		return bad("the address is too long")
	}
	s, ok := strings.CutPrefix(strings.Join(strings.Fields(s), ""), AddressPrefix)
	if !ok {
		return bad("the address of a packet box begins with pb:")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 {
		return bad("the address is not whole: copy all of it")
	}
	if b[0] != addressVersion {
		return bad("the address is of a later version of Postern: update this one")
	}
	if len(b) != addressLen || !bytes.Equal(b[addressLen-checkLen:], check(labelAddress, b[:addressLen-checkLen])) {
		return bad("the address is not whole: copy all of it")
	}
	a := Address{Relay: packet.ID(b[1:]), Mailbox: packet.ID(b[33:])}
	if a.Key, err = ParsePublicKey(b[65 : 65+PublicKeyLen]); err != nil {
		return bad("the key in the address is none")
	}
	return a, nil
}
