package directory

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
	Header
	Consensus Hash
	Inputs

	text
	sig Signature
}

var endorsementForm = concat(headerForm, form{{"consensus", 1, 1, 1, 0}}, inputForm)

// SignEndorsement makes the endorsement of a consensus.
func SignEndorsement(n *Network, c *Consensus, s Signer) (*Endorsement, error) {
	e := c.endorsement(s.Public().id)
	return signAs("directory.SignEndorsement", e.write(), s, func(b []byte) (*Endorsement, error) { return ParseEndorsement(n, b) })
}

// write gives what is signed.
func (e *Endorsement) write() *writer {
	w := e.Header.write("postern-endorsement")
	w.line("consensus", e.Consensus)
	e.Inputs.write(w)
	return w
}

// ParseEndorsement is as ParseVote.
func ParseEndorsement(n *Network, b []byte) (*Endorsement, error) {
	const op = "directory.ParseEndorsement"
	e, err := parseEndorsement(op, b)
	if err == nil {
		err = n.verify(op, e.Header, b[:e.body], &e.sig)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func parseEndorsement(op string, b []byte) (*Endorsement, error) {
	d := &Endorsement{}
	var err error
	d.sig, err = d.text.read(op, "postern-endorsement", MaxEndorsement, endorsementForm, b, func(key string, v *fields) error {
		switch {
		case d.Header.read(key, v):
		case key == "consensus":
			d.Consensus = v.hash()
		default:
			d.Inputs.read(key, v)
		}
		return nil
	})
	return d, err
}
