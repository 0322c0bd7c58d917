package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"postern.email/mail"
	"postern.email/store"
)

// What is hashed under the key for aliases.
const (
	aliasPlace = 'p'
	aliasToken = 't'
	aliasTags  = 'm'
)

// AliasPlace is under which key an owner's alias lies among its others: another than
// NameKey, so that the disk does not show which name is whose.
func (r *Root) AliasPlace(owner AccountID, addr mail.Address) [20]byte {
	return r.AliasPlaceOf(owner, r.NameKey(addr))
}

// AliasPlaceOf is AliasPlace of a name that is only known by its NameKey.
func (r *Root) AliasPlaceOf(owner AccountID, name [20]byte) [20]byte {
	sum := r.aliasSum(aliasPlace, owner[:], name[:])
	return [20]byte(sum[:20])
}

// AliasTags is the key of the MACs by which an alias knows its correspondents.
func (r *Root) AliasTags(owner AccountID, addr mail.Address) (key [16]byte) {
	c := addr.Canonical()
	sum := r.aliasSum(aliasTags, owner[:], []byte(c.Local), []byte(c.Domain))
	copy(key[:], sum[:])
	return key
}

// TokenPlace is where the record of a token for aliases lies: a keyed hash, so that neither the
// disk nor how long a search takes tells anything about the token.
func (r *Root) TokenPlace(token string) (place [20]byte, shard store.Shard) {
	sum := r.aliasSum(aliasToken, []byte(token))
	return [20]byte(sum[:20]), store.Shard(binary.BigEndian.Uint16(sum[20:]) % store.Shards)
}

// aliasSum hashes parts, each behind its length, under the key for aliases.
func (r *Root) aliasSum(use byte, parts ...[]byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, r.alias[:])
	m.Write([]byte{use})
	var n [4]byte
	for _, p := range parts {
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		m.Write(n[:])
		m.Write(p)
	}
	m.Sum(sum[:0])
	return sum
}
