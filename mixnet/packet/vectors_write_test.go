package packet

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var rewrite = flag.String("rewrite", "", "write anew the files of testdata/packet that match this pattern; a file of packets only for a new format")

// writeVectors makes the files of testdata/packet that *rewrite names. Encapsulating draws
// random numbers, so every run gives other files.
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

	// Nothing but a reply block, which expired long ago: that is no matter to whoever reads it.
	expired, _, err := NewSURB(hops[1:], mailbox, &seed, time.Unix(0, 0), rand.Reader)
	must(t, err)
	v = chain(build(Route{First: Last, Hops: hops[Last:]}, Dest{Command: Deliver, Mailbox: mailbox}, Content{SURB: expired}), false)
	v.Content = &contentVector{SURB: expired.raw[:]}
	writeJSON(t, "deliver-block.json", v)

	s, mark := block()
	name, first := s.Name(), s.First()
	reply := &replyVector{Seed: seed[:], Mark: mark[:], SURB: bytes.Clone(s.raw[:]), Name: name[:], First: first[:], ExpiresHours: s.Expires().Unix() / 3600}
	p, err := s.Use(nil, Content{Kind: 4, Body: []byte("an answer")}, someDay)
	must(t, err)
	v = chain(p, false)
	v.Reply, v.Content = reply, &contentVector{Kind: 4, Body: []byte("an answer")}
	writeJSON(t, "reply.json", v)

	writeJSON(t, "rejected.json", rejectedVectors(t, nodes, s, expired))
}

func writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	named, err := filepath.Match(*rewrite, name)
	must(t, err)
	if !named {
		return
	}
	b, err := json.MarshalIndent(v, "", " ")
	must(t, err)
	must(t, os.MkdirAll(vectorDir, 0o755))
	must(t, os.WriteFile(vectorDir+"/"+name, append(b, '\n'), 0o644))
}
