package openpgp

import (
	"bytes"
	"crypto/dsa" //lint:ignore SA1019 such keys exist; here they are only measured
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Bounds of the numbers in a key, in bits: with larger ones a stranger's key costs minutes to check.
const (
	maxModulus = 8192 // RSA, DSA, ElGamal
	maxOrder   = 512  // DSA
)

// costly reports whether a key has numbers beyond the bounds. It checks no signature.
func costly(b []byte) bool {
	r := packet.NewReader(bytes.NewReader(b))
	for range len(b) { // a packet has a byte at least
		p, err := r.Next()
		if err == io.EOF {
			break
		}
		var k *packet.PublicKey
		switch p := p.(type) {
		case *packet.PublicKey:
			k = p
		case *packet.PrivateKey:
			k = &p.PublicKey
		default: // or malformed: what comes after it may be none the less
			continue
		}
		if d, ok := k.PublicKey.(*dsa.PublicKey); ok && d.Q.BitLen() > maxOrder {
			return true
		}
		switch k.PubKeyAlgo {
		case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSAEncryptOnly, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoDSA, packet.PubKeyAlgoElGamal:
			if n, err := k.BitLength(); err == nil && n > maxModulus {
				return true
			}
		}
	}
	return false
}
