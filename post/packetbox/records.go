package packetbox

import (
	"encoding/binary"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Letters and kinds of keys. See the package documentation.
const (
	letter      = 'u' // behind the account's prefix
	kindClients = 'c'
	kindState   = 's'
	kindMark    = 'n'
	kindPacket  = 'p'

	letterName  = 'x' // at the begin of a key
	nameMailbox = 'm'
	nameClient  = 'k'
)

// Lengths in bytes.
const (
	version    = 1
	placeLen   = 20
	nameKeyLen = 2 + placeLen
	markLen    = 16
	stateLen   = 1 + 8 + 4
	markRecord = 1 + 4
	clientLen  = KeyLen + 4
	packetHead = 1 + 1 + 2 + 4 + markLen // version, kind, zero, day, mark of the reply block
	packetLen  = packetHead + PayloadLen
)

// KeyLen is the length in bytes of a link key's name and of a mailbox.
const KeyLen = 32

func corrupt(op string, err error) error { return errs.E(op, errs.Corrupt, "", err) }

func keyOf(id seal.AccountID, kind byte) []byte { return append(id.Prefix(), letter, kind) }

func clientsKey(id seal.AccountID) []byte { return keyOf(id, kindClients) }
func stateKey(id seal.AccountID) []byte   { return keyOf(id, kindState) }

func markKey(id seal.AccountID, m [markLen]byte) []byte { return append(keyOf(id, kindMark), m[:]...) }

func packetKey(id seal.AccountID, n uint64) []byte {
	return binary.BigEndian.AppendUint64(keyOf(id, kindPacket), n)
}

// ends gives the first key behind those of a kind.
func ends(id seal.AccountID, kind byte) []byte { return append(id.Prefix(), letter, kind+1) }

func nameKey(kind byte, place [placeLen]byte) []byte {
	return append([]byte{letterName, kind}, place[:]...)
}

// dayOf gives the days since 1970 in UTC.
func dayOf(t time.Time) uint32 { return uint32(max(t.Unix(), 0) / (24 * 60 * 60)) }

// over reports whether what came on day is older than so many days. A day that lies far ahead
// was written while the clock was wrong, and must not last for ever.
func over(day, today uint32, days int) bool {
	age := int64(today) - int64(day)
	return age > int64(days) || age < -int64(days)
}

// state is how a mailbox stands. Its record is written anew by each change, so that one can be
// waited for (Watch).
type state struct {
	next    uint64 // number of the next packet; the first is 1
	waiting uint32
}

func (s state) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{version}, s.next)
	return binary.BigEndian.AppendUint32(b, s.waiting)
}

func decodeState(b []byte) (state, error) {
	if len(b) != stateLen || b[0] != version {
		return state{next: 1}, corrupt("post/packetbox.decodeState", nil)
	}
	s := state{binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint32(b[9:])}
	if s.next == 0 || uint64(s.waiting) >= s.next {
		return state{next: 1}, corrupt("post/packetbox.decodeState", nil)
	}
	return s, nil
}

// getState gives the state; a mailbox that never got anything has none on disk.
func getState(r store.Reader, id seal.AccountID) (state, error) {
	v, err := r.Get(stateKey(id))
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return state{next: 1}, nil
	}
	if err != nil {
		return state{next: 1}, err
	}
	return decodeState(v)
}

func encodeMark(day uint32) []byte { return binary.BigEndian.AppendUint32([]byte{version}, day) }

func decodeMark(b []byte) (day uint32, err error) {
	if len(b) != markRecord || b[0] != version {
		return 0, corrupt("post/packetbox.decodeMark", nil)
	}
	return binary.BigEndian.Uint32(b[1:]), nil
}

// Kinds of packets in a record.
const (
	packetDelivered = 1
	packetReply     = 2
)

// sealPacket seals a packet that came on day.
func (b *Boxes) sealPacket(id seal.AccountID, p *Packet, day uint32) ([]byte, error) {
	kind := byte(packetDelivered)
	if p.Reply {
		kind = packetReply
	}
	plain := append(make([]byte, 0, packetLen), version, kind, 0, 0)
	plain = binary.BigEndian.AppendUint32(plain, day)
	plain = append(plain, p.Mark[:]...)
	plain = append(plain, p.Payload...)
	return b.o.Root.Seal(seal.PurposeMixPacket, id[:], plain)
}

// openPacket opens what sealPacket made.
func (b *Boxes) openPacket(id seal.AccountID, n uint64, v []byte) (it Item, day uint32, err error) {
	const op = "post/packetbox.openPacket"
	plain, err := b.o.Root.Open(seal.PurposeMixPacket, id[:], v)
	if err != nil {
		return Item{}, 0, errs.Wrap(op, err)
	}
	if len(plain) != packetLen || plain[0] != version || plain[1] != packetDelivered && plain[1] != packetReply || plain[2]|plain[3] != 0 {
		return Item{}, 0, corrupt(op, nil)
	}
	it = Item{Number: n, Reply: plain[1] == packetReply, Mark: [markLen]byte(plain[8:]), Payload: plain[packetHead:packetLen:packetLen]}
	return it, binary.BigEndian.Uint32(plain[4:]), nil
}

// number reads the number in a packet's key.
func number(k []byte) (uint64, bool) {
	const head = 1 + len(seal.AccountID{}) + 2
	if len(k) != head+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(k[head:]), true
}

// encodeClients has the same length for any number of clients.
func encodeClients(list []Client) []byte {
	b := append(make([]byte, 0, 2+MaxKeys*clientLen), version, byte(len(list)))
	for _, c := range list {
		b = append(b, c.Key[:]...)
		b = binary.BigEndian.AppendUint32(b, c.day)
	}
	return b[:cap(b)]
}

func decodeClients(b []byte) ([]Client, error) {
	const op = "post/packetbox.decodeClients"
	if len(b) != 2+MaxKeys*clientLen || b[0] != version || b[1] > MaxKeys {
		return nil, corrupt(op, nil)
	}
	list := make([]Client, b[1])
	b = b[2:]
	for i := range list {
		list[i] = Client{Key: [KeyLen]byte(b), day: binary.BigEndian.Uint32(b[KeyLen:])}
		b = b[clientLen:]
	}
	for _, c := range b {
		if c != 0 {
			return nil, corrupt(op, nil)
		}
	}
	return list, nil
}

// nameAAD binds the record of a name to its place.
func nameAAD(kind byte, place [placeLen]byte) []byte { return nameKey(kind, place) }

func (b *Boxes) sealName(kind byte, place [placeLen]byte, id seal.AccountID) ([]byte, error) {
	return b.o.Root.Seal(seal.PurposeMixName, nameAAD(kind, place), append([]byte{version}, id[:]...))
}

func (b *Boxes) openName(kind byte, place [placeLen]byte, v []byte) (id seal.AccountID, err error) {
	const op = "post/packetbox.openName"
	plain, err := b.o.Root.Open(seal.PurposeMixName, nameAAD(kind, place), v)
	if err != nil {
		return id, errs.Wrap(op, err)
	}
	if len(plain) != 1+len(id) || plain[0] != version {
		return id, corrupt(op, nil)
	}
	return seal.AccountID(plain[1:]), nil
}
