package directory

import (
	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Loops is what became of the loops that a mix sent through another node in an epoch.
type Loops struct {
	Through        packet.ID
	Sent, Returned uint64 // to MaxLoops
}

// MaxLoops bounds the loops of one mix through another in an epoch.
const MaxLoops = 1_000_000

// Stats is what one mix measured in one epoch, signed by its identity.
type Stats struct {
	Network string
	Node    packet.ID
	Epoch   uint64
	Loops   []Loops // sorted

	text
}

var statsForm = form{
	{"network", 1, 1, 1, 0},
	{"node", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
	{"loops", 0, MaxNodes, 3, 0},
}

// SignStats makes the document from the fields of v.
func SignStats(v Stats, s Signer) (*Stats, error) {
	v.Node = s.Public().id
	return signAs("directory.SignStats", v.write(), s, func(b []byte) (*Stats, error) {
		out, _, err := parseStats("directory.SignStats", b)
		return out, err
	})
}

// write gives what is signed.
func (v *Stats) write() *writer {
	w := &writer{}
	w.line("postern-stats", 1)
	w.line("network", v.Network)
	w.line("node", v.Node)
	w.line("epoch", v.Epoch)
	for _, l := range v.Loops {
		w.line("loops", l.Through, l.Sent, l.Returned)
	}
	return w
}

// ParseStats reads statistics and verifies that the node with this identity signed them. It
// keeps b. identity gives the keys of a node, nil for one that is not known. The errors of
// ParseDescriptor, and errs.Denied for another network or an unknown node.
func ParseStats(network string, identity func(packet.ID) *PublicKey, b []byte) (*Stats, error) {
	const op = "directory.ParseStats"
	v, sig, err := parseStats(op, b)
	if err != nil {
		return nil, err
	}
	k := identity(v.Node)
	switch {
	case v.Network != network:
		return nil, errs.E(op, errs.Denied, "document is of another network", nil)
	case k == nil || k.id != v.Node:
		return nil, errs.E(op, errs.Denied, "not a node of this network", nil)
	case !k.Verify(b[:v.body], &sig):
		return nil, errs.E(op, errs.Denied, "signature is wrong", nil)
	}
	return v, nil
}

func parseStats(op string, b []byte) (*Stats, Signature, error) {
	d := &Stats{}
	sig, err := d.text.read(op, "postern-stats", MaxStats, statsForm, b, func(key string, v *fields) error {
		switch key {
		case "network":
			d.Network = v.name()
		case "node":
			d.Node = v.id()
		case "epoch":
			d.Epoch = v.uint(1, maxEpoch)
		case "loops":
			l := Loops{Through: v.id(), Sent: v.uint(1, MaxLoops), Returned: v.uint(0, MaxLoops)}
			if l.Returned > l.Sent {
				v.fail("more returned than were sent")
			}
			if n := len(d.Loops); n > 0 && compareID(d.Loops[n-1].Through, l.Through) >= 0 {
				v.fail("not sorted")
			}
			d.Loops = append(d.Loops, l)
		}
		return nil
	})
	return d, sig, err
}
