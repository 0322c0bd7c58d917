package aliasname

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"

	"postern.email/mail"
)

// Sizes of derived aliases.
const (
	DerivedLen = 20 // characters of [a-z2-7]: 100 bits
	KeyLen     = 32 // bytes of an alias key

	// In bits, from the first: version, nonce, tag, check sum.
	nonceBits = 40 // the version before it has 4
	tagBits   = 46
	sumBits   = 10

	version   = 1
	sumPoly   = 0x233 // CRC-10/ATM (ITU-T I.610): every burst of up to 10 bits, so two neighbouring characters, is found
	sumStart  = 0x3ff
	domainLen = 16 // bytes of the domain's hash in a message
	// A key and its message are 54 bytes: one block of SHA-256 with its padding.
	macLen = KeyLen + 1 + nonceBits/8 + domainLen
)

const (
	domainContext = "postern alias domain 1\x00"
	nonceContext  = "postern alias nonce 1\x00"
)

// derivedLetters are those of base32 (RFC 4648 §6), in lower case.
const derivedLetters = lower + "234567"

// parts are the fields of a derived local part.
type parts struct {
	nonce [nonceBits / 8]byte
	tag   uint64 // tagBits
}

// Derive gives the local part that a key makes for a label, usually the site's host name: the
// same for the same key, domain, label and n. ASCII capitals of domain and label do not count.
// n makes further ones for a label, from 0.
func Derive(key *[KeyLen]byte, domain, label string, n uint32) string {
	d := hashDomain(domain)
	p := parts{nonce: nonceOf(key, &d, label, n)}
	p.tag = tagOf(key, &p.nonce, &d)
	return p.String()
}

// DerivedForm reports whether a local part has the form of a derived one: length, alphabet,
// version and check sum. Of all texts of that length and alphabet one in 16,384 has.
func DerivedForm(local string) bool {
	_, ok := parse(local)
	return ok
}

// Verify reports whether key made a local part for domain. It takes as long for a wrong tag as
// for a right one.
func Verify(key *[KeyLen]byte, domain, local string) bool {
	t, ok := NewTry(domain, local)
	return ok && t.By(key)
}

// MadeFor reports whether key made a local part for a label, with n from 0 to most-1.
func MadeFor(key *[KeyLen]byte, domain, local, label string, most uint32) bool {
	p, ok := parse(local)
	if !ok || !Verify(key, domain, local) {
		return false
	}
	d := hashDomain(domain)
	for n := range most {
		if nonceOf(key, &d, label, n) == p.nonce {
			return true
		}
	}
	return false
}

// Find gives the first of keys that made a local part for domain; -1: none of them, or it has
// not the derived form. It tries all of them whatever it finds.
func Find(keys [][KeyLen]byte, domain, local string) int {
	t, ok := NewTry(domain, local)
	if !ok {
		return -1
	}
	found := -1
	for i := range keys {
		if t.By(&keys[i]) && found < 0 {
			found = i
		}
	}
	return found
}

// Try is a local part that is to be tried with many keys. It is not safe for several
// goroutines at once.
type Try struct {
	msg [macLen]byte // room for the key, then what is authenticated
	tag uint64
}

// NewTry prepares a try; false: the local part has not the derived form.
func NewTry(domain, local string) (*Try, bool) {
	p, ok := parse(local)
	if !ok {
		return nil, false
	}
	d := hashDomain(domain)
	t := &Try{tag: p.tag}
	fill(&t.msg, &p.nonce, &d)
	return t, true
}

// By reports whether key made it, in constant time.
func (t *Try) By(key *[KeyLen]byte) bool {
	copy(t.msg[:], key[:])
	ok := same(mac(&t.msg), t.tag)
	clear(t.msg[:KeyLen])
	return ok
}

func same(a, b uint64) bool {
	return subtle.ConstantTimeEq(int32(uint32(a>>32)), int32(uint32(b>>32)))&subtle.ConstantTimeEq(int32(uint32(a)), int32(uint32(b))) == 1
}

// tagOf is the first tagBits of SHA-256(key ‖ version ‖ nonce ‖ domain). All messages have one
// length, and most of the digest is cut off, so that the plain prefix is a MAC.
func tagOf(key *[KeyLen]byte, nonce *[nonceBits / 8]byte, domain *[domainLen]byte) uint64 {
	var msg [macLen]byte
	copy(msg[:], key[:])
	fill(&msg, nonce, domain)
	return mac(&msg)
}

func fill(msg *[macLen]byte, nonce *[nonceBits / 8]byte, domain *[domainLen]byte) {
	msg[KeyLen] = version
	copy(msg[KeyLen+1:], nonce[:])
	copy(msg[KeyLen+1+len(nonce):], domain[:])
}

func mac(msg *[macLen]byte) uint64 {
	sum := sha256.Sum256(msg[:])
	return binary.BigEndian.Uint64(sum[:]) >> (64 - tagBits)
}

// nonceOf is the first nonceBits of HMAC-SHA256(key, context ‖ domain ‖ n ‖ label).
func nonceOf(key *[KeyLen]byte, domain *[domainLen]byte, label string, n uint32) (nonce [nonceBits / 8]byte) {
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(nonceContext))
	m.Write(domain[:])
	m.Write(binary.BigEndian.AppendUint32(nil, n))
	m.Write([]byte(fold(label)))
	copy(nonce[:], m.Sum(nil))
	return nonce
}

// hashDomain is the first domainLen bytes of SHA-256(context ‖ domain).
func hashDomain(domain string) (h [domainLen]byte) {
	sum := sha256.Sum256([]byte(domainContext + fold(domain)))
	copy(h[:], sum[:])
	return h
}

// fold folds ASCII capitals, and no other characters.
func fold(s string) string { return mail.Address{Local: s}.Canonical().Local }

// String gives the local part: nine characters hold version, nonce and the first bit of the
// tag, nine the rest of the tag, two the check sum.
func (p *parts) String() string {
	head := uint64(version)<<nonceBits | number(p.nonce)
	head = head<<1 | p.tag>>(tagBits-1)
	out := make([]byte, 0, DerivedLen)
	out = appendChars(out, head, 9)
	out = appendChars(out, p.tag&(1<<(tagBits-1)-1), 9)
	return string(appendChars(out, uint64(checkSum(out)), 2))
}

// parse reads a local part in any capitals; false: it has not the derived form.
func parse(local string) (p parts, ok bool) {
	if len(local) != DerivedLen {
		return p, false
	}
	local = fold(local)
	head, ok1 := readChars(local[:9])
	tail, ok2 := readChars(local[9:18])
	sum, ok3 := readChars(local[18:])
	if !ok1 || !ok2 || !ok3 || uint64(checkSum([]byte(local[:18]))) != sum || head>>(nonceBits+1) != version {
		return p, false
	}
	nonce := head >> 1
	for i := len(p.nonce) - 1; i >= 0; i-- {
		p.nonce[i] = byte(nonce)
		nonce >>= 8
	}
	p.tag = head&1<<(tagBits-1) | tail
	return p, true
}

func number(nonce [nonceBits / 8]byte) (n uint64) {
	for _, b := range nonce {
		n = n<<8 | uint64(b)
	}
	return n
}

// appendChars appends the low 5·n bits of v.
func appendChars(b []byte, v uint64, n int) []byte {
	for i := n - 1; i >= 0; i-- {
		b = append(b, derivedLetters[v>>(5*i)&31])
	}
	return b
}

func readChars(s string) (v uint64, ok bool) {
	for i := range len(s) {
		c, ok := charValue(s[i])
		if !ok {
			return 0, false
		}
		v = v<<5 | uint64(c)
	}
	return v, true
}

func charValue(c byte) (uint16, bool) {
	switch {
	case 'a' <= c && c <= 'z':
		return uint16(c - 'a'), true
	case '2' <= c && c <= '7':
		return uint16(c-'2') + 26, true
	}
	return 0, false
}

// checkSum is CRC-10 of the values of the characters, five bits each, the first bit first.
func checkSum(chars []byte) uint16 {
	sum := uint16(sumStart)
	for _, ch := range chars {
		v, _ := charValue(ch)
		for bit := 4; bit >= 0; bit-- {
			top := sum>>(sumBits-1)&1 ^ v>>bit&1
			sum = sum << 1 & (1<<sumBits - 1)
			if top == 1 {
				sum ^= sumPoly
			}
		}
	}
	return sum
}
