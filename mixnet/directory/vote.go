package directory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strconv"

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
	Header
	Previous   Previous
	Commit     Hash // to the value of its Reveal
	Parameters Parameters
	Nodes      []Listed // those that its operator approved, sorted by ID

	text
}

var voteForm = concat(headerForm, form{
	{"previous", 1, 1, 1, 1},
	{"commit", 1, 1, 1, 0},
	{"parameter", 0, MaxParameters, 2, 0},
	{"node", 0, MaxNodes, 3, 0},
})

// SignVote makes the document from the fields of v; network and authority follow from n and s.
// errs.Invalid, with a public text, for what breaks the form.
func SignVote(n *Network, v Vote, s Signer) (*Vote, error) {
	v.Network, v.Authority = n.name, s.Public().id
	return signAs("directory.SignVote", v.write(), s, func(b []byte) (*Vote, error) { return ParseVote(n, b) })
}

// write gives what is signed.
func (v *Vote) write() *writer {
	w := v.Header.write("postern-vote")
	writePrevious(w, v.Previous)
	w.line("commit", v.Commit)
	v.Parameters.write(w)
	for _, l := range v.Nodes {
		w.line("node", l.ID, l.Descriptor, l.Score)
	}
	return w
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
		err = n.verify(op, v.Header, b[:v.body], &sig)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

func parseVote(op string, b []byte) (*Vote, Signature, error) {
	d := &Vote{}
	sig, err := d.text.read(op, "postern-vote", MaxVote, voteForm, b, func(key string, v *fields) error {
		switch key {
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
		default:
			d.Header.read(key, v)
		}
		return nil
	})
	return d, sig, err
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
