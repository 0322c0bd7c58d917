package pgpmime

import (
	"bytes"
)

const (
	armorBegin = "-----BEGIN PGP MESSAGE-----"
	armorEnd   = "-----END PGP MESSAGE-----"

	maxArmorHeaders    = 8
	maxArmorHeaderLine = 128
)

// armorKeys are the armor headers of RFC 9580 §6.2.2 (and RFC 4880's MessageID).
var armorKeys = [...]string{"Version: ", "Comment: ", "Hash: ", "Charset: ", "MessageID: "}

// armor checks one ASCII armor (RFC 9580 §6.2) that is written to it in pieces of any
// size: the first line begins it, then an empty line, base64, at most one CRC-24 line,
// the last line, and nothing but line ends. Between the lines there is no room for text.
//
// Armor headers are for people and a place for them to read text: none outgoing; the
// known ones incoming, few and short, since older programs write "Version" and "Comment".
// None of GnuPG 2.2, sq, go-crypto and openpgp.js 6 writes any by default.
//
// The CRC is read but not compared: RFC 9580 §6.1 forbids to refuse a wrong one.
type armor struct {
	incoming bool
	state    armorState
	headers  int
	why      string // first reason to refuse
	partial  [maxEncodedLine]byte
	n        int // length of an unfinished line in partial
	data     base64Lines
	packets  walker
}

type armorState uint8

const (
	atBegin armorState = iota
	inHeaders
	beforeData
	inData
	behindCRC
	behindEnd
)

func (a *armor) refuse(why string) bool {
	if a.why == "" {
		a.why = why
	}
	return false
}

// write takes the next piece; false: refused.
func (a *armor) write(p []byte) bool {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 || a.n > 0 {
			k := len(p)
			if i >= 0 {
				k = i + 1
			}
			if a.n+k > len(a.partial) {
				return a.refuse("armor line too long")
			}
			a.n += copy(a.partial[a.n:], p[:k])
			p = p[k:]
			if i >= 0 {
				line := a.partial[:a.n-1]
				a.n = 0
				if !a.line(line) {
					return false
				}
			}
			continue
		}
		if !a.line(p[:i]) {
			return false
		}
		p = p[i+1:]
	}
	return true
}

// line takes one line without its LF. Inside base64 or quoted-printable an armor may
// have LF alone; in a plain body the wire has refused that before.
func (a *armor) line(s []byte) bool {
	s = bytes.TrimSuffix(s, []byte{'\r'})
	switch a.state {
	case atBegin:
		if string(s) != armorBegin {
			return a.refuse("no armor at the start")
		}
		a.data.sink = a.packets.write
		a.state = inHeaders
	case inHeaders:
		if len(s) > 0 {
			return a.header(s)
		}
		a.state = beforeData
	case beforeData:
		if len(s) == 0 {
			return true
		}
		a.state = inData
		fallthrough
	case inData:
		switch {
		case len(s) == 0:
			return a.refuse("empty line in the armor")
		case s[0] == '-':
			return a.end(s)
		case s[0] == '=' && a.data.n == 0:
			var crc [3]byte
			if len(s) != 5 || s[4] == '=' {
				return a.refuse("malformed armor checksum")
			}
			if n, err := strictBase64.Decode(crc[:], s[1:]); err != nil || n != len(crc) {
				return a.refuse("malformed armor checksum")
			}
			a.state = behindCRC
		case !a.data.line(s):
			if a.packets.why != "" {
				return a.refuse(a.packets.why)
			}
			return a.refuse("malformed base64 in the armor")
		}
	case behindCRC:
		return a.end(s)
	case behindEnd:
		if len(s) > 0 {
			return a.refuse("text behind the armor")
		}
	}
	return true
}

func (a *armor) header(s []byte) bool {
	if !a.incoming {
		return a.refuse("armor header")
	}
	a.headers++
	if a.headers > maxArmorHeaders || len(s) > maxArmorHeaderLine {
		return a.refuse("too much armor header")
	}
	for _, k := range armorKeys {
		if bytes.HasPrefix(s, []byte(k)) {
			return true
		}
	}
	return a.refuse("unknown armor header")
}

func (a *armor) end(s []byte) bool {
	if string(s) != armorEnd {
		return a.refuse("malformed end of the armor")
	}
	a.state = behindEnd
	return true
}

// finish takes the last line, which may have no line end, and gives "" or the reason.
func (a *armor) finish() string {
	if a.why == "" && a.n > 0 {
		a.line(a.partial[:a.n])
	}
	switch {
	case a.why != "":
	case a.state != behindEnd:
		a.why = "armor without end"
	case !a.data.complete():
		a.why = "malformed base64 in the armor"
	default:
		a.why = a.packets.finish()
	}
	return a.why
}
