package link

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"time"

	"postern.email/kit/errs"
)

// Key names a link key: the SHA-256 of its SubjectPublicKeyInfo.
type Key [sha256.Size]byte

// String gives the key in hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// KeyOf names a link key. errs.Invalid for what is no Ed25519 key.
func KeyOf(pub ed25519.PublicKey) (Key, error) {
	const op = "mixnet/link.KeyOf"
	if len(pub) != ed25519.PublicKeySize {
		return Key{}, errs.E(op, errs.Invalid, "not an Ed25519 key", nil)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Key{}, errs.E(op, errs.Invalid, "not an Ed25519 key", err)
	}
	return sha256.Sum256(spki), nil
}

// Role is what a peer is in the network.
type Role uint8

// Roles. The zero Role is nobody's.
const (
	Mix Role = iota + 1
	Relay
	Client // a proxy, for one account of this relay
	Authority
)

// maySend reports whether units are taken from such a peer (docs/link.md §5).
func (r Role) maySend() bool { return r == Mix || r == Relay || r == Client }

// Peer is who is at the other end of a link. It is comparable.
type Peer struct {
	Key     Key
	Role    Role
	Account [8]byte // of a Client: the number of its account; else zero
}

// The ALPN protocols (docs/link.md §1, §2).
const (
	alpnHello  = "postern-link" // no version in common: only HELLO is exchanged
	alpnPrefix = "postern-link/"
)

// certificate makes the certificate that carries the key. All of them have the same
// names and times: nothing but the key is read, and nothing else may tell them apart.
func certificate(priv ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0).UTC(),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 §4.1.2.5: no end
	}
	der, err := x509.CreateCertificate(noRandom{}, template, template, priv.Public(), priv)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}, nil
}

// noRandom: Ed25519 signs without random numbers (RFC 8032).
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Why a handshake is not accepted.
var (
	errUnknownKey = errs.E("mixnet/link", errs.Denied, "the peer's key is not known here", nil)
	errOtherKey   = errs.E("mixnet/link", errs.Denied, "the peer shows another key than the one that is known of it", nil)
	errNoLink     = errs.E("mixnet/link", errs.Denied, "the other side is no node of this network", nil)
)

// peerKey gives the key of the other side. Only an Ed25519 key in a single certificate
// is one; that the other side holds it, TLS has proven.
func peerKey(s *tls.ConnectionState) (Key, error) {
	if len(s.PeerCertificates) != 1 {
		return Key{}, errNoLink
	}
	cert := s.PeerCertificates[0]
	if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok {
		return Key{}, errNoLink
	}
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo), nil
}

// config is the TLS of both sides: see docs/link.md §1. know judges the other's key.
func (l *Link) config(know func(Key) error) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		CurvePreferences:            []tls.CurveID{tls.X25519MLKEM768},
		Certificates:                []tls.Certificate{l.cert},
		NextProtos:                  l.protocols,
		ClientAuth:                  tls.RequireAnyClientCert,
		InsecureSkipVerify:          true, // no authority, no names: VerifyConnection pins the key
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // frames are the same records from the first on
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519MLKEM768 || s.DidResume || s.NegotiatedProtocol == "" {
				return errNoLink
			}
			key, err := peerKey(&s)
			if err != nil {
				return err
			}
			return know(key)
		},
	}
}

// handshakeError says why there is no connection. A refusal by the other side comes as
// an alert, which does not say more.
func handshakeError(op string, err error) error {
	var own *errs.Error
	if errors.As(err, &own) {
		return errs.Wrap(op, err)
	}
	// crypto/tls has no type for it but this.
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return errs.E(op, errs.Denied, "the peer refused the connection: it does not know this node's key, or is no node of this network", err)
	}
	return errs.E(op, errs.Unavailable, "no connection to the peer", err)
}
