package letter

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
)

const (
	nonceLen = 12
	tagLen   = 16
	sealLen  = encLen + nonceLen + HeaderLen + tagLen // of a body, besides the data; less for a classical key
)

// Rooms for the body of a sealed fragment. All fragments of a letter fill theirs.
const (
	RoomPlain = packet.MaxBody // without a reply block beside it

	// RoomACK is for letters whose arrival is acknowledged: with a reply block, and with the place
	// in a window, which letters of one fragment leave empty, so that all have one size.
	RoomACK = packet.MaxBodySURB - content.WindowHead
)

// PartLen is how many bytes of a letter a fragment in a room has.
func PartLen(room int) int { return room - sealLen }

// partLen is PartLen of a letter to p.
func (p *PublicKey) partLen(room int) int { return PartLen(room) + encLen - p.encLen() }

// Options say how a letter is cut.
type Options struct {
	Room  int  // bytes of the body of a fragment
	Coded bool // with an erasure code, where there are several fragments: for ways on which none is sent again
}

// Sealed is a letter that was sealed.
type Sealed struct {
	ID     ID
	Bodies [][]byte // of the packets, Options.Room bytes each
}

// Packets tells how many fragments a content of some bytes, without a proof, needs at most.
func Packets(content int, o Options) int {
	l := newLayout(int64(content)+headLen, o.Room-sealLen, false)
	if l == nil {
		return 0
	}
	if o.Coded && l.parts > 1 {
		l = newLayout(l.length, l.size, true)
	}
	return l.total()
}

// Seal makes the fragments of a letter. errs.TooLarge for a content of more than MaxContent
// bytes; errs.Invalid for a room that is too small.
func Seal(to *PublicKey, m Message, o Options) (*Sealed, error) {
	const op = "mixnet/letter.Seal"
	if o.Room <= sealLen {
		return nil, errs.E(op, errs.Invalid, "the room for a fragment is too small", nil)
	}
	enc, s, err := to.encapsulate()
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	whole, err := encode(m, s.id, to)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	l, data, err := slice(whole, to.partLen(o.Room), o.Coded)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	aead, err := s.aead()
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out := &Sealed{ID: s.id, Bodies: make([][]byte, len(data))}
	plain := make([]byte, 0, HeaderLen+l.size)
	for i, d := range data {
		h := l.header(s.id, i)
		plain = append(h.append(plain[:0]), d...)
		body := append(make([]byte, 0, o.Room), enc...)
		nonce := s.nonceOf(i)
		body = append(body, nonce...)
		out.Bodies[i] = aead.Seal(body, nonce, plain, nil)
	}
	return out, nil
}

// slice cuts a whole into fragments of size bytes.
func slice(whole []byte, size int, coded bool) (*layout, [][]byte, error) {
	const op = "mixnet/letter.slice"
	l := newLayout(int64(len(whole)), size, false)
	if l == nil {
		return nil, nil, errs.E(op, errs.Invalid, "the room for a fragment is too small", nil)
	}
	if coded && l.parts > 1 {
		l = newLayout(int64(len(whole)), size, true)
	}
	data, err := l.cut(whole)
	return l, data, errs.Wrap(op, err)
}

func (s *secrets) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.seal[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonceOf gives each fragment of a letter its own nonce, which does not tell its number.
func (s *secrets) nonceOf(index int) []byte {
	m := hmac.New(sha256.New, s.nonce[:])
	m.Write(binary.BigEndian.AppendUint32(nil, uint32(index)))
	return m.Sum(nil)[:nonceLen]
}

// Fragment is a fragment that was opened.
type Fragment struct {
	Header
	Data []byte

	to *[sha256.Size]byte // name of the key that it was sealed to; nil: it was not
}

// Open opens a sealed fragment; it copies what it gives. errs.Auth for what is not sealed to
// this key or its classical half, or was changed; errs.Unsupported for a version that this program
// does not know; errs.Invalid for another form.
func Open(k *PrivateKey, body []byte) (*Fragment, error) {
	f, err := k.open(k.pub, body)
	if errs.KindOf(err) != errs.Auth || err == nil {
		return f, err
	}
	// A body does not say which form it has: who reads it on its way need not know.
	if half, herr := k.open(k.halfPub, body); herr == nil || errs.KindOf(herr) != errs.Auth {
		return half, herr
	}
	return nil, err
}

func (k *PrivateKey) open(to *PublicKey, body []byte) (*Fragment, error) {
	const op = "mixnet/letter.Open"
	if len(body) <= sealLen {
		return nil, errs.E(op, errs.Invalid, rejected, errForm)
	}
	enc, rest := body[:to.encLen()], body[to.encLen():]
	s, err := k.decapsulate(to, enc)
	if err != nil {
		return nil, errs.E(op, errs.Auth, rejected, err)
	}
	aead, err := s.aead()
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	plain, err := aead.Open(nil, rest[:nonceLen], rest[nonceLen:], nil)
	if err != nil {
		return nil, errs.E(op, errs.Auth, rejected, err)
	}
	f := &Fragment{Data: plain[HeaderLen:], to: &to.name}
	if f.Header, err = parseHeader(op, plain[:HeaderLen], len(f.Data)); err != nil {
		return nil, err
	}
	if f.ID != s.id {
		return nil, errs.E(op, errs.Invalid, rejected, errForm)
	}
	return f, nil
}

// Split makes fragments that are not sealed, of up to room bytes each, for an exit. The ID
// comes from random. See Seal for errors.
func Split(content []byte, o Options, random io.Reader) (ID, [][]byte, error) {
	const op = "mixnet/letter.Split"
	var id ID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return id, nil, errs.E(op, errs.Internal, "", err)
	}
	whole, err := encode(Message{Content: content}, id, nil)
	if err != nil {
		return id, nil, errs.Wrap(op, err)
	}
	// One fragment is as long as it needs to be: what is not sealed need not look like the rest.
	size := min(o.Room-HeaderLen, len(whole))
	l, data, err := slice(whole, size, o.Coded)
	if err != nil {
		return id, nil, errs.Wrap(op, err)
	}
	out := make([][]byte, len(data))
	for i, d := range data {
		h := l.header(id, i)
		out[i] = append(h.append(make([]byte, 0, HeaderLen+len(d))), d...)
	}
	return id, out, nil
}

// ParseFragment reads a fragment of Split, with copies. errs.Invalid, errs.Unsupported.
func ParseFragment(b []byte) (*Fragment, error) {
	const op = "mixnet/letter.ParseFragment"
	if len(b) <= HeaderLen {
		return nil, errs.E(op, errs.Invalid, rejected, errForm)
	}
	f := &Fragment{Data: append([]byte(nil), b[HeaderLen:]...)}
	var err error
	f.Header, err = parseHeader(op, b[:HeaderLen], len(f.Data))
	return f, err
}
