package vouch

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// Identity is what others must know of an account to write to it, and to know its mails: where
// its packets go, the key that letters to it are sealed to, and the keys it signs with.
type Identity struct {
	Relay   packet.ID // the node where the packet box is
	Mailbox packet.ID
	Letter  *letter.PublicKey
	Key     *directory.PublicKey
}

const (
	identityVersion = 1
	checkLen        = 8
	edKeyLen        = 32
	mlKeyLen        = 1952
	keysLen         = letter.PublicKeyLen + edKeyLen + mlKeyLen
	identityLen     = 1 + 32 + 32 + keysLen + checkLen
)

// Forms of an Identity as text.
const (
	IdentityPrefix = "pk:"               // what the text in one line begins with
	PEMType        = "POSTERN RECIPIENT" // type of the PEM block (RFC 7468 §2)
)

// MaxIdentity bounds a text with an identity and all that stands around it, in bytes.
const MaxIdentity = 16 << 10

// To gives the address of the packet box.
func (i *Identity) To() letter.Address {
	return letter.Address{Relay: i.Relay, Mailbox: i.Mailbox, Key: i.Letter}
}

// Fingerprint is a short form of both keys for people to compare: 25 characters in five groups.
// It says nothing of where the packet box is.
func (i *Identity) Fingerprint() string {
	h := sha256.New()
	h.Write([]byte(labelFingerprint))
	h.Write(i.appendKeys(nil))
	return letter.FormatFingerprint([sha256.Size]byte(h.Sum(nil)))
}

// Equal reports whether both are the same keys at the same place.
func (i *Identity) Equal(o *Identity) bool { return bytes.Equal(i.Bytes(), o.Bytes()) }

// SameKeys reports whether both have the same keys, wherever their packet boxes are.
func (i *Identity) SameKeys(o *Identity) bool {
	return i.Letter.Equal(o.Letter) && i.Key.ID() == o.Key.ID()
}

func (i *Identity) appendKeys(b []byte) []byte {
	b = append(b, i.Letter.Bytes()...)
	b = append(b, i.Key.Ed25519()...)
	return append(b, i.Key.MLDSA()...)
}

// parseKeys reads keysLen bytes.
func (i *Identity) parseKeys(b []byte) (err error) {
	if i.Letter, err = letter.ParsePublicKey(b[:letter.PublicKeyLen]); err != nil {
		return err
	}
	b = b[letter.PublicKeyLen:]
	i.Key, err = directory.NewPublicKey(b[:edKeyLen], b[edKeyLen:keysLen-letter.PublicKeyLen])
	return err
}

// Bytes gives the identity in the form that the texts hold.
func (i *Identity) Bytes() []byte {
	b := append(make([]byte, 0, identityLen), identityVersion)
	b = append(append(b, i.Relay[:]...), i.Mailbox[:]...)
	b = i.appendKeys(b)
	return append(b, identityCheck(b)...)
}

// identityCheck shows what was damaged in copying, not what was changed on purpose.
func identityCheck(b []byte) []byte {
	h := sha256.New()
	h.Write([]byte(labelRecipient))
	h.Write(b)
	return h.Sum(nil)[:checkLen]
}

// String gives the text in one line: "pk:" and base64url (RFC 4648 §5) without padding.
func (i *Identity) String() string {
	return IdentityPrefix + base64.RawURLEncoding.EncodeToString(i.Bytes())
}

// PEM gives the text for a file; the header is for people and not read.
func (i *Identity) PEM(a mail.Address) []byte {
	b := &pem.Block{Type: PEMType, Bytes: i.Bytes()}
	if v := a.Canonical().String(); v != "" && !strings.ContainsAny(v, "\r\n") {
		b.Headers = map[string]string{"Address": v}
	}
	return pem.EncodeToMemory(b)
}

// ParseIdentity reads either text. White space within the one and text around the other do not
// count. errs.Invalid and errs.TooLarge, with a public text.
func ParseIdentity(text []byte) (*Identity, error) {
	const op = "agent/vouch.ParseIdentity"
	bad := func(text string) (*Identity, error) { return nil, errs.E(op, errs.Invalid, text, nil) }
	if len(text) > MaxIdentity {
		return nil, errs.E(op, errs.TooLarge, "the key is too long", nil)
	}
	var b []byte
	if s, ok := strings.CutPrefix(strings.Join(strings.Fields(string(text)), ""), IdentityPrefix); ok {
		var err error
		if b, err = base64.RawURLEncoding.Strict().DecodeString(s); err != nil {
			return bad("the key is not whole: copy all of it")
		}
	} else {
		block, rest := pem.Decode(text)
		if block == nil {
			return bad("a key begins with pk: or is a PEM block")
		}
		if block.Type != PEMType {
			return bad("the PEM block holds no key of a recipient")
		}
		if again, _ := pem.Decode(rest); again != nil {
			return bad("there is more than one PEM block")
		}
		b = block.Bytes
	}
	if len(b) > 0 && b[0] != identityVersion {
		return bad("the key is of a later version of Postern: update this one")
	}
	if len(b) != identityLen || !bytes.Equal(b[identityLen-checkLen:], identityCheck(b[:identityLen-checkLen])) {
		return bad("the key is not whole: copy all of it")
	}
	i := &Identity{Relay: packet.ID(b[1:]), Mailbox: packet.ID(b[33:])}
	if err := i.parseKeys(b[65 : 65+keysLen]); err != nil {
		return nil, errs.E(op, errs.Invalid, "the key is none", err)
	}
	return i, nil
}
