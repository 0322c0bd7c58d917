package packet

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// Build appends, and leaves what was there.
func TestBuildAppends(t *testing.T) {
	nodes, hops := path(t)
	dst := append(make([]byte, 0, Size+8), "before"...)
	p, err := Build(dst, Route{Hops: hops}, Dest{Command: Drop}, Content{}, rand.Reader)
	must(t, err)
	if string(p[:6]) != "before" || len(p) != 6+Size || &p[0] != &dst[0] {
		t.Fatal("not appended")
	}
	walk(t, nodes, p[6:], Last)
}

// What the format cannot say is refused before anything is written.
func TestBuildRefuses(t *testing.T) {
	_, hops := path(t)
	change := func(f func(h []Hop)) []Hop {
		h := append([]Hop(nil), hops...)
		f(h)
		return h
	}
	deliver, drop := Dest{Command: Deliver, Mailbox: mailbox}, Dest{Command: Drop}
	for name, c := range map[string]struct {
		r Route
		d Dest
	}{
		"no hops":                       {Route{}, drop},
		"too many hops":                 {Route{Hops: append(hops[:Layers:Layers], hops[Last])}, drop},
		"behind the last layer":         {Route{First: 1, Hops: hops}, drop},
		"before the first layer":        {Route{First: -1, Hops: hops}, drop},
		"no key":                        {Route{Hops: change(func(h []Hop) { h[2].Key = nil })}, drop},
		"a negative delay":              {Route{Hops: change(func(h []Hop) { h[1].Delay = -1 })}, drop},
		"too long a delay":              {Route{Hops: change(func(h []Hop) { h[1].Delay = MaxDelay + 1 })}, drop},
		"a delay at the last hop":       {Route{Hops: change(func(h []Hop) { h[Last].Delay = 1 })}, drop},
		"no command":                    {Route{Hops: hops}, Dest{}},
		"FWD as the end":                {Route{Hops: hops}, Dest{Command: Forward}},
		"SURB_REPLY without a block":    {Route{Hops: hops}, Dest{Command: Reply, Mailbox: mailbox}},
		"an unknown command":            {Route{Hops: hops}, Dest{Command: 7}},
		"DELIVER before the last hop":   {Route{Hops: change(func(h []Hop) { h[3].Delay = 0 })[:Last]}, deliver},
		"EXIT to a mailbox":             {Route{Hops: hops}, Dest{Command: Exit, Mailbox: mailbox}},
		"DROP with a mark":              {Route{Hops: hops}, Dest{Command: Drop, Mark: Mark{1}}},
		"DELIVER with a mark":           {Route{Hops: hops}, Dest{Command: Deliver, Mailbox: mailbox, Mark: Mark{1}}},
		"PING to a mailbox":             {Route{Hops: hops}, Dest{Command: Ping, Mailbox: mailbox}},
		"a key that is no point at all": {Route{Hops: change(func(h []Hop) { h[0].Key = lowOrder(t, h[0].Key) })}, drop},
	} {
		p, err := Build([]byte("x"), c.r, c.d, Content{}, rand.Reader)
		if errs.KindOf(err) != errs.Invalid || string(p) != "x" {
			t.Errorf("%s: %v", name, err)
		}
		if name != "a key that is no point at all" && errs.Public(err) != "the route is not possible" {
			t.Errorf("%s: public text %q", name, errs.Public(err))
		}
	}
	for size, surb := range map[int]*SURB{MaxBody + 1: nil, MaxBodySURB + 1: new(SURB)} {
		_, err := Build(nil, Route{Hops: hops}, drop, Content{Kind: 1, SURB: surb, Body: make([]byte, size)}, rand.Reader)
		if errs.KindOf(err) != errs.TooLarge || errs.Public(err) != "the body is too large for one packet" {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for _, surb := range []*SURB{nil, new(SURB)} {
		p, err := Build([]byte("x"), Route{Hops: hops}, drop, Content{SURB: surb, Body: []byte{0}}, rand.Reader)
		if errs.KindOf(err) != errs.Invalid || errs.Public(err) != "a body needs a kind" || string(p) != "x" {
			t.Errorf("a body without a kind: %v", err)
		}
	}
	enough := keyLen + headerAt(1) // one payload key, and the fill behind layer 0
	for _, n := range []int{0, keyLen - 1, keyLen, enough - 1, enough} {
		_, err := Build(nil, Route{Hops: hops[Last:]}, drop, Content{}, bytes.NewReader(make([]byte, n)))
		if (err == nil) != (n == enough) || err != nil && errs.KindOf(err) != errs.Internal {
			t.Errorf("%d bytes of randomness: %v", n, err)
		}
	}
}

// lowOrder is a key whose X25519 half gives nothing but zeros.
func lowOrder(t *testing.T, k *PublicKey) *PublicKey {
	b := k.Bytes()
	clear(b[PublicKeyLen-32:])
	low, err := ParsePublicKey(b)
	must(t, err)
	return low
}

// A route may begin and end at any layer; the bytes behind its last hop are random.
func TestRouteEndsEarly(t *testing.T) {
	nodes, hops := path(t)
	for first := range Layers {
		for end := first; end < Layers; end++ {
			h := append([]Hop(nil), hops[first:end+1]...)
			h[len(h)-1].Delay = 0
			p, err := Build(nil, Route{First: first, Hops: h}, Dest{Command: Ping, Mark: Mark{9}}, Content{}, rand.Reader)
			must(t, err)
			if len(p) != SizeAt(first) {
				t.Fatalf("%d to %d: %d bytes", first, end, len(p))
			}
			if r := walk(t, nodes, p, end); r.Command != Ping || r.Mark != (Mark{9}) {
				t.Fatalf("%d to %d: %+v", first, end, r)
			}
		}
	}
}

// Delays travel in whole milliseconds, up to the longest.
func TestDelays(t *testing.T) {
	nodes, hops := path(t)
	for give, want := range map[time.Duration]time.Duration{0: 0, time.Millisecond - 1: 0, 1999 * time.Microsecond: time.Millisecond, MaxDelay: MaxDelay} {
		h := append([]Hop(nil), hops...)
		h[0].Delay = give
		p := deliver(t, h, Content{})
		r, err := Unwrap(nodes[0].key, p)
		must(t, err)
		if r.Delay != want {
			t.Errorf("%v came as %v", give, r.Delay)
		}
	}
}
