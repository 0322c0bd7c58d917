package dkim

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/mail"
)

const signatureField = "DKIM-Signature"

// signature is one DKIM-Signature field (RFC 6376 §3.5).
type signature struct {
	algorithm      string // "rsa", "ed25519"; the hash is SHA-256
	domain         string // d=, canonical
	agent          string // domain of i=, canonical; d= when not given
	selector       string // canonical
	headers        []string
	relaxedHeader  bool
	relaxedBody    bool
	bodyHash, text []byte // bh=, b=
	length         int64  // l=; -1: not given
	expires        int64  // x=, seconds; -1: never
}

// parseSignature reads a field. why tells what makes it invalid; the domain is there as
// soon as it can be read, so that the caller knows whose signature is bad.
func parseSignature(raw []byte) (s signature, why string) {
	if len(raw) > MaxField {
		return s, "signature too long"
	}
	tags, ok := parseTags(string(raw[bytes.IndexByte(raw, ':')+1:]))
	if !ok {
		return s, "malformed signature"
	}
	var okD, okS, okH, okB bool
	s.domain, okD = hostName(tags["d"])
	s.selector, okS = hostName(tags["s"])
	s.bodyHash, okH = decode(tags["bh"])
	s.text, okB = decode(tags["b"])
	s.headers = list(tags["h"])
	s.agent = s.domain
	switch {
	case tags["v"] != "1":
		return s, "unknown version"
	case !okD || !okS || !okH || !okB:
		return s, "malformed signature"
	case !s.readAlgorithm(strings.ToLower(tags["a"])):
		return s, "unknown or broken algorithm"
	case !s.readForm(tags):
		return s, "unknown canonicalization"
	case slices.Contains(s.headers, ""):
		return s, "malformed list of signed fields"
	case !slices.Contains(s.headers, "from"):
		return s, "From is not signed"
	case !s.readAgent(tags):
		return s, "i= does not belong to d="
	case !s.readNumbers(tags):
		return s, "malformed time or length"
	}
	if q, given := tags["q"]; given && !slices.Contains(list(q), "dns/txt") {
		return s, "unknown way to the key"
	}
	return s, ""
}

// readAlgorithm knows no SHA-1 (RFC 8301 §3.1).
func (s *signature) readAlgorithm(a string) (ok bool) {
	s.algorithm, ok = strings.CutSuffix(a, "-sha256")
	return ok && (s.algorithm == "rsa" || s.algorithm == "ed25519")
}

// readForm reads c=: "header/body", simple where nothing is said (§3.5).
func (s *signature) readForm(tags map[string]string) bool {
	form, given := tags["c"]
	if !given {
		form = "simple"
	}
	header, body, two := strings.Cut(strings.ToLower(form), "/")
	if !two {
		body = "simple"
	}
	s.relaxedHeader, s.relaxedBody = header == "relaxed", body == "relaxed"
	return (s.relaxedHeader || header == "simple") && (s.relaxedBody || body == "simple")
}

// readAgent reads i=, whose domain is d= or below it. The part before the @ is the
// signer's own affair.
func (s *signature) readAgent(tags map[string]string) bool {
	i, given := tags["i"]
	if !given {
		return true
	}
	at := strings.LastIndexByte(i, '@')
	if at < 0 {
		return false
	}
	var ok bool
	s.agent, ok = hostName(i[at+1:])
	return ok && (s.agent == s.domain || strings.HasSuffix(s.agent, "."+s.domain))
}

func (s *signature) readNumbers(tags map[string]string) bool {
	signed, ok1 := number(tags, "t")
	expires, ok2 := number(tags, "x")
	length, ok3 := number(tags, "l")
	s.expires, s.length = expires, length
	return ok1 && ok2 && ok3 && (signed < 0 || expires < 0 || expires > signed)
}

// number reads an unsigned decimal number; -1 when it is not given.
func number(tags map[string]string, name string) (int64, bool) {
	text, given := tags[name]
	if !given {
		return -1, true
	}
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// hostName gives the canonical form of a domain name or selector.
func hostName(s string) (string, bool) {
	a, err := mail.ParseAddress("x@" + s)
	if err != nil || strings.HasPrefix(a.Domain, "[") {
		return "", false
	}
	return mail.CanonicalDomain(a.Domain), true
}

// message is a mail under test. The hashes of its body are made once.
type message struct {
	fields []mail.Field
	body   []byte
	hashes [2]bodyHash // simple, relaxed
}

// covers checks what needs no key: time, that all From fields are signed, the body.
func (m *message) covers(s signature, now time.Time) (why string) {
	if s.expires >= 0 && now.Unix() > s.expires {
		return "signature expired"
	}
	from, signed := 0, 0
	for _, f := range m.fields {
		if strings.EqualFold(f.Name, "From") {
			from++
		}
	}
	for _, h := range s.headers {
		if h == "from" {
			signed++
		}
	}
	if from == 0 || from > signed {
		return "not every From field is signed"
	}
	b := m.hash(s.relaxedBody)
	switch {
	case s.length >= 0 && s.length != b.size:
		return "l= is not the length of the body"
	case !bytes.Equal(b.sum[:], s.bodyHash):
		return "the body was changed"
	}
	return ""
}
