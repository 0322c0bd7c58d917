package packet

import (
	"bytes"
	"crypto/rand"
	"testing"

	"postern.email/kit/errs"
)

// On a link every packet has one size, and what fills it up is never the same.
func TestUnit(t *testing.T) {
	nodes, hops := path(t)
	p := deliver(t, hops, Content{})
	for i := range Layers {
		unit, err := AppendUnit([]byte("frame"), p, rand.Reader)
		must(t, err)
		other, err := AppendUnit(nil, p, rand.Reader)
		must(t, err)
		unit = unit[5:]
		if len(unit) != Size || bytes.Equal(unit, other) == (i > 0) || i > 1 && allZero(unit[len(p):]) {
			t.Fatalf("layer %d: %d bytes", i, len(unit))
		}
		got, prefix, err := CutUnit(unit)
		must(t, err)
		if !bytes.Equal(got, p) || prefix.Layer != i || prefix.KeyID != nodes[i].key.ID() || &got[0] != &unit[0] {
			t.Fatalf("layer %d is cut wrongly", i)
		}
		r, err := Unwrap(nodes[i].key, got)
		must(t, err)
		p = r.Packet
	}
	good, err := AppendUnit(nil, deliver(t, hops, Content{}), rand.Reader)
	must(t, err)
	for name, b := range map[string][]byte{"short": good[:Size-1], "long": append(bytes.Clone(good), 0), "empty": nil, "prefix": flip(good, 1, 1)} {
		_, _, err := CutUnit(b)
		wantRejected(t, name, err, errs.Invalid, nil)
		_, err = AppendUnit(nil, b, rand.Reader)
		wantRejected(t, name, err, errs.Invalid, nil)
	}
	_, err = AppendUnit(nil, fit(flip(good, 2, 4), 4), bytes.NewReader(nil))
	if errs.KindOf(err) != errs.Internal {
		t.Errorf("without randomness: %v", err)
	}
}
