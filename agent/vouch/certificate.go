package vouch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// Certificate is the word of a relay that an address has these keys (docs/vouch.md §2). It is
// not changed after it was made.
type Certificate struct {
	Identity
	Address     mail.Address // in its canonical form
	Serial      uint64       // of two the one with the higher is the later
	From, Until time.Time    // whole seconds; until is the first moment at which it is not valid

	raw []byte
}

// Life is for how long a relay vouches, and the longest that anybody believes.
const Life = 7 * 24 * time.Hour

// MaxAddress bounds the address in a certificate, in bytes.
const MaxAddress = letter.MaxSender

const (
	certificateVersion = 1
	edSigLen           = 64
	mlSigLen           = 3309
	certificateFixed   = 1 + 32 + 32 + 8 + 8 + 8 + keysLen + 2 // before the address
)

// MaxCertificate bounds a certificate, in bytes.
const MaxCertificate = certificateFixed + MaxAddress + edSigLen + mlSigLen

const maxTime = 1 << 40 // seconds since 1970; docs/letter.md has the same bound

// Issue signs a certificate with the name key of the relay. errs.Invalid for one that nobody
// would believe.
func Issue(c Certificate, name directory.Signer) (*Certificate, error) {
	const op = "agent/vouch.Issue"
	c.Address = c.Address.Canonical()
	if c.Letter == nil || c.Key == nil {
		return nil, errs.E(op, errs.Invalid, "", errors.New("a certificate needs keys"))
	}
	b := append(make([]byte, 0, MaxCertificate), certificateVersion)
	b = append(append(b, c.Relay[:]...), c.Mailbox[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Serial)
	b = binary.BigEndian.AppendUint64(b, uint64(c.From.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Until.Unix()))
	b = c.appendKeys(b)
	a := c.Address.String()
	b = binary.BigEndian.AppendUint16(b, uint16(len(a)))
	b = append(b, a...)
	sig, err := name.Sign(append([]byte(labelCertificate), b...))
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out, err := Parse(append(append(b, sig.Ed25519[:]...), sig.MLDSA[:]...))
	return out, errs.Wrap(op, err)
}

// Parse reads a certificate. Whether anybody may believe it is Verify's business. errs.Invalid;
// errs.Unsupported for another version.
func Parse(b []byte) (*Certificate, error) {
	const op = "agent/vouch.Parse"
	bad := func(why string) (*Certificate, error) {
		return nil, errs.E(op, errs.Invalid, "the certificate is malformed", errors.New(why))
	}
	if len(b) > 0 && b[0] != certificateVersion {
		return nil, errs.E(op, errs.Unsupported, "the certificate is of another version", nil)
	}
	if len(b) < certificateFixed+edSigLen+mlSigLen || len(b) > MaxCertificate {
		return bad("its length")
	}
	c := &Certificate{Identity: Identity{Relay: packet.ID(b[1:]), Mailbox: packet.ID(b[33:])}, raw: bytes.Clone(b)}
	c.Serial = binary.BigEndian.Uint64(b[65:])
	from, until := binary.BigEndian.Uint64(b[73:]), binary.BigEndian.Uint64(b[81:])
	if from >= until || until > maxTime || until-from > uint64(Life/time.Second) {
		return bad("its dates")
	}
	c.From, c.Until = time.Unix(int64(from), 0).UTC(), time.Unix(int64(until), 0).UTC()
	if err := c.parseKeys(b[89 : 89+keysLen]); err != nil {
		return bad("its keys")
	}
	n := int(binary.BigEndian.Uint16(b[certificateFixed-2:]))
	if n > MaxAddress || len(b) != certificateFixed+n+edSigLen+mlSigLen {
		return bad("the length of its address")
	}
	text := string(b[certificateFixed : certificateFixed+n])
	a, err := mail.ParseAddress(text)
	if err != nil || a.Canonical().String() != text || a.Domain == "" {
		return bad("its address")
	}
	c.Address = a.Canonical()
	return c, nil
}

// Bytes gives the certificate as it came. The slice must not be changed.
func (c *Certificate) Bytes() []byte { return c.raw }

// Verify reports whether the certificate is to be believed at a time: its relay is in the
// consensus, signed it with its name key, and names the address's domain as its own. The
// public text of the error says which is not so. errs.Auth for a wrong signature, else
// errs.Denied.
func (c *Certificate) Verify(cons *directory.Consensus, now time.Time) error {
	const op = "agent/vouch.Certificate.Verify"
	no := func(format string, a ...any) error {
		return errs.E(op, errs.Denied, fmt.Sprintf(format, a...), nil)
	}
	e := cons.Find(c.Relay)
	switch {
	case e == nil || e.NameKey == nil:
		return no("the relay that vouches for the sender is not in the network")
	case !slices.Contains(e.Domains, c.Address.Domain):
		return no("the relay does not vouch for addresses of this domain")
	case anon.Reserved(c.Address):
		return no("the certificate is for an address that nobody may have")
	case now.Before(c.From.Add(-directory.MaxSkew)):
		return no("the sender's certificate is valid from %s on, and it is %s: one clock is wrong", c.From.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !now.Before(c.Until.Add(directory.MaxSkew)):
		return no("the sender's certificate has expired: it was valid until %s", c.Until.Format(time.RFC3339))
	}
	end := len(c.raw) - edSigLen - mlSigLen
	if end < 0 {
		return errs.E(op, errs.Auth, "the certificate is not signed", nil)
	}
	sig := directory.Signature{Signer: e.NameKey.ID()}
	copy(sig.Ed25519[:], c.raw[end:])
	copy(sig.MLDSA[:], c.raw[end+edSigLen:])
	if !e.NameKey.Verify(append([]byte(labelCertificate), c.raw[:end]...), &sig) {
		return errs.E(op, errs.Auth, "the sender's certificate is not signed by its relay", nil)
	}
	return nil
}
