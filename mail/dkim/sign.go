package dkim

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Limits of a signer.
const (
	MaxKeys  = 4       // keys of one Signer
	MaxNames = 6 << 10 // bytes of one h=; two signatures then fit in what mail/sanitize keeps free
	maxLine  = 78      // columns of a line (RFC 5322 §2.1.1), line end not counted
)

// Key is one key that signs.
type Key struct {
	Selector string        // its record lies at RecordName(Selector, domain)
	Signer   crypto.Signer // *rsa.PrivateKey or ed25519.PrivateKey
}

// Signer signs mails. It may be used by many goroutines.
//
// Its signatures are relaxed/simple. Relays fold header fields anew, so the header is
// relaxed; a relay that touches the body of MIME text without white space at line ends
// breaks more than white space, and the simple form is hashed several times as fast. There
// is no t=, x= or i=: a time of signing tells when a mail was handed in, which the Date of
// a chat mail hides on purpose; i= would only repeat d=.
type Signer struct {
	Domain string // d=; a host name, no IP literal
	Keys   []Key  // each makes a signature, in this order from the top
}

// oversigned fields are signed once more than they occur, so that nobody can add one
// (RFC 6376 §8.15).
var oversigned = [...]string{"from", "reply-to", "sender", "subject", "to", "cc", "in-reply-to", "references",
	"mime-version", "content-type", "content-transfer-encoding", "autocrypt",
	"resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
	"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive"}

// oversignedIfThere are fields that other hosts add where a sender left them out (RFC
// 6409 §8): only a second one is forbidden.
var oversignedIfThere = [...]string{"date", "message-id"}

// unsigned fields are those that hosts on the way write, and those that they are known
// to change (RFC 6376 §5.4.1); so are all that begin with "arc-" or "x-".
var unsigned = [...]string{"received", "received-spf", "return-path", "delivered-to", "envelope-to", "authentication-results",
	"dkim-signature", "domainkey-signature", "bcc", "resent-bcc", "comments", "keywords", "status"}

// Sign gives the DKIM-Signature fields to put in front of a mail, one for each key, each
// ended by CRLF. header ends with its empty line; body is what follows, in a few parts. Both
// are as they will be sent, with CRLF line ends. Every field that is there is signed but the
// unsigned ones, and the lists above say which may not be added. errs.TooLarge: more fields
// than a signature can name; errs.Invalid: a malformed header, domain or selector, or a key
// that is too short; errs.Unsupported: another kind of key.
func (s *Signer) Sign(header []byte, body ...[]byte) (fields []byte, err error) {
	const op = "mail/dkim.Sign"
	h, off, err := mail.ParseHeader(header)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if off != len(header) || !bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		return nil, errs.E(op, errs.Invalid, "the header does not end with an empty line", nil)
	}
	if len(s.Keys) == 0 || len(s.Keys) > MaxKeys {
		return nil, errs.E(op, errs.Invalid, "no signing key, or too many", nil)
	}
	domain, ok := hostName(s.Domain)
	if !ok {
		return nil, errs.E(op, errs.Invalid, "mail of this domain cannot be signed", nil)
	}
	names, err := signedNames(h.Fields())
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	b := sha256.New()
	simpleBody(b, body...)
	bodySum := base64.StdEncoding.EncodeToString(b.Sum(nil))
	var signed bytes.Buffer // the same for every key
	signed.Grow(len(header))
	w := bufio.NewWriter(&signed)
	writeFields(w, h.Fields(), names, -1, true)
	w.Flush()
	for _, k := range s.Keys {
		if fields, err = k.sign(fields, domain, names, bodySum, signed.Bytes()); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	return fields, nil
}

// sign appends the signature of one key to out.
func (k Key) sign(out []byte, domain string, names []string, bodySum string, signed []byte) ([]byte, error) {
	const op = "mail/dkim.sign"
	selector, ok := hostName(k.Selector)
	if !ok {
		return nil, errs.E(op, errs.Invalid, "malformed selector", nil)
	}
	if k.Signer == nil {
		return nil, errs.E(op, errs.Invalid, "no signing key", nil)
	}
	algorithm, _, err := publicForm(k.Signer.Public())
	if err != nil {
		return nil, err
	}
	f := folder{b: out}
	f.add("DKIM-Signature:")
	for _, tag := range []string{"v=1;", "a=" + algorithm + "-sha256;", "c=relaxed/simple;", "d=" + domain + ";", "s=" + selector + ";"} {
		f.word(tag)
	}
	f.word("h=" + names[0])
	for _, n := range names[1:] {
		f.add(":")
		f.add(n)
	}
	f.add(";")
	f.word("bh=" + bodySum + ";")
	f.word("b=")
	d := sha256.New()
	d.Write(signed)
	w := bufio.NewWriter(d)
	writeField(w, f.b[len(out):], true)
	w.Flush()
	hash := crypto.Hash(0) // Ed25519 signs the digest as it is (RFC 8463 §3)
	if algorithm == "rsa" {
		hash = crypto.SHA256
	}
	sig, err := k.Signer.Sign(rand.Reader, d.Sum(nil), hash)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "cannot sign", err)
	}
	f.text(base64.StdEncoding.EncodeToString(sig))
	return append(f.b, crlf...), nil
}

// signedNames gives the names for h=, canonical. Fields that nobody knows are signed as
// far as there is room.
func signedNames(fields []mail.Field) ([]string, error) {
	count := make(map[string]int, len(fields))
	order := make([]string, 0, len(fields)) // each name once
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		if count[name]++; count[name] == 1 {
			order = append(order, name)
		}
	}
	if count["from"] == 0 {
		return nil, errs.E("mail/dkim.signedNames", errs.Invalid, "no From field", nil)
	}
	names := make([]string, 0, len(oversigned)+len(fields)+8)
	room := MaxNames
	add := func(name string, n int) bool {
		if room -= n * (len(name) + 1); room < 0 {
			return false
		}
		for range n {
			names = append(names, name)
		}
		return true
	}
	fits := true
	for _, name := range oversigned {
		fits = fits && add(name, count[name]+1)
		delete(count, name)
	}
	for _, name := range oversignedIfThere {
		if n := count[name]; n > 0 {
			fits = fits && add(name, n+1)
		}
		delete(count, name)
	}
	if !fits {
		return nil, errs.E("mail/dkim.signedNames", errs.TooLarge, "too many header fields to sign", nil)
	}
	for _, name := range unsigned {
		delete(count, name)
	}
	for _, name := range order {
		n := count[name]
		if n == 0 || strings.HasPrefix(name, "arc-") || strings.HasPrefix(name, "x-") || !plainName(name) {
			continue
		}
		if !add(name, n) {
			break
		}
	}
	return names, nil
}

// plainName: a name with a semicolon (RFC 5322 allows it) or the like cannot stand in h=.
func plainName(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// folder writes a field in lines of at most maxLine columns, where its pieces allow it.
type folder struct {
	b   []byte
	col int
}

// add writes a piece that a fold may stand before.
func (f *folder) add(s string) {
	if f.col+len(s) > maxLine && f.col > 1 {
		f.b, f.col = append(f.b, "\r\n "...), 1
	}
	f.b, f.col = append(f.b, s...), f.col+len(s)
}

// word writes a piece with white space before it.
func (f *folder) word(s string) {
	if f.col+1+len(s) <= maxLine {
		f.b, f.col = append(f.b, ' '), f.col+1
	} else {
		f.b, f.col = append(f.b, "\r\n "...), 1
	}
	f.add(s)
}

// text writes text that may be folded anywhere.
func (f *folder) text(s string) {
	for len(s) > 0 {
		if f.col >= maxLine {
			f.b, f.col = append(f.b, "\r\n "...), 1
		}
		n := min(len(s), maxLine-f.col)
		f.add(s[:n])
		s = s[n:]
	}
}

// publicForm gives the name of a key's kind and what its record holds of it: for RSA the
// SubjectPublicKeyInfo, for Ed25519 the 32 bytes (RFC 8463 §4).
func publicForm(pub crypto.PublicKey) (algorithm string, der []byte, err error) {
	const op = "mail/dkim.publicForm"
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < MinRSA || bits > MaxRSA {
			return "", nil, errs.E(op, errs.Invalid, "the RSA key is too short or too long", nil)
		}
		if der, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return "", nil, errs.E(op, errs.Invalid, "malformed RSA key", err)
		}
		return "rsa", der, nil
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return "", nil, errs.E(op, errs.Invalid, "malformed Ed25519 key", nil)
		}
		return "ed25519", pub, nil
	}
	return "", nil, errs.E(op, errs.Unsupported, "DKIM knows RSA and Ed25519 keys only", nil)
}
