package directory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Previous names the consensus that the next one follows; the zero value: there is none.
type Previous struct {
	Epoch uint64
	Hash  Hash
}

// Listed is one node of a vote.
type Listed struct {
	ID         packet.ID
	Descriptor Hash
	Score      uint64 // 0 to MaxScore
}

// Vote is what one authority knows and wants for an epoch (docs/directory.md §5).
type Vote struct {
	Network    string
	Authority  packet.ID
	Epoch      uint64
	Previous   Previous
	Commit     Hash // to the value of its Reveal
	Parameters Parameters
	Nodes      []Listed // those that its operator approved, sorted by ID

	text
}

var voteForm = form{
	{"network", 1, 1, 1, 0},
	{"authority", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
	{"previous", 1, 1, 1, 1},
	{"commit", 1, 1, 1, 0},
	{"parameter", 0, MaxParameters, 2, 0},
	{"node", 0, MaxNodes, 3, 0},
}

// SignVote makes the document from the fields of v.
func SignVote(n *Network, v Vote, s Signer) (*Vote, error) {
	const op = "directory.SignVote"
	w := &writer{}
	head(w, "postern-vote", n.name, s.Public().id, v.Epoch)
	writePrevious(w, v.Previous)
	w.line("commit", v.Commit)
	v.Parameters.write(w)
	for _, l := range v.Nodes {
		w.line("node", l.ID, l.Descriptor, l.Score)
	}
	if err := sign(w, s); err != nil {
		return nil, errs.Wrap(op, err)
	}
	out, err := ParseVote(n, w.b)
	return out, errs.Wrap(op, err)
}

func head(w *writer, title, network string, authority packet.ID, epoch uint64) {
	w.line(title, 1)
	w.line("network", network)
	w.line("authority", authority)
	w.line("epoch", epoch)
}

func writePrevious(w *writer, p Previous) {
	if p == (Previous{}) {
		w.line("previous", "none")
	} else {
		w.line("previous", p.Epoch, p.Hash)
	}
}

func readPrevious(v *fields) (p Previous) {
	if v.left() == 1 {
		if v.str() != "none" {
			v.fail("neither none nor an epoch and a hash")
		}
		return p
	}
	return Previous{Epoch: v.uint(1, maxEpoch), Hash: v.hash()}
}

// ParseVote reads a vote of one of the network's authorities and verifies its signature. It
// keeps b. The errors of ParseDescriptor, and errs.Denied for another network or signer.
func ParseVote(n *Network, b []byte) (*Vote, error) {
	const op = "directory.ParseVote"
	v, sig, err := parseVote(op, b)
	if err == nil {
		err = n.verify(op, v.Network, v.Authority, b[:v.body], &sig)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// verify checks a document of an authority.
func (n *Network) verify(op, network string, authority packet.ID, body []byte, sig *Signature) error {
	a := n.authority(authority)
	switch {
	case network != n.name:
		return errs.E(op, errs.Denied, "document is of another network", nil)
	case a == nil:
		return errs.E(op, errs.Denied, "not an authority of this network", nil)
	case !a.Verify(body, sig):
		return errs.E(op, errs.Denied, "signature is wrong", nil)
	}
	return nil
}

func parseVote(op string, b []byte) (*Vote, Signature, error) {
	s, err := begin(op, "postern-vote", b, MaxVote)
	if err != nil {
		return nil, Signature{}, err
	}
	d := &Vote{text: text{raw: b}}
	err = s.read(voteForm, untilSignature, func(key string, v *fields) error {
		switch key {
		case "network":
			d.Network = v.name()
		case "authority":
			d.Authority = v.id()
		case "epoch":
			d.Epoch = v.uint(1, maxEpoch)
		case "previous":
			if d.Previous = readPrevious(v); d.Previous.Epoch >= d.Epoch {
				v.fail("not before this epoch")
			}
		case "commit":
			d.Commit = v.hash()
		case "parameter":
			return d.Parameters.add(v, true)
		case "node":
			l := Listed{ID: v.id(), Descriptor: v.hash(), Score: v.uint(0, MaxScore)}
			if n := len(d.Nodes); n > 0 && compareID(d.Nodes[n-1].ID, l.ID) >= 0 {
				v.fail("not sorted")
			}
			d.Nodes = append(d.Nodes, l)
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

// Value is what an authority gives to the shared random value.
type Value [32]byte

// NewValue gives the value of an authority for an epoch: HMAC-SHA256 under a secret that it
// keeps beside its identity. It follows from the secret, so that a restart between vote and
// reveal changes nothing; nobody else can tell it from a random one.
func NewValue(secret *[32]byte, network string, epoch uint64) (v Value) {
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte(labelReveal))
	m.Write([]byte(network + "\n" + strconv.FormatUint(epoch, 10)))
	m.Sum(v[:0])
	return v
}

// Commit is what a vote says of the value that its author will reveal.
func (v Value) Commit(network string, authority packet.ID, epoch uint64) (h Hash) {
	s := sha256.New()
	s.Write([]byte(labelCommit))
	s.Write([]byte(network + "\n"))
	s.Write(authority[:])
	s.Write(binary.BigEndian.AppendUint64(nil, epoch))
	s.Write(v[:])
	s.Sum(h[:0])
	return h
}
