// Package mixbench measures how many packets one core of a mix unwraps, beside the
// primitives that one hop consists of, in turn in one run.
//
//	go test ./bench/mixbench -bench .
//	go test ./bench/mixbench -run Ratio -v -args -ratio
//
// The first gives Go's own benchmark lines, the second a table. The bars are 6,000
// packets a second and 75 % of what the primitives alone would allow. The floor is a hop
// of the same shape with X25519 alone: what the protection against quantum computers costs.
package mixbench

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern.email/mixnet/packet"
)

// step is one thing that is measured; each call does it once.
type step struct {
	name string
	do   func() error
}

const (
	info    = "bench: encapsulation"
	exports = 48
)

// Indexes into steps.
const (
	whole = iota
	x25519
	mlkem768
	receive
	hash // where nothing is left behind by Adiantum: ML-KEM empties the vector registers
	open
	wide
	wideHash
	floor
	build
	count
)

func fresh(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand does not fail
	return b
}

// steps makes all that is measured, each with inputs of its own.
func steps() ([count]step, error) {
	var s [count]step
	hops, first, err := route()
	if err != nil {
		return s, err
	}
	dest := packet.Dest{Command: packet.Deliver}
	var built []byte
	s[build] = step{"build a packet of five layers", func() (err error) {
		built, err = packet.Build(built[:0], packet.Route{Hops: hops}, dest, packet.Content{}, rand.Reader)
		return err
	}}
	if err := s[build].do(); err != nil {
		return s, err
	}
	good, buf := bytes.Clone(built), make([]byte, packet.Size)
	s[whole] = step{"unwrap a packet", func() error {
		copy(buf, good)
		_, err := packet.Unwrap(first, buf)
		return err
	}}

	a, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return s, err
	}
	b, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return s, err
	}
	point := b.PublicKey().Bytes()
	s[x25519] = step{"  X25519", func() error {
		p, err := ecdh.X25519().NewPublicKey(point)
		if err != nil {
			return err
		}
		_, err = a.ECDH(p)
		return err
	}}
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		return s, err
	}
	_, ct := pq.EncapsulationKey().Encapsulate()
	s[mlkem768] = step{"  ML-KEM-768 decapsulation", func() error {
		_, err := pq.Decapsulate(ct)
		return err
	}}
	hybrid, err := receiver(hpke.MLKEM768X25519())
	if err != nil {
		return s, err
	}
	s[receive] = step{"X-Wing: HPKE receive and export", hybrid}
	s[open] = step{"AES-256-GCM over a header", opener(packet.HeaderLen - 1120 - 16)}
	decrypt := decrypter(packet.PayloadLen)
	s[wide] = step{"Adiantum over a payload", decrypt}
	kib := fresh(1024)
	s[hash] = step{"  SHA-256 over 1 KiB", func() error {
		sha256.Sum256(kib)
		return nil
	}}
	s[wideHash] = step{"  Adiantum and then that", func() error {
		sha256.Sum256(kib)
		return decrypt()
	}}

	classic, err := receiver(hpke.DHKEM(ecdh.X25519()))
	if err != nil {
		return s, err
	}
	const classicLayer = 32 + 96 + 16
	header, payload := opener(packet.Layers*classicLayer-32-16), decrypter(packet.Size-packet.PrefixLen-packet.Layers*classicLayer)
	s[floor] = step{"floor: the same with X25519 alone", func() error {
		if err := classic(); err != nil {
			return err
		}
		if err := header(); err != nil {
			return err
		}
		return payload()
	}}
	return s, nil
}

// route is a way over five new nodes, and the key of the first.
func route() (hops []packet.Hop, first *packet.PrivateKey, err error) {
	for i := range packet.Layers {
		k, err := packet.GeneratePrivateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			first = k
		}
		hops = append(hops, packet.Hop{Key: k.Public()})
	}
	return hops, first, nil
}

func receiver(kem hpke.KEM) (func() error, error) {
	k, err := kem.GenerateKey()
	if err != nil {
		return nil, err
	}
	enc, _, err := hpke.NewSender(k.PublicKey(), hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(info))
	if err != nil {
		return nil, err
	}
	return func() error {
		r, err := hpke.NewRecipient(enc, k, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(info))
		if err != nil {
			return err
		}
		_, err = r.Export(info, exports)
		return err
	}, nil
}

// opener opens n bytes with a key that is set up each time.
func opener(n int) func() error {
	key, nonce, prefix := fresh(32), make([]byte, 12), make([]byte, packet.PrefixLen)
	gcm := func() (cipher.AEAD, error) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}
	var sealed []byte
	buf := make([]byte, n+16)
	return func() error {
		g, err := gcm()
		if err != nil {
			return err
		}
		if sealed == nil {
			sealed = g.Seal(nil, nonce, fresh(n), prefix)
		}
		copy(buf, sealed)
		_, err = g.Open(buf[:0], nonce, buf, prefix)
		return err
	}
}

// decrypter takes a layer off n bytes with a key that is set up each time.
func decrypter(n int) func() error {
	key, b := [32]byte(fresh(32)), fresh(n)
	return func() error {
		packet.Adiantum(&key).Decrypt(b)
		return nil
	}
}

func BenchmarkSteps(b *testing.B) {
	all, err := steps()
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range all {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var (
	ratio  = flag.Bool("ratio", false, "measure and print the table")
	rounds = flag.Int("rounds", 400, "samples of each step; they are taken in turn")
)

const (
	perSample  = 8    // calls a sample: about a millisecond
	leastRate  = 6000 // packets a second and core
	leastRatio = 0.75 // of the sum of the primitives
	mostWake   = 1.5  // of Adiantum and a hash apart: what vector code leaves behind can slow down the next hash a hundredfold
)

// TestRatio measures, when asked, and judges the bars: the rate by the least disturbed
// sample, as other work on the machine only ever adds time; the ratio by that and by medians.
func TestRatio(t *testing.T) {
	if !*ratio {
		t.Skip("a measurement: run with -args -ratio")
	}
	all, err := steps()
	if err != nil {
		t.Fatal(err)
	}
	var times [count][]float64 // microseconds a call
	for range *rounds {
		for i, s := range all {
			begin := time.Now()
			for range perSample {
				if err := s.do(); err != nil {
					t.Fatal(err)
				}
			}
			times[i] = append(times[i], float64(time.Since(begin).Nanoseconds())/1e3/perSample)
		}
	}
	var least, median [count]float64
	fmt.Printf("%-36s %9s %9s %10s\n", "", "least µs", "median µs", "a second")
	line := func(name string, least, median float64) {
		fmt.Printf("%-36s %9.1f %9.1f %10.0f\n", name, least, median, 1e6/least)
	}
	for i, s := range all {
		slices.Sort(times[i])
		least[i], median[i] = times[i][0], times[i][len(times[i])/2]
		line(s.name, least[i], median[i])
	}
	sum := func(v [count]float64) float64 { return v[receive] + v[open] + v[wide] }
	bare := func(v [count]float64) float64 { return v[x25519] + v[mlkem768] + v[open] + v[wide] }
	line("sum: X-Wing, GCM, Adiantum", sum(least), sum(median))
	line("sum without HPKE's key schedule", bare(least), bare(median))
	fmt.Printf("\nunwrap reaches %.0f%% of the sum (medians %.0f%%), %.0f%% of the sum without the key schedule, and %.0f%% of the floor\n",
		100*sum(least)/least[whole], 100*sum(median)/median[whole], 100*bare(least)/least[whole], 100*least[floor]/least[whole])
	if r := 1e6 / least[whole]; r < leastRate {
		t.Errorf("%.0f packets a second, at least %d are wanted", r, leastRate)
	}
	if r := least[wideHash] / (least[wide] + least[hash]); r > mostWake {
		t.Errorf("a hash behind Adiantum: %.1f times as long as both apart", r)
	}
	for what, r := range map[string]float64{"least": sum(least) / least[whole], "median": sum(median) / median[whole]} {
		if r < leastRatio {
			t.Errorf("%s: %.0f%% of the sum of the primitives, at least %.0f%% are wanted", what, 100*r, 100*leastRatio)
		}
	}
}

// TestSteps shows that what is measured does what it is called.
func TestSteps(t *testing.T) {
	all, err := steps()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for range 2 {
			if s.do == nil {
				t.Fatalf("%q is not measured", s.name)
			}
			if err := s.do(); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
	}
}
