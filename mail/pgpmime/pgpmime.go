// Package pgpmime owns the question "is this mail end-to-end encrypted?" and the
// exceptions to it. Everybody who must know asks Check.
package pgpmime

import "postern.email/mail"

// Direction says which rules hold.
type Direction uint8

const (
	Outgoing Direction = iota // handed in by a user
	Incoming                  // from another server
)

// Exception is a kind of mail that passes although it is not encrypted.
type Exception uint8

const (
	NoException       Exception = iota
	SecureJoinRequest           // first step of a key exchange; both directions
	SetupMessage                // Autocrypt setup message to oneself; outgoing only
	Bounce                      // delivery report; incoming only; DKIM is the caller's check
)

// Verdict is the answer of Check.
type Verdict struct {
	Encrypted bool
	Exception Exception
	Reason    string // why not encrypted: a fixed short text for the debug log; no content of the mail
}

// Allowed reports whether the mail may pass.
func (v Verdict) Allowed() bool { return v.Encrypted || v.Exception != NoException }

// Check judges one whole message. recipients are those of the envelope (only the setup
// message looks at them). It never fails: what cannot be read is not encrypted.
func Check(raw []byte, dir Direction, recipients []mail.Address) Verdict {
	return Verdict{Reason: "not built"}
}
