package openpgp

import (
	"bytes"
	"errors"
	"io"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"

	"postern.email/kit/errs"
)

// passphraseWork is how many bytes are hashed for a passphrase, the most that the form can say
// (RFC 9580 §3.7.1.3).
const passphraseWork = 65011712

const messageType = "PGP MESSAGE"

// IsArmored reports whether text begins like an armored OpenPGP message (RFC 9580 §6.2).
func IsArmored(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("-----BEGIN "+messageType+"-----"))
}

// SealPassphrase seals text with a passphrase: an armored OpenPGP message that other programs
// open, too. random nil: crypto/rand. errs.Invalid for an empty passphrase.
func SealPassphrase(random io.Reader, text, passphrase []byte) ([]byte, error) {
	const op = "mail/openpgp.SealPassphrase"
	if len(passphrase) == 0 {
		return nil, errs.E(op, errs.Invalid, "the passphrase is empty", nil)
	}
	var out bytes.Buffer
	a, err := armor.Encode(&out, messageType, nil)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	conf := &packet.Config{Rand: random, DefaultCipher: packet.CipherAES256, S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, S2KCount: passphraseWork}}
	w, err := pgp.SymmetricallyEncrypt(a, passphrase, &pgp.FileHints{IsBinary: true}, conf)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	_, err = w.Write(text)
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	return append(out.Bytes(), '\n'), nil
}

// OpenPassphrase opens what SealPassphrase, or another program, sealed. errs.Auth for another
// passphrase, errs.Invalid for what is no such message or was changed, errs.TooLarge for more
// than most bytes.
func OpenPassphrase(message, passphrase []byte, most int) ([]byte, error) {
	const op = "mail/openpgp.OpenPassphrase"
	bad := func(err error) error {
		return errs.E(op, errs.Invalid, "this is no message sealed with a passphrase, or it was changed", err)
	}
	block, err := armor.Decode(bytes.NewReader(message))
	if err != nil {
		return nil, bad(err)
	}
	asked := false
	md, err := pgp.ReadMessage(block.Body, pgp.EntityList{}, func(_ []pgp.Key, symmetric bool) ([]byte, error) {
		if asked || !symmetric {
			return nil, errAsked
		}
		asked = true
		return passphrase, nil
	}, nil)
	switch {
	case errors.Is(err, errAsked) && asked:
		return nil, errs.E(op, errs.Auth, "the passphrase is wrong", err)
	case err != nil:
		return nil, bad(err)
	case !md.IsEncrypted:
		return nil, bad(nil)
	}
	text, err := io.ReadAll(io.LimitReader(md.UnverifiedBody, int64(most)+1)) // the end of the message is checked as it is read
	switch {
	case err != nil:
		return nil, bad(err)
	case len(text) > most:
		return nil, errs.E(op, errs.TooLarge, "the message is too large", nil)
	}
	return text, nil
}

// errAsked ends the second question for a passphrase: the first answer did not fit.
var errAsked = errors.New("no other passphrase")
