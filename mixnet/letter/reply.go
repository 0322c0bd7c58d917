package letter

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/pem"
	"errors"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Hint names the key of a set of reply blocks to their maker, who derives the key again from
// it. To everybody else it is a random number.
type Hint [16]byte

// ReplyBlock is a way to send one packet to somebody whom one does not know, and the key to
// seal it with. All blocks of a set, which were given to one person, have the same key, so that a
// letter of several fragments can be sent with several of them.
type ReplyBlock struct {
	SURB *packet.SURB
	Hint Hint
	Key  *PublicKey
}

// RoomReply is the room for the body of a fragment that is sent with a reply block through the
// mix network: beside the block, a byte for the kind and the hint in front of the fragment.
const RoomReply = packet.MaxBodySURB - 1 - len(Hint{})

// ReplyKey derives the key of a set of reply blocks from the seed that the blocks were made
// with (packet.NewSURB) and the set's hint.
func ReplyKey(seed *packet.Seed, h Hint) (*PrivateKey, error) {
	const op = "mixnet/letter.ReplyKey"
	b, err := hkdf.Key(sha256.New, seed[:], h[:], labelReplyKey, PrivateKeyLen)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	defer clear(b)
	k, err := NewPrivateKey(b)
	return k, errs.Wrap(op, err)
}

// AppendAnswer appends the body of an answer: the hint, and a fragment sealed to the block's
// key with RoomReply.
func (b *ReplyBlock) AppendAnswer(dst, fragment []byte) []byte {
	return append(append(dst, b.Hint[:]...), fragment...)
}

// OpenAnswer opens the body of an answer, as Open does.
func OpenAnswer(seed *packet.Seed, body []byte) (*Fragment, error) {
	const op = "mixnet/letter.OpenAnswer"
	if len(body) < len(Hint{}) {
		return nil, errs.E(op, errs.Invalid, rejected, errForm)
	}
	k, err := ReplyKey(seed, Hint(body))
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	f, err := Open(k, body[len(Hint{}):])
	return f, errs.Wrap(op, err)
}

// The text form of reply blocks (as RFC 1421 has it): one after the other, each with its expiry for
// people to read.
const (
	blockType    = "POSTERN REPLY BLOCK"
	blockVersion = 1
	blockLen     = 1 + len(Hint{}) + PublicKeyLen + packet.SURBLen + checkLen
	expiresField = "Expires"
)

// Bounds of a text with reply blocks.
const (
	MaxBlocks     = 256
	MaxBlocksText = 4 << 20 // bytes
)

// MarshalText gives the armoured text of one block.
func (b *ReplyBlock) MarshalText() ([]byte, error) {
	raw := append(make([]byte, 0, blockLen), blockVersion)
	raw = append(append(raw, b.Hint[:]...), b.Key.Bytes()...)
	raw, err := b.SURB.AppendBinary(raw)
	if err != nil {
		return nil, errs.Wrap("mixnet/letter.ReplyBlock.MarshalText", err)
	}
	raw = append(raw, check(labelBlock, raw)...)
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: raw,
		Headers: map[string]string{expiresField: b.SURB.Expires().Format("2006-01-02T15:04:05Z")}}), nil
}

// ParseReplyBlocks reads all blocks in a text, with whatever stands around them. errs.NotFound
// if there is none; errs.Invalid for one that is damaged; errs.TooLarge beyond MaxBlocks or
// MaxBlocksText; all with a public text.
func ParseReplyBlocks(text []byte) ([]*ReplyBlock, error) {
	const op = "mixnet/letter.ParseReplyBlocks"
	if len(text) > MaxBlocksText {
		return nil, errs.E(op, errs.TooLarge, "the text with the reply blocks is too long", nil)
	}
	begun := bytes.Count(text, []byte("-----BEGIN "+blockType+"-----"))
	var out []*ReplyBlock
	for {
		var p *pem.Block
		if p, text = pem.Decode(text); p == nil {
			break
		}
		if p.Type != blockType {
			continue
		}
		if len(out) == MaxBlocks {
			return nil, errs.E(op, errs.TooLarge, "there are more than 256 reply blocks in the text", nil)
		}
		b, err := parseBlock(p.Bytes)
		if err != nil {
			return nil, errs.E(op, errs.Invalid, "a reply block is damaged: copy all of it", err)
		}
		out = append(out, b)
	}
	switch {
	case begun == 0:
		return nil, errs.E(op, errs.NotFound, "there is no reply block in the text", nil)
	case len(out) != begun:
		return nil, errs.E(op, errs.Invalid, "a reply block is damaged: copy all of it", nil)
	}
	return out, nil
}

func parseBlock(raw []byte) (*ReplyBlock, error) {
	if len(raw) != blockLen || raw[0] != blockVersion {
		return nil, errors.New("size or version")
	}
	if !bytes.Equal(raw[blockLen-checkLen:], check(labelBlock, raw[:blockLen-checkLen])) {
		return nil, errors.New("checksum")
	}
	b := &ReplyBlock{Hint: Hint(raw[1:])}
	raw = raw[1+len(Hint{}) : blockLen-checkLen]
	var err error
	if b.Key, err = ParsePublicKey(raw[:PublicKeyLen]); err != nil {
		return nil, err
	}
	b.SURB, err = packet.ParseSURB(raw[PublicKeyLen:])
	return b, err
}
