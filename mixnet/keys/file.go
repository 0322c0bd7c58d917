package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// kind is what a private file holds.
type kind string

const (
	kindIdentity kind = "identity"
	kindLink     kind = "link"
	kindLog      kind = "log-secret"
	kindLetter   kind = "letter"
	kindMix      kind = "mix"
	kindEnded    kind = "ended" // a mix key that is being destroyed: no secret
)

// secretLen gives the bytes of a kind's secret; 0 for what has none.
func (k kind) secretLen() int {
	switch k {
	case kindIdentity:
		return directory.PrivateLen
	case kindLink:
		return ed25519.SeedSize
	case kindLog:
		return logSecretLen
	case kindLetter:
		return letterSeedLen
	case kindMix:
		return packet.PrivateKeyLen
	}
	return 0
}

// timed reports whether files of the kind say from when until when.
func (k kind) timed() bool { return k == kindMix || k == kindEnded }

const (
	logSecretLen  = 32
	letterSeedLen = 32
	maxFile       = 4096
	title         = "postern-key 1"
	checkLen      = 8
	labelLogID    = "postern/mix keys: name of the secret of a log\n"
	timeForm      = "2006-01-02T15:04:05Z"
)

// file is the content of a private file. The secret is in the clear here.
type file struct {
	kind        kind
	id          string // the public name of the key: lower-case hex
	from, until time.Time
	secret      []byte
}

// head are the lines before those of the secret.
func (f *file) head() []byte {
	b := fmt.Appendf(nil, "%s\nkind %s\nid %s\n", title, f.kind, f.id)
	if f.kind.timed() {
		b = fmt.Appendf(b, "from %s\nuntil %s\n", f.from.UTC().Format(timeForm), f.until.UTC().Format(timeForm))
	}
	return b
}

// encode writes the file with its secret open.
func (f *file) encode() []byte {
	b := f.head()
	if f.kind.secretLen() > 0 {
		b = append(b, "secret "...)
		b = base64.RawStdEncoding.AppendEncode(b, f.secret)
		b = append(b, '\n')
	}
	return appendCheck(b)
}

// appendCheck writes the last line, by which damage to the lines before it is told from a
// wrong passphrase.
func appendCheck(b []byte) []byte {
	h := sha256.Sum256(b)
	return fmt.Appendf(b, "check %x\n", h[:checkLen])
}

// sealedFile is a parsed file whose secret may still be sealed.
type sealedFile struct {
	file
	head   []byte        // all lines before "sealed", which are bound to it
	under  string        // "": open; "passphrase" or "identity"
	cost   passhash.Cost // of a passphrase
	salt   []byte
	sealed []byte // nonce and ciphertext
}

// lines reads a file line by line; the first that is not what was expected makes it bad.
type lines struct {
	rest []byte
	bad  bool
}

// next gives what stands behind a keyword.
func (l *lines) next(key string) string {
	line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
	v, found := strings.CutPrefix(string(line), key+" ")
	if !ok || !found || l.bad {
		l.bad = true
		return ""
	}
	l.rest = rest
	return v
}

func (l *lines) at(key string) bool { return bytes.HasPrefix(l.rest, []byte(key+" ")) }

func (l *lines) time(key string) time.Time {
	s := l.next(key)
	t, err := time.Parse(timeForm, s)
	if err != nil || t.Format(timeForm) != s {
		l.bad = true
	}
	return t
}

func (l *lines) base64(s string, n int) []byte {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != n {
		l.bad = true
	}
	return b
}

// parseFile reads what encode and seal wrote. It has one form only. errs.Unsupported: a later
// version; errs.Corrupt: anything else.
func parseFile(b []byte, want kind) (*sealedFile, error) {
	const op = "mixnet/keys.parseFile"
	l := &lines{rest: b}
	if v := l.next("postern-key"); v != "1" {
		if l.bad {
			return nil, errs.E(op, errs.Corrupt, "", nil)
		}
		return nil, errs.E(op, errs.Unsupported, "a key file was written by a later version", nil)
	}
	f := &sealedFile{}
	f.kind = kind(l.next("kind"))
	f.id = l.next("id")
	if f.kind.timed() {
		f.from, f.until = l.time("from"), l.time("until")
		l.bad = l.bad || !f.from.Before(f.until)
	}
	n := f.kind.secretLen()
	switch {
	case l.bad || f.kind != want || len(b) > maxFile:
		l.bad = true
	case n == 0:
	case l.at("secret"):
		f.secret = l.base64(l.next("secret"), n)
	default:
		if l.at("passphrase") {
			f.under = "passphrase"
			f.cost, f.salt = l.cost(l.next("passphrase"))
		} else if l.next("under") == "identity" {
			f.under = "identity"
		} else {
			l.bad = true
		}
		f.head = b[:len(b)-len(l.rest)]
		f.sealed = l.base64(l.next("sealed"), nonceLen+n+tagLen)
	}
	body := b[:len(b)-len(l.rest)]
	if l.next("check"); l.bad || len(l.rest) > 0 || !bytes.Equal(appendCheck(bytes.Clone(body)), b) {
		return nil, errs.E(op, errs.Corrupt, "", nil)
	}
	return f, nil
}

// identityOf, linkOf, logOf, letterOf and mixOf give the key of an open file, if it is the one that the
// file names: a bit that was flipped on the disk would make another key.

func identityOf(f *file) (*directory.PrivateKey, error) {
	k, err := directory.NewPrivateKey(f.secret)
	if err == nil {
		err = f.named(identityID(k))
	}
	return k, err
}

func identityID(k *directory.PrivateKey) string {
	id := k.Public().ID()
	return hex.EncodeToString(id[:])
}

func linkOf(f *file) (ed25519.PrivateKey, error) {
	k := ed25519.NewKeyFromSeed(f.secret)
	id, err := linkID(k)
	if err == nil {
		err = f.named(id)
	}
	return k, err
}

// linkID is the name that the consensus has for the key: SHA-256 of its SubjectPublicKeyInfo.
func linkID(k ed25519.PrivateKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return "", errs.E("mixnet/keys.linkID", errs.Internal, "", err)
	}
	h := sha256.Sum256(spki)
	return hex.EncodeToString(h[:]), nil
}

func logOf(f *file) ([]byte, error) { return bytes.Clone(f.secret), f.named(logID(f.secret)) }

func logID(secret []byte) string {
	h := sha256.Sum256(append([]byte(labelLogID), secret...))
	return hex.EncodeToString(h[:])
}

func letterOf(f *file) ([]byte, error) {
	id, err := letterID(f.secret)
	if err == nil {
		err = f.named(id)
	}
	return bytes.Clone(f.secret), err
}

// letterID is SHA-256 of the public key, which follows from the seed.
func letterID(seed []byte) (string, error) {
	k, err := hpke.MLKEM768X25519().NewPrivateKey(bytes.Clone(seed))
	if err != nil {
		return "", errs.E("mixnet/keys.letterID", errs.Internal, "", err)
	}
	h := sha256.Sum256(k.PublicKey().Bytes())
	return hex.EncodeToString(h[:]), nil
}

func mixOf(f *file) (*packet.PrivateKey, error) {
	k, err := packet.NewPrivateKey(f.secret)
	if err == nil {
		err = f.named(mixID(k.ID()))
	}
	return k, err
}

func mixID(id uint32) string { return fmt.Sprintf("%08x", id) }

func parseMixID(s string) (id uint32, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 || hex.EncodeToString(b) != s {
		return 0, false
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), true
}

func (f *file) named(id string) error {
	if f.id != id {
		return errs.E("mixnet/keys.file", errs.Corrupt, "", fmt.Errorf("%s key has another name than its file says", f.kind))
	}
	return nil
}
