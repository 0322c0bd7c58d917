package directory

import (
	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Named is a document of an authority.
type Named struct {
	Authority packet.ID
	Hash      Hash
}

// Reveal opens an authority's commitment and tells which votes it had complete by then. A
// vote counts if as many as the threshold had it before they revealed: so nobody can choose
// its value after it saw those of the others.
type Reveal struct {
	Network   string
	Authority packet.ID
	Epoch     uint64
	Value     Value
	Votes     []Named // at most one of each authority, sorted

	text
}

var revealForm = form{
	{"network", 1, 1, 1, 0},
	{"authority", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
	{"value", 1, 1, 1, 0},
	{"vote", 0, MaxAuthorities, 2, 0},
}

// SignReveal makes the document from the fields of r.
func SignReveal(n *Network, r Reveal, s Signer) (*Reveal, error) {
	const op = "directory.SignReveal"
	w := &writer{}
	head(w, "postern-reveal", n.name, s.Public().id, r.Epoch)
	w.line("value", Hash(r.Value))
	for _, v := range r.Votes {
		w.line("vote", v.Authority, v.Hash)
	}
	if err := sign(w, s); err != nil {
		return nil, errs.Wrap(op, err)
	}
	out, err := ParseReveal(n, w.b)
	return out, errs.Wrap(op, err)
}

// ParseReveal is as ParseVote.
func ParseReveal(n *Network, b []byte) (*Reveal, error) {
	const op = "directory.ParseReveal"
	r, sig, err := parseReveal(op, b)
	if err == nil {
		err = n.verify(op, r.Network, r.Authority, b[:r.body], &sig)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func parseReveal(op string, b []byte) (*Reveal, Signature, error) {
	s, err := begin(op, "postern-reveal", b, MaxReveal)
	if err != nil {
		return nil, Signature{}, err
	}
	d := &Reveal{text: text{raw: b}}
	err = s.read(revealForm, untilSignature, func(key string, v *fields) error {
		switch key {
		case "network":
			d.Network = v.name()
		case "authority":
			d.Authority = v.id()
		case "epoch":
			d.Epoch = v.uint(1, maxEpoch)
		case "value":
			d.Value = Value(v.hash())
		case "vote":
			readNamed(v, &d.Votes, true)
		}
		return nil
	})
	if err != nil {
		return nil, Signature{}, err
	}
	var sigs []Signature
	if d.body, sigs, err = s.signatures(1, 1); err != nil {
		return nil, Signature{}, err
	}
	return d, sigs[0], nil
}

// readNamed reads a document's name into a sorted list, at most two of one authority, or one.
func readNamed(v *fields, list *[]Named, single bool) {
	d := Named{v.id(), v.hash()}
	n := len(*list)
	switch {
	case n > 0 && compareNamed((*list)[n-1], d) >= 0:
		v.fail("not sorted")
	case single && n > 0 && (*list)[n-1].Authority == d.Authority:
		v.fail("two of one authority")
	case n > 1 && (*list)[n-2].Authority == d.Authority:
		v.fail("more than two of one authority")
	}
	*list = append(*list, d)
}

func compareNamed(a, b Named) int {
	if c := compareID(a.Authority, b.Authority); c != 0 {
		return c
	}
	return compareID(packet.ID(a.Hash), packet.ID(b.Hash))
}
