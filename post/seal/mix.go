package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"postern.email/store"
)

// MailboxID is the mailbox of an account in the mix network: what packets for it name. It is
// made of the root key and the account's number, so that nobody else can tell whose it is.
func (r *Root) MailboxID(id AccountID) [32]byte {
	return r.mixSum(labelMixMailbox, id[:])
}

// MixShards is how many shards hold the names of mailboxes and link keys: few, so that all of
// them can be read quickly.
const MixShards = 64

// MixPlace is where the record of a mailbox or link key lies: a keyed hash, so that the disk
// does not tell which ones this node knows. kind keeps apart what names are of.
func (r *Root) MixPlace(kind byte, name [32]byte) (place [20]byte, shard store.Shard) {
	sum := r.mixSum(labelMixPlace, []byte{kind}, name[:])
	return [20]byte(sum[:20]), store.Shard(sum[20] % MixShards)
}

// PacketMark is the keyed hash by which an account remembers the name of a packet.
func (r *Root) PacketMark(id AccountID, name [16]byte) [16]byte {
	sum := r.mixSum(labelMixPacket, id[:], name[:])
	return [16]byte(sum[:])
}

// MixPassphrase is what the node's own keys in the mix network are sealed with on the disk.
func (r *Root) MixPassphrase() []byte {
	sum := r.mixSum(labelMixKeys)
	return base64.RawStdEncoding.AppendEncode(nil, sum[:])
}

// mixSum hashes parts of fixed lengths under the key for one use: none of the labels is the
// begin of another.
func (r *Root) mixSum(label string, parts ...[]byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, r.mix[:])
	m.Write([]byte(label))
	m.Write([]byte{0})
	for _, p := range parts {
		m.Write(p)
	}
	m.Sum(sum[:0])
	return sum
}
