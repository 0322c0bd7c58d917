package mixbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/account"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
)

// Letters puts ordinary mail for accounts that are read with a mail proxy into their packet
// boxes: as letters of the relay, which are sealed to the proxy before anything is written
// (docs/mix-relay.md §5). It is what agent/deliver asks.
type Letters struct {
	Boxes  *packetbox.Boxes
	Signer directory.Signer // the name key of the relay
	Domain string           // that it speaks for; canonical
	Now    func() time.Time
}

// Proxy is that of deliver.Proxies.
func (l Letters) Proxy(ctx context.Context, id seal.AccountID) (bool, error) {
	_, err := l.Boxes.Identity(ctx, id)
	switch {
	case err == nil:
		return true, nil
	case errs.KindOf(err) == errs.NotFound:
		return false, nil
	}
	return false, errs.Wrap("agent/mixbox.Proxy", err)
}

// What stands before a mail in its letter, in bytes, at most: addresses, and the relay's proof.
const (
	mailHead = 2*vouch.MaxAddress + 64
	proof    = 6 << 10
)

// MaxMail is the largest mail for a proxy, in bytes.
const MaxMail = letter.MaxContent - mailHead

// Packets tells how many packets a mail of up to MaxMail bytes becomes, at most.
func Packets(size int64) int {
	return letter.Packets(int(size)+mailHead+proof, letter.Options{Room: letter.RoomPlain})
}

// Letter is that of deliver.Proxies.
func (l Letters) Letter(ctx context.Context, to account.Account, from mail.Address, raw []byte, fields int) (*packetbox.Prepared, error) {
	const op = "agent/mixbox.Letter"
	ident, err := l.Boxes.Identity(ctx, to.ID)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	key, err := letter.ParsePublicKey(ident.Letter[:])
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	s, err := l.seal(key, to.Address, from, raw, fields, letter.Options{Room: letter.RoomPlain})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	list := make([]packetbox.Packet, len(s.Bodies))
	for i, b := range s.Bodies {
		list[i].Name = packetName(s.ID, i)
		if list[i].Payload, err = (packet.Content{Kind: content.Letter, Body: b}).Payload(); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	p, err := l.Boxes.Prepare(to.ID, list)
	return p, errs.Wrap(op, err)
}

// Seal makes a letter of the relay of one mail to one recipient: it says that this relay took the
// mail by its own rules. errs.Invalid for a mail that the mix network does not carry.
func (l Letters) Seal(key *letter.PublicKey, to, from mail.Address, raw []byte, o letter.Options) (*letter.Sealed, error) {
	return l.seal(key, to, from, raw, 0, o)
}

// seal is Seal of a mail whose first bytes, so many as fields, are those of an alias.
func (l Letters) seal(key *letter.PublicKey, to, from mail.Address, raw []byte, fields int, o letter.Options) (*letter.Sealed, error) {
	const op = "agent/mixbox.Seal"
	if !lines(raw) {
		return nil, errs.E(op, errs.Invalid, "the mail has a line that does not end in CRLF", nil)
	}
	m := vouch.Mail{Flags: vouch.FromOrdinary, Recipients: []mail.Address{to.Canonical()}, Sender: from, Raw: raw}
	if fields > 0 {
		m.Flags |= vouch.ForAlias
	}
	if !pgpmime.Check(raw[fields:], pgpmime.Incoming, m.Recipients).Allowed() {
		m.Flags |= vouch.FromWorld
	}
	s, err := letter.Seal(key, letter.Message{Content: m.Append(nil), Date: l.Now().Truncate(time.Second), Signer: l.Signer, Sender: l.Domain}, o)
	return s, errs.Wrap(op, err)
}

// packetName names a packet of a letter in its box.
func packetName(id letter.ID, n int) [16]byte {
	h := sha256.New()
	h.Write([]byte("postern/relay letter\n"))
	h.Write(id[:])
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	return [16]byte(h.Sum(nil))
}

// lines reports whether every line ends in CRLF and there is no NUL: a proxy takes no other mail.
func lines(raw []byte) bool {
	for {
		i := bytes.IndexAny(raw, "\r\n\x00")
		if i < 0 {
			return true
		}
		if raw[i] != '\r' || i+1 == len(raw) || raw[i+1] != '\n' {
			return false
		}
		raw = raw[i+2:]
	}
}
