// Package pgpmime owns the question "is this mail end-to-end encrypted?" and the
// exceptions to it. Everybody who must know asks Check.
//
// Encrypted means OpenPGP/MIME (RFC 3156 §4) and nothing beside it that could carry text:
//
//   - Content-Type, once, is multipart/encrypted with a plain boundary parameter.
//   - Exactly two parts. Before the first boundary stands nothing, or one CRLF, or
//     a fixed sentence that some programs write there (knownPreambles). Behind the
//     last one stands nothing, or one or two CRLFs. A boundary line holds the boundary only.
//   - Part 1 is application/pgp-encrypted and says "Version: 1".
//   - Part 2 is application/octet-stream; its body, after 7bit, base64 or
//     quoted-printable, is one ASCII armor (armor.go) and nothing else.
//   - The armor holds session key packets (versions 3, 4, 5, 6) and then one
//     SEIPD packet (version 1 or 2) that ends where the data ends (packets.go).
//
// It is a check of form: it cannot see whether the bytes inside a packet are really
// encrypted, and it opens nothing.
package pgpmime

import (
	"bytes"
	"strings"

	"postern.email/mail"
)

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

// knownPreambles are what Enigmail and Thunderbird (first) and GPGTools (second) put before
// the first boundary of every encrypted mail. Being fixed they can carry no text, and
// without them the most used mail programs with OpenPGP would be refused.
var knownPreambles = [...]string{
	"This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n",
	"This is an OpenPGP/MIME encrypted message (RFC 2440 and 3156)\r\n",
}

// maxSmallPart bounds the bodies that are compared as a whole: "Version: 1" and the
// secure-join line.
const maxSmallPart = 1 << 10

// Check judges one whole message. recipients are those of the envelope (only the setup
// message looks at them). It never fails: what cannot be read is not encrypted. It
// reads the message once and keeps a few KiB, whatever the size.
func Check(raw []byte, dir Direction, recipients []mail.Address) Verdict {
	top, body, err := mail.ParseHeader(raw)
	if err != nil {
		return Verdict{Reason: "malformed message header"}
	}
	m := message{header: top, head: raw[:body], body: raw[body:]}
	if m.ct, m.reason = readContent(top); m.reason != "" {
		return Verdict{Reason: m.reason}
	}
	reason := m.encrypted(dir)
	if reason == "" {
		return Verdict{Encrypted: true}
	}
	return Verdict{Exception: m.exception(dir, recipients), Reason: reason}
}

// message is the mail under test.
type message struct {
	header mail.Header
	head   []byte // the header's bytes
	ct     content
	body   []byte
	reason string
}

// encrypted gives "" or the reason why the message is not.
func (m *message) encrypted(dir Direction) string {
	if !m.ct.is("multipart/encrypted") {
		return "not multipart/encrypted"
	}
	if !cleanHeader(m.head) {
		return "control character in a header"
	}
	parts, n, why := m.split(2)
	if why != "" {
		return why
	}
	if n != 2 {
		return "not exactly two parts"
	}
	if why := checkVersionPart(parts[0]); why != "" {
		return why
	}
	return checkDataPart(parts[1], dir)
}

// split cuts a multipart body into at most limit parts. A line that starts with the
// boundary but is no boundary line, and text before or behind the parts, are
// refused: readers do not agree what they are.
func (m *message) split(limit int) (parts [2][]byte, n int, why string) {
	if m.ct.boundary == "" {
		return parts, 0, "no boundary"
	}
	if !m.ct.identity() {
		return parts, 0, "encoded multipart" // RFC 2045 §6.4
	}
	delim := make([]byte, 0, 4+maxBoundary)
	delim = append(delim, "\r\n--"...)
	delim = append(delim, m.ct.boundary...)

	rest := m.body
	if m.ct.is("multipart/encrypted") {
		for _, p := range knownPreambles {
			if bytes.HasPrefix(rest, []byte(p)) {
				rest = rest[len(p)-2:] // its CRLF belongs to the boundary
				break
			}
		}
	}
	switch {
	case bytes.HasPrefix(rest, delim[2:]):
		rest = rest[len(delim)-2:]
	case bytes.HasPrefix(rest, delim):
		rest = rest[len(delim):]
	default:
		return parts, 0, "text before the first part"
	}
	for {
		// rest starts behind a boundary.
		if bytes.HasPrefix(rest, []byte("--")) {
			switch string(rest[2:min(len(rest), 8)]) {
			case "", "\r\n", "\r\n\r\n":
				return parts, n, ""
			}
			return parts, n, "text behind the last part"
		}
		if !bytes.HasPrefix(rest, []byte("\r\n")) {
			return parts, n, "malformed boundary line"
		}
		if n == limit {
			return parts, n, "too many parts"
		}
		// The CRLF of the boundary line may be that of the next one (an empty part).
		end := bytes.Index(rest, delim)
		if end < 0 {
			return parts, n, "no final boundary"
		}
		parts[n] = rest[min(2, end):end]
		n++
		rest = rest[end+len(delim):]
	}
}

// checkVersionPart judges part 1 (RFC 3156 §4).
func checkVersionPart(part []byte) string {
	ct, body, why := readPart(part)
	if why != "" {
		return why
	}
	if !ct.is("application/pgp-encrypted") {
		return "first part is not application/pgp-encrypted"
	}
	var buf [maxSmallPart]byte
	text, ok := decodeSmall(buf[:0], body, ct.encoding)
	if !ok || string(bytes.TrimSpace(text)) != "Version: 1" {
		return "first part is not Version: 1"
	}
	return ""
}

// checkDataPart judges part 2.
func checkDataPart(part []byte, dir Direction) string {
	ct, body, why := readPart(part)
	if why != "" {
		return why
	}
	if !ct.is("application/octet-stream") {
		return "second part is not application/octet-stream"
	}
	a := armor{incoming: dir == Incoming}
	if !transferDecode(body, ct.encoding, a.write) && a.why == "" {
		return "malformed transfer encoding"
	}
	return a.finish()
}

func readPart(part []byte) (ct content, body []byte, why string) {
	h, off, err := mail.ParseHeader(part)
	if err != nil {
		return ct, nil, "malformed part header"
	}
	if !cleanHeader(part[:off]) {
		return ct, nil, "control character in a header"
	}
	ct, why = readContent(h)
	return ct, part[off:], why
}

// exception finds out whether an unencrypted message may pass.
func (m *message) exception(dir Direction, recipients []mail.Address) Exception {
	switch {
	case m.secureJoin():
		return SecureJoinRequest
	case dir == Outgoing && m.setupMessage(recipients):
		return SetupMessage
	case dir == Incoming && m.bounce():
		return Bounce
	}
	return NoException
}

// secureJoin is the request that starts a key exchange, when there is no key yet: a
// fixed text, alone in a text/plain part, which is the only part of a multipart or the
// message itself (as one release of the chat-mail core sent it).
func (m *message) secureJoin() bool {
	if m.header.Count("Secure-Join") != 1 {
		return false
	}
	switch m.header.Get("Secure-Join") {
	case "vc-request", "vg-request":
	default:
		return false
	}
	ct, body := m.ct, m.body
	if strings.HasPrefix(ct.kind, "multipart/") {
		parts, n, why := m.split(1)
		if why != "" || n != 1 {
			return false
		}
		if ct, body, why = readPart(parts[0]); why != "" {
			return false
		}
	}
	if !ct.is("text/plain") {
		return false
	}
	var buf [maxSmallPart]byte
	text, ok := decodeSmall(buf[:0], body, ct.encoding)
	if !ok {
		return false
	}
	switch string(bytes.ToLower(bytes.TrimSpace(text))) {
	case "secure-join: vc-request", "secure-join: vg-request":
		return true
	}
	return false
}

// setupMessage is an Autocrypt setup message: to oneself and to nobody else.
func (m *message) setupMessage(recipients []mail.Address) bool {
	if len(recipients) != 1 || !m.ct.is("multipart/mixed") ||
		m.header.Count("Subject") != 1 || m.header.Get("Subject") != "Autocrypt Setup Message" {
		return false
	}
	from, err := mail.FromAddress(m.header)
	return err == nil && from.Equal(recipients[0])
}

// bounce is a delivery report of another server.
func (m *message) bounce() bool {
	if !m.ct.is("multipart/report") || m.header.Get("Auto-Submitted") == "" {
		return false
	}
	from, err := mail.FromAddress(m.header)
	return err == nil && strings.EqualFold(from.Local, "mailer-daemon")
}
