package openpgp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// MaxKey bounds a key, in bytes.
const MaxKey = 32 << 10

// Key is a public key that mail can be encrypted to.
type Key struct{ entity *pgp.Entity }

// ParseKey reads one key in its binary form (RFC 9580 §10.1) that can encrypt at a time. errs.Invalid;
// errs.TooLarge.
func ParseKey(b []byte, now time.Time) (*Key, error) {
	const op = "mail/openpgp.ParseKey"
	if len(b) > MaxKey || costly(b) {
		return nil, errs.E(op, errs.TooLarge, "the OpenPGP key is too large", nil)
	}
	list, err := pgp.ReadKeyRing(bytes.NewReader(b))
	switch {
	case err != nil:
		return nil, errs.E(op, errs.Invalid, "the OpenPGP key is malformed", err)
	case len(list) != 1:
		return nil, errs.E(op, errs.Invalid, "this is not one OpenPGP key", nil)
	case list[0].PrivateKey != nil:
		return nil, errs.E(op, errs.Invalid, "this is a private OpenPGP key", nil)
	}
	if _, ok := list[0].EncryptionKey(now); !ok {
		return nil, errs.E(op, errs.Invalid, "nobody can encrypt to this OpenPGP key now", nil)
	}
	return &Key{list[0]}, nil
}

// Fingerprint is that of the key, in hexadecimal digits.
func (k *Key) Fingerprint() string {
	return strings.ToUpper(hex.EncodeToString(k.entity.PrimaryKey.Fingerprint))
}

// inner are the fields that leave the header: they say what the mail is about.
var inner = []string{"Subject", "Comments", "Keywords"}

// repeated are fields that stand within the encryption too, where nobody can have changed them.
var repeated = []string{"From", "To", "Cc", "Reply-To", "Date", "Message-ID", "In-Reply-To", "References"}

// Encrypt gives a mail whose text, parts and subject only the owners of keys can read. raw has CRLF line
// ends. The header keeps who writes to whom, and when; the subject is "[...]". random is crypto/rand,
// but for tests. errs.Invalid for what is no mail.
func Encrypt(raw []byte, keys []*Key, now time.Time, random io.Reader) ([]byte, error) {
	const op = "mail/openpgp.Encrypt"
	h, off, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if len(keys) == 0 {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no keys"))
	}
	var noise [16]byte
	if _, err := io.ReadFull(random, noise[:]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	boundary := "pgp-" + hex.EncodeToString(noise[:])
	var out bytes.Buffer
	for _, f := range h.Fields() {
		if !about(f) {
			out.Write(mail.AppendField(nil, f))
		}
	}
	out.WriteString("Subject: [...]\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"" + boundary + "\"\r\n\r\n" +
		"--" + boundary + "\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n" +
		"--" + boundary + "\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\r\n")
	lines := &crlf{w: &out}
	a, err := armor.Encode(lines, "PGP MESSAGE", nil)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	var to []*pgp.Entity
	for _, k := range keys {
		to = append(to, k.entity)
	}
	conf := &packet.Config{Rand: random, DefaultCipher: packet.CipherAES256, Time: func() time.Time { return now }}
	w, err := pgp.Encrypt(a, to, nil, &pgp.FileHints{IsBinary: true, ModTime: time.Unix(0, 0)}, conf)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "the mail cannot be encrypted to this OpenPGP key", err)
	}
	_, err = w.Write(within(h, raw[off:]))
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	out.WriteString("\r\n\r\n--" + boundary + "--\r\n")
	return out.Bytes(), nil
}

// about reports whether a field belongs to what is encrypted: it says how the body is to be read, or what
// it is about.
func about(f mail.Field) bool {
	name := strings.ToLower(f.Name)
	return strings.HasPrefix(name, "content-") || name == "mime-version" || slices.ContainsFunc(inner, func(n string) bool { return strings.EqualFold(n, name) })
}

// within is the part that is encrypted: the body with the fields that say how it is read, and
// the fields that programs show (draft-autocrypt-lamps-protected-headers).
func within(h mail.Header, body []byte) []byte {
	const protected = "protected-headers=\"v1\""
	var out []byte
	typed := false
	for _, f := range h.Fields() {
		switch {
		case strings.EqualFold(f.Name, "MIME-Version"):
		case strings.EqualFold(f.Name, "Content-Type") && !typed:
			typed = true
			line := bytes.TrimRight(mail.AppendField(nil, f), " \t\r\n;")
			out = append(append(out, line...), ";\r\n "+protected+"\r\n"...)
		case about(f), slices.ContainsFunc(repeated, func(n string) bool { return strings.EqualFold(n, f.Name) }):
			out = mail.AppendField(out, f)
		}
	}
	if !typed {
		out = append(out, "Content-Type: text/plain; charset=us-ascii; "+protected+"\r\n"...)
	}
	return append(append(out, "\r\n"...), body...)
}

// crlf ends every line with CRLF.
type crlf struct{ w *bytes.Buffer }

func (c *crlf) Write(b []byte) (int, error) {
	for _, x := range b {
		if x == '\n' {
			c.w.WriteByte('\r')
		}
		c.w.WriteByte(x)
	}
	return len(b), nil
}
