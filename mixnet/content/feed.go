package content

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// ServiceReply takes reply blocks for a reply address, from Feed, and tells how many there are
// (docs/content.md §10).
const ServiceReply uint8 = 2

// Sizes of a Feed.
const (
	MaxFeed      = 4    // reply blocks in one request
	ReplyNameLen = 26   // characters of a reply address's name
	FeedKeyLen   = 1216 // bytes of the key to which letters for the blocks are sealed (mixnet/letter.PublicKeyLen)

	feedHead = ed25519.PublicKeySize + 8 + 16 + FeedKeyLen + 8
	feedMax  = feedHead + MaxFeed*packet.SURBLen + ed25519.SignatureSize
	stockLen = 2 + 8
)

// MaxFeed blocks must have room in a query.
var _ [MaxRequest - feedMax]struct{}

const (
	labelReplyName = "postern/reply address\n"
	labelFeed      = "postern/reply address: feed\n"
)

// Feed is what the maker of a reply address gives to the relay of that address: blocks of one set,
// and the key that letters for them are sealed to. Without blocks it is the question how many
// there are.
type Feed struct {
	Owner  ed25519.PublicKey // the address is named by it
	Serial uint64            // above that of every feed before: one that comes again adds nothing
	Hint   [16]byte          // of the set (mixnet/letter.Hint)
	Key    [FeedKeyLen]byte  // of the set
	Blocks []*packet.SURB    // up to MaxFeed
}

// ReplyName gives the name that belongs to an owner's key: ReplyNameLen characters of base32 (RFC
// 4648 §6) in lower case. Only who has the private half can feed what has it.
func ReplyName(owner ed25519.PublicKey) string {
	h := sha256.New()
	h.Write([]byte(labelReplyName))
	h.Write(owner)
	return strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil))[:ReplyNameLen])
}

// Sign makes the request of a Feed for one relay. key is the private half of Owner. errs.Invalid
// for a key that is not, for too many blocks, or a serial of zero.
func (f *Feed) Sign(relay packet.ID, key ed25519.PrivateKey) ([]byte, error) {
	const op = "mixnet/content.Feed.Sign"
	if len(key) != ed25519.PrivateKeySize || len(f.Owner) != ed25519.PublicKeySize || !f.Owner.Equal(key.Public()) || f.Serial == 0 || len(f.Blocks) > MaxFeed {
		return nil, errs.E(op, errs.Invalid, "", nil)
	}
	b := make([]byte, 0, feedMax)
	b = append(b, f.Owner...)
	b = binary.BigEndian.AppendUint64(b, f.Serial)
	b = append(append(b, f.Hint[:]...), f.Key[:]...)
	b = append(b, byte(len(f.Blocks)), 0, 0, 0, 0, 0, 0, 0)
	for _, s := range f.Blocks {
		var err error
		if b, err = s.AppendBinary(b); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	return append(b, ed25519.Sign(key, feedText(relay, b))...), nil
}

// ParseFeed reads a request to the relay with this ID. errs.Invalid for any other form, or a block
// that is none; errs.Auth when its signature is not that of its owner for this relay.
func ParseFeed(relay packet.ID, request []byte) (*Feed, error) {
	const op = "mixnet/content.ParseFeed"
	bad := errs.E(op, errs.Invalid, rejected, nil)
	if len(request) < feedHead+ed25519.SignatureSize || len(request) > feedMax {
		return nil, bad
	}
	text, sig := request[:len(request)-ed25519.SignatureSize], request[len(request)-ed25519.SignatureSize:]
	f := &Feed{Owner: append(ed25519.PublicKey(nil), text[:ed25519.PublicKeySize]...)}
	rest := text[ed25519.PublicKeySize:]
	f.Serial = binary.BigEndian.Uint64(rest)
	f.Hint = [16]byte(rest[8:])
	f.Key = [FeedKeyLen]byte(rest[24:])
	rest = rest[24+FeedKeyLen:]
	n := int(rest[0])
	if f.Serial == 0 || n > MaxFeed || [7]byte(rest[1:8]) != ([7]byte{}) || len(rest) != 8+n*packet.SURBLen {
		return nil, bad
	}
	if !ed25519.Verify(f.Owner, feedText(relay, text), sig) {
		return nil, errs.E(op, errs.Auth, rejected, nil)
	}
	for rest = rest[8:]; len(rest) > 0; rest = rest[packet.SURBLen:] {
		s, err := packet.ParseSURB(rest[:packet.SURBLen])
		if err != nil {
			return nil, errs.E(op, errs.Invalid, rejected, err)
		}
		f.Blocks = append(f.Blocks, s)
	}
	return f, nil
}

// feedText is what the owner signs: for one relay, so that no other can be fed with it.
func feedText(relay packet.ID, request []byte) []byte {
	return append(append(append(make([]byte, 0, len(labelFeed)+len(relay)+len(request)), labelFeed...), relay[:]...), request...)
}

// AppendStock appends the answer of ServiceReply: how many blocks the relay has that can be used,
// and until when the last of them can be, in seconds since 1970; 0 without any.
func AppendStock(dst []byte, blocks uint16, until uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(dst, blocks), until)
}

// ParseStock reads what AppendStock writes. errs.Invalid.
func ParseStock(answer []byte) (blocks uint16, until uint64, err error) {
	if len(answer) != stockLen {
		return 0, 0, errs.E("mixnet/content.ParseStock", errs.Invalid, rejected, nil)
	}
	if blocks, until = binary.BigEndian.Uint16(answer), binary.BigEndian.Uint64(answer[2:]); (blocks == 0) != (until == 0) || until > 1<<40 {
		return 0, 0, errs.E("mixnet/content.ParseStock", errs.Invalid, rejected, nil)
	}
	return blocks, until, nil
}
