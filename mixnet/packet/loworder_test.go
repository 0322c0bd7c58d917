package packet

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// lowOrderPoints are keys of X25519 with which every private key gives zeros (RFC 7748
// §6.1): the check is on the result, not on one form of the key.
var lowOrderPoints = []struct{ name, point string }{
	{"zeros", strings.Repeat("00", 32)},
	{"order 4", "01" + strings.Repeat("00", 31)},
	{"order 8", "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"},
	{"p, which is zero", "ed" + strings.Repeat("ff", 30) + "7f"},
}

// lowOrderName begins the names of their vectors.
const lowOrderName = "header: an X25519 key of "

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

// encapsulateZeros gives what a reader without the check would agree to: an encapsulation
// with a point of low order, and the keys that follow from an X25519 result of zeros.
func encapsulateZeros(t *testing.T, p *PublicKey, point []byte) (enc []byte, k hopKeys) {
	t.Helper()
	b := p.Bytes()
	pq, err := mlkem.NewEncapsulationKey768(b[:mlkem.EncapsulationKeySize768])
	must(t, err)
	secret, ct := pq.Encapsulate()
	return slices.Concat(ct, point), keysByHand(t, secret, make([]byte, 32), point, b[len(b)-32:])
}

// decapsulateZeros is the other side: the keys of enc if X25519 gave zeros.
func decapsulateZeros(t *testing.T, k *PrivateKey, enc []byte) hopKeys {
	t.Helper()
	pq, _, public := expand(t, k)
	secret, err := pq.Decapsulate(enc[:mlkem.CiphertextSize768])
	must(t, err)
	return keysByHand(t, secret, make([]byte, 32), enc[mlkem.CiphertextSize768:], public)
}

// expand gives the parts of a private key (docs/packet.md, appendix A).
func expand(t *testing.T, k *PrivateKey) (pq *mlkem.DecapsulationKey768, x *ecdh.PrivateKey, public []byte) {
	t.Helper()
	seed, err := k.Seed()
	must(t, err)
	b := sha3.SumSHAKE256(seed, 96)
	pq, err = mlkem.NewDecapsulationKey768(b[:64])
	must(t, err)
	x, err = ecdh.X25519().NewPrivateKey(b[64:])
	must(t, err)
	return pq, x, x.PublicKey().Bytes()
}

// keysByHand is X-Wing's combiner and the key schedule of HPKE (RFC 9180 §5.1, §5.3) with
// whatever X25519 gave, as docs/packet.md, appendix A, says it.
func keysByHand(t *testing.T, ssM, ssX, ctX, pkX []byte) (k hopKeys) {
	t.Helper()
	shared := sha3.Sum256(slices.Concat(ssM, ssX, ctX, pkX, []byte(`\.//^\`)))
	suite := "HPKE\x64\x7a\x00\x01\xff\xff"
	extract := func(salt []byte, label string, ikm []byte) []byte {
		b, err := hkdf.Extract(sha256.New, append([]byte("HPKE-v1"+suite+label), ikm...), salt)
		must(t, err)
		return b
	}
	expand := func(prk []byte, label string, info []byte, n int) []byte {
		labeled := string(binary.BigEndian.AppendUint16(nil, uint16(n))) + "HPKE-v1" + suite + label + string(info)
		b, err := hkdf.Expand(sha256.New, prk, labeled, n)
		must(t, err)
		return b
	}
	context := slices.Concat([]byte{0}, extract(nil, "psk_id_hash", nil), extract(nil, "info_hash", []byte(labelHopInfo)))
	exporter := expand(extract(shared[:], "secret", nil), "exp", context, 32)
	b := expand(exporter, "sec", []byte(labelHopExport), keyLen+len(k.tag))
	copy(k.header[:], b)
	copy(k.tag[:], b[keyLen:])
	return k
}

// The schedule by hand is that of the package, for what an honest sender makes.
func TestKeysByHand(t *testing.T) {
	nodes, _ := path(t)
	key := nodes[2].key
	enc, want, err := key.Public().encapsulate()
	must(t, err)
	pq, x, public := expand(t, key)
	ssM, err := pq.Decapsulate(enc[:mlkem.CiphertextSize768])
	must(t, err)
	point, err := ecdh.X25519().NewPublicKey(enc[mlkem.CiphertextSize768:])
	must(t, err)
	ssX, err := x.ECDH(point)
	must(t, err)
	if got := keysByHand(t, ssM, ssX, point.Bytes(), public); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
}

// The vectors of an X25519 result of zeros have no other fault: whoever leaves the check out
// opens their headers and takes the packet.
func TestLowOrderVectors(t *testing.T) {
	var all []rejectedVector
	readJSON(t, vectorDir+"/rejected.json", &all)
	n := 0
	for _, v := range all {
		if !strings.HasPrefix(v.Name, lowOrderName) {
			continue
		}
		n++
		key, err := NewPrivateKey(v.Seed)
		must(t, err)
		b := bytes.Clone(v.Head)
		enc := b[PrefixLen : PrefixLen+encapLen]
		_, x, _ := expand(t, key)
		point, err := ecdh.X25519().NewPublicKey(enc[mlkem.CiphertextSize768:])
		must(t, err)
		if _, err := x.ECDH(point); err == nil {
			t.Errorf("%s: X25519 does not give zeros", v.Name)
		}
		keys := decapsulateZeros(t, key, enc)
		plain, err := keys.open(b[:PrefixLen], b[PrefixLen+encapLen:])
		if err != nil {
			t.Fatalf("%s: the header does not open without the check", v.Name)
		}
		p, err := ParsePrefix(append(bytes.Clone(v.Head), make([]byte, *v.Length-len(v.Head))...))
		must(t, err)
		if err := new(routing).parse(plain, p.Layer); err != nil || p.KeyID != key.ID() {
			t.Errorf("%s: has another fault: %v", v.Name, err)
		}
	}
	if n != len(lowOrderPoints) {
		t.Errorf("%d vectors, want %d", n, len(lowOrderPoints))
	}
}
