package queue

import (
	"encoding/binary"
	"math"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// letter begins every key of the queue; the byte behind it is the kind. Bodies come last, so
// that Open reads everything else without passing over them.
const (
	letter = 'q'

	kindMail = 'm'
	kindRcpt = 'r'
	kindText = 't'
)

const (
	formatVersion = 1

	// block: records are filled up to multiples of it, so that their length does not
	// tell the lengths of addresses.
	block = 128
)

func kindKey(kind byte) []byte { return append(make([]byte, 0, 20), letter, kind) }

func key(kind byte, id ID) []byte { return append(kindKey(kind), id[:]...) }

func mailKey(id ID) []byte { return key(kindMail, id) }
func textKey(id ID) []byte { return key(kindText, id) }
func rcptKey(id ID, n uint16) []byte {
	return binary.BigEndian.AppendUint16(key(kindRcpt, id), n)
}

// parseKey reads a key of the queue; n is the recipient's number.
func parseKey(k []byte) (kind byte, id ID, n uint16, ok bool) {
	if len(k) < 2+len(id) || k[0] != letter {
		return 0, id, 0, false
	}
	kind, id = k[1], ID(k[2:2+len(id)])
	rest := k[2+len(id):]
	switch {
	case (kind == kindMail || kind == kindText) && len(rest) == 0:
		return kind, id, 0, true
	case kind == kindRcpt && len(rest) == 2:
		return kind, id, binary.BigEndian.Uint16(rest), true
	}
	return kind, id, 0, false
}

// mailRecord is the sealed envelope of a mail.
type mailRecord struct {
	Info // without Shard
}

const (
	flagEightBit = 1 << iota
	flagUTF8
	flagRequireTLS
	flagVerified
	flagTell   // Tell and TellID stand at the end
	flagsKnown = 1<<iota - 1
)

func (m *mailRecord) encode() []byte {
	var flags byte
	for i, on := range [...]bool{m.EightBit, m.UTF8, m.RequireTLS, m.Verified, !m.Tell.IsZero()} {
		if on {
			flags |= 1 << i
		}
	}
	b := make([]byte, 0, 2*block)
	b = append(b, formatVersion, flags, m.Return, byte(m.Kind))
	b = binary.AppendUvarint(b, uint64(millis(m.Created)))
	b = binary.AppendUvarint(b, uint64(millis(m.Expires)))
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = codec.AppendSized(b, m.From.Local)
	b = codec.AppendSized(b, m.From.Domain)
	b = codec.AppendSized(b, m.EnvID)
	if !m.Tell.IsZero() {
		for _, s := range [...]string{m.Tell.Local, m.Tell.Domain, m.TellID} {
			b = codec.AppendSized(b, s)
		}
	}
	return codec.Fill(b, block)
}

func decodeMail(b []byte) (m mailRecord, err error) {
	r := codec.NewReader(b, formatVersion)
	flags := r.Byte()
	m.EightBit, m.UTF8, m.RequireTLS = flags&flagEightBit != 0, flags&flagUTF8 != 0, flags&flagRequireTLS != 0
	m.Verified = flags&flagVerified != 0
	m.Return, m.Kind = r.Byte(), Kind(r.Byte())
	m.Created, m.Expires = timeOf(r.Int(math.MaxInt64/2)), timeOf(r.Int(math.MaxInt64/2))
	m.Size = r.Int(math.MaxInt64)
	m.From.Local, m.From.Domain = r.String(mail.MaxLocal), r.String(mail.MaxDomain)
	m.EnvID = r.String(MaxEnvID)
	if flags&flagTell != 0 {
		m.Tell.Local, m.Tell.Domain = r.String(mail.MaxLocal), r.String(mail.MaxDomain)
		if m.TellID = r.String(MaxTellID); m.Tell.IsZero() {
			r.Fail()
		}
	}
	r.Filling(block)
	if flags&^flagsKnown != 0 || m.Return > ReturnHeaders || !m.Kind.valid() || m.Created.IsZero() {
		r.Fail()
	}
	return m, r.End("post/queue.decodeMail")
}

// rcptRecord is the sealed row of a recipient.
type rcptRecord struct {
	Waiting
	due    int64
	held   bool
	stored int64 // length of the sealed record
}

const maxTries = 1 << 30

func (w *rcptRecord) encode() []byte {
	var flags byte
	for i, on := range [...]bool{w.held, w.Warned} {
		if on {
			flags |= 1 << i
		}
	}
	b := make([]byte, 0, 2*block)
	b = append(b, formatVersion, flags, w.Notify)
	b = binary.AppendUvarint(b, uint64(w.Tries))
	b = binary.AppendUvarint(b, uint64(w.due))
	b = binary.AppendUvarint(b, uint64(millis(w.Since)))
	for _, s := range [...]string{w.To.Local, w.To.Domain, w.Dest, w.OriginalType, w.OriginalAddress, w.LastWhy} {
		b = codec.AppendSized(b, s)
	}
	return codec.Fill(b, block)
}

func decodeRcpt(b []byte) (w rcptRecord, err error) {
	r := codec.NewReader(b, formatVersion)
	flags := r.Byte()
	w.held, w.Warned, w.Notify = flags&1 != 0, flags&2 != 0, r.Byte()
	w.Tries = int(r.Int(maxTries))
	w.due = r.Int(math.MaxInt64 / 2)
	w.Since = timeOf(r.Int(math.MaxInt64 / 2))
	w.To.Local, w.To.Domain = r.String(mail.MaxLocal), r.String(mail.MaxDomain)
	w.Dest = r.String(mail.MaxDomain)
	w.OriginalType, w.OriginalAddress = r.String(MaxOriginal), r.String(MaxOriginal)
	w.LastWhy = r.String(MaxWhy)
	r.Filling(block)
	if flags > 3 || w.Dest == "" {
		r.Fail()
	}
	return w, r.End("post/queue.decodeRcpt")
}

// sealMail makes the mail's record. The key is sealed for itself, so that it is opened only
// when the body is.
func sealMail(root *seal.Root, id ID, k *seal.MailKey, m *mailRecord) ([]byte, error) {
	aad := mailKey(id)
	bodyKey := k.Bytes()
	defer clear(bodyKey)
	sealedKey, err := root.Seal(seal.PurposeQueueBody, aad, bodyKey)
	if err != nil {
		return nil, err
	}
	envelope, err := root.Seal(seal.PurposeQueueMail, aad, m.encode())
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 4+len(sealedKey)+len(envelope))
	b = codec.AppendSized(append(b, formatVersion), sealedKey)
	return append(b, envelope...), nil
}

// maxSealedKey bounds the sealed key of a body.
const maxSealedKey = 256

// splitMail cuts a mail's record into its two sealed parts, without copying.
func splitMail(b []byte) (sealedKey, envelope []byte, err error) {
	r := codec.NewReader(b, formatVersion)
	sealedKey = r.Sized(maxSealedKey)
	envelope = r.Rest()
	return sealedKey, envelope, r.End("post/queue.splitMail")
}

func openMail(root *seal.Root, s store.Shard, id ID, b []byte) (mailRecord, error) {
	_, envelope, err := splitMail(b)
	if err != nil {
		return mailRecord{}, err
	}
	plain, err := root.Open(seal.PurposeQueueMail, mailKey(id), envelope)
	if err != nil {
		return mailRecord{}, err
	}
	m, err := decodeMail(plain)
	m.Shard = s
	return m, err
}

func openBodyKey(root *seal.Root, id ID, b []byte) (*seal.MailKey, error) {
	const op = "post/queue.openBodyKey"
	sealedKey, _, err := splitMail(b)
	if err != nil {
		return nil, err
	}
	plain, err := root.Open(seal.PurposeQueueBody, mailKey(id), sealedKey)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	k, err := seal.MailKeyOf(plain)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	return k, nil
}

func sealRcpt(root *seal.Root, id ID, n uint16, w *rcptRecord) ([]byte, error) {
	return root.Seal(seal.PurposeQueueRcpt, rcptKey(id, n), w.encode())
}

func openRcpt(root *seal.Root, id ID, n uint16, b []byte) (rcptRecord, error) {
	plain, err := root.Open(seal.PurposeQueueRcpt, rcptKey(id, n), b)
	if err != nil {
		return rcptRecord{}, err
	}
	w, err := decodeRcpt(plain)
	w.N, w.stored = int(n), int64(len(b))
	return w, err
}

// scan calls mail for each mail's record of a shard and then rcpt for each recipient's,
// on one state, and bad for keys of the wrong form. Values are valid only during the call.
func scan(r store.Reader, mail func(id ID, v []byte) error, rcpt func(id ID, n uint16, v []byte) error, bad func()) error {
	return r.Scan(kindKey(kindMail), kindKey(kindText), func(k, v []byte) (bool, error) {
		kind, id, n, ok := parseKey(k)
		var err error
		switch {
		case !ok:
			bad()
		case kind == kindMail:
			err = mail(id, v)
		default:
			err = rcpt(id, n, v)
		}
		return err == nil, err
	})
}
