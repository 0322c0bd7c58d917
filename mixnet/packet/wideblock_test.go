package packet

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	mathrand "math/rand/v2"
	"os"
	"testing"

	"postern.email/kit/racetest"
)

// wideBlocks are the ciphers that must do the same things.
var wideBlocks = map[string]func(*[keyLen]byte) WideBlock{"Adiantum": Adiantum, "LIONESS": LIONESS}

// Both ciphers give back what they got, at any size, and what a second one with the same key got.
func TestWideBlockRoundTrip(t *testing.T) {
	for name, wide := range wideBlocks {
		for _, n := range []int{64, 65, 79, 80, 1023, 1024, 1040, 4097, PayloadLen} {
			key := [keyLen]byte{1}
			plain := make([]byte, n)
			_, _ = rand.Read(plain)
			b := bytes.Clone(plain)
			wide(&key).Encrypt(b)
			unlike(t, b, plain)
			c := bytes.Clone(b)
			w := wide(&key)
			w.Decrypt(b)
			if !bytes.Equal(b, plain) {
				t.Fatalf("%s: %d bytes do not come back", name, n)
			}
			w.Encrypt(b) // the cipher has no state
			if !bytes.Equal(b, c) {
				t.Fatalf("%s: %d bytes encrypt to others the second time", name, n)
			}
			key[31] ^= 1
			wide(&key).Decrypt(c)
			unlike(t, c, plain)
		}
	}
}

// A flipped bit anywhere in a block changes all of it, in both directions: every byte of a
// payload with Adiantum, some with LIONESS.
func TestWideBlockFlips(t *testing.T) {
	for name, wide := range wideBlocks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := [keyLen]byte{2}
			r := mathrand.New(mathrand.NewPCG(1, 2))
			good := make([]byte, PayloadLen)
			for i := range good {
				good[i] = byte(r.Uint32())
			}
			w := wide(&key)
			plain, sealed := bytes.Clone(good), bytes.Clone(good)
			w.Decrypt(plain)
			w.Encrypt(sealed)
			step := 1
			if name == "LIONESS" || racetest.Enabled {
				step = 61
			}
			b := make([]byte, PayloadLen)
			for i := 0; i < PayloadLen; i += step {
				copy(b, good)
				b[i] ^= 1 << (i % 8)
				w.Decrypt(b)
				unlike(t, b, plain)
				if i%16 == 0 {
					copy(b, good)
					b[i] ^= 1 << (i % 8)
					w.Encrypt(b)
					unlike(t, b, sealed)
				}
			}
		})
	}
}

// Adiantum is Google's: their vectors, those with an empty tweak.
func TestAdiantumVectors(t *testing.T) {
	b, err := os.ReadFile("decoder/public.json")
	must(t, err)
	var v struct {
		Adiantum []struct{ Key, Tweak, Plaintext, Ciphertext hexBytes }
	}
	must(t, json.Unmarshal(b, &v))
	n := 0
	for _, a := range v.Adiantum {
		if len(a.Tweak) != 0 {
			continue
		}
		n++
		key := [keyLen]byte(a.Key)
		block := bytes.Clone(a.Plaintext)
		Adiantum(&key).Encrypt(block)
		if !bytes.Equal(block, a.Ciphertext) {
			t.Errorf("%d bytes: %x", len(block), block)
		}
		Adiantum(&key).Decrypt(block)
		if !bytes.Equal(block, a.Plaintext) {
			t.Errorf("%d bytes, back: %x", len(block), block)
		}
	}
	if n < 5 {
		t.Fatalf("%d vectors", n)
	}
}

// Packets, blocks and answers made with one cipher are read with the same, whichever it is; and
// with the other, all but the payload is the same.
func TestDifferential(t *testing.T) {
	nodes, hops := path(t)
	body := bytes.Repeat([]byte("differential "), 1000)
	for name, wide := range wideBlocks {
		other := LIONESS
		if name == "LIONESS" {
			other = Adiantum
		}
		s, mark := block(t, hops)
		p, err := build(nil, Route{Hops: hops}, Dest{Command: Deliver, Mailbox: mailbox}, Content{Kind: 1, SURB: s, Body: body}, rand.Reader, wide)
		must(t, err)
		q := bytes.Clone(p)
		var r Result
		for i := range Layers {
			x, err := unwrap(nodes[i].key, q, other)
			must(t, err)
			if r, err = unwrap(nodes[i].key, p, wide); err != nil {
				t.Fatal(err)
			}
			if x.Tag != r.Tag || x.Command != r.Command || x.Next != r.Next || x.Mailbox != r.Mailbox || x.Delay != r.Delay {
				t.Fatalf("%s: layer %d: %+v, %+v", name, i, x, r)
			}
			head := len(r.Packet) - PayloadLen
			if r.Packet != nil && !bytes.Equal(r.Packet[:head], x.Packet[:head]) {
				t.Fatalf("%s: layer %d: other headers", name, i)
			}
			unlike(t, p[len(p)-PayloadLen:], q[len(q)-PayloadLen:])
			p, q = r.Packet, x.Packet
		}
		c, err := OpenContent(r.Payload)
		must(t, err)
		if !bytes.Equal(c.Body, body) {
			t.Fatalf("%s: another body", name)
		}
		p, err = c.SURB.use(nil, Content{Kind: 2, Body: body}, someDay, wide)
		must(t, err)
		for i := 1; i < Layers; i++ {
			if r, err = unwrap(nodes[i].key, p, wide); err != nil {
				t.Fatal(err)
			}
			p = r.Packet
		}
		seed := testSeed
		if _, err := openReply(&seed, mark, bytes.Clone(r.Payload), other); err == nil {
			t.Errorf("%s: the other cipher opens the answer", name)
		}
		if c, err = openReply(&seed, mark, r.Payload, wide); err != nil || !bytes.Equal(c.Body, body) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkWideBlock(b *testing.B) {
	for name, wide := range wideBlocks {
		b.Run(name, func(b *testing.B) {
			block := make([]byte, PayloadLen)
			key := [keyLen]byte{3}
			b.SetBytes(PayloadLen)
			b.ReportAllocs()
			for b.Loop() {
				wide(&key).Decrypt(block)
			}
		})
	}
}
