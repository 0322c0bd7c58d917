package directory

import (
	"crypto/sha256"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// text is the exact bytes of a signed document and where what is signed ends.
type text struct {
	raw  []byte
	body int
}

// Bytes are those of the whole document. They must not be changed.
func (t *text) Bytes() []byte { return t.raw }

// Hash names the document: SHA-256 of what is signed, without the signatures, so that a
// signer cannot give one document two names.
func (t *text) Hash() Hash { return sha256.Sum256(t.raw[:t.body]) }

var untilSignature = []string{"signature"}

// read reads a document with one signature.
func (t *text) read(op, title string, limit int, f form, b []byte, visit func(key string, v *fields) error) (Signature, error) {
	s, err := begin(op, title, b, limit)
	if err != nil {
		return Signature{}, err
	}
	if err := s.read(f, untilSignature, visit); err != nil {
		return Signature{}, err
	}
	body, sigs, err := s.signatures(1, 1)
	if err != nil {
		return Signature{}, err
	}
	t.raw, t.body = b, body
	return sigs[0], nil
}

// sign appends the signature to a body.
func sign(w *writer, s Signer) error {
	g, err := s.Sign(w.b)
	if err != nil {
		return err
	}
	w.signature(&g)
	return nil
}

// signAs signs a body and reads the document back, so that whatever its fields were it is
// held to the form.
func signAs[D any](op string, w *writer, s Signer, parse func([]byte) (D, error)) (D, error) {
	if err := sign(w, s); err != nil {
		var none D
		return none, errs.Wrap(op, err)
	}
	d, err := parse(w.b)
	return d, errs.Wrap(op, err)
}

// Header is what the documents of an authority begin with.
type Header struct {
	Network   string
	Authority packet.ID
	Epoch     uint64
}

var headerForm = form{
	{"network", 1, 1, 1, 0},
	{"authority", 1, 1, 1, 0},
	{"epoch", 1, 1, 1, 0},
}

// read takes one line of headerForm; false for another.
func (h *Header) read(key string, v *fields) bool {
	switch key {
	case "network":
		h.Network = v.name()
	case "authority":
		h.Authority = v.id()
	case "epoch":
		h.Epoch = v.uint(1, maxEpoch)
	default:
		return false
	}
	return true
}

func (h *Header) write(title string) *writer {
	w := &writer{}
	w.line(title, 1)
	w.line("network", h.Network)
	w.line("authority", h.Authority)
	w.line("epoch", h.Epoch)
	return w
}

// verify checks a document of an authority.
func (n *Network) verify(op string, h Header, body []byte, sig *Signature) error {
	a := n.authority(h.Authority)
	switch {
	case h.Network != n.name:
		return errs.E(op, errs.Denied, "document is of another network", nil)
	case a == nil:
		return errs.E(op, errs.Denied, "not an authority of this network", nil)
	case !a.Verify(body, sig):
		return errs.E(op, errs.Denied, "signature is wrong", nil)
	}
	return nil
}
