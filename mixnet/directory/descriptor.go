package directory

import (
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Descriptor is what a node says of itself, signed by its identity (docs/directory.md §4).
type Descriptor struct {
	Network   string
	Identity  *PublicKey
	Published time.Time // whole seconds
	Operator
	Node

	text
}

// Operator is what the operator of a node says of themselves, for other operators and for
// users; it stands in descriptors alone. Each is words of printable ASCII with one space
// between them, or empty.
type Operator struct {
	Contact     string // a mail address, at most MaxContact bytes
	Fingerprint string // of the OpenPGP key of Contact, at most MaxContact bytes
	Comments    string // at most MaxComments bytes
}

var descriptorForm = append(form{
	{"network", 1, 1, 1, 0},
	{"identity", 1, 1, 2, 0},
	{"published", 1, 1, 1, 0},
	{"contact", 0, 1, 1, MaxContact},
	{"fingerprint", 0, 1, 1, MaxContact},
	{"comments", 0, 1, 1, MaxComments},
}, nodeForm...)

// SignDescriptor makes the document from the fields of d; identity is the signer's.
// errs.Invalid, with a public text, for what breaks the form.
func SignDescriptor(d Descriptor, s Signer) (*Descriptor, error) {
	d.Identity = s.Public()
	const op = "directory.SignDescriptor"
	out, err := signAs(op, d.write(), s, ParseDescriptor)
	if err == nil && out.Operator != d.Operator { // a line end in a text begins another line
		return nil, errs.E(op, errs.Invalid, "a text of the operator is not words with one space between them", nil)
	}
	return out, err
}

// write gives what is signed.
func (d *Descriptor) write() *writer {
	w := &writer{}
	w.line("postern-descriptor", 1)
	w.line("network", d.Network)
	w.line("identity", d.Identity)
	w.line("published", d.Published)
	for _, l := range [][2]string{{"contact", d.Contact}, {"fingerprint", d.Fingerprint}, {"comments", d.Comments}} {
		if l[1] != "" {
			w.line(l[0], l[1])
		}
	}
	d.Node.write(w)
	return w
}

// ParseDescriptor reads a descriptor and verifies its signature. It keeps b. errs.Invalid,
// errs.TooLarge or errs.Unsupported, with a public text that names the line, for another
// form; errs.Denied for a wrong signature. It knows no clock: see Fresh.
func ParseDescriptor(b []byte) (*Descriptor, error) {
	const op = "directory.ParseDescriptor"
	d, sig, err := parseDescriptor(op, b)
	if err != nil {
		return nil, err
	}
	if !d.Identity.Verify(b[:d.body], &sig) {
		return nil, errs.E(op, errs.Denied, "signature is wrong", nil)
	}
	return d, nil
}

func parseDescriptor(op string, b []byte) (*Descriptor, Signature, error) {
	d := &Descriptor{}
	sig, err := d.text.read(op, "postern-descriptor", MaxDescriptor, descriptorForm, b, func(key string, v *fields) error {
		switch key {
		case "network":
			d.Network = v.name()
		case "identity":
			d.Identity = v.key()
		case "published":
			d.Published = v.time()
		case "contact":
			d.Contact = v.words(MaxContact)
		case "fingerprint":
			d.Fingerprint = v.words(MaxContact)
		case "comments":
			d.Comments = v.words(MaxComments)
		default:
			return d.Node.read(key, v)
		}
		return nil
	})
	if err == nil {
		err = d.Node.check(op)
	}
	return d, sig, err
}

// ID is the ID of the node.
func (d *Descriptor) ID() packet.ID { return d.Identity.ID() }

// Fresh tells why a descriptor cannot be used at a time: errs.Invalid with both times for
// one from the future beyond MaxSkew, errs.Denied for one of another network, one that is
// older than Network.MaxAge, or one without a packet key that is valid in the time from now on.
func (d *Descriptor) Fresh(n *Network, now time.Time) error {
	const op = "directory.Descriptor.Fresh"
	switch {
	case d.Network != n.name:
		return errs.E(op, errs.Denied, "descriptor is of another network", nil)
	case d.Published.Sub(now) > MaxSkew:
		return errs.E(op, errs.Invalid, fmt.Sprintf("descriptor is from %s, and it is %s here: one of the clocks is wrong",
			formatTime(d.Published), formatTime(now)), nil)
	case now.Sub(d.Published) > n.MaxAge():
		return errs.E(op, errs.Denied, "descriptor is too old", nil)
	}
	for _, k := range d.Keys {
		if now.Before(k.Until) {
			return nil
		}
	}
	return errs.E(op, errs.Denied, "all packet keys of the descriptor have expired", nil)
}
