package nym

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Kinds of keys. See the package documentation.
const (
	prefix    = 'x'
	kindStock = 'r'
	kindBlock = 'b'
	kindOut   = 'o'
)

// Lengths in bytes.
const (
	// BlockLen is that of a reply block (mixnet/packet.SURBLen), KeyLen that of the key of a set
	// (mixnet/letter.PublicKeyLen).
	BlockLen = 5016
	KeyLen   = 1216
	HintLen  = 16

	version   = 1
	placeLen  = 20
	keyLen    = 2 + placeLen
	numberLen = 4
	headLen   = 1 + 8 + 4 + 8 + 1
	setLen    = HintLen + KeyLen + 1
	entryLen  = numberLen + 8
	// maxBody bounds what is sent with one block.
	maxBody = 32 << 10
)

var errForm = errors.New("a record has another form")

// place is where the stock of a name lies.
type place struct {
	at    [placeLen]byte
	shard store.Shard
}

func (s *Stock) place(name string) place {
	at, shard := s.o.Root.MixPlace(kindStock, sha256.Sum256([]byte(name)))
	return place{at, shard}
}

func (p place) key(kind byte) []byte { return append([]byte{prefix, kind}, p.at[:]...) }

func (p place) numbered(kind byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(p.key(kind), n)
}

// entry is a block that can be used.
type entry struct {
	number  uint32
	expires uint64 // seconds since 1970
}

// blockSet is one set of a stock. Its entries are sorted by expiry.
type blockSet struct {
	hint    [HintLen]byte
	key     [KeyLen]byte
	entries []entry
}

// stock is the first record of a name.
type stock struct {
	serial uint64
	next   uint32
	until  uint64 // when the last block that ever came expires
	sets   []blockSet
}

func (st *stock) encode() []byte {
	b := make([]byte, 0, headLen+len(st.sets)*setLen+MaxBlocks*entryLen)
	b = binary.BigEndian.AppendUint64(append(b, version), st.serial)
	b = binary.BigEndian.AppendUint32(b, st.next)
	b = binary.BigEndian.AppendUint64(b, st.until)
	b = append(b, byte(len(st.sets)))
	for i := range st.sets {
		set := &st.sets[i]
		b = append(append(append(b, set.hint[:]...), set.key[:]...), byte(len(set.entries)))
		for _, e := range set.entries {
			b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, e.number), e.expires)
		}
	}
	return b
}

func decode(b []byte) (*stock, error) {
	bad := errs.E("post/nym.decode", errs.Corrupt, "", errForm)
	if len(b) < headLen || b[0] != version {
		return nil, bad
	}
	st := &stock{serial: binary.BigEndian.Uint64(b[1:]), next: binary.BigEndian.Uint32(b[9:]), until: binary.BigEndian.Uint64(b[13:])}
	sets, total := int(b[21]), 0
	b = b[headLen:]
	for range sets {
		if len(b) < setLen {
			return nil, bad
		}
		set := blockSet{hint: [HintLen]byte(b), key: [KeyLen]byte(b[HintLen:])}
		n := int(b[setLen-1])
		b = b[setLen:]
		if total += n; n == 0 || total > MaxBlocks || len(b) < n*entryLen {
			return nil, bad
		}
		for range n {
			e := entry{binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[numberLen:])}
			if e.number >= st.next || e.expires > st.until || len(set.entries) > 0 && e.expires < set.entries[len(set.entries)-1].expires {
				return nil, bad
			}
			set.entries = append(set.entries, e)
			b = b[entryLen:]
		}
		st.sets = append(st.sets, set)
	}
	if len(b) != 0 || sets > MaxSets {
		return nil, bad
	}
	return st, nil
}

// left is how many blocks there are, and when the last of them expires.
func (st *stock) left() (n int, until uint64) {
	for i := range st.sets {
		for _, e := range st.sets[i].entries {
			n, until = n+1, max(until, e.expires)
		}
	}
	return n, until
}

// prune takes out blocks that cannot be used at least at the time until, and gives their numbers.
func (st *stock) prune(until uint64) (gone []uint32) {
	for i := range st.sets {
		set := &st.sets[i]
		for len(set.entries) > 0 && set.entries[0].expires < until {
			gone = append(gone, set.entries[0].number)
			set.entries = set.entries[1:]
		}
	}
	st.sets = slices.DeleteFunc(st.sets, func(s blockSet) bool { return len(s.entries) == 0 })
	return gone
}

// find gives the set with a hint and key; nil if there is none.
func (st *stock) find(hint [HintLen]byte, key *[KeyLen]byte) *blockSet {
	for i := range st.sets {
		if s := &st.sets[i]; s.hint == hint && bytes.Equal(s.key[:], key[:]) {
			return s
		}
	}
	return nil
}

// add puts a block under a number of its own into a set.
func (st *stock) add(set *blockSet, expires uint64) (number uint32) {
	e := entry{st.next, expires}
	st.next++
	st.until = max(st.until, expires)
	i, _ := slices.BinarySearchFunc(set.entries, expires+1, func(e entry, t uint64) int {
		if e.expires < t {
			return -1
		}
		return 1
	})
	set.entries = slices.Insert(set.entries, i, e)
	return e.number
}

// read gives the record of a name. errs.NotFound.
func (s *Stock) read(r store.Reader, p place) (*stock, error) {
	k := p.key(kindStock)
	v, err := r.Get(k)
	if err != nil {
		return nil, err
	}
	return s.openStock(k, v)
}

func (s *Stock) openStock(k, v []byte) (*stock, error) {
	b, err := s.o.Root.Open(seal.PurposeMixReply, k, v)
	if err != nil {
		return nil, err
	}
	return decode(b)
}

func (s *Stock) write(tx store.Tx, p place, st *stock) error {
	k := p.key(kindStock)
	v, err := s.o.Root.Seal(seal.PurposeMixReply, k, st.encode())
	if err != nil {
		return err
	}
	return tx.Set(k, v)
}

func seconds(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) }
