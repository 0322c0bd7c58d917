package directory

import (
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// TestOperator: what an operator says of themselves stands in the descriptor, not in the
// consensus, and has one form.
func TestOperator(t *testing.T) {
	key := testKey(t, "an operator's node")
	sign := func(o Operator) (*Descriptor, error) {
		d := testNode(t, "operated", Mix, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
		return SignDescriptor(Descriptor{Network: d.Network, Published: d.Published, Operator: o, Node: d.Node}, key)
	}
	want := Operator{"keeper@example.org", "0123 4567 89AB CDEF", "A node, kept by people; who like \"long\" nights."}
	d, err := sign(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseDescriptor(d.Bytes())
	if err != nil || got.Operator != want {
		t.Fatalf("%+v, %v", got, err)
	}
	if !strings.Contains(string(d.Bytes()), "\ncontact keeper@example.org\nfingerprint 0123 4567 89AB CDEF\ncomments A node, kept by") {
		t.Errorf("%s", d.Bytes()[:600])
	}
	for _, bad := range []Operator{
		{Contact: "a  b"}, {Contact: " a"}, {Contact: "\u00fc"}, {Contact: "a\nb"}, {Contact: strings.Repeat("a", MaxContact+1)},
		{Fingerprint: strings.Repeat("a", MaxContact+1)}, {Comments: strings.Repeat("a", MaxComments+1)}, {Comments: "a\n"},
	} {
		if _, err := sign(bad); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if _, err := sign(Operator{strings.Repeat("a", MaxContact), strings.Repeat("b", MaxContact), strings.Repeat("c ", MaxComments/2-1) + "cc"}); err != nil {
		t.Errorf("as long as may be: %v", err)
	}
}
