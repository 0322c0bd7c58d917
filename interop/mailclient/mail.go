package mailclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
)

// Maker makes mails of Delta Chat's shape with random payloads: OpenPGP/MIME
// (RFC 3156) of one ECDH PKESK a recipient and one SEIPD packet, armored. The
// packets are well-formed outside and noise inside, so that nothing compresses
// and no two bodies are equal. It is not safe for concurrent use.
type Maker struct {
	rng *rand.ChaCha8
	n   int
}

// NewMaker makes a Maker; the same seed gives the same mails.
func NewMaker(seed uint64) *Maker {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &Maker{rng: rand.NewChaCha8(key)}
}

// Mail makes one encrypted mail of about size bytes in all (at least some 900).
func (m *Maker) Mail(from string, size int) []byte {
	m.n++
	id := make([]byte, 12)
	m.read(id)
	boundary := fmt.Sprintf("%x", id)
	var b bytes.Buffer
	b.Grow(size + 256)
	fmt.Fprintf(&b, "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n\tboundary=\"%s\"\r\n"+
		"MIME-Version: 1.0\r\nFrom: <%s>\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\n"+
		"Date: Thu, 19 Nov 2026 08:01:02 +0000\r\nMessage-ID: <%x@localhost>\r\n\r\n", boundary, from, id)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/pgp-encrypted; charset=\"utf-8\"\r\n"+
		"Content-Description: PGP/MIME version identification\r\nContent-Transfer-Encoding: 7bit\r\n\r\nVersion: 1\r\n\r\n"+
		"--%s\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"; charset=\"utf-8\"\r\n"+
		"Content-Description: OpenPGP encrypted message\r\nContent-Disposition: inline; filename=\"encrypted.asc\";\r\n"+
		"Content-Transfer-Encoding: 7bit\r\n\r\n", boundary, boundary)
	tail := "\r\n--" + boundary + "--\r\n"
	// base64 makes 66 bytes of text with CRLF from 48 of payload.
	const fixed = 30 + 28 + 10 + 110 // armor lines, checksum, PKESK and packet heads
	payload := (size - b.Len() - len(tail) - fixed) * 48 / 66
	m.armor(&b, max(payload, 64))
	b.WriteString(tail)
	return b.Bytes()
}

func (m *Maker) read(b []byte) { _, _ = m.rng.Read(b) }

// armor writes an armored OpenPGP message (RFC 9580 §6.2) of one PKESK and a
// SEIPD with n bytes of noise.
func (m *Maker) armor(b *bytes.Buffer, n int) {
	pgp := make([]byte, 0, n+128)
	// PKESK v3, ECDH: key id, algorithm 18, MPI of 263 bits, 48 bytes of wrapped key.
	pkesk := make([]byte, 10+2+33+1+48)
	m.read(pkesk)
	pkesk[0], pkesk[9] = 3, 18
	pkesk[10], pkesk[11], pkesk[12] = 263>>8, 263&0xff, 0x40
	pkesk[45] = 48
	pgp = append(pgp, 0xC0|1, byte(len(pkesk)))
	pgp = append(pgp, pkesk...)
	pgp = append(pgp, 0xC0|18, 255, byte((n+1)>>24), byte((n+1)>>16), byte((n+1)>>8), byte(n+1), 1)
	start := len(pgp)
	pgp = pgp[:start+n]
	m.read(pgp[start:])

	b.WriteString("-----BEGIN PGP MESSAGE-----\r\n\r\n")
	line := make([]byte, 64)
	for rest := pgp; len(rest) > 0; {
		k := min(48, len(rest))
		e := base64.StdEncoding.EncodedLen(k)
		base64.StdEncoding.Encode(line[:e], rest[:k])
		b.Write(line[:e])
		b.WriteString("\r\n")
		rest = rest[k:]
	}
	crc := crc24(pgp)
	b.WriteString("=" + base64.StdEncoding.EncodeToString([]byte{byte(crc >> 16), byte(crc >> 8), byte(crc)}) +
		"\r\n-----END PGP MESSAGE-----\r\n")
}

// crc24 is the armor checksum of RFC 9580 §6.1.1.
func crc24(data []byte) uint32 {
	crc := uint32(0xB704CE)
	for _, d := range data {
		crc ^= uint32(d) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864CFB
			}
		}
	}
	return crc & 0xFFFFFF
}

// Hash is the identity of a mail: of what follows its header.
type Hash [sha256.Size]byte

// BodyHash hashes what follows the first empty line: servers may change the
// header, never the body.
func BodyHash(raw []byte) Hash {
	if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
		return sha256.Sum256(raw[i+4:])
	}
	return sha256.Sum256(raw)
}
