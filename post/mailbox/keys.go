package mailbox

import (
	"encoding/binary"

	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Kinds of keys: the byte behind the account's prefix. The table in the package
// documentation says what lies there. i, k and t belong to post/account.
const (
	kindCounters   = 'c' // one per account
	kindFolder     = 'f' // box
	kindFolderList = 'v' // one per account
	kindState      = 's' // box
	kindMetadata   = 'o' // box; 0: the account's
	kindPage       = 'p' // series, lowest UID it was made for
	kindKeywords   = 'w' // series, UID
	kindSaved      = 'y' // series, UID
	kindKeyNames   = 'l' // series
	kindTombstone  = 'x' // series, modseq
	kindDoomed     = 'd' // series
	kindMessage    = 'm' // mid
	kindBody       = 'b' // mid
	kindRefs       = 'r' // mid
	kindBlob       = 'g' // name
	kindEncap      = 'e' // chain
	kindChainRefs  = 'n' // chain
)

// kinds lists all but the counters: what Remove deletes.
const kinds = "fvsopwylxdmbrgen"

func key(id seal.AccountID, kind byte) []byte {
	k := make([]byte, 0, 32)
	k = append(k, seal.AccountPrefix)
	k = append(k, id[:]...)
	return append(k, kind)
}

func key32(id seal.AccountID, kind byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(key(id, kind), n)
}

func key64(id seal.AccountID, kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(key(id, kind), n)
}

func key32x2(id seal.AccountID, kind byte, n, m uint32) []byte {
	return binary.BigEndian.AppendUint32(key32(id, kind, n), m)
}

func countersKey(id seal.AccountID) []byte           { return key(id, kindCounters) }
func foldersKey(id seal.AccountID) []byte            { return key(id, kindFolder) }
func folderListKey(id seal.AccountID) []byte         { return key(id, kindFolderList) }
func folderKey(id seal.AccountID, box uint32) []byte { return key32(id, kindFolder, box) }
func stateKey(id seal.AccountID, box uint32) []byte  { return key32(id, kindState, box) }
func metadataKey(id seal.AccountID, box uint32) []byte {
	return key32(id, kindMetadata, box)
}
func pageKey(id seal.AccountID, series, uid uint32) []byte {
	return key32x2(id, kindPage, series, uid)
}
func keywordsKey(id seal.AccountID, series, uid uint32) []byte {
	return key32x2(id, kindKeywords, series, uid)
}
func savedKey(id seal.AccountID, series, uid uint32) []byte {
	return key32x2(id, kindSaved, series, uid)
}
func keyNamesKey(id seal.AccountID, series uint32) []byte { return key32(id, kindKeyNames, series) }
func tombstoneKey(id seal.AccountID, series uint32, modseq uint64) []byte {
	return binary.BigEndian.AppendUint64(key32(id, kindTombstone, series), modseq)
}
func doomedKey(id seal.AccountID, series uint32) []byte { return key32(id, kindDoomed, series) }
func messageKey(id seal.AccountID, mid uint64) []byte   { return key64(id, kindMessage, mid) }
func bodyKey(id seal.AccountID, mid uint64) []byte      { return key64(id, kindBody, mid) }
func refsKey(id seal.AccountID, mid uint64) []byte      { return key64(id, kindRefs, mid) }
func blobKey(id seal.AccountID, name blob.Name) []byte  { return append(key(id, kindBlob), name[:]...) }
func encapKey(id seal.AccountID, c seal.ChainID) []byte { return append(key(id, kindEncap), c[:]...) }
func chainRefsKey(id seal.AccountID, c seal.ChainID) []byte {
	return append(key(id, kindChainRefs), c[:]...)
}

// after gives the first key behind all keys that begin with k.
func after(k []byte) []byte { return store.Behind(k) }

// pageRange gives the keys of all pages of a series.
func pageRange(id seal.AccountID, series uint32) (start, end []byte) {
	start = key32(id, kindPage, series)
	return start, after(start)
}

// kindOf splits a key of an account into kind and rest; ok is false for other keys.
func kindOf(k []byte) (id seal.AccountID, kind byte, rest []byte, ok bool) {
	if len(k) < 10 || k[0] != seal.AccountPrefix {
		return id, 0, nil, false
	}
	copy(id[:], k[1:9])
	return id, k[9], k[10:], true
}

// keyUID gives the number in the last four bytes of a key, keyUint64 in the last eight.
func keyUID(k []byte) uint32    { return binary.BigEndian.Uint32(k[len(k)-4:]) }
func keyUint64(k []byte) uint64 { return binary.BigEndian.Uint64(k[len(k)-8:]) }
