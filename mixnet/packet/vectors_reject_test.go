package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// head makes prefix and header of a packet at a layer that seals any routing and any
// header behind it, as no Build would.
func head(t *testing.T, key *PublicKey, layer int, routing []byte) []byte {
	t.Helper()
	enc, keys, err := key.encapsulate()
	must(t, err)
	prefix := make([]byte, PrefixLen)
	Prefix{Layer: layer, KeyID: key.ID()}.put(prefix)
	return sealHead(prefix, enc, keys, layer, routing)
}

// sealHead makes prefix and header from any prefix and any keys of the layer.
func sealHead(prefix, enc []byte, keys hopKeys, layer int, routing []byte) []byte {
	plain := append(bytes.Clone(routing), make([]byte, headerAt(layer+1))...)
	return keys.aead().Seal(slices.Concat(prefix, enc), zeroNonce[:], plain, prefix)
}

// goodRouting is a routing with every field set that its command uses.
func goodRouting(c Command) []byte {
	r := routing{command: c, payload: [keyLen]byte{5}}
	switch c {
	case Forward:
		r.delay, r.next, r.nextKey = time.Second, ID{1}, 7
	case Deliver:
		r.next = mailbox
	case Reply:
		r.next, r.mark = mailbox, Mark{2}
	case Ping:
		r.mark = Mark{3}
	}
	b := make([]byte, routingLen)
	r.put(b)
	return b
}

// flip gives a copy of b with one byte changed.
func flip(b []byte, at int, xor byte) []byte {
	b = bytes.Clone(b)
	b[at] ^= xor
	return b
}

// rejectedVectors makes rejected.json. s is a reply block, expired another one.
func rejectedVectors(t *testing.T, nodes [Layers]node, s, expired *SURB) []rejectedVector {
	return slices.Concat(rejectedPackets(t, nodes), faultyPackets(t, nodes[3].key), rejectedUnits(), rejectedContents(s, expired), rejectedSURBs(s),
		rejectedPublicKeys(nodes[0].key.Public()))
}

// rejectedPackets have one fault each.
func rejectedPackets(t *testing.T, nodes [Layers]node) (all []rejectedVector) {
	key := nodes[Last].key
	seed, err := key.Seed()
	must(t, err)
	packet := func(name, reason string, h []byte, length int) {
		all = append(all, rejectedVector{Name: name, Kind: "packet", Reason: reason, Head: h, Seed: seed, Length: &length})
	}
	good, size := head(t, key.Public(), Last, goodRouting(Deliver)), SizeAt(Last)
	packet("one byte short", "size", good, size-1)
	packet("one byte long", "size", good, size+1)
	packet("the size of another layer", "size", good, SizeAt(0))
	packet("shorter than a prefix", "size", good[:PrefixLen-1], PrefixLen-1)
	packet("empty", "size", nil, 0)
	for _, c := range []struct {
		name string
		at   int
		xor  byte
	}{{"version 0", 0, 1}, {"version 3", 0, 2}, {"a flag", 1, 1}, {"layer 5", 2, 1}, {"layer 132", 2, 0x80}, {"byte 3", 3, 1},
		{"byte 8", 8, 1}, {"byte 15", 15, 0x80}} {
		packet("prefix: "+c.name, "prefix", flip(good, c.at, c.xor), size)
	}
	packet("another key ID", "key", flip(good, 7, 1), size)
	packet("another layer", "header", append(flip(good, 2, 7), make([]byte, LayerLen)...), SizeAt(3))
	for _, c := range []struct {
		name string
		at   int
		xor  byte
	}{{"first byte of the ML-KEM ciphertext", PrefixLen, 1}, {"last byte of the ML-KEM ciphertext", PrefixLen + 1087, 0x80},
		{"first byte of the X25519 key", PrefixLen + 1088, 1}, {"top bit of the X25519 key", PrefixLen + 1119, 0x80},
		{"first byte of the routing", PrefixLen + encapLen, 1}, {"last byte of the tag", PrefixLen + LayerLen - 1, 1}} {
		packet("header: "+c.name, "header", flip(good, c.at, c.xor), size)
	}
	for _, p := range lowOrderPoints {
		enc, keys := encapsulateZeros(t, key.Public(), unhex(t, p.point))
		packet(lowOrderName+p.name, "header", sealHead(good[:PrefixLen], enc, keys, Last, goodRouting(Deliver)), size)
	}
	other := head(t, nodes[0].key.Public(), Last, goodRouting(Deliver))
	binary.BigEndian.PutUint32(other[4:], key.ID())
	packet("header: sealed to another key", "header", other, size)

	routed := func(name string, layer int, r []byte) {
		packet("routing: "+name, "routing", head(t, key.Public(), layer, r), SizeAt(layer))
	}
	for _, c := range []struct {
		name  string
		layer int
		c     Command
	}{{"command 0", Last, 0}, {"command 7", Last, 7}, {"FWD at the last layer", Last, Forward}, {"DELIVER before the last layer", 3, Deliver},
		{"SURB_REPLY before the last layer", 3, Reply}, {"EXIT before the last layer", 3, Exit}} {
		routed(c.name, c.layer, goodRouting(c.c))
	}
	for c := Forward; c <= Exit; c++ {
		layer := Last
		if c == Forward {
			layer = 3
		}
		for _, f := range []struct {
			name string
			at   int
			used bool
		}{{"byte 1", 1, false}, {"byte 3", 3, false}, {"byte 44", 44, false}, {"byte 47", 47, false}, {"a delay", 7, c == Forward},
			{"next", 8, c <= Reply}, {"next, at its end", 39, c <= Reply}, {"a key ID", 43, c == Forward},
			{"a mark", 48, c == Reply || c == Ping}, {"a mark, at its end", 63, c == Reply || c == Ping}} {
			if !f.used {
				routed(c.String()+" with "+f.name, layer, flip(goodRouting(c), f.at, 1))
			}
		}
	}
	return all
}
