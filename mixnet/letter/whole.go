package letter

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// Message is what is to be sent.
type Message struct {
	Content []byte
	Date    time.Time // whole seconds; the zero time: none is told

	// Signer signs the letter within its seal; nil: nobody does. Sender is what it says of
	// the sender, up to MaxSender bytes, and is signed too; it needs a Signer.
	Signer directory.Signer
	Sender string
}

// Letter is what has come.
type Letter struct {
	ID      ID
	Content []byte
	Date    time.Time            // as the sender says; the zero time: it says none
	From    *directory.PublicKey // whose valid signature it carries; nil: it is not signed
	Sender  string

	to [sha256.Size]byte // name of the key that it was sealed to; zeros: it was not
}

// Classical reports whether the letter was sealed to the X25519 half of k alone: it does not
// withstand quantum computers.
func (l *Letter) Classical(k *PrivateKey) bool { return l.to == k.halfPub.name }

// MaxSender bounds what a letter says of its sender, in bytes.
const MaxSender = 320

// Inflation is how many times longer than what was sent a content may be.
const Inflation = 20

const (
	wholeVersion = 1
	headLen      = 32

	flagDeflated = 1
	flagSigned   = 2

	edKeyLen, mlKeyLen, edSigLen, mlSigLen = 32, 1952, 64, 3309
	proofLen                               = edKeyLen + mlKeyLen + edSigLen + mlSigLen
	maxProof                               = MaxSender + proofLen
)

// encode makes the whole that is cut into fragments (docs/letter.md §2). to is whom the
// signature is for; nil: nobody in particular, and then none is possible.
func encode(m Message, id ID, to *PublicKey) ([]byte, error) {
	const op = "mixnet/letter.encode"
	switch {
	case len(m.Content) > MaxContent:
		return nil, errs.E(op, errs.TooLarge, "the message is too large for the mix network", nil)
	case len(m.Sender) > MaxSender || m.Sender != "" && m.Signer == nil, m.Signer != nil && to == nil:
		return nil, errs.E(op, errs.Invalid, "", errors.New("a sender needs a signature"))
	case !m.Date.IsZero() && m.Date.Unix() <= 0:
		return nil, errs.E(op, errs.Invalid, "", errors.New("date before 1970"))
	}
	var head [headLen]byte
	head[0] = wholeVersion
	binary.BigEndian.PutUint64(head[8:], uint64(len(m.Content)))
	var date uint64
	if !m.Date.IsZero() {
		date = uint64(m.Date.Unix())
	}
	binary.BigEndian.PutUint64(head[24:], date)
	data := m.Content
	if d := deflate(m.Content); d != nil {
		head[1] |= flagDeflated
		data = d
	}
	binary.BigEndian.PutUint64(head[16:], uint64(len(data)))
	var proof []byte
	if m.Signer != nil {
		head[1] |= flagSigned
		binary.BigEndian.PutUint16(head[2:], uint16(len(m.Sender)))
		pub := m.Signer.Public()
		sig, err := m.Signer.Sign(signed(id, to.name, date, m.Sender, m.Content))
		if err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		proof = append(proof, m.Sender...)
		proof = append(append(proof, pub.Ed25519()...), pub.MLDSA()...)
		proof = append(append(proof, sig.Ed25519[:]...), sig.MLDSA[:]...)
	}
	out := make([]byte, 0, headLen+len(proof)+len(data))
	return append(append(append(out, head[:]...), proof...), data...), nil
}

// signed is what a signature covers: which letter, to whom, when, from whom, and the content.
func signed(id ID, to [sha256.Size]byte, date uint64, sender string, content []byte) []byte {
	b := append([]byte(labelSignature), id[:]...)
	b = append(b, to[:]...)
	b = binary.BigEndian.AppendUint64(b, date)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sender)))
	b = append(b, sender...)
	sum := sha256.Sum256(content)
	return append(b, sum[:]...)
}

// Why a whole is not taken; private causes.
var (
	errWhole     = errors.New("form of a letter")
	errInflate   = errors.New("compressed data is malformed, or inflates too much")
	errSignature = errors.New("signature is wrong")
)

// decode reads a whole. to is the key that its fragments were sealed to; nil: they were not.
// errs.Invalid, errs.Unsupported, errs.TooLarge; errs.Auth for a wrong signature.
func decode(b []byte, id ID, to *[sha256.Size]byte) (*Letter, error) {
	const op = "mixnet/letter.decode"
	bad := func(kind errs.Kind, cause error) (*Letter, error) { return nil, errs.E(op, kind, rejected, cause) }
	if len(b) < headLen {
		return bad(errs.Invalid, errWhole)
	}
	head, rest := b[:headLen], b[headLen:]
	if head[0] != wholeVersion {
		return bad(errs.Unsupported, errWhole)
	}
	flags, sender := head[1], int(binary.BigEndian.Uint16(head[2:]))
	length, size, date := binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint64(head[16:]), binary.BigEndian.Uint64(head[24:])
	proof := 0
	if flags&flagSigned != 0 {
		proof = sender + proofLen
	}
	switch {
	case flags&^(flagDeflated|flagSigned) != 0, binary.BigEndian.Uint32(head[4:]) != 0, date > 1<<40,
		flags&flagSigned == 0 && sender != 0, flags&flagSigned != 0 && to == nil, sender > MaxSender,
		proof > len(rest), size != uint64(len(rest)-proof):
		return bad(errs.Invalid, errWhole)
	case length > MaxContent:
		return bad(errs.TooLarge, errWhole)
	}
	l := &Letter{ID: id, Content: rest[proof:]}
	if to != nil {
		l.to = *to
	}
	if date != 0 {
		l.Date = time.Unix(int64(date), 0).UTC()
	}
	if flags&flagDeflated != 0 {
		var err error
		if l.Content, err = inflate(l.Content, int(length)); err != nil {
			return bad(errs.Invalid, err)
		}
	} else if length != size {
		return bad(errs.Invalid, errWhole)
	}
	if proof > 0 {
		l.Sender = string(rest[:sender])
		p := rest[sender:proof]
		var err error
		if l.From, err = directory.NewPublicKey(p[:edKeyLen], p[edKeyLen:edKeyLen+mlKeyLen]); err != nil {
			return bad(errs.Auth, err)
		}
		sig := directory.Signature{Signer: l.From.ID()}
		copy(sig.Ed25519[:], p[edKeyLen+mlKeyLen:])
		copy(sig.MLDSA[:], p[edKeyLen+mlKeyLen+edSigLen:])
		if !l.From.Verify(signed(id, *to, date, l.Sender, l.Content), &sig) {
			return bad(errs.Auth, errSignature)
		}
	}
	return l, nil
}

// deflate compresses (RFC 1951). nil where that gains nothing, or so much that nobody would
// take it.
func deflate(b []byte) []byte {
	var out bytes.Buffer
	if err := deflateTo(&out, b); err != nil {
		return nil
	}
	if out.Len() >= len(b) || len(b) > Inflation*out.Len() {
		return nil
	}
	return out.Bytes()
}

func deflateTo(out io.Writer, b []byte) error {
	w, err := flate.NewWriter(out, flate.DefaultCompression)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

// inflate gives exactly length bytes, from all of b, and never more memory than that.
func inflate(b []byte, length int) ([]byte, error) {
	if length > Inflation*len(b) {
		return nil, errInflate
	}
	src := bytes.NewReader(b)
	r := flate.NewReader(src) // reads byte by byte, as src is an io.ByteReader: nothing beyond its end
	out := make([]byte, length)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, errInflate
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF || src.Len() != 0 {
		return nil, errInflate
	}
	return out, nil
}
