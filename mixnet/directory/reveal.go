package directory

import (
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
	Header
	Value Value
	Votes []Named // at most one of each authority, sorted

	text
}

var revealForm = concat(headerForm, form{
	{"value", 1, 1, 1, 0},
	{"vote", 0, MaxAuthorities, 2, 0},
})

// SignReveal is as SignVote.
func SignReveal(n *Network, r Reveal, s Signer) (*Reveal, error) {
	r.Network, r.Authority = n.name, s.Public().id
	return signAs("directory.SignReveal", r.write(), s, func(b []byte) (*Reveal, error) { return ParseReveal(n, b) })
}

// write gives what is signed.
func (r *Reveal) write() *writer {
	w := r.Header.write("postern-reveal")
	w.line("value", Hash(r.Value))
	for _, v := range r.Votes {
		w.line("vote", v.Authority, v.Hash)
	}
	return w
}

// ParseReveal is as ParseVote.
func ParseReveal(n *Network, b []byte) (*Reveal, error) {
	const op = "directory.ParseReveal"
	r, sig, err := parseReveal(op, b)
	if err == nil {
		err = n.verify(op, r.Header, b[:r.body], &sig)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func parseReveal(op string, b []byte) (*Reveal, Signature, error) {
	d := &Reveal{}
	sig, err := d.text.read(op, "postern-reveal", MaxReveal, revealForm, b, func(key string, v *fields) error {
		switch key {
		case "value":
			d.Value = Value(v.hash())
		case "vote":
			readNamed(v, &d.Votes, true)
		default:
			d.Header.read(key, v)
		}
		return nil
	})
	return d, sig, err
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
