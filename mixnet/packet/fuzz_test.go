package packet

import (
	"bytes"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// FuzzUnwrap: whatever comes is rejected or opened; nothing panics, and what is opened
// is what its prefix says. cut are the bytes that are missing from the size of layer,
// and the payload is zeros, to keep inputs small.
func FuzzUnwrap(f *testing.F) {
	nodes, hops := path(f)
	p := deliver(f, hops, Content{Kind: 1, Body: []byte("seed")})
	for i := range Layers {
		f.Add(bytes.Clone(p[:PrefixLen+headerAt(i)]), uint8(i), uint8(0))
		f.Add(bytes.Clone(p[:PrefixLen+headerAt(i)]), uint8(i+1), uint8(i))
		r, err := Unwrap(nodes[i].key, p)
		must(f, err)
		p = r.Packet
	}
	f.Add([]byte{}, uint8(9), uint8(0))
	buf := make([]byte, Size)
	f.Fuzz(func(t *testing.T, head []byte, layer, cut uint8) {
		b := buf[:max(0, SizeAt(int(layer))-int(cut))]
		clear(b[copy(b, head):])
		prefix, err := ParsePrefix(b)
		i := prefix.Layer // 0 if there is none
		r, uerr := Unwrap(nodes[i].key, b)
		switch {
		case uerr != nil:
			if errs.Public(uerr) != rejected {
				t.Fatalf("the outside learns: %q", errs.Public(uerr))
			}
		case err != nil || prefix.Layer != r.Layer || prefix.KeyID != nodes[i].key.ID():
			t.Fatalf("opened: %+v, %v, %+v", prefix, err, r)
		case r.Packet != nil && len(r.Packet) != SizeAt(r.Layer+1) || r.Payload != nil && len(r.Payload) != PayloadLen:
			t.Fatalf("%d, %d bytes", len(r.Packet), len(r.Payload))
		}
	})
}

// FuzzRouting: a routing has one form. What a hop reads is what it would write.
func FuzzRouting(f *testing.F) {
	for c := Command(0); c <= Exit+1; c++ {
		f.Add(goodRouting(c), uint8(Last))
		f.Add(goodRouting(c), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, layer uint8) {
		if len(b) != routingLen || layer > Last {
			return
		}
		var r routing
		if r.parse(b, int(layer)) != nil {
			return
		}
		again := bytes.Repeat([]byte{0xFF}, routingLen)
		r.put(again)
		if !bytes.Equal(again, b) {
			t.Fatalf("%x\nis written as\n%x", b, again)
		}
	})
}

// FuzzContent: a content has one form too.
func FuzzContent(f *testing.F) {
	_, hops := path(f)
	s, _ := block(f, hops)
	for _, c := range []Content{{}, {Kind: 1, Body: []byte("body")}, {SURB: s}, {Kind: 2, SURB: s, Body: []byte("body")}} {
		b := make([]byte, PayloadLen)
		must(f, c.put(b))
		f.Add(bytes.TrimRight(b, "\x00"))
	}
	f.Add([]byte{33: 2})
	f.Add([]byte{34: 0xFF, 35: 0xFF})
	f.Add([]byte{32: 1, 34: 0xFF, 35: 0xFF})
	f.Add([]byte{35: 1}) // a body without a kind
	f.Fuzz(func(t *testing.T, head []byte) {
		b := make([]byte, PayloadLen)
		if copy(b, head) < len(head) {
			return
		}
		before := bytes.Clone(b)
		c, err := OpenContent(b)
		if !bytes.Equal(b, before) {
			t.Fatal("reading changes it")
		}
		if err != nil {
			if errs.Public(err) != rejected {
				t.Fatalf("the outside learns: %q", errs.Public(err))
			}
			return
		}
		again := make([]byte, PayloadLen)
		if err := c.put(again); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written otherwise: %v", err)
		}
	})
}

// FuzzSURB: what is read as a block is written as the same bytes and makes a packet for layer 1.
func FuzzSURB(f *testing.F) {
	_, hops := path(f)
	s, _ := block(f, hops)
	f.Add(bytes.Clone(s.raw[:]))
	f.Add(s.raw[:SURBLen-1])
	f.Add(make([]byte, SURBLen))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSURB(b)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || errs.Public(err) != rejected {
				t.Fatal(err)
			}
			return
		}
		again, err := s.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written otherwise: %v", err)
		}
		now := time.Unix(0, 0)
		p, err := s.Use(nil, Content{Kind: 1, Body: []byte("answer")}, now)
		if !now.Before(s.Expires()) != (errs.KindOf(err) == errs.Denied && err != nil) {
			t.Fatalf("expires %v: %v", s.Expires(), err)
		}
		if err != nil {
			return
		}
		if prefix, err := ParsePrefix(p); err != nil || prefix.Layer != 1 {
			t.Fatalf("%+v, %v", prefix, err)
		}
	})
}
