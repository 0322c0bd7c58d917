// Package verp makes and reads the local parts that a relay gives out for mail which it sends on for
// a mailbox elsewhere:
//
//   - return addresses, the envelope sender of such a mail (VERP, variable envelope return path):
//     what comes back says by its own address which mail it is about;
//   - reverse addresses, which stand for the sender of a mail at one alias: who writes there answers
//     as the alias.
//
// Both carry a MAC, so that nobody can guess one; both are letters and digits that stay what they are
// when a host on the way folds their case, within the 64 octets of RFC 5321 §4.5.3.1.1. A return address
// tells no reader anything: its content is encrypted. The format is docs/aliases-forward.md §2.
package verp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mail"
)

// Sizes and times.
const (
	KeyLen  = 32 // of a Coder, in bytes
	RefLen  = 16 // what a return address refers to, in bytes
	IDLen   = 16 // of a reverse address, in bytes; a return address can refer to one
	TagLen  = 10 // of the MAC, in bytes: 80 bits
	MaxLife = 60 // days for which a return address can be good

	// Skew is how many days a return address may come from the future: clocks differ, and a day
	// ends while a mail is under way.
	Skew = 1
)

// The local parts begin with these.
const (
	ReturnPrefix  = "bounce."
	ReversePrefix = "re."
)

const (
	version     = 1
	returnLen   = 1 + 2 + RefLen + TagLen // bytes
	returnText  = 47                      // characters behind the prefix, of 29 bytes
	reverseText = 42                      // of 26 bytes
)

// Kind says what a return address is of.
type Kind uint8

// The kinds. Zero and what is beyond 15 is none.
const (
	Forwarded Kind = 1 // a mail for an alias, sent on to the mailbox elsewhere
	Answered  Kind = 2 // a mail from the mailbox elsewhere, sent on as the alias
	Asked     Kind = 3 // the question whether the mailbox agrees

	maxKind = 15
)

// Return is what a return address says.
type Return struct {
	Kind Kind
	Day  uint16 // on which it was made, in days since 1970-01-01 UTC
	Ref  [RefLen]byte
}

// Coder makes and reads local parts under one key. It may be used by many goroutines.
type Coder struct {
	secret.Hidden
	returnMAC, reverseMAC, id [KeyLen]byte
	block                     cipher.Block
}

// New makes a Coder of a random key. errs.Internal.
func New(key *[KeyLen]byte) (*Coder, error) {
	const op = "mail/verp.New"
	c := &Coder{}
	var enc [32]byte
	for _, x := range []struct {
		out  *[32]byte
		info string
	}{{&c.returnMAC, "postern/verp: return, MAC"}, {&c.reverseMAC, "postern/verp: reverse, MAC"}, {&c.id, "postern/verp: reverse, id"}, {&enc, "postern/verp: return, encryption"}} {
		b, err := hkdf.Expand(sha256.New, key[:], x.info, 32)
		if err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		copy(x.out[:], b)
	}
	var err error
	if c.block, err = aes.NewCipher(enc[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	clear(enc[:])
	return c, nil
}

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tag is the MAC over content for a domain.
func tag(key *[KeyLen]byte, domain string, content []byte) (t [TagLen]byte) {
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(mail.CanonicalDomain(domain)))
	m.Write([]byte{0}) // no domain holds one
	m.Write(content)
	var sum [sha256.Size]byte
	copy(t[:], m.Sum(sum[:0]))
	return t
}

// mask encrypts or decrypts the content of a return address in place: AES-256 in counter mode, begun
// at its tag. Two contents never have one tag but by the chance of 80 bits (SIV, RFC 5297's idea).
func (c *Coder) mask(t [TagLen]byte, content []byte) {
	var iv [aes.BlockSize]byte
	copy(iv[:], t[:])
	cipher.NewCTR(c.block, iv[:]).XORKeyStream(content, content)
}

// Return gives the local part of a return address in a domain: 54 characters. errs.Invalid for a kind
// that is none.
func (c *Coder) Return(domain string, r Return) (local string, err error) {
	if r.Kind == 0 || r.Kind > maxKind {
		return "", errs.E("mail/verp.Return", errs.Invalid, "", nil)
	}
	var b [returnLen]byte
	content := b[:returnLen-TagLen]
	content[0] = version<<4 | byte(r.Kind)
	binary.BigEndian.PutUint16(content[1:], r.Day)
	copy(content[3:], r.Ref[:])
	t := tag(&c.returnMAC, domain, content)
	c.mask(t, content)
	copy(b[len(content):], t[:])
	return ReturnPrefix + alphabet.EncodeToString(b[:]), nil
}

// IsReturn reports whether a local part has the form of a return address, in any case.
func IsReturn(local string) bool { return hasForm(local, ReturnPrefix, returnText) }

// IsReverse reports whether a local part has the form of a reverse address, in any case.
func IsReverse(local string) bool { return hasForm(local, ReversePrefix, reverseText) }

// Made reports whether a local part has the form of either: nobody else may have such a name.
func Made(local string) bool { return IsReturn(local) || IsReverse(local) }

func hasForm(local, prefix string, n int) bool {
	if len(local) != len(prefix)+n || !strings.EqualFold(local[:len(prefix)], prefix) {
		return false
	}
	for i := len(prefix); i < len(local); i++ {
		if c := local[i] | 0x20; (c < 'a' || c > 'z') && (local[i] < '2' || local[i] > '7') {
			return false
		}
	}
	return true
}

// bytesOf reads the characters behind a prefix; only the one way of writing them is right.
func bytesOf(text string, out []byte) bool {
	text = strings.ToLower(text)
	b, err := alphabet.DecodeString(text)
	return err == nil && copy(out, b) == len(out) && len(b) == len(out) && alphabet.EncodeToString(b) == text
}

// OpenReturn reads a return address of a domain, on a day, for which it is good for life days (at most
// MaxLife). errs.Invalid for what has not the form, errs.Auth for what this Coder did not make for the
// domain, errs.Denied for one whose time is over, or has not come.
func (c *Coder) OpenReturn(domain, local string, today uint32, life int) (r Return, err error) {
	const op = "mail/verp.OpenReturn"
	if !IsReturn(local) {
		return r, errs.E(op, errs.Invalid, "this is no return address", nil)
	}
	var b [returnLen]byte
	if !bytesOf(local[len(ReturnPrefix):], b[:]) {
		return r, errs.E(op, errs.Auth, "this return address was not made here", nil)
	}
	content, t := b[:returnLen-TagLen], [TagLen]byte(b[returnLen-TagLen:])
	c.mask(t, content)
	if want := tag(&c.returnMAC, domain, content); subtle.ConstantTimeCompare(want[:], t[:]) != 1 || content[0]>>4 != version || content[0]&maxKind == 0 {
		return r, errs.E(op, errs.Auth, "this return address was not made here", nil)
	}
	r = Return{Kind: Kind(content[0] & maxKind), Day: binary.BigEndian.Uint16(content[1:])}
	copy(r.Ref[:], content[3:])
	// Days count on past 65535; what is near counts.
	if age := int16(uint16(today) - r.Day); age < -Skew || int(age) > min(life, MaxLife) {
		return r, errs.E(op, errs.Denied, "the time of this return address is over", nil)
	}
	return r, nil
}

// Reverse gives the local part of the reverse address, in a domain, of a sender at an alias: 45
// characters, always the same ones. Who does not hold the key learns nothing of either from it, and
// cannot tell whether two such addresses have one of them in common.
func (c *Coder) Reverse(domain string, alias, sender mail.Address) (local string) {
	m := hmac.New(sha256.New, c.id[:])
	for _, a := range []mail.Address{alias.Canonical(), sender.Canonical()} {
		m.Write([]byte(a.Local))
		m.Write([]byte{0}) // no half of an address holds one
		m.Write([]byte(a.Domain))
		m.Write([]byte{0})
	}
	var sum [sha256.Size]byte
	return c.ReverseLocal(domain, [IDLen]byte(m.Sum(sum[:0])))
}

// ReverseLocal gives the local part of the reverse address with an id.
func (c *Coder) ReverseLocal(domain string, id [IDLen]byte) string {
	t := tag(&c.reverseMAC, domain, id[:])
	return ReversePrefix + alphabet.EncodeToString(append(id[:], t[:]...))
}

// OpenReverse reads a reverse address of a domain. id stands for the alias and the sender. errs.Invalid
// for what has not the form, errs.Auth for what this Coder did not make for the domain.
func (c *Coder) OpenReverse(domain, local string) (id [IDLen]byte, err error) {
	const op = "mail/verp.OpenReverse"
	if !IsReverse(local) {
		return id, errs.E(op, errs.Invalid, "this is no reverse address", nil)
	}
	var b [IDLen + TagLen]byte
	ok := bytesOf(local[len(ReversePrefix):], b[:])
	want := tag(&c.reverseMAC, domain, b[:IDLen])
	if subtle.ConstantTimeCompare(want[:], b[IDLen:]) != 1 || !ok {
		return id, errs.E(op, errs.Auth, "this reverse address was not made here", nil)
	}
	return [IDLen]byte(b[:IDLen]), nil
}
