package directory

import (
	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Inputs name the documents that a consensus is computed from, each list sorted, with both
// documents of an authority that made two.
type Inputs struct {
	Previous Previous
	Votes    []Named
	Reveals  []Named
}

var inputForm = form{
	{"previous", 1, 1, 1, 1},
	{"vote", 0, 2 * MaxAuthorities, 2, 0},
	{"reveal", 0, 2 * MaxAuthorities, 2, 0},
}

func (in *Inputs) write(w *writer) {
	writePrevious(w, in.Previous)
	for _, v := range in.Votes {
		w.line("vote", v.Authority, v.Hash)
	}
	for _, v := range in.Reveals {
		w.line("reveal", v.Authority, v.Hash)
	}
}

func (in *Inputs) read(key string, v *fields) {
	switch key {
	case "previous":
		in.Previous = readPrevious(v)
	case "vote":
		readNamed(v, &in.Votes, false)
	case "reveal":
		readNamed(v, &in.Reveals, false)
	}
}

// Endorsement is an authority's word for one consensus of an epoch: it computed exactly this
// one from exactly these documents. Its signature stands in the consensus; the rest of it
// follows from there.
type Endorsement struct {
	Network   string
	Authority packet.ID
	Epoch     uint64
	Consensus Hash
	Inputs

	text
	sig Signature
}

var endorsementForm = append(form{
	{"network", 1, 1, 1, 0},
	{"authority", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
	{"consensus", 1, 1, 1, 0},
}, inputForm...)

// write gives what is signed.
func (e *Endorsement) write() *writer {
	w := &writer{}
	head(w, "postern-endorsement", e.Network, e.Authority, e.Epoch)
	w.line("consensus", e.Consensus)
	e.Inputs.write(w)
	return w
}

// SignEndorsement makes the endorsement of a consensus.
func SignEndorsement(n *Network, c *Consensus, s Signer) (*Endorsement, error) {
	const op = "directory.SignEndorsement"
	e := c.endorsement(s.Public().id)
	w := e.write()
	if err := sign(w, s); err != nil {
		return nil, errs.Wrap(op, err)
	}
	out, err := ParseEndorsement(n, w.b)
	return out, errs.Wrap(op, err)
}

// ParseEndorsement is as ParseVote.
func ParseEndorsement(n *Network, b []byte) (*Endorsement, error) {
	const op = "directory.ParseEndorsement"
	e, err := parseEndorsement(op, b)
	if err == nil {
		err = n.verify(op, e.Network, e.Authority, b[:e.body], &e.sig)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func parseEndorsement(op string, b []byte) (*Endorsement, error) {
	s, err := begin(op, "postern-endorsement", b, MaxEndorsement)
	if err != nil {
		return nil, err
	}
	d := &Endorsement{text: text{raw: b}}
	err = s.read(endorsementForm, untilSignature, func(key string, v *fields) error {
		switch key {
		case "network":
			d.Network = v.name()
		case "authority":
			d.Authority = v.id()
		case "epoch":
			d.Epoch = v.uint(1, maxEpoch)
		case "consensus":
			d.Consensus = v.hash()
		default:
			d.Inputs.read(key, v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var sigs []Signature
	if d.body, sigs, err = s.signatures(1, 1); err != nil {
		return nil, err
	}
	d.sig = sigs[0]
	return d, nil
}
