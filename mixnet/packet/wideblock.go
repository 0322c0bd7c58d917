package packet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"

	"lukechampine.com/adiantum"
	"lukechampine.com/adiantum/hbsh"
)

// WideBlock is a cipher whose block is a whole payload: who changes one bit of the
// ciphertext changes all of the plaintext, unpredictably. Both methods work in place
// on at least 64 bytes. A WideBlock is for one goroutine.
type WideBlock interface {
	Encrypt(block []byte)
	Decrypt(block []byte)
}

// Adiantum is the cipher of P1: Adiantum with XChaCha20 and an empty tweak (Crowley and
// Biggers, "Adiantum: length-preserving encryption for entry-level processors", 2018).
// It keeps key, which must not change while it is used.
func Adiantum(key *[keyLen]byte) WideBlock { return adiantumBlock{adiantum.New20(key[:])} }

type adiantumBlock struct{ h *hbsh.HBSH }

func (a adiantumBlock) Encrypt(b []byte) {
	a.h.Encrypt(b, nil)
	leaveVectors()
}

func (a adiantumBlock) Decrypt(b []byte) {
	a.h.Decrypt(b, nil)
	leaveVectors()
}

// LIONESS is a second wide-block cipher from the standard library alone (Anderson and
// Biham, "Two practical and provably secure block ciphers: BEAR and LION", 1996, §6),
// of AES-256-CTR and HMAC-SHA256. No packet on a wire uses it: tests build and unwrap
// packets with it, to show that nothing of the format hangs on Adiantum.
func LIONESS(key *[keyLen]byte) WideBlock {
	l := new(lioness)
	b, err := hkdf.Expand(sha256.New, key[:], labelLIONESS, len(l.keys)*keyLen)
	if err != nil {
		panic(err) // the length is a constant within HKDF's limit
	}
	for i := range l.keys {
		copy(l.keys[i][:], b[i*keyLen:])
	}
	return l
}

type lioness struct{ keys [4][keyLen]byte }

func (l *lioness) Encrypt(b []byte) {
	left, right := b[:keyLen], b[keyLen:]
	l.stream(0, left, right)
	l.hash(1, left, right)
	l.stream(2, left, right)
	l.hash(3, left, right)
}

func (l *lioness) Decrypt(b []byte) {
	left, right := b[:keyLen], b[keyLen:]
	l.hash(3, left, right)
	l.stream(2, left, right)
	l.hash(1, left, right)
	l.stream(0, left, right)
}

// stream adds to right the key stream of left and key i.
func (l *lioness) stream(i int, left, right []byte) {
	var key [keyLen]byte
	subtle.XORBytes(key[:], left, l.keys[i][:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key of AES
	}
	var iv [aes.BlockSize]byte
	cipher.NewCTR(block, iv[:]).XORKeyStream(right, right)
}

// hash adds to left the keyed hash of right.
func (l *lioness) hash(i int, left, right []byte) {
	m := hmac.New(sha256.New, l.keys[i][:])
	m.Write(right)
	var sum [sha256.Size]byte
	subtle.XORBytes(left, left, m.Sum(sum[:0]))
}
