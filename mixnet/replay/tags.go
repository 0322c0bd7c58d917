package replay

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// The compact tag file of a key: a first block (magic 8, version u32, key u32, salt 32, CRC
// u32, zeros), then blocks of fingerprints (count u16, zero u16, CRC u32, fingerprints u64,
// zeros). CRC is CRC-32C over the whole block with the CRC zero, followed by the number of the block as u32.
const (
	tagMagic     = "PSTNTAG\n"
	tagsPerBlock = (blockLen - 8) / 8
	tagCRCAt     = 16 + saltLen
)

// keyState is what is known of one mix key.
type keyState struct {
	key    Key
	ended  bool
	lost   bool // its file cannot be read: nobody knows what was seen
	salt   [saltLen]byte
	cipher cipher.Block
	set    set
	filed  uint32   // blocks of the tag file, the first one too; 0: there is no file
	plain  [16]byte // scratch of fingerprint
}

// newKeyState knows a key by its salt.
func newKeyState(secret []byte, key Key, salt [saltLen]byte) (*keyState, error) {
	k := &keyState{key: key, salt: salt}
	fk, err := derive(secret, salt[:], "fingerprints")
	if err != nil {
		return nil, errs.E("mixnet/replay.newKeyState", errs.Internal, "", err)
	}
	if k.cipher, err = aes.NewCipher(fk); err != nil {
		return nil, errs.E("mixnet/replay.newKeyState", errs.Internal, "", err)
	}
	return k, nil
}

// fingerprint is half of the tag's image under AES-256, a keyed function of the tag that
// nobody outside can aim at. Two of n tags share one with a chance of n·2⁻⁶⁴ for the
// later: 2·10⁻¹² at 35 million. That one is then taken for a replay.
func (k *keyState) fingerprint(t Tag) uint64 {
	k.plain = t
	k.cipher.Encrypt(k.plain[:], k.plain[:])
	return max(1, binary.BigEndian.Uint64(k.plain[:])) // 0 is the empty slot
}

func tagFileName(k Key) string { return fmt.Sprintf("%08x.tags", uint32(k)) }

// parseTagFileName reads what tagFileName gives.
func parseTagFileName(s string) (k Key, ok bool) {
	var n uint32
	if _, err := fmt.Sscanf(s, "%08x.tags", &n); err != nil {
		return 0, false
	}
	return Key(n), tagFileName(Key(n)) == s
}

func crcOf(b []byte, block uint32) uint32 {
	return crc32.Update(crc32.Checksum(b, castagnoli()), castagnoli(), binary.BigEndian.AppendUint32(nil, block))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// tagHeader is the first block.
func tagHeader(k Key, salt [saltLen]byte) []byte {
	b := make([]byte, blockLen)
	copy(b, tagMagic)
	binary.BigEndian.PutUint32(b[8:], version)
	binary.BigEndian.PutUint32(b[12:], uint32(k))
	copy(b[16:], salt[:])
	binary.BigEndian.PutUint32(b[tagCRCAt:], crcOf(b, 0))
	return b
}

// readTagHeader gives the salt in a first block. errs.Corrupt; errs.NotFound where the block
// is all zeros, as a file that was being shredded leaves it.
func readTagHeader(k Key, b []byte) (salt [saltLen]byte, err error) {
	if len(b) == blockLen {
		if [blockLen]byte(b) == zeroBlock {
			return salt, errs.E("mixnet/replay.readTagHeader", errs.NotFound, "", nil)
		}
		salt = [saltLen]byte(b[16:])
		if string(tagHeader(k, salt)) == string(b) {
			return salt, nil
		}
	}
	return salt, errs.E("mixnet/replay.readTagHeader", errs.Corrupt, "", nil)
}

// appendTagBlock appends a block of at most tagsPerBlock fingerprints.
func appendTagBlock(dst []byte, block uint32, tags []uint64) []byte {
	dst = append(dst, zeroBlock[:]...)
	b := dst[len(dst)-blockLen:]
	binary.BigEndian.PutUint16(b, uint16(len(tags)))
	for i, f := range tags {
		binary.BigEndian.PutUint64(b[8+8*i:], f)
	}
	binary.BigEndian.PutUint32(b[4:], crcOf(b, block))
	return dst
}

// readTagBlock gives each fingerprint of a block to add. errs.Corrupt: none was given.
func readTagBlock(b []byte, block uint32, add func(uint64)) error {
	bad := errs.E("mixnet/replay.readTagBlock", errs.Corrupt, "", nil)
	if len(b) != blockLen {
		return bad
	}
	n, sum := int(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[4:])
	clear(b[4:8])
	if n == 0 || n > tagsPerBlock || b[2]|b[3] != 0 || crcOf(b, block) != sum {
		return bad
	}
	for i := range n {
		if binary.BigEndian.Uint64(b[8+8*i:]) == 0 {
			return bad
		}
	}
	for i := range n {
		add(binary.BigEndian.Uint64(b[8+8*i:]))
	}
	return nil
}

// loadTags reads a key's file. errs.NotFound: it was being shredded. errs.Corrupt: its first
// block is damaged. damaged counts blocks that
// cannot be read and have whole ones behind them; what is broken at the end was torn, and
// its tags are still in the segments.
func loadTags(fs vfs.FS, path string, secret []byte, key Key) (k *keyState, damaged int, err error) {
	const op = "mixnet/replay.loadTags"
	f, err := fs.Open(path)
	if err != nil {
		return nil, 0, diskError(op, err)
	}
	defer f.Close()
	chunk := make([]byte, 64*blockLen)
	bad := 0
	for block := uint32(0); ; {
		n, err := io.ReadFull(f, chunk)
		for b := chunk[:n]; len(b) > 0; b = b[min(blockLen, len(b)):] {
			one := b[:min(blockLen, len(b))]
			if block == 0 {
				salt, err := readTagHeader(key, one)
				if err != nil {
					return nil, 0, err
				}
				if k, err = newKeyState(secret, key, salt); err != nil {
					return nil, 0, err
				}
				k.filed = 1
			} else if readTagBlock(one, block, func(f uint64) { k.set.add(f) }) == nil {
				k.filed = block + 1
				damaged += bad
				bad = 0
			} else {
				bad++
			}
			block++
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			if k == nil {
				return nil, 0, errs.E(op, errs.Corrupt, "", nil)
			}
			return k, damaged, nil
		case err != nil:
			return nil, 0, diskError(op, err)
		}
	}
}

// file appends fingerprints to the key's file, which is made if it is missing, and syncs.
// The order of tags is not kept: it is the order in which packets came.
func (k *keyState) file(fs vfs.FS, path string, tags []uint64) error {
	const op = "mixnet/replay.file"
	if k.filed == 0 {
		if err := vfs.WriteFileAtomic(fs, path, tagHeader(k.key, k.salt), 0o600); err != nil {
			return errs.Wrap(op, err)
		}
		k.filed = 1
	}
	slices.Sort(tags)
	var b []byte
	block := k.filed
	for part := range slices.Chunk(tags, tagsPerBlock) {
		b = appendTagBlock(b, block, part)
		block++
	}
	f, err := fs.OpenReadWrite(path, vfs.Unspecified)
	if err != nil {
		return diskError(op, err)
	}
	_, err = f.WriteAt(b, int64(k.filed)*blockLen)
	if err == nil {
		err = f.SyncData()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return diskError(op, err)
	}
	k.filed = block
	return nil
}
