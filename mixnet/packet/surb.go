package packet

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
)

const surbTailLen = len(ID{}) + keyLen + 8 // first node, body key, expiry u32, zero u32

// SURB is a single-use reply block: the header of a packet that leads back to its maker,
// and what is needed to send one answer behind it. Who holds it learns the first node
// of the way and an hour, nothing else.
type SURB struct {
	raw  [SURBLen]byte
	used atomic.Bool
}

// Seed is the secret of one who makes reply blocks: with it and the mark that comes
// back, an answer can be opened, and nothing needs to be kept for each block. Whoever
// has it can open the answers to all blocks made with it: change it and forget the old
// one when the last of its blocks has expired. It shows nothing of itself when printed.
type Seed [32]byte

// Format shows nothing, whatever the verb.
func (Seed) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, secret.Text) }

// LogValue shows nothing.
func (Seed) LogValue() slog.Value { return slog.StringValue(secret.Text) }

// MarshalText shows nothing, also to JSON.
func (Seed) MarshalText() ([]byte, error) { return []byte(secret.Text), nil }

// derive gives a key of the block with a mark (docs/packet.md §6.1).
func (s *Seed) derive(mark Mark, label string) (key [keyLen]byte, err error) {
	b, err := hkdf.Key(sha256.New, s[:], mark[:], label, keyLen)
	if err != nil {
		return key, err
	}
	copy(key[:], b)
	clear(b)
	return key, nil
}

// layerKeys gives the payload keys of layers replyFirst to Last.
func (s *Seed) layerKeys(mark Mark) ([][keyLen]byte, error) {
	keys := make([][keyLen]byte, replyLayers)
	for i := range keys {
		var err error
		if keys[i], err = s.derive(mark, labelReplyLayer+string(rune('0'+replyFirst+i))); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// NewSURB makes a reply block. hops are one each for the layers 1 to 4; the last is the
// relay of the mailbox that the answer goes to. The block can be used until expires, cut to
// the hour: it must not be later than the end of any of the hops' keys. random gives the
// mark, which comes back with the answer and says with which block it was sent.
func NewSURB(hops []Hop, mailbox ID, seed *Seed, expires time.Time, random io.Reader) (*SURB, Mark, error) {
	const op = "packet.NewSURB"
	var mark Mark
	hour := expires.Unix() / 3600
	if len(hops) != replyLayers || hour < 0 || hour > 1<<32-1 {
		return nil, mark, badRoute(op)
	}
	if _, err := io.ReadFull(random, mark[:]); err != nil {
		return nil, mark, errs.E(op, errs.Internal, "", err)
	}
	r, last := Route{First: replyFirst, Hops: hops}, routing{command: Reply, next: mailbox, mark: mark}
	if err := r.check(last); err != nil {
		return nil, mark, errs.Wrap(op, err)
	}
	keys, err := seed.layerKeys(mark)
	if err != nil {
		return nil, mark, errs.E(op, errs.Internal, "", err)
	}
	defer clear(keys)
	body, err := seed.derive(mark, labelReplyBody)
	if err != nil {
		return nil, mark, errs.E(op, errs.Internal, "", err)
	}
	s := new(SURB)
	if err := r.wrap(s.head(), last, keys, random); err != nil {
		return nil, mark, errs.Wrap(op, err)
	}
	tail := s.tail()
	copy(tail, hops[0].Node[:])
	copy(tail[32:], body[:])
	binary.BigEndian.PutUint32(tail[64:], uint32(hour))
	return s, mark, nil
}

func (s *SURB) head() []byte { return s.raw[:SURBLen-surbTailLen] }
func (s *SURB) tail() []byte { return s.raw[SURBLen-surbTailLen:] }

// ParseSURB reads a reply block of SURBLen bytes, which it copies. What is not canonical
// is errs.Invalid. That its header opens can be known by its hops only.
func ParseSURB(b []byte) (*SURB, error) {
	const op = "packet.ParseSURB"
	if len(b) != SURBLen {
		return nil, reject(op, errs.Invalid, errSize)
	}
	s := new(SURB)
	copy(s.raw[:], b)
	p, err := parsePrefix(s.raw[:])
	if err != nil || p.Layer != replyFirst || !allZero(s.tail()[68:]) {
		return nil, reject(op, errs.Invalid, errSURB)
	}
	return s, nil
}

// AppendBinary appends the SURBLen bytes that ParseSURB reads.
func (s *SURB) AppendBinary(b []byte) ([]byte, error) { return append(b, s.raw[:]...), nil }

// First is the node that the answer is to be given to, which is in layer 1.
func (s *SURB) First() ID { return ID(s.tail()) }

// Expires is when the block cannot be used any more.
func (s *SURB) Expires() time.Time {
	return time.Unix(int64(binary.BigEndian.Uint32(s.tail()[64:]))*3600, 0).UTC()
}

// Name names the block to those who hold it, for lists of blocks that were used. It is
// not known to the hops.
func (s *SURB) Name() [16]byte {
	h := sha256.New()
	h.Write([]byte(labelSURBName))
	h.Write(s.raw[:])
	return [16]byte(h.Sum(nil))
}

// Format shows nothing, whatever the verb: a block is a way to send its maker one answer.
func (*SURB) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, secret.Text) }

// LogValue shows nothing.
func (*SURB) LogValue() slog.Value { return slog.StringValue(secret.Text) }

// Use makes the packet of the one answer, for the node First, and appends it to dst.
// errs.Denied from Expires on, and the second time: a hop would drop the packet as a
// replay. A body that is too large is errs.TooLarge, one without a kind errs.Invalid;
// both leave the block unused. Copies of a block do not know of each other; who keeps
// blocks on disk notes the Name first.
func (s *SURB) Use(dst []byte, c Content, now time.Time) ([]byte, error) {
	return s.use(dst, c, now, Adiantum)
}

func (s *SURB) use(dst []byte, c Content, now time.Time, wide func(*[keyLen]byte) WideBlock) ([]byte, error) {
	const op = "packet.SURB.Use"
	if !now.Before(s.Expires()) {
		return dst, errs.E(op, errs.Denied, "the reply block has expired", nil)
	}
	out, p := extend(dst, SizeAt(replyFirst))
	payload := p[copy(p, s.head()):]
	if err := c.put(payload); err != nil {
		return dst, errs.Wrap(op, err)
	}
	if s.used.Swap(true) {
		return dst, errs.E(op, errs.Denied, "the reply block was used before", nil)
	}
	body := [keyLen]byte(s.tail()[32:64])
	wide(&body).Encrypt(payload)
	return out, nil
}

// OpenReply opens, in place, the payload that came with a mark to the maker of a reply
// block (Result.Payload and Result.Mark of a Reply). An answer that was changed on the
// way, or belongs to another seed or mark, is errs.Auth; see OpenContent. It can be
// called twice; a mark that was answered before is for the caller to refuse.
func OpenReply(seed *Seed, mark Mark, payload []byte) (Content, error) {
	return openReply(seed, mark, payload, Adiantum)
}

func openReply(seed *Seed, mark Mark, payload []byte, wide func(*[keyLen]byte) WideBlock) (Content, error) {
	const op = "packet.OpenReply"
	if len(payload) != PayloadLen {
		return Content{}, reject(op, errs.Invalid, errSize)
	}
	keys, err := seed.layerKeys(mark)
	if err != nil {
		return Content{}, errs.E(op, errs.Internal, "", err)
	}
	defer clear(keys)
	body, err := seed.derive(mark, labelReplyBody)
	if err != nil {
		return Content{}, errs.E(op, errs.Internal, "", err)
	}
	// Each hop has taken off a layer that was never put on.
	for i := range keys {
		wide(&keys[len(keys)-1-i]).Encrypt(payload)
	}
	wide(&body).Decrypt(payload)
	return openContent(op, payload)
}
