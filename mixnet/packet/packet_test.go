package packet

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
)

// The sizes that docs/packet.md §2 gives, at every layer of a real packet.
func TestSizes(t *testing.T) {
	page, err := os.ReadFile("../../docs/packet.md")
	must(t, err)
	for what, n := range map[string]int{"packet at layer 0": SizeAt(0), "at layer 1": SizeAt(1), "at layer 2": SizeAt(2), "at layer 3": SizeAt(3),
		"at layer 4": SizeAt(4), "header": HeaderLen, "layer": LayerLen, "payload": PayloadLen, "body": MaxBody, "body beside a reply block": MaxBodySURB,
		"reply block": SURBLen, "encapsulation": encapLen, "public key": PublicKeyLen} {
		text := fmt.Sprint(n)
		if n >= 1000 {
			text = fmt.Sprintf("%d,%03d", n/1000, n%1000)
		}
		if !strings.Contains(string(page), text) {
			t.Errorf("%s: %s bytes are not in docs/packet.md", what, text)
		}
	}
	if SizeAt(-1) != 0 || SizeAt(Layers) != 0 {
		t.Error("layers that do not exist have a size")
	}
	nodes, hops := path(t)
	p := deliver(t, hops, Content{})
	for i := range Layers {
		if len(p) != SizeAt(i) {
			t.Fatalf("layer %d: %d bytes", i, len(p))
		}
		r, err := Unwrap(nodes[i].key, p)
		must(t, err)
		p = r.Packet
	}
	if p != nil {
		t.Error("a packet is left behind the last layer")
	}
}

// Each of the commands is read by the last hop as the sender meant it, and nothing else is.
func TestCommands(t *testing.T) {
	nodes, hops := path(t)
	mark := Mark{1, 2, 3}
	for _, d := range []Dest{{Command: Deliver, Mailbox: mailbox}, {Command: Exit}, {Command: Drop}, {Command: Ping, Mark: mark}} {
		p, err := Build(nil, Route{Hops: hops}, d, Content{Kind: 3, Body: []byte("hello")}, rand.Reader)
		must(t, err)
		r := walk(t, nodes, p, Last)
		if r.Command != d.Command || r.Mailbox != d.Mailbox || r.Mark != d.Mark || r.Packet != nil || r.Next != (ID{}) || r.Delay != 0 {
			t.Errorf("%v: %+v", d.Command, r)
		}
		if d.Command == Drop || d.Command == Ping {
			if r.Payload != nil {
				t.Errorf("%v gives a payload", d.Command)
			}
			continue
		}
		c, err := OpenContent(r.Payload)
		must(t, err)
		if c.Kind != 3 || string(c.Body) != "hello" || c.SURB != nil {
			t.Errorf("%v: %+v", d.Command, c)
		}
	}
}

// Which command may stand at which layer: all of both, sealed as no Build would.
func TestCommandsAtLayers(t *testing.T) {
	nodes, _ := path(t)
	for layer := range Layers {
		key := nodes[layer].key
		for c := 0; c < 256; c++ {
			if c > int(Exit)+2 && c != 129 && c != 255 {
				continue
			}
			h := head(t, key.Public(), layer, goodRouting(Command(c)))
			r, err := Unwrap(key, append(h, make([]byte, PayloadLen)...))
			allowed := c == int(Drop) || c == int(Ping) || c == int(Forward) && layer < 4 ||
				layer == 4 && (c == int(Deliver) || c == int(Reply) || c == int(Exit))
			if allowed != (err == nil) {
				t.Errorf("command %d at layer %d: %v", c, layer, err)
			}
			if err != nil {
				wantRejected(t, "command", err, errs.Invalid, errRouting)
			} else if r.Command != Command(c) || r.Layer != layer {
				t.Errorf("command %d at layer %d: %+v", c, layer, r)
			}
		}
	}
	if Command(0).String() != "none" || Exit.String() != "EXIT" || Command(7).String() != "unknown" {
		t.Error("names of commands")
	}
}

// wrong is a packet that its hop must reject.
type wrong struct {
	name  string
	key   *PrivateKey
	b     []byte
	kind  errs.Kind
	cause error
}

// The same packet for another key, at another layer, with another key ID, with its layers in
// another order: nobody takes it.
func TestOthersReject(t *testing.T) {
	nodes, hops := path(t)
	at := [Layers][]byte{deliver(t, hops, Content{})}
	for i := range Last {
		r, err := Unwrap(nodes[i].key, bytes.Clone(at[i]))
		must(t, err)
		at[i+1] = r.Packet
	}
	// as gives a copy of a packet that claims a layer and a key.
	as := func(b []byte, layer int, key *PrivateKey) []byte {
		b = bytes.Clone(b)
		Prefix{Layer: layer, KeyID: key.ID()}.put(b)
		return b
	}
	var all []wrong
	for i := range Layers {
		key := nodes[i].key
		for k := range Layers {
			if k == i {
				continue
			}
			other := nodes[k].key
			all = append(all,
				wrong{"another key", other, at[i], errs.NotFound, errKeyID},
				wrong{"another key, its ID", other, as(at[i], i, other), errs.Auth, errHeader},
				wrong{"a key ID in the key's place", key, as(at[i], i, other), errs.NotFound, errKeyID},
				wrong{"another layer", key, as(at[i], k, key), errs.Invalid, errSize},
				wrong{"another layer, of its size", key, as(fit(at[i], k), k, key), errs.Auth, errHeader},
				wrong{"the layer of another hop", other, as(fit(at[i], k), k, other), errs.Auth, errHeader})
		}
		// Two layers of the header in each other's place.
		if blocks := (Layers - i); blocks > 1 {
			b := bytes.Clone(at[i])
			first, second := b[PrefixLen:PrefixLen+LayerLen], b[PrefixLen+LayerLen:PrefixLen+2*LayerLen]
			tmp := bytes.Clone(first)
			copy(first, second)
			copy(second, tmp)
			all = append(all, wrong{"layers in another order", key, b, errs.Auth, errHeader})
		}
		// The header of one packet before the prefix of another, and so on.
		second := deliver(t, hops, Content{})
		if i == 0 {
			mixed := append(bytes.Clone(at[0][:PrefixLen+encapLen]), second[PrefixLen+encapLen:]...)
			all = append(all, wrong{"the encapsulation of another packet", key, mixed, errs.Auth, errHeader})
		}
	}
	for _, w := range all {
		_, err := Unwrap(w.key, bytes.Clone(w.b))
		wantRejected(t, w.name, err, w.kind, w.cause)
	}
}

// fit cuts or fills a packet to the size of a layer.
func fit(b []byte, layer int) []byte {
	out := make([]byte, SizeAt(layer))
	copy(out, b)
	return out
}

// A flipped bit in any byte of prefix or header is rejected, at every layer, and nobody is told why.
func TestHeaderFlips(t *testing.T) {
	nodes, hops := path(t)
	p := deliver(t, hops, Content{})
	for layer := range Layers {
		good := bytes.Clone(p)
		r, err := Unwrap(nodes[layer].key, p)
		must(t, err)
		p = r.Packet
		t.Run(fmt.Sprint("layer ", layer), func(t *testing.T) {
			t.Parallel()
			header := good[PrefixLen : len(good)-PayloadLen]
			keys, err := nodes[layer].key.decapsulate(header[:encapLen])
			must(t, err)
			b := bytes.Clone(good)
			for i := range PrefixLen + len(header) {
				b[i] ^= 1 << (i % 8)
				if i < PrefixLen+encapLen || i%37 == 0 {
					if _, err := Unwrap(nodes[layer].key, b); err == nil || errs.Public(err) != rejected {
						t.Fatalf("byte %d: %v", i, err)
					}
				} else if _, err := keys.open(b[:PrefixLen], b[PrefixLen+encapLen:len(b)-PayloadLen]); err == nil {
					t.Fatalf("byte %d: opens", i) // Unwrap takes the same step, with the same keys
				}
				copy(b, good[:PrefixLen+len(header)]) // it was opened in place
			}
		})
	}
}

// A flipped bit of the payload, at any hop, leaves nothing of it: the hop behind sees other bytes all
// over, and whoever opens it knows.
func TestPayloadFlips(t *testing.T) {
	nodes, hops := path(t)
	body := bytes.Repeat([]byte("body "), MaxBody/5)
	first := deliver(t, hops, Content{Kind: 1, Body: body})
	for layer := range Layers {
		p := bytes.Clone(first)
		for i := range layer {
			r, err := Unwrap(nodes[i].key, p)
			must(t, err)
			p = r.Packet
		}
		good := bytes.Clone(p)
		_, err := Unwrap(nodes[layer].key, good)
		must(t, err)
		for i := 0; i < PayloadLen; i += 997 {
			b := bytes.Clone(p)
			b[len(b)-PayloadLen+i] ^= 1 << (i % 8)
			r, err := Unwrap(nodes[layer].key, b)
			must(t, err) // the hop cannot know
			unlike(t, b[len(b)-PayloadLen:], good[len(good)-PayloadLen:])
			if layer < Last {
				r = walk(t, nodes, r.Packet, Last)
			}
			_, err = OpenContent(r.Payload)
			wantRejected(t, "flipped payload", err, errs.Auth, errPayload)
		}
	}
}

// unlike checks that two strings of one length look unrelated: one byte in 256 is equal
// by chance (for a payload 104 of them, with a deviation of 10).
func unlike(t *testing.T, a, b []byte) {
	t.Helper()
	equal, longest, run := 0, 0, 0
	for i := range a {
		if a[i] != b[i] {
			run = 0
			continue
		}
		equal, run = equal+1, run+1
		longest = max(longest, run)
	}
	if limit := len(a)/256 + 120; equal > limit || longest > 6 {
		t.Fatalf("%d of %d bytes are equal, %d in a row", equal, len(a), longest)
	}
}

// What leaves a hop has nothing of what came: no eight bytes of it, anywhere.
func TestNothingSurvives(t *testing.T) {
	nodes, hops := path(t)
	p := deliver(t, hops, Content{Kind: 1, Body: make([]byte, MaxBody)})
	for layer := range Last {
		came := map[uint64]int{}
		for i := 0; i+8 <= len(p); i++ {
			came[binary.BigEndian.Uint64(p[i:])] = i
		}
		old := bytes.Clone(p)
		r, err := Unwrap(nodes[layer].key, p)
		must(t, err)
		p = r.Packet
		for i := PrefixLen; i+8 <= len(p); i++ {
			if at, ok := came[binary.BigEndian.Uint64(p[i:])]; ok {
				t.Errorf("layer %d: bytes %d of the new packet were bytes %d of the old one", layer, i, at)
			}
		}
		// The prefix has what any packet to that node at that layer has.
		want := make([]byte, PrefixLen)
		Prefix{Layer: layer + 1, KeyID: nodes[layer+1].key.ID()}.put(want)
		if !bytes.Equal(p[:PrefixLen], want) {
			t.Errorf("layer %d: prefix %x", layer, p[:PrefixLen])
		}
		unlike(t, old[len(old)-PayloadLen:], p[len(p)-PayloadLen:])
	}
}

// Two packets to the same hops with the same content have nothing in common but the prefix.
func TestSameTwice(t *testing.T) {
	_, hops := path(t)
	c := Content{Kind: 1, Body: []byte("the same")}
	a, b := deliver(t, hops, c), deliver(t, hops, c)
	unlike(t, a[PrefixLen:], b[PrefixLen:])
}

// The replay tag hangs on the encapsulation alone, so a replay with another payload has the
// same; no two packets and no two layers share one.
func TestTag(t *testing.T) {
	nodes, hops := path(t)
	seen := map[Tag]bool{}
	for range 4 {
		p := deliver(t, hops, Content{})
		for i := range Layers {
			b := bytes.Clone(p)
			b[len(b)-1] ^= 1
			r, err := Unwrap(nodes[i].key, p)
			must(t, err)
			again, err := Unwrap(nodes[i].key, b)
			must(t, err)
			if again.Tag != r.Tag {
				t.Error("a replay with another payload has another tag")
			}
			if seen[r.Tag] || r.Tag == (Tag{}) {
				t.Error("a tag twice")
			}
			seen[r.Tag] = true
			p = r.Packet
		}
	}
}

// Unwrap works in the caller's buffer: what it gives lies there, and it allocates nothing near
// the size of a packet.
func TestUnwrapInPlace(t *testing.T) {
	nodes, hops := path(t)
	buf := deliver(t, hops, Content{})
	good := bytes.Clone(buf)
	r, err := Unwrap(nodes[0].key, buf)
	must(t, err)
	if &r.Packet[len(r.Packet)-1] != &buf[len(buf)-1] {
		t.Error("the next packet lies elsewhere")
	}
	if racetest.Enabled {
		return // the detector allocates
	}
	unwrap := func() {
		copy(buf, good)
		if _, err := Unwrap(nodes[0].key, buf); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(20, unwrap); n > maxAllocs {
		t.Errorf("%v allocations a hop, more than %d", n, maxAllocs)
	}
	const runs = 50
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		unwrap()
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > maxAllocBytes {
		t.Errorf("%d bytes allocated a hop, more than %d", n, maxAllocBytes)
	}
}

// What the primitives of one hop may allocate; a copy of a packet or of its payload would show.
const (
	maxAllocs     = 110
	maxAllocBytes = 12 << 10
)
