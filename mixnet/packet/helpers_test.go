package packet

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// node is a hop of a test with its key.
type node struct {
	id  ID
	key *PrivateKey
}

// path makes the nodes of a whole route and the hops that lead over them; hop i waits
// for i+1 seconds, the last not at all.
func path(t testing.TB) (nodes [Layers]node, hops []Hop) {
	t.Helper()
	for i := range nodes {
		key, err := NewPrivateKey(bytes.Repeat([]byte{byte(0x10 + i)}, PrivateKeyLen))
		must(t, err)
		nodes[i] = node{id: ID{0: 0xA0 + byte(i), 31: 1}, key: key}
		h := Hop{Node: nodes[i].id, Key: key.Public()}
		if i < Last {
			h.Delay = time.Duration(i+1) * time.Second
		}
		hops = append(hops, h)
	}
	return nodes, hops
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantRejected checks that err says "rejected" to the outside and is of a kind.
func wantRejected(t testing.TB, what string, err error, kind errs.Kind, cause error) {
	t.Helper()
	if errs.KindOf(err) != kind || errs.Public(err) != rejected {
		t.Fatalf("%s: %v (kind %v, public %q), want kind %v", what, err, errs.KindOf(err), errs.Public(err), kind)
	}
	if cause != nil && !errors.Is(err, cause) {
		t.Fatalf("%s: %v, want the cause %v", what, err, cause)
	}
}

var (
	mailbox = ID{7: 0x77}
	someDay = time.Date(2026, 11, 26, 14, 30, 0, 0, time.UTC)
)

// deliver builds a packet from layer 0 to the mailbox.
func deliver(t testing.TB, hops []Hop, c Content) []byte {
	t.Helper()
	p, err := Build(nil, Route{Hops: hops}, Dest{Command: Deliver, Mailbox: mailbox}, c, rand.Reader)
	must(t, err)
	return p
}

// walk unwraps a packet up to the layer end, and gives what the hop there learned.
func walk(t testing.TB, nodes [Layers]node, p []byte, end int) Result {
	t.Helper()
	for {
		prefix, err := ParsePrefix(p)
		must(t, err)
		r, err := Unwrap(nodes[prefix.Layer].key, p)
		must(t, err)
		if r.Layer == end {
			return r
		}
		if r.Command != Forward || r.Next != nodes[r.Layer+1].id || r.Delay != time.Duration(r.Layer+1)*time.Second {
			t.Fatalf("layer %d: %+v", r.Layer, r)
		}
		p = r.Packet
	}
}
