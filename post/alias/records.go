package alias

import (
	"encoding/binary"
	"math"
	"slices"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
)

// version is that of every record here.
const version = 1

// block is what records are filled up to multiples of, so that their length does not tell those of
// addresses.
const block = 128

// is reports whether err is of kind k; not a cause further down.
func is(err error, k errs.Kind) bool { return err != nil && errs.KindOf(err) == k }

// rules is what its owner says of an alias.
type rules struct {
	addr      mail.Address // canonical
	derived   bool
	mode      Mode
	pinDomain bool
	paused    bool
	class     Class
	created   Day
	deleted   Day // 0: it is not
	noticed   bool
	expires   int64 // seconds since 1970; 0: never
	maxMails  uint32
	base      uint32 // received when the count was begun anew
	idleDays  uint16
	since     Day // idleness is counted from here at the earliest
	notes     []byte
}

const (
	flagDerived = 1 << iota
	flagPaused
	flagPinDomain
	flagNoticed
	flagsKnown = 1<<iota - 1
)

func (r *rules) encode() []byte {
	var flags byte
	for i, on := range []bool{r.derived, r.paused, r.pinDomain, r.noticed} {
		if on {
			flags |= 1 << i
		}
	}
	b := []byte{version, flags, byte(r.mode), byte(r.class)}
	for _, n := range []uint64{uint64(r.created), uint64(r.deleted), uint64(r.expires), uint64(r.maxMails), uint64(r.base), uint64(r.idleDays), uint64(r.since)} {
		b = binary.AppendUvarint(b, n)
	}
	b = codec.AppendSized(b, r.addr.Local)
	b = codec.AppendSized(b, r.addr.Domain)
	b = codec.AppendSized(b, r.notes)
	return codec.Fill(b, block)
}

// maxNotes bounds the sealed notes in a record.
const maxNotes = 8 << 10

func decodeRules(b []byte) (*rules, error) {
	d := codec.NewReader(b, version)
	flags, mode, class := d.Byte(), d.Byte(), d.Byte()
	if flags > flagsKnown || Mode(mode) >= numModes || Class(class) >= numClasses {
		d.Fail()
	}
	r := &rules{derived: flags&flagDerived != 0, paused: flags&flagPaused != 0, pinDomain: flags&flagPinDomain != 0, noticed: flags&flagNoticed != 0,
		mode: Mode(mode), class: Class(class)}
	r.created, r.deleted, r.expires = Day(d.Uint32()), Day(d.Uint32()), d.Int(math.MaxInt64)
	r.maxMails, r.base, r.idleDays, r.since = d.Uint32(), d.Uint32(), uint16(d.Int(math.MaxUint16)), Day(d.Uint32())
	r.addr = mail.Address{Local: d.String(mail.MaxLocal), Domain: d.String(mail.MaxDomain)}
	r.notes = slices.Clone(d.Sized(maxNotes))
	d.Filling(block)
	if r.addr.Local == "" || r.addr.Domain == "" {
		d.Fail()
	}
	if err := d.End("post/alias.decodeRules"); err != nil {
		return nil, err
	}
	return r, nil
}

// What an alias knows of a correspondent.
const (
	isPinned  = 1 << iota // the first to write
	isAllowed             // by the owner
	isBlocked             // by the owner
	isWritten             // the owner wrote to it
	isAsking              // its mail was put off
	isTaken               // mail of it was taken
	isDomain              // it stands for a domain
	isKnown   = 1<<iota - 1

	isRule = isAllowed | isBlocked // stays when room is made
)

// person is a correspondent, under its tag.
type person struct {
	tag         tag
	is          byte
	first, last Day // of mail; of one that asks, of the first and the last try; 0: none
	mails       uint32
}

const personLen = tagLen + 1 + 4 + 4 + 4

// state is what has happened to an alias. people are in the order in which they were seen last.
type state struct {
	received, refused, sent uint32
	last                    Day
	people                  []person
}

func (s *state) encode() []byte {
	b := []byte{version}
	for _, n := range []uint32{s.received, s.refused, s.sent, uint32(s.last), uint32(len(s.people))} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for i := range s.people {
		p := &s.people[i]
		b = append(append(b, p.tag[:]...), p.is)
		b = binary.BigEndian.AppendUint32(b, uint32(p.first))
		b = binary.BigEndian.AppendUint32(b, uint32(p.last))
		b = binary.BigEndian.AppendUint32(b, p.mails)
	}
	return codec.Fill(b, block)
}

func decodeState(b []byte) (*state, error) {
	d := codec.NewReader(b, version)
	number := func() uint32 {
		if v := d.Bytes(4); v != nil {
			return binary.BigEndian.Uint32(v)
		}
		return 0
	}
	s := &state{received: number(), refused: number(), sent: number(), last: Day(number())}
	n := number()
	if n > MostCorrespondents {
		d.Fail()
		n = 0
	}
	if n > 0 {
		s.people = make([]person, 0, min(int(n), len(b)/personLen))
	}
	for range n {
		p := person{}
		copy(p.tag[:], d.Bytes(tagLen))
		p.is, p.first, p.last, p.mails = d.Byte(), Day(number()), Day(number()), number()
		if p.is == 0 || p.is > isKnown {
			d.Fail()
		}
		if d.Bad() {
			break
		}
		s.people = append(s.people, p)
	}
	d.Filling(block)
	if err := d.End("post/alias.decodeState"); err != nil {
		return nil, err
	}
	return s, nil
}

// ownerRecord is what the server knows of an owner.
type ownerRecord struct {
	began, seen Day
	count       uint32 // aliases that are not deleted
	target      mail.Address
	wrapped     []byte // the vault's seed, sealed to the account; empty where there is none
	dead        uint32 // aliases that were deleted, also those of which only the name is left
	ended       bool   // EndOwner was here: the record keeps dead for an account that begins again
}

// maxWrapped bounds the sealed seed.
const maxWrapped = 256

func (r *ownerRecord) encode() []byte {
	b := []byte{version}
	for _, n := range []uint32{uint32(r.began), uint32(r.seen), r.count} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = codec.AppendSized(b, r.target.Local)
	b = codec.AppendSized(b, r.target.Domain)
	b = binary.AppendUvarint(codec.AppendSized(b, r.wrapped), uint64(r.dead))
	if r.ended {
		b = append(b, 1)
	}
	return codec.Fill(b, 4*block) // one length for all: whether an owner is one elsewhere does not show
}

func decodeOwner(b []byte) (*ownerRecord, error) {
	d := codec.NewReader(b, version)
	r := &ownerRecord{began: Day(d.Uint32()), seen: Day(d.Uint32()), count: d.Uint32()}
	r.target = mail.Address{Local: d.String(mail.MaxLocal), Domain: d.String(mail.MaxDomain)}
	r.wrapped = slices.Clone(d.Sized(maxWrapped))
	// A record from before these two were counted has zeros here.
	r.dead = d.Uint32()
	ended := d.Byte()
	r.ended = ended == 1
	d.Filling(4 * block)
	if ended > 1 {
		d.Fail()
	}
	if (r.target.Local == "") != (r.target.Domain == "") {
		d.Fail()
	}
	if err := d.End("post/alias.decodeOwner"); err != nil {
		return nil, err
	}
	return r, nil
}

// tokenRecord is a token, among those of its owner.
type tokenRecord struct {
	place     [placeLen]byte // of the record that is found by the token
	scope     Scope
	made      Day
	used      Day // 0: never
	shard     uint16
	nameBytes []byte // its name, sealed to the vault
}

// maxTokenName bounds a token's name in bytes.
const maxTokenName = 64

func (r *tokenRecord) encode() []byte {
	b := append([]byte{version, byte(r.scope)}, r.place[:]...)
	b = binary.BigEndian.AppendUint16(b, r.shard)
	b = binary.BigEndian.AppendUint32(b, uint32(r.made))
	b = binary.BigEndian.AppendUint32(b, uint32(r.used))
	return append(b, r.nameBytes...)
}

func decodeToken(b []byte) (*tokenRecord, error) {
	d := codec.NewReader(b, version)
	r := &tokenRecord{scope: Scope(d.Byte())}
	copy(r.place[:], d.Bytes(placeLen))
	rest := d.Bytes(2 + 4 + 4)
	if rest != nil {
		r.shard = binary.BigEndian.Uint16(rest)
		r.made, r.used = Day(binary.BigEndian.Uint32(rest[2:])), Day(binary.BigEndian.Uint32(rest[6:]))
	}
	r.nameBytes = slices.Clone(d.Rest())
	if r.scope == 0 || r.scope > ScopeAll {
		d.Fail()
	}
	if err := d.End("post/alias.decodeToken"); err != nil {
		return nil, err
	}
	return r, nil
}

// placeRecord is what a token finds.
type placeRecord struct {
	owner   Owner
	id      [idLen]byte
	scope   Scope
	wrapped []byte // the vault's seed, wrapped by the token
}

func (r *placeRecord) encode() []byte {
	b := append([]byte{version, byte(r.scope)}, r.owner[:]...)
	return append(append(b, r.id[:]...), r.wrapped...)
}

func decodePlace(b []byte) (*placeRecord, error) {
	d := codec.NewReader(b, version)
	r := &placeRecord{scope: Scope(d.Byte())}
	copy(r.owner[:], d.Bytes(len(r.owner)))
	copy(r.id[:], d.Bytes(idLen))
	r.wrapped = slices.Clone(d.Rest())
	if r.scope == 0 || r.scope > ScopeAll || len(r.wrapped) != seal.TokenWrapLen {
		d.Fail()
	}
	if err := d.End("post/alias.decodePlace"); err != nil {
		return nil, err
	}
	return r, nil
}

// encodeKey is the record of an alias key.
func encodeKey(key *[32]byte) []byte { return append([]byte{version}, key[:]...) }

func decodeKey(b []byte) (key [32]byte, err error) {
	d := codec.NewReader(b, version)
	copy(key[:], d.Bytes(len(key)))
	return key, d.End("post/alias.decodeKey")
}

// encodeVault is the readable record of a vault.
func encodeVault(pub seal.PublicKey) []byte { return append([]byte{version}, pub...) }

func decodeVault(b []byte) (seal.PublicKey, error) {
	d := codec.NewReader(b, version)
	pub := slices.Clone(d.Bytes(seal.PublicKeyLen))
	return pub, d.End("post/alias.decodeVault")
}

// encode gives what is sealed to the vault of notes.
func (n *Notes) encode() []byte {
	b := codec.AppendSized([]byte{version}, n.Site)
	return codec.AppendSized(codec.AppendSized(b, n.Label), n.Note)
}

func decodeNotes(b []byte) (Notes, error) {
	d := codec.NewReader(b, version)
	n := Notes{Site: d.String(MaxSite), Label: d.String(MaxLabel), Note: d.String(MaxNote)}
	return n, d.End("post/alias.decodeNotes")
}
