package account

import (
	"encoding/binary"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
)

// Key letters. See the package documentation.
const (
	letterMarker = 'm'
	letterInfo   = 'i'
	letterKey    = 'k'
	letterTokens = 't'
)

// Format versions of the records.
const (
	infoVersion   = 1
	keyVersion    = 1
	tokensVersion = 1
)

func infoKey(id seal.AccountID) []byte   { return append(id.Prefix(), letterInfo) }
func keyKey(id seal.AccountID) []byte    { return append(id.Prefix(), letterKey) }
func tokensKey(id seal.AccountID) []byte { return append(id.Prefix(), letterTokens) }

func corrupt(op string, err error) error { return errs.E(op, errs.Corrupt, "", err) }

// infoRecord is the settings of an account.
type infoRecord struct {
	addr      mail.Address
	class     Class
	blocked   bool
	cleartext bool
	resetting bool // a Reset has begun: stored mail is going, no mail may come
	quota     int64
	created   Day
	lastLogin Day
}

const (
	flagBlocked   = 1 << 0
	flagCleartext = 1 << 1
	flagResetting = 1 << 2
	flagsKnown    = flagBlocked | flagCleartext | flagResetting

	// infoBlock: records are filled up to multiples of it, so that their length
	// does not tell the length of the address.
	infoBlock = 128
)

func (r infoRecord) encode() []byte {
	var flags byte
	if r.blocked {
		flags |= flagBlocked
	}
	if r.cleartext {
		flags |= flagCleartext
	}
	if r.resetting {
		flags |= flagResetting
	}
	b := []byte{infoVersion, byte(r.class), flags}
	b = binary.BigEndian.AppendUint64(b, uint64(r.quota))
	b = binary.BigEndian.AppendUint32(b, uint32(r.created))
	b = binary.BigEndian.AppendUint32(b, uint32(r.lastLogin))
	b = append(append(b, byte(len(r.addr.Local))), r.addr.Local...)
	b = append(append(b, byte(len(r.addr.Domain))), r.addr.Domain...)
	return append(b, make([]byte, (infoBlock-len(b)%infoBlock)%infoBlock)...)
}

func decodeInfo(b []byte) (infoRecord, error) {
	const op = "account.decodeInfo"
	const fixed = 3 + 8 + 4 + 4
	var r infoRecord
	if len(b) < fixed+2 || b[0] != infoVersion || Class(b[1]) >= numClasses || b[2]&^flagsKnown != 0 {
		return r, corrupt(op, nil)
	}
	r.class = Class(b[1])
	r.blocked, r.cleartext, r.resetting = b[2]&flagBlocked != 0, b[2]&flagCleartext != 0, b[2]&flagResetting != 0
	r.quota = int64(binary.BigEndian.Uint64(b[3:]))
	r.created = Day(binary.BigEndian.Uint32(b[11:]))
	r.lastLogin = Day(binary.BigEndian.Uint32(b[15:]))
	b = b[fixed:]
	var ok bool
	if r.addr.Local, b, ok = takeString(b); !ok {
		return r, corrupt(op, nil)
	}
	if r.addr.Domain, b, ok = takeString(b); !ok {
		return r, corrupt(op, nil)
	}
	for _, c := range b {
		if c != 0 {
			return r, corrupt(op, nil)
		}
	}
	if r.quota < 0 || r.addr.Local == "" || r.addr.Domain == "" {
		return r, corrupt(op, nil)
	}
	return r, nil
}

func takeString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return "", nil, false
	}
	n := int(b[0])
	return string(b[1 : 1+n]), b[1+n:], true
}

// Layout of the key record: version, public key, then the wrapped seed sealed
// under the node key, bound to number and public key.
func sealKey(root *seal.Root, id seal.AccountID, pub seal.PublicKey, wrapped []byte) ([]byte, error) {
	sealed, err := root.Seal(seal.PurposeKey, keyAAD(id, pub), wrapped)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 1+len(pub)+len(sealed))
	b = append(append(b, keyVersion), pub...)
	return append(b, sealed...), nil
}

func keyAAD(id seal.AccountID, pub seal.PublicKey) []byte { return append(id[:], pub...) }

// publicOf gives the readable half of a key record, without copying.
func publicOf(b []byte) (seal.PublicKey, error) {
	if len(b) <= 1+seal.PublicKeyLen || b[0] != keyVersion {
		return nil, corrupt("account.publicOf", nil)
	}
	return seal.PublicKey(b[1 : 1+seal.PublicKeyLen : 1+seal.PublicKeyLen]), nil
}

func openKeyRecord(root *seal.Root, id seal.AccountID, b []byte) (seal.PublicKey, seal.Wrapped, error) {
	pub, err := publicOf(b)
	if err != nil {
		return nil, seal.Wrapped{}, err
	}
	plain, err := root.Open(seal.PurposeKey, keyAAD(id, pub), b[1+seal.PublicKeyLen:])
	if err != nil {
		return nil, seal.Wrapped{}, err
	}
	w, err := seal.ParseWrapped(plain)
	return pub, w, err
}

// tokenRecord is one device token and the day on which it was set last.
type tokenRecord struct {
	day   Day
	token string
}

// maxTokens bounds Options.TokensPerAccount, so that a record stays below
// store.MaxValue.
const maxTokens = 128

func encodeTokens(ts []tokenRecord) []byte {
	b := []byte{tokensVersion, byte(len(ts))}
	for _, t := range ts {
		b = binary.BigEndian.AppendUint32(b, uint32(t.day))
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.token)))
		b = append(b, t.token...)
	}
	return b
}

func decodeTokens(b []byte) ([]tokenRecord, error) {
	const op = "account.decodeTokens"
	if len(b) < 2 || b[0] != tokensVersion || b[1] > maxTokens {
		return nil, corrupt(op, nil)
	}
	n := int(b[1])
	b = b[2:]
	ts := make([]tokenRecord, 0, n)
	for range n {
		if len(b) < 6 {
			return nil, corrupt(op, nil)
		}
		day, l := Day(binary.BigEndian.Uint32(b)), int(binary.BigEndian.Uint16(b[4:]))
		b = b[6:]
		if l == 0 || l > MaxTokenLen || len(b) < l {
			return nil, corrupt(op, nil)
		}
		ts = append(ts, tokenRecord{day, string(b[:l])})
		b = b[l:]
	}
	if len(b) != 0 {
		return nil, corrupt(op, nil)
	}
	return ts, nil
}

// is reports whether err is of kind k. errors.Is would also find the kind of a
// cause further down the chain, which means something else.
func is(err error, k errs.Kind) bool { return err != nil && errs.KindOf(err) == k }
