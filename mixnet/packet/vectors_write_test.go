package packet

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/packet anew: only for a new format")

// writeVectors makes testdata/packet. Encapsulating draws random numbers, so every run
// gives other files.
func writeVectors(t *testing.T) {
	t.Helper()
	nodes, hops := path(t)
	seed := Seed(bytes.Repeat([]byte{0x5E}, len(Seed{})))
	block := func() (*SURB, Mark) {
		s, mark, err := NewSURB(hops[1:], mailbox, &seed, someDay.Add(48*time.Hour), rand.Reader)
		must(t, err)
		return s, mark
	}
	chain := func(packet []byte, whole bool) (v packetVector) {
		v.Packet = bytes.Clone(packet)
		for {
			prefix, err := ParsePrefix(packet)
			must(t, err)
			h := inspect(t, nodes[prefix.Layer].key, packet)
			r, err := Unwrap(nodes[prefix.Layer].key, packet)
			must(t, err)
			if r.Packet == nil {
				v.Hops, v.PayloadSHA256 = append(v.Hops, h), sum(packet[len(packet)-PayloadLen:])
				return v
			}
			h.NextPacketSHA256 = sum(r.Packet)
			if whole {
				h.NextPacket = bytes.Clone(r.Packet)
			}
			v.Hops, packet = append(v.Hops, h), r.Packet
		}
	}
	build := func(r Route, d Dest, c Content) []byte {
		p, err := Build(nil, r, d, c, rand.Reader)
		must(t, err)
		return p
	}
	whole := Route{Hops: hops}
	early := func(first, last int) Route {
		h := append([]Hop(nil), hops[first:last+1]...)
		h[len(h)-1].Delay = 0
		return Route{First: first, Hops: h}
	}
	full := make([]byte, MaxBody)
	for i := range full {
		full[i] = byte(i * 7)
	}

	v := chain(build(whole, Dest{Command: Deliver, Mailbox: mailbox}, Content{Kind: 1, Body: []byte("a body")}), true)
	v.Content = &contentVector{Kind: 1, Body: []byte("a body")}
	writeJSON(t, "deliver.json", v)

	s, _ := block()
	v = chain(build(whole, Dest{Command: Deliver, Mailbox: mailbox}, Content{Kind: 2, SURB: s, Body: full[:MaxBodySURB]}), false)
	v.Content = &contentVector{Kind: 2, SURB: s.raw[:], Body: full[:MaxBodySURB]}
	writeJSON(t, "deliver-surb.json", v)

	v = chain(build(whole, Dest{Command: Exit}, Content{Kind: 255, Body: full}), false)
	v.Content = &contentVector{Kind: 255, Body: full}
	writeJSON(t, "exit.json", v)

	writeJSON(t, "ping.json", chain(build(early(0, 2), Dest{Command: Ping, Mark: Mark{0: 1, 15: 2}}, Content{}), false))
	writeJSON(t, "drop.json", chain(build(early(2, 3), Dest{Command: Drop}, Content{}), false))

	s, mark := block()
	name, first := s.Name(), s.First()
	reply := &replyVector{Seed: seed[:], Mark: mark[:], SURB: bytes.Clone(s.raw[:]), Name: name[:], First: first[:], ExpiresHours: s.Expires().Unix() / 3600}
	p, err := s.Use(nil, Content{Kind: 4, Body: []byte("an answer")}, someDay)
	must(t, err)
	v = chain(p, false)
	v.Reply, v.Content = reply, &contentVector{Kind: 4, Body: []byte("an answer")}
	writeJSON(t, "reply.json", v)

	writeJSON(t, "rejected.json", rejectedVectors(t, nodes, s))
}

func writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	must(t, err)
	must(t, os.MkdirAll(vectorDir, 0o755))
	must(t, os.WriteFile(vectorDir+"/"+name, append(b, '\n'), 0o644))
}

// head makes prefix and header of a packet at a layer that seals any routing and any
// header behind it, as no Build would.
func head(t *testing.T, key *PublicKey, layer int, routing []byte) []byte {
	t.Helper()
	enc, keys, err := key.encapsulate()
	must(t, err)
	h := make([]byte, PrefixLen, PrefixLen+headerAt(layer))
	Prefix{Layer: layer, KeyID: key.ID()}.put(h)
	h = append(h, enc...)
	plain := append(bytes.Clone(routing), make([]byte, headerAt(layer+1))...)
	return keys.aead().Seal(h, zeroNonce[:], plain, h[:PrefixLen])
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

func rejectedVectors(t *testing.T, nodes [Layers]node, s *SURB) (all []rejectedVector) {
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
	low := bytes.Clone(good)
	clear(low[PrefixLen+1088 : PrefixLen+encapLen])
	packet("header: an X25519 key of zeros", "header", low, size)
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

	content := func(name, reason string, b []byte) {
		all = append(all, rejectedVector{Name: name, Kind: "content", Reason: reason, Head: b})
	}
	plain := func(flags byte, length int, rest ...byte) []byte {
		b := make([]byte, contentHeadLen)
		b[zeroLen+1] = flags
		binary.BigEndian.PutUint16(b[zeroLen+2:], uint16(length))
		return append(b, rest...)
	}
	content("first byte is not zero", "payload", flip(plain(0, 0), 0, 1))
	content("byte 31 is not zero", "payload", flip(plain(0, 0), 31, 0x80))
	content("unknown flag", "content", plain(2, 0))
	content("unknown flag beside a known one", "content", append(plain(0x81, 0), s.raw[:]...))
	content("too long", "content", plain(0, MaxBody+1))
	content("too long behind a reply block", "content", append(plain(1, MaxBodySURB+1), s.raw[:]...))
	content("padding is not zero", "content", plain(0, 2, 'a', 'b', 'c'))
	content("last byte of the padding", "content", append(plain(0, 2), append(make([]byte, MaxBody-1), 1)...))
	content("a reply block of zeros", "surb", plain(1, 0))

	surb := func(name string, b []byte) {
		all = append(all, rejectedVector{Name: name, Kind: "surb", Reason: "surb", Head: b})
	}
	raw := s.raw[:]
	surb("reply block: one byte short", raw[:SURBLen-1])
	surb("reply block: one byte long", append(bytes.Clone(raw), 0))
	surb("reply block: empty", nil)
	surb("reply block: version", flip(raw, 0, 2))
	surb("reply block: layer 0", flip(raw, 2, 1))
	surb("reply block: layer 3", flip(raw, 2, 2))
	surb("reply block: byte 12 of the prefix", flip(raw, 12, 1))
	surb("reply block: last byte", flip(raw, SURBLen-1, 1))

	hour := s.Expires().Unix() / 3600
	for name, now := range map[string]int64{"reply block: the hour it expires": hour, "reply block: a year later": hour + 24*365} {
		all = append(all, rejectedVector{Name: name, Kind: "expired", Reason: "expired", Head: bytes.Clone(raw), NowHours: now})
	}
	return all
}
