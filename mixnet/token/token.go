// Package token has the tokens for which an exit sends a mail into the world: blind signatures
// (RFC 9474, RSABSSA-SHA384-PSS-Deterministic), as RFC 9578 §6 uses them. A relay gives each of
// its accounts some a day, over the account's own line; an exit sees that a relay of the network
// gave a token, and not to whom.
//
// The relay has a key for each day, which stands in the directory: that one key is shown to all,
// so that no relay can mark its users by keys of their own. A token is good for GoodDays days from
// the begin of its key's day (UTC). docs/exit.md is the format.
//
// The package is pure: no clock, disk or network, and randomness is passed in.
package token

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"time"

	"github.com/cloudflare/circl/blindsign/blindrsa"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mixnet/packet"
)

// Sizes, in bytes.
const (
	KeyLen   = 256 // a public key: the modulus; the exponent is 65537
	BlindLen = 256 // a blinded message, and a blind signature
	nonceLen = 32
	Len      = 1 + 4 + 32 + nonceLen + KeyLen // a token
)

const (
	version  = 1
	exponent = 65537
	label    = "postern/token: exit\n"
	labelKey = "postern/token: key\n"
)

// Day is a day since 1970-01-01, UTC.
type Day uint32

// DayOf gives the day of a time.
func DayOf(t time.Time) Day { return Day(max(t.Unix()/(24*60*60), 0)) }

// Begin is the day's first moment.
func (d Day) Begin() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

// GoodDays is for how many days a token is good, its own day among them: longer than a mail is sent
// again before its sender gives up.
const GoodDays = 7

// GoodUntil is the first moment at which tokens of the day are not good any more.
func (d Day) GoodUntil() time.Time { return (d + GoodDays).Begin() }

// PublicKey is what tokens of one day are checked with.
type PublicKey struct {
	raw [KeyLen]byte
	rsa *rsa.PublicKey
}

// ParseKey reads the KeyLen bytes of a key. errs.Invalid for what is none.
func ParseKey(b []byte) (*PublicKey, error) {
	const op = "mixnet/token.ParseKey"
	if len(b) != KeyLen || b[0]&0x80 == 0 || b[KeyLen-1]&1 == 0 {
		return nil, errs.E(op, errs.Invalid, "the key of tokens is malformed", nil)
	}
	return &PublicKey{raw: [KeyLen]byte(b), rsa: &rsa.PublicKey{N: new(big.Int).SetBytes(b), E: exponent}}, nil
}

// Bytes gives the key in the form that ParseKey reads.
func (k *PublicKey) Bytes() []byte { return bytes.Clone(k.raw[:]) }

// PrivateKey makes tokens of one day. It shows nothing of itself when printed.
type PrivateKey struct {
	secret.Hidden
	rsa *rsa.PrivateKey
	pub *PublicKey
}

// GenerateKey makes a key: RSA with 2,048 bits. It draws from the standard library's own
// randomness, and takes a second or so of a processor at worst.
func GenerateKey(random io.Reader) (*PrivateKey, error) {
	const op = "mixnet/token.GenerateKey"
	for {
		k, err := rsa.GenerateKey(random, 8*KeyLen)
		if err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		if p, err := newPrivateKey(k); err == nil {
			return p, nil
		}
	}
}

func newPrivateKey(k *rsa.PrivateKey) (*PrivateKey, error) {
	const op = "mixnet/token.newPrivateKey"
	if k.N.BitLen() != 8*KeyLen || k.E != exponent {
		return nil, errs.E(op, errs.Invalid, "", errors.New("not RSA with 2048 bits and 65537"))
	}
	pub, err := ParseKey(k.N.Bytes())
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return &PrivateKey{rsa: k, pub: pub}, nil
}

// ParsePrivateKey reads what Marshal wrote. errs.Invalid.
func ParsePrivateKey(b []byte) (*PrivateKey, error) {
	const op = "mixnet/token.ParsePrivateKey"
	k, err := x509.ParsePKCS1PrivateKey(b)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "", err)
	}
	p, err := newPrivateKey(k)
	return p, errs.Wrap(op, err)
}

// Marshal gives the key for whoever keeps it, in secret.
func (k *PrivateKey) Marshal() []byte { return x509.MarshalPKCS1PrivateKey(k.rsa) }

// Public gives the public half.
func (k *PrivateKey) Public() *PublicKey { return k.pub }

// Sign signs a blinded message. errs.Invalid for what is none.
func (k *PrivateKey) Sign(blinded []byte) ([]byte, error) {
	s, err := blindrsa.NewSigner(k.rsa).BlindSign(blinded)
	if err != nil {
		return nil, errs.E("mixnet/token.Sign", errs.Invalid, "the request for tokens is malformed", err)
	}
	return s, nil
}

// Token is a token.
type Token struct {
	Day   Day
	Relay packet.ID // who gave it
	nonce [nonceLen]byte
	sig   [KeyLen]byte
}

// message is what the signature covers.
func (t *Token) message(k *PublicKey) []byte {
	h := sha256.New()
	h.Write([]byte(labelKey))
	h.Write(k.raw[:])
	b := binary.BigEndian.AppendUint32([]byte(label), uint32(t.Day))
	b = append(b, t.Relay[:]...)
	b = h.Sum(b)
	return append(b, t.nonce[:]...)
}

// Bytes gives the token in the form that Parse reads.
func (t *Token) Bytes() []byte {
	b := binary.BigEndian.AppendUint32(append(make([]byte, 0, Len), version), uint32(t.Day))
	b = append(b, t.Relay[:]...)
	b = append(b, t.nonce[:]...)
	return append(b, t.sig[:]...)
}

// Nonce names the token: two tokens of one relay and day are the same if their nonces are, whatever
// their signatures.
func (t *Token) Nonce() [nonceLen]byte { return t.nonce }

// Parse reads a token. Whether it is good is Verify's business. errs.Invalid; errs.Unsupported
// for a later version.
func Parse(b []byte) (*Token, error) {
	const op = "mixnet/token.Parse"
	if len(b) > 0 && b[0] != version {
		return nil, errs.E(op, errs.Unsupported, "the token is of a later version of Postern", nil)
	}
	if len(b) != Len {
		return nil, errs.E(op, errs.Invalid, "the token is malformed", nil)
	}
	t := &Token{Day: Day(binary.BigEndian.Uint32(b[1:])), Relay: packet.ID(b[5:])}
	copy(t.nonce[:], b[37:])
	copy(t.sig[:], b[37+nonceLen:])
	return t, nil
}

// Verify checks a token with the key of its relay for its day, at a time; skew is by how much
// clocks may differ. errs.Auth for a wrong signature, errs.Denied for a day that is over or not yet
// there, with public texts.
func (t *Token) Verify(k *PublicKey, now time.Time, skew time.Duration) error {
	const op = "mixnet/token.Verify"
	switch {
	case now.Add(skew).Before(t.Day.Begin()):
		return errs.E(op, errs.Denied, "the token is for another day: one clock is wrong", nil)
	case !now.Add(-skew).Before(t.Day.GoodUntil()):
		return errs.E(op, errs.Denied, "the token has expired", nil)
	}
	digest := sha512.Sum384(t.message(k))
	if err := rsa.VerifyPSS(k.rsa, crypto.SHA384, digest[:], t.sig[:], &rsa.PSSOptions{SaltLength: crypto.SHA384.Size(), Hash: crypto.SHA384}); err != nil {
		return errs.E(op, errs.Auth, "the token is not signed by its relay", err)
	}
	return nil
}

// Blinded is a token that is not signed yet.
type Blinded struct {
	Request []byte // what the relay is to sign, BlindLen bytes

	t      Token
	key    *PublicKey
	client blindrsa.Client
	state  blindrsa.State
}

// Blind begins a token of a relay for a day. The relay cannot recognize it later.
func Blind(k *PublicKey, relay packet.ID, day Day, random io.Reader) (*Blinded, error) {
	const op = "mixnet/token.Blind"
	b := &Blinded{t: Token{Day: day, Relay: relay}, key: k}
	if _, err := io.ReadFull(random, b.t.nonce[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	var err error
	if b.client, err = blindrsa.NewClient(blindrsa.SHA384PSSDeterministic, k.rsa); err == nil {
		b.Request, b.state, err = b.client.Blind(random, b.t.message(k))
	}
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "the relay's key of tokens cannot be used", err)
	}
	return b, nil
}

// Finish makes the token of the relay's answer. errs.Auth for an answer that is wrong.
func (b *Blinded) Finish(signature []byte) (*Token, error) {
	s, err := b.client.Finalize(b.state, signature)
	if err != nil || len(s) != KeyLen {
		return nil, errs.E("mixnet/token.Finish", errs.Auth, "the relay's answer holds no token", err)
	}
	t := b.t
	copy(t.sig[:], s)
	return &t, nil
}
