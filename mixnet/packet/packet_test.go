package packet

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"
)

func isCause(err, cause error) bool { return errors.Is(err, cause) }

func TestSizes(t *testing.T) {
	if LayerLen != 1232 || HeaderLen != 6160 || PayloadLen != 26592 || SURBLen != 5016 || MaxBody != 26556 || MaxBodySURB != 21540 {
		t.Fatal(LayerLen, HeaderLen, PayloadLen, SURBLen, MaxBody, MaxBodySURB)
	}
	nodes, hops := path(t)
	p := deliver(t, hops, Content{Kind: 3, Body: []byte("hello")})
	for i := range Layers {
		if len(p) != SizeAt(i) {
			t.Fatal(i, len(p))
		}
		r, err := Unwrap(nodes[i].key, p)
		must(t, err)
		p = r.Packet
		if i == Last {
			c, err := OpenContent(r.Payload)
			must(t, err)
			if c.Kind != 3 || string(c.Body) != "hello" || r.Mailbox != mailbox || r.Command != Deliver {
				t.Fatal(r, c)
			}
		}
	}
}

func TestReply(t *testing.T) {
	nodes, hops := path(t)
	seed := Seed{1, 2, 3}
	s, mark, err := NewSURB(hops[1:], mailbox, &seed, someDay.Add(48*time.Hour), rand.Reader)
	must(t, err)
	raw, err := s.AppendBinary(nil)
	must(t, err)
	s, err = ParseSURB(raw)
	must(t, err)
	p, err := s.Use(nil, Content{Kind: 9, Body: bytes.Repeat([]byte("x"), MaxBody)}, someDay)
	must(t, err)
	r := walk(t, nodes, p, Last)
	if r.Command != Reply || r.Mailbox != mailbox || r.Mark != mark || s.First() != nodes[1].id {
		t.Fatal(r)
	}
	c, err := OpenReply(&seed, r.Mark, r.Payload)
	must(t, err)
	if c.Kind != 9 || len(c.Body) != MaxBody {
		t.Fatal(c)
	}
}
