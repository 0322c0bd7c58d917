package sanitize

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/mime"
)

// PartRules say what becomes of the parts of a mail that goes out under another name.
type PartRules struct {
	// Replace gives addresses, and what stands in their place in texts and in the header fields of parts;
	// compared without case, as whole addresses.
	Replace map[string]string
	// Domain is that of the identifiers of parts (Content-ID), which are given anew.
	Domain string
	// KeepKeys leaves OpenPGP keys and signatures where they are.
	KeepKeys bool
	// Exact leaves as it is, too, what a reader may want to verify: parts that are signed, and mails within
	// the mail. The boundary of what is encrypted is new. KeepKeys must be set.
	Exact bool
}

// maxReplaced bounds a text in which addresses are replaced, in bytes; a longer one stays as it is.
const maxReplaced = 8 << 20

// ErrSigned is the error of Parts for a mail that is signed in a form (S/MIME, RFC 8551 §3.5.2) from which
// the signature cannot be taken: its certificate names its owner.
var ErrSigned = errs.E("mail/sanitize.Parts", errs.Denied, "the mail is signed with S/MIME", nil)

// Parts gives the fields that say how the body is read, without an empty line, and the body of a mail, with
// nothing left that mail programs add on their own and that tells who wrote it: signatures are taken off,
// OpenPGP keys are left out, parts have no fields but those of MIME, and their identifiers and boundaries are new. What
// is encrypted is left as it is. raw has CRLF line ends. errs.Invalid, errs.TooLarge; ErrSigned.
func Parts(raw []byte, rules PartRules) (content, body []byte, err error) {
	const op = "mail/sanitize.Parts"
	root, err := mime.Parse(raw)
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	w := &partWriter{raw: raw, rules: rules}
	w.replacer = newReplacer(rules.Replace)
	w.name(root)
	w.ids = newReplacer(w.idMap)
	content, body, err = w.part(root)
	if err != nil {
		return nil, nil, err
	}
	return content, body, nil
}

type partWriter struct {
	raw           []byte
	rules         PartRules
	replacer, ids *replacer
	idMap         map[string]string
}

// name gives every part that has an identifier a new one.
func (w *partWriter) name(p *mime.Part) {
	if w.exact(p) {
		return
	}
	if id := strings.Trim(p.ID, "<> \t"); id != "" {
		if w.idMap == nil {
			w.idMap = make(map[string]string)
		}
		if w.idMap[id] == "" {
			w.idMap[id] = fmt.Sprintf("part%d@%s", len(w.idMap)+1, mail.CanonicalDomain(w.rules.Domain))
		}
	}
	for _, c := range p.Parts {
		w.name(c)
	}
	if p.Message != nil {
		w.name(p.Message)
	}
}

// part gives the header fields and the body of a part.
func (w *partWriter) part(p *mime.Part) (content, body []byte, err error) {
	switch {
	case w.exact(p):
		return w.fields(p, false), w.raw[p.BodyStart:p.BodyEnd], nil
	case p.Is("multipart/signed") && len(p.Parts) > 0 && !w.rules.KeepKeys:
		return w.part(p.Parts[0])
	case p.Is("multipart/encrypted") && !w.rules.Exact:
		return w.fields(p, false), w.raw[p.BodyStart:p.BodyEnd], nil
	case p.Multipart():
		content, boundary := rebound(w.fields(p, false), p.Param("boundary"))
		body, err = w.multipart(p, boundary)
		return content, body, err
	case p.MediaType == "application" && strings.HasSuffix(p.Subtype, "pkcs7-mime"):
		if kind := strings.ToLower(p.Param("smime-type")); kind == "signed-data" || kind == "" {
			return nil, nil, ErrSigned
		}
	case p.Message != nil && identity(p):
		inner, text, err := w.message(p.Message)
		if err != nil {
			return nil, nil, err
		}
		return w.fields(p, false), append(append(inner, "\r\n"...), text...), nil
	case p.MediaType == "text":
		if text, ok := w.text(p); ok {
			return w.fields(p, true), text, nil
		}
	}
	return w.fields(p, false), w.raw[p.BodyStart:p.BodyEnd], nil
}

// exact reports whether a part is one that stays as it is. The fields of a part within another one that is signed
// are signed with it.
func (w *partWriter) exact(p *mime.Part) bool {
	return w.rules.Exact && (p.Is("multipart/signed") || p.Message != nil || p.MediaType == "application" && strings.HasSuffix(p.Subtype, "pkcs7-mime"))
}

// rebound puts another boundary in the place of the one that a mail program made, perhaps of its host's
// name, and gives it. It is in none of the parts, as little as any hash. A boundary that is written in some
// unusual way stays.
func rebound(content []byte, old string) ([]byte, string) {
	const param = "boundary="
	at := bytes.Index(bytes.ToLower(content), []byte(param)) // ASCII alone changes its case in place
	if at < 0 || old == "" || len(bytes.ToLower(content)) != len(content) {
		return content, old
	}
	rest, end := content[at+len(param):], old
	if bytes.HasPrefix(rest, []byte{'"'}) {
		end = `"` + old + `"`
	}
	if !bytes.HasPrefix(rest, []byte(end)) {
		return content, old
	}
	if rest = rest[len(end):]; len(rest) > 0 && !bytes.ContainsAny(rest[:1], "; \t\r\n") {
		return content, old
	}
	sum := sha256.Sum256([]byte(old))
	made := "=_" + hex.EncodeToString(sum[:16])
	return append(append(bytes.Clone(content[:at+len(param)]), `"`+made+`"`...), rest...), made
}

func identity(p *mime.Part) bool {
	return p.Encoding == "" || p.Encoding == "7bit" || p.Encoding == "8bit" || p.Encoding == "binary"
}

// message is a mail within a mail: all its fields stay, with addresses replaced.
func (w *partWriter) message(p *mime.Part) (header, body []byte, err error) {
	content, body, err := w.part(p)
	if err != nil {
		return nil, nil, err
	}
	h, _, err := mail.ParseHeader(w.raw[p.HeaderStart:p.BodyStart])
	if err != nil {
		return nil, nil, err
	}
	for _, f := range h.Fields() {
		if !isContent(f) && !strings.EqualFold(f.Name, "MIME-Version") {
			header = append(header, w.replaced(mail.AppendField(nil, f))...)
		}
	}
	return append(append(header, "MIME-Version: 1.0\r\n"...), content...), body, nil
}

// fields gives the MIME fields of a part. coded: its body was encoded anew, as quoted-printable.
func (w *partWriter) fields(p *mime.Part, coded bool) (out []byte) {
	h, _, err := mail.ParseHeader(w.raw[p.HeaderStart:p.BodyStart])
	if err != nil { // Parse has read what can be read; a broken header gives text
		return nil
	}
	for _, f := range h.Fields() {
		switch {
		case !isContent(f), strings.EqualFold(f.Name, "Content-Location"),
			coded && strings.EqualFold(f.Name, "Content-Transfer-Encoding"):
		case strings.EqualFold(f.Name, "Content-ID"):
			if id := w.idMap[strings.Trim(f.Value(), "<> \t")]; id != "" {
				out = append(out, "Content-ID: <"+id+">\r\n"...)
			}
		default:
			out = append(out, w.replaced(mail.AppendField(nil, f))...)
		}
	}
	if coded {
		out = append(out, "Content-Transfer-Encoding: quoted-printable\r\n"...)
	}
	return out
}

func (w *partWriter) replaced(b []byte) []byte {
	b, _ = w.replacer.replace(b, true)
	b, _ = w.ids.replace(b, false)
	return b
}

// isKey reports a part that holds a key or a signature of its own.
func isKey(p *mime.Part) bool {
	return p.Is("application/pgp-keys") || p.Is("application/pgp-signature") || p.MediaType == "application" && strings.HasSuffix(p.Subtype, "pkcs7-signature")
}

// multipart writes the parts of a multipart between boundaries.
func (w *partWriter) multipart(p *mime.Part, boundary string) ([]byte, error) {
	var out bytes.Buffer
	n := 0
	for _, c := range p.Parts {
		if isKey(c) && !w.rules.KeepKeys {
			continue
		}
		content, body, err := w.part(c)
		if err != nil {
			return nil, err
		}
		out.WriteString("--" + boundary + "\r\n")
		out.Write(content)
		out.WriteString("\r\n")
		out.Write(body)
		out.WriteString("\r\n")
		n++
	}
	if n == 0 {
		out.WriteString("--" + boundary + "\r\nContent-Type: text/plain\r\n\r\n\r\n")
	}
	out.WriteString("--" + boundary + "--\r\n")
	return out.Bytes(), nil
}

// text gives the body of a text part, encoded anew, if anything in it is to change.
func (w *partWriter) text(p *mime.Part) ([]byte, bool) {
	if p.Size() > maxReplaced {
		return nil, false
	}
	r, err := mime.NewDecoder(bytes.NewReader(w.raw[p.BodyStart:p.BodyEnd]), p.Encoding)
	if err != nil {
		return nil, false
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxReplaced))
	if err != nil {
		return nil, false
	}
	text, a := w.replacer.replace(plain, true)
	text, b := w.ids.replace(text, false)
	c := false
	if !w.rules.KeepKeys {
		text, c = unarmored(text)
	}
	if !a && !b && !c {
		return nil, false
	}
	var out bytes.Buffer
	q := quotedprintable.NewWriter(&out)
	q.Write(text) // a buffer takes everything
	q.Close()
	return out.Bytes(), true
}

// The lines between which an inline OpenPGP signature or key stands (RFC 9580 §6.2, §7).
var armors = [...][2]string{
	{"-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----"},
	{"-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"},
}

const signedHead = "-----BEGIN PGP SIGNED MESSAGE-----"

// unarmored takes inline signatures and keys out of a text.
func unarmored(text []byte) (out []byte, changed bool) {
	if !bytes.Contains(text, []byte("-----BEGIN PGP ")) {
		return text, false
	}
	for _, a := range armors {
		for {
			from := bytes.Index(text, []byte(a[0]))
			if from < 0 {
				break
			}
			n := bytes.Index(text[from:], []byte(a[1]))
			if n < 0 { // cut off: so is the text
				text = text[:from:from]
			} else {
				text = append(text[:from:from], text[from+n+len(a[1]):]...)
			}
			changed = true
		}
	}
	if from := bytes.Index(text, []byte(signedHead)); from >= 0 {
		// The head, lines of hash names, and an empty line.
		rest := text[from+len(signedHead):]
		end := len(rest)
		for _, gap := range []string{"\r\n\r\n", "\n\n"} {
			if n := bytes.Index(rest, []byte(gap)); n >= 0 && n < end {
				end = n + len(gap)
			}
		}
		text = append(text[:from:from], rest[end:]...)
		changed = true
	}
	return text, changed
}
