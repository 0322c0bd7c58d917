// Package sasl speaks the server's side of the SASL mechanisms of Postern (RFC
// 4422): PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login). It turns
// messages into credentials and checks nothing against any account. It also owns
// the rule on which connections a password may be asked for.
package sasl

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"postern.email/kit/errs"
)

// Limits. RFC 4954 §4 makes a server take base64 lines of up to 12,288 octets;
// what a mechanism accepts inside is far less.
const (
	MaxLine  = 12288 // octets of one base64 line, without CRLF
	MaxField = 1024  // octets of a user name or a password
)

// Conn is what the rule about passwords looks at.
type Conn struct {
	TLS     bool // the connection is encrypted by TLS now
	Private bool // the operator declared the listener private: loopback proxy, onion, I2P tunnel
}

// MayAuth is the one owner of the question "may a password cross this
// connection?". SMTP, IMAP and POP3 all ask here, both before they offer a
// mechanism and before they accept one.
func MayAuth(c Conn) bool { return c.TLS || c.Private }

// Credentials are what the client sent. Authzid is empty or equal to Username:
// nobody may act for another (anything else is errs.Denied in Next).
type Credentials struct{ Authzid, Username, Password string }

// Server is one exchange of one mechanism. It is used once.
type Server interface {
	// Next takes the client's message, decoded, and gives the next challenge. The
	// first call gets the initial response, or nil when there was none (an empty one is not
	// nil). When done, no challenge is to be sent. After an error the exchange is
	// over: errs.Invalid for malformed input, errs.Denied for another's name.
	Next(response []byte) (challenge []byte, done bool, err error)
	// Credentials gives the result after done.
	Credentials() Credentials
}

// Mechanisms lists what may be offered on c, strongest first; nil when MayAuth
// says no.
func Mechanisms(c Conn) []string {
	if !MayAuth(c) {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

// New starts an exchange. Names are compared without case. errs.Unsupported for a
// mechanism that does not exist here.
func New(mechanism string) (Server, error) {
	switch {
	case strings.EqualFold(mechanism, "PLAIN"):
		return &plain{}, nil
	case strings.EqualFold(mechanism, "LOGIN"):
		return &login{}, nil
	}
	return nil, errs.E("wire/sasl.New", errs.Unsupported, "unknown authentication mechanism", nil)
}

// Decode reads one base64 line of SMTP, IMAP or POP3, strictly (RFC 4648 §4, with
// padding). "=" stands for an empty response (RFC 4954 §4); the result is then
// empty and not nil.
func Decode(line []byte) ([]byte, error) {
	const op = "wire/sasl.Decode"
	if len(line) > MaxLine {
		return nil, errs.E(op, errs.TooLarge, "authentication response too long", nil)
	}
	if len(line) == 1 && line[0] == '=' {
		return []byte{}, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	// The standard decoder skips CR and LF; a line never holds them.
	n, err := base64.StdEncoding.Strict().Decode(out, line)
	if err != nil || bytes.ContainsAny(line, "\r\n") {
		return nil, errs.E(op, errs.Invalid, "malformed base64", nil)
	}
	return out[:n], nil
}

// Encode gives a challenge as base64.
func Encode(challenge []byte) string { return base64.StdEncoding.EncodeToString(challenge) }

// field checks one user name or password.
func field(op string, b []byte) error {
	if len(b) > MaxField {
		return errs.E(op, errs.TooLarge, "name or password too long", nil)
	}
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return errs.E(op, errs.Invalid, "name or password is not plain UTF-8", nil)
	}
	return nil
}

// plain is RFC 4616: one message, [authzid] NUL authcid NUL passwd.
type plain struct{ got Credentials }

func (p *plain) Credentials() Credentials { return p.got }

func (p *plain) Next(response []byte) ([]byte, bool, error) {
	const op = "wire/sasl.plain"
	if response == nil {
		return []byte{}, false, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return nil, false, errs.E(op, errs.Invalid, "malformed PLAIN response", nil)
	}
	for _, f := range parts {
		if err := field(op, f); err != nil {
			return nil, false, err
		}
	}
	got := Credentials{Authzid: string(parts[0]), Username: string(parts[1]), Password: string(parts[2])}
	if got.Authzid != "" && got.Authzid != got.Username {
		return nil, false, errs.E(op, errs.Denied, "nobody may log in for another", nil)
	}
	p.got = got
	return nil, true, nil
}

// login asks for the name and the password one after the other. The prompts are
// those that every client knows.
type login struct {
	step int
	got  Credentials
}

func (l *login) Credentials() Credentials { return l.got }

func (l *login) Next(response []byte) ([]byte, bool, error) {
	const op = "wire/sasl.login"
	if response == nil {
		if l.step != 0 {
			return nil, false, errs.E(op, errs.Invalid, "malformed LOGIN response", nil)
		}
		return []byte("Username:"), false, nil
	}
	if len(response) == 0 {
		return nil, false, errs.E(op, errs.Invalid, "malformed LOGIN response", nil)
	}
	if err := field(op, response); err != nil {
		return nil, false, err
	}
	switch l.step {
	case 0:
		l.step, l.got.Username = 1, string(response)
		return []byte("Password:"), false, nil
	case 1:
		l.step, l.got.Password = 2, string(response)
		return nil, true, nil
	}
	return nil, false, errs.E(op, errs.Invalid, "malformed LOGIN response", nil)
}
