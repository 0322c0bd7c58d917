// Package evidence makes and checks files that show who passed an alias on: the mail of whom the
// alias was given to, and that of a stranger who has it all the same, both as they were received,
// with the DKIM signatures of their senders' domains and the keys that these fit. Anybody can check
// such a file, without its maker. The format is docs/aliases-evidence.md.
//
// A file proves what signatures prove, and no more; Verify says both.
package evidence

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"time"
	"unicode"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/sanitize"
)

// Format is the value of File.Format.
const Format = "postern alias evidence 1"

// Bounds of a file.
const (
	MaxMail = 32 << 20 // bytes of one mail
	MaxFile = 100 << 20
	saltLen = 16
)

// File is an evidence file. It is written as JSON.
type File struct {
	Format     string    `json:"format"`
	Alias      string    `json:"alias"`
	Made       time.Time `json:"made"`
	Salt       []byte    `json:"salt"`       // 16 random bytes
	Commitment []byte    `json:"commitment"` // SHA-256 over all else but Made, see Commit
	Expected   Mail      `json:"expected"`   // of whom the alias was given to
	Stranger   Mail      `json:"stranger"`
}

// Mail is one mail of a file.
type Mail struct {
	Received time.Time `json:"received"` // to the second
	Sender   string    `json:"sender"`   // what the relay said of the sender: expected, first, unexpected
	Vouched  string    `json:"vouched"`  // who vouched for the sender: dkim:DOMAIN, spf:DOMAIN, login, end-to-end
	// KeyName and KeyRecord are the DKIM key that the signature fits, as it was in the DNS; empty without
	// a signature.
	KeyName   string `json:"key_name,omitempty"`
	KeyRecord string `json:"key_record,omitempty"`
	Raw       []byte `json:"raw"` // the mail as received, base64
}

// Stored is a mail of a mailbox.
type Stored struct {
	Raw      []byte
	Received time.Time
}

// Make makes a file of two mails that came for an alias, as they lie in the mailbox of its owner. random nil:
// crypto/rand.Reader. errs.Invalid for mails that are not both of that alias, that were not kept as
// received, or the other way round; errs.TooLarge.
func Make(alias mail.Address, expected, stranger Stored, now time.Time, random io.Reader) (*File, error) {
	const op = "agent/evidence.Make"
	if random == nil {
		random = rand.Reader
	}
	f := &File{Format: Format, Alias: alias.Canonical().String(), Made: now.UTC().Truncate(time.Second), Salt: make([]byte, saltLen)}
	if _, err := io.ReadFull(random, f.Salt); err != nil {
		return nil, errs.E(op, errs.Internal, "no randomness", err)
	}
	var err error
	if f.Expected, err = part(alias, expected); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if f.Stranger, err = part(alias, stranger); err != nil {
		return nil, errs.Wrap(op, err)
	}
	switch {
	case f.Expected.Sender == sanitize.SenderUnexpected:
		return nil, errs.E(op, errs.Invalid, "the first of the two mails is of somebody unexpected", nil)
	case f.Stranger.Sender != sanitize.SenderUnexpected:
		return nil, errs.E(op, errs.Invalid, "the second of the two mails is of somebody expected", nil)
	}
	f.Commitment = f.commit()
	return f, nil
}

// part takes a stored mail apart.
func part(alias mail.Address, s Stored) (Mail, error) {
	const op = "agent/evidence.part"
	a, raw, ok := sanitize.ReadAlias(s.Raw)
	switch {
	case !ok:
		return Mail{}, errs.E(op, errs.Invalid, "the mail was not kept as it was received for an alias", nil)
	case !a.Alias.Equal(alias):
		return Mail{}, errs.E(op, errs.Invalid, "the mail is for another alias", nil)
	case len(raw) > MaxMail:
		return Mail{}, errs.E(op, errs.TooLarge, "the mail is too large for an evidence file", nil)
	}
	return Mail{Received: s.Received.UTC().Truncate(time.Second), Sender: a.Sender, Vouched: a.Vouched, KeyName: a.KeyName, KeyRecord: a.KeyRecord, Raw: raw}, nil
}

// commit gives the hash that binds a file together: each string with its length (8 bytes, big-endian)
// before it, behind Format and Salt.
func (f *File) commit() []byte {
	h := sha256.New()
	add := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	add([]byte(Format))
	add(f.Salt)
	add([]byte(f.Alias))
	for _, m := range []*Mail{&f.Expected, &f.Stranger} {
		for _, s := range []string{m.Received.UTC().Format(time.RFC3339), m.Sender, m.Vouched, m.KeyName, m.KeyRecord} {
			add([]byte(s))
		}
		add(m.Raw)
	}
	return h.Sum(nil)
}

// Encode gives the file as JSON, with a line end behind it.
func (f *File) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, errs.E("agent/evidence.Encode", errs.Internal, "", err)
	}
	return append(b, '\n'), nil
}

// Parse reads a file strictly: an unknown name is an error. errs.Invalid, errs.TooLarge.
func Parse(b []byte) (*File, error) {
	const op = "agent/evidence.Parse"
	if len(b) > MaxFile {
		return nil, errs.E(op, errs.TooLarge, "the evidence file is too large", nil)
	}
	f := new(File)
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, errs.E(op, errs.Invalid, "this is no evidence file", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errs.E(op, errs.Invalid, "there is text behind the evidence file", nil)
	}
	a, err := mail.ParseAddress(f.Alias)
	switch {
	case f.Format != Format:
		return nil, errs.E(op, errs.Invalid, "this is no evidence file, or one of a later version", nil)
	case err != nil || a != a.Canonical():
		return nil, errs.E(op, errs.Invalid, "the alias of the evidence file is no address", nil)
	case len(f.Salt) != saltLen || len(f.Commitment) != sha256.Size:
		return nil, errs.E(op, errs.Invalid, "the evidence file has no salt and commitment", nil)
	}
	for _, m := range []*Mail{&f.Expected, &f.Stranger} {
		switch {
		case len(m.Raw) == 0 || m.Received.IsZero():
			return nil, errs.E(op, errs.Invalid, "the evidence file has not two mails", nil)
		case len(m.Raw) > MaxMail || len(m.KeyRecord) > sanitize.MaxKeyRecord:
			return nil, errs.E(op, errs.TooLarge, "a mail of the evidence file is too large", nil)
		case !oneWord(m.Vouched) || !oneWord(m.Sender) || !oneWord(m.KeyName):
			return nil, errs.E(op, errs.Invalid, "the evidence file names nobody who could vouch", nil)
		}
	}
	return f, nil
}

// maxWord bounds a word that a file says of a mail, in bytes: the name of a key is the longest.
const maxWord = 300

// oneWord reports whether a word of a file can be shown: whoever made the file wrote it, and it must not move
// about on the screen of whoever verifies it, or look like a line of ours.
func oneWord(s string) bool {
	return len(s) <= maxWord && !strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
}

// Whole reports whether the commitment is that of the file.
func (f *File) Whole() bool { return subtle.ConstantTimeCompare(f.Commitment, f.commit()) == 1 }
