package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// faultsInOrder are the reasons to reject a packet in the order of docs/packet.md §4.5.
var faultsInOrder = []string{"prefix", "size", "layer", "key", "header", "replay", "routing"}

// faultyPackets have one or two faults, and nothing else is wrong with them: what is sealed
// is sealed to the prefix as it stands, so a reader that leaves a check out or makes it too
// late gives another reason, or none.
func faultyPackets(t *testing.T, key *PrivateKey) (all []rejectedVector) {
	t.Helper()
	const layer = 3
	seed, err := key.Seed()
	must(t, err)
	for i, first := range faultsInOrder {
		for _, second := range faultsInOrder[i:] {
			if first == "replay" && second == "routing" {
				continue // these may change places
			}
			has := func(fault string) bool { return fault == first || fault == second }
			v := rejectedVector{Name: "faults: " + first, Kind: "packet", Reason: first, Seed: seed}
			if first != second {
				v.Name += " and " + second
			}
			length := SizeAt(layer)
			v.Length = &length
			prefix, routing := make([]byte, PrefixLen), goodRouting(Forward)
			Prefix{Layer: layer, KeyID: key.ID()}.put(prefix)
			if has("prefix") {
				prefix[1] = 0x80
			}
			if has("size") {
				length--
			}
			if has("layer") {
				v.Layers = []int{0, 4}
			}
			if has("key") {
				prefix[4] ^= 1
			}
			if has("routing") {
				routing[44] = 1
			}
			enc, keys, err := key.Public().encapsulate()
			must(t, err)
			v.Head = sealHead(prefix, enc, keys, layer, routing)
			if has("header") {
				v.Head[len(v.Head)-1] ^= 1
			}
			if has("replay") {
				v.Seen = []hexBytes{keys.tag[:]}
			}
			all = append(all, v)
		}
	}
	// At every layer the prefix comes before the size, and both before a header of zeros.
	for layer := range Layers {
		for _, f := range []struct {
			name, reason string
			flag         byte
			length       int
		}{{"prefix and one byte short", "prefix", 1, SizeAt(layer) - 1}, {"prefix and one byte long", "prefix", 1, SizeAt(layer) + 1},
			{"prefix and header", "prefix", 1, SizeAt(layer)}, {"one byte short and header", "size", 0, SizeAt(layer) - 1},
			{"one byte long and header", "size", 0, SizeAt(layer) + 1}} {
			b := make([]byte, PrefixLen)
			Prefix{Layer: layer, KeyID: key.ID()}.put(b)
			b[1] = f.flag
			all = append(all, rejectedVector{Name: fmt.Sprintf("faults: %s, layer %d", f.name, layer), Kind: "packet", Reason: f.reason,
				Head: b, Seed: seed, Length: &f.length})
		}
	}
	// The size that a layer would have if it existed, and less than a prefix of something else.
	for _, f := range []struct {
		name, reason string
		head         []byte
		length       int
	}{{"layer 5 and the size it would have", "prefix", []byte{Version, 0, Layers, 0}, Size - Layers*LayerLen},
		{"version 3, shorter than a prefix", "size", []byte{3}, PrefixLen - 1}} {
		all = append(all, rejectedVector{Name: "faults: " + f.name, Kind: "packet", Reason: f.reason, Head: f.head, Seed: seed, Length: &f.length})
	}
	return all
}

// rejectedUnits are what no link gives on (docs/packet.md §8).
func rejectedUnits() (all []rejectedVector) {
	unit := func(name, reason string, length int, head ...byte) {
		all = append(all, rejectedVector{Name: "unit: " + name, Kind: "unit", Reason: reason, Head: head, Length: &length})
	}
	unit("empty", "size", 0)
	unit("one byte short", "size", Size-1, Version, 0, 3)
	unit("one byte long", "size", Size+1, Version, 0, 3)
	unit("as long as its packet", "size", SizeAt(3), Version, 0, 3)
	unit("one byte short and prefix", "size", Size-1, Version, 1, 3)
	unit("version 0", "prefix", Size)
	unit("a flag", "prefix", Size, Version, 1, 3)
	unit("layer 5", "prefix", Size, Version, 0, Layers)
	unit("byte 15", "prefix", Size, Version, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	return all
}

// rejectedContents have one fault of docs/packet.md §5, then two.
func rejectedContents(s, expired *SURB) (all []rejectedVector) {
	content := func(name, reason string, b []byte) {
		all = append(all, rejectedVector{Name: name, Kind: "content", Reason: reason, Head: b})
	}
	plain := func(kind, flags uint8, length int, rest ...byte) []byte {
		b := make([]byte, contentHeadLen)
		b[zeroLen], b[zeroLen+1] = kind, flags
		binary.BigEndian.PutUint16(b[zeroLen+2:], uint16(length))
		return append(b, rest...)
	}
	with := func(s *SURB, rest ...byte) []byte { return append(bytes.Clone(s.raw[:]), rest...) }
	content("first byte is not zero", "payload", flip(plain(0, 0, 0), 0, 1))
	content("byte 31 is not zero", "payload", flip(plain(0, 0, 0), 31, 0x80))
	content("unknown flag", "content", plain(0, 2, 0))
	content("unknown flag beside a known one", "content", plain(0, 0x81, 0, with(s)...))
	content("too long", "content", plain(1, 0, MaxBody+1))
	content("too long behind a reply block", "content", plain(1, 1, MaxBodySURB+1, with(s)...))
	content("padding is not zero", "content", plain(1, 0, 2, 'a', 'b', 'c'))
	content("last byte of the padding", "content", append(plain(1, 0, 2), append(make([]byte, MaxBody-1), 1)...))
	content("a reply block of zeros", "surb", plain(0, 1, 0))
	content("kind 0 with a body", "content", plain(0, 0, 2, 'a', 'b'))
	content("kind 0 with a body of zeros", "content", plain(0, 0, 1))
	content("kind 0 with the longest body", "content", plain(0, 0, MaxBody))
	content("kind 0 with a body behind a reply block", "content", plain(0, 1, 2, with(s, 'a', 'b')...))
	content("kind 0 with padding that is not zero", "content", plain(0, 0, 0, 'a'))

	content("faults: payload and flags", "payload", flip(plain(1, 2, 0), 0, 1))
	content("faults: payload and reply block", "payload", flip(plain(1, 1, 0), 31, 1))
	content("faults: payload and length", "payload", flip(plain(1, 0, MaxBody+1), 31, 1))
	content("faults: payload and kind 0 with a body", "payload", flip(plain(0, 0, 1), 31, 1))
	content("faults: payload and padding", "payload", flip(plain(1, 0, 0, 1), 31, 1))
	content("faults: flags and reply block", "content", plain(1, 3, 0))
	content("faults: reply block and length", "surb", plain(1, 1, MaxBodySURB+1))
	content("faults: reply block and kind 0 with a body", "surb", plain(0, 1, 1))
	content("faults: reply block and padding", "surb", append(plain(1, 1, 0), append(make([]byte, SURBLen), 1)...))
	content("a reply block that expired long ago, and padding", "content", plain(1, 1, 0, with(expired, 1)...))
	return all
}

// rejectedSURBs cannot be read, and then can be read and not be used.
func rejectedSURBs(s *SURB) (all []rejectedVector) {
	surb := func(name string, b []byte) {
		all = append(all, rejectedVector{Name: "reply block: " + name, Kind: "surb", Reason: "surb", Head: b})
	}
	raw := s.raw[:]
	surb("one byte short", raw[:SURBLen-1])
	surb("one byte long", append(bytes.Clone(raw), 0))
	surb("empty", nil)
	surb("version", flip(raw, 0, 2))
	surb("layer 0", flip(raw, 2, 1))
	surb("layer 3", flip(raw, 2, 2))
	surb("byte 12 of the prefix", flip(raw, 12, 1))
	surb("last byte", flip(raw, SURBLen-1, 1))

	hour := s.Expires().Unix() / 3600
	for _, e := range []struct {
		name string
		hour int64
	}{{"the hour it expires", hour}, {"a year later", hour + 24*365}} {
		all = append(all, rejectedVector{Name: "reply block: " + e.name, Kind: "expired", Reason: "expired", Head: bytes.Clone(raw), NowHours: e.hour})
	}
	return all
}

// rejectedPublicKeys have another size, or a number of 12 bits that is not below q
// (FIPS 203 §7.2).
func rejectedPublicKeys(good *PublicKey) (all []rejectedVector) {
	public := func(name string, b []byte) {
		all = append(all, rejectedVector{Name: "public key: " + name, Kind: "public_key", Reason: "public key", Head: b})
	}
	b := good.Bytes()
	public("one byte short", b[:PublicKeyLen-1])
	public("one byte long", append(bytes.Clone(b), 0))
	public("empty", nil)
	public("the first number is q", withNumber(b, 0, fieldQ))
	public("the second number is q", withNumber(b, 1, fieldQ))
	public("the last number is 4095", withNumber(b, fieldN-1, 4095))
	return all
}

const (
	fieldQ = 3329    // the field of ML-KEM
	fieldN = 3 * 256 // numbers in a public key of ML-KEM-768
)

// withNumber gives a copy of a public key in which number i of its ML-KEM half is n.
func withNumber(key []byte, i, n int) []byte {
	b := bytes.Clone(key)
	at := b[i/2*3:] // two numbers in three bytes
	if i%2 == 0 {
		at[0], at[1] = byte(n), at[1]&0xF0|byte(n>>8)
	} else {
		at[1], at[2] = at[1]&0x0F|byte(n<<4), byte(n>>4)
	}
	return b
}
