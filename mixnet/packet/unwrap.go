package packet

import (
	"crypto/aes"
	"crypto/cipher"
	"time"

	"postern.email/kit/errs"
)

// Result is what a hop learns from a packet. Which fields are set depends on Command.
type Result struct {
	Layer   int
	Command Command
	Tag     Tag // always: to be looked up and kept before anything else is done

	Delay   time.Duration // Forward: how long the hop keeps it, in whole milliseconds
	Next    ID            // Forward: the node that Packet is for
	Packet  []byte        // Forward: the packet at the next layer
	Mailbox ID            // Deliver, Reply
	Mark    Mark          // Reply, Ping
	Payload []byte        // Deliver, Exit: see OpenContent; Reply: opaque, see OpenReply
}

// Unwrap takes one layer off a packet, which ParsePrefix has let pass, and gives what
// the hop shall do. It works in the buffer of packet: Result.Packet and Result.Payload
// lie within it, and after an error it holds nothing of use.
//
// It does not tell whether the payload is whole: the hops between cannot know, and the
// last one must treat whole and broken ones alike (docs/packet.md §7).
//
// The errors are errs.Invalid (size, prefix or routing is not canonical), errs.NotFound
// (sealed to another key) and errs.Auth (the header does not open). To the outside they
// are all the same.
func Unwrap(k *PrivateKey, packet []byte) (Result, error) {
	return unwrap(k, packet, Adiantum)
}

func unwrap(k *PrivateKey, packet []byte, wide func(*[keyLen]byte) WideBlock) (Result, error) {
	const op = "packet.Unwrap"
	p, err := ParsePrefix(packet)
	if err != nil {
		return Result{}, errs.Wrap(op, err)
	}
	if p.KeyID != k.ID() {
		return Result{}, reject(op, errs.NotFound, errKeyID)
	}
	header, payload := packet[PrefixLen:len(packet)-PayloadLen], packet[len(packet)-PayloadLen:]
	keys, err := k.decapsulate(header[:encapLen])
	if err != nil {
		return Result{}, reject(op, errs.Auth, errHeader)
	}
	plain, err := keys.open(packet[:PrefixLen], header[encapLen:])
	if err != nil {
		return Result{}, reject(op, errs.Auth, errHeader)
	}
	var r routing
	if err := r.parse(plain, p.Layer); err != nil {
		return Result{}, reject(op, errs.Invalid, err)
	}
	wide(&r.payload).Decrypt(payload)
	res := Result{Layer: p.Layer, Command: r.command, Tag: keys.tag, Mark: r.mark}
	switch r.command {
	case Forward:
		// The header that is left moves over the tag that was behind it, up to the payload.
		start := LayerLen
		copy(packet[start+PrefixLen:], plain[routingLen:])
		res.Packet = packet[start:]
		Prefix{Layer: p.Layer + 1, KeyID: r.nextKey}.put(res.Packet)
		res.Delay, res.Next = r.delay, r.next
	case Deliver, Reply:
		res.Mailbox, res.Payload = r.next, payload
	case Exit:
		res.Payload = payload
	}
	return res, nil
}

// aead is the cipher of the header. Its key opens one packet, so the nonce is zero.
func (k *hopKeys) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.header[:])
	if err != nil {
		panic(err) // 32 bytes are a key of AES
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block that GCM needs
	}
	return aead
}

var zeroNonce [12]byte

// open opens sealed in place; seal is its reverse.
func (k *hopKeys) open(prefix, sealed []byte) ([]byte, error) {
	return k.aead().Open(sealed[:0], zeroNonce[:], sealed, prefix)
}

func (k *hopKeys) seal(prefix, plain []byte) { k.aead().Seal(plain[:0], zeroNonce[:], plain, prefix) }
