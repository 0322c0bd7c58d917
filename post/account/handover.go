package account

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// The opened keys on their way to the next process: magic, the key of the
// password checks, the number of accounts, and for each its number, seed,
// password check and the hash of the key record it was opened from.
const (
	handoverMagic = "postern keys 1\n"
	handoverEntry = len(seal.AccountID{}) + seal.SeedLen + 32 + 32
	handoverHead  = len(handoverMagic) + 32 + 4
)

// handedKey is one opened key.
type handedKey struct {
	id       seal.AccountID
	seed     [seal.SeedLen]byte
	check    [32]byte
	recordID [32]byte
}

// ExportKeys writes the opened keys for the next process, which reads them with
// ImportKeys: for a planned restart, into a Memfd, never a file. At most
// MaxIdleKeys are written. Logins go on; what they open later is not in it.
func (a *Accounts) ExportKeys(w io.Writer) (n int, err error) {
	const op = "account.ExportKeys"
	checkKey, keys := a.ring.hand(a.o.MaxIdleKeys)
	b := encodeKeys(checkKey, keys)
	defer clear(b)
	clear(checkKey[:])
	clear(keys)
	if _, err := w.Write(b); err != nil {
		return 0, errs.E(op, errs.Unavailable, "", err)
	}
	return len(keys), nil
}

// hand copies the check key and up to limit keys, those in use first.
func (r *keyring) hand(limit int) (checkKey [32]byte, keys []handedKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(k *openKey) {
		if len(keys) >= limit {
			return
		}
		h := handedKey{id: k.id, check: k.check, recordID: k.recordID}
		if seed, err := k.key.AppendSeed(nil); err == nil {
			copy(h.seed[:], seed)
			clear(seed)
			keys = append(keys, h)
		}
	}
	keys = make([]handedKey, 0, min(limit, len(r.keys))) // no copies of seeds left by growth
	for _, k := range r.keys {
		if k.refs > 0 {
			add(k)
		}
	}
	for e := r.idle.Front(); e != nil; e = e.Next() {
		if k := e.Value.(*openKey); !r.overdue(k) {
			add(k)
		}
	}
	return r.checkKey, keys
}

func encodeKeys(checkKey [32]byte, keys []handedKey) []byte {
	b := make([]byte, 0, handoverHead+len(keys)*handoverEntry)
	b = append(b, handoverMagic...)
	b = append(b, checkKey[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(keys)))
	for _, k := range keys {
		b = append(b, k.id[:]...)
		b = append(b, k.seed[:]...)
		b = append(b, k.check[:]...)
		b = append(b, k.recordID[:]...)
	}
	return b
}

// decodeKeys reads what encodeKeys made, at most limit keys, and nothing behind it.
func decodeKeys(r io.Reader, limit int) (checkKey [32]byte, keys []handedKey, err error) {
	const op = "account.decodeKeys"
	bad := func(err error) ([32]byte, []handedKey, error) {
		clear(keys)
		return [32]byte{}, nil, errs.E(op, errs.Corrupt, "", err)
	}
	var head [handoverHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return bad(err)
	}
	rest, ok := bytes.CutPrefix(head[:], []byte(handoverMagic))
	if !ok {
		return bad(nil)
	}
	copy(checkKey[:], rest)
	clear(rest[:32])
	n := binary.BigEndian.Uint32(rest[32:])
	if int64(n) > int64(limit) {
		return bad(nil)
	}
	var e [handoverEntry]byte
	defer clear(e[:])
	for range n { // grown entry by entry: a count alone takes no memory
		if _, err := io.ReadFull(r, e[:]); err != nil {
			return bad(err)
		}
		k := handedKey{}
		b := e[:]
		b = b[copy(k.id[:], b):]
		b = b[copy(k.seed[:], b):]
		b = b[copy(k.check[:], b):]
		copy(k.recordID[:], b)
		keys = append(keys, k)
	}
	if m, err := r.Read(e[:1]); m != 0 || err != io.EOF {
		return bad(err)
	}
	return checkKey, keys, nil
}

// ImportKeys takes over what ExportKeys wrote, before the first login of this
// process (errs.Conflict later). Each key begins a grace. Keys whose account or
// password has changed are left out. It reads at most MaxIdleKeys keys.
func (a *Accounts) ImportKeys(ctx context.Context, r io.Reader) (n int, err error) {
	const op = "account.ImportKeys"
	checkKey, keys, err := decodeKeys(r, a.o.MaxIdleKeys)
	if err != nil {
		return 0, errs.Wrap(op, err)
	}
	defer clear(keys)
	if err := a.ring.adopt(checkKey); err != nil {
		return 0, errs.Wrap(op, err)
	}
	for _, h := range keys {
		gen := a.ring.generation(h.id)
		key, err := a.imported(ctx, h)
		if err != nil {
			return n, errs.Wrap(op, err)
		}
		if key == nil {
			continue
		}
		k, ok := a.ring.put(key, h.check, h.recordID, gen)
		if !ok {
			key.Close()
			return n, errs.E(op, errs.Conflict, "", nil)
		}
		a.ring.release(k) // begins the grace
		n++
	}
	return n, nil
}

// adopt puts the check key of the process before in place, if nothing was
// checked by this one's yet.
func (r *keyring) adopt(checkKey [32]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) > 0 {
		return errs.E("account.adopt", errs.Conflict, "", nil)
	}
	r.allChanged() // a login that runs now computes its check anew
	r.checkKey = checkKey
	return nil
}

// imported makes the opened key of h; nil when its account is not as it was.
func (a *Accounts) imported(ctx context.Context, h handedKey) (*seal.Opened, error) {
	var same bool
	var pub []byte
	err := a.o.Store.View(ctx, h.id.Shard(), func(r store.Reader) error {
		record, err := r.Get(keyKey(h.id))
		if is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := publicOf(record)
		pub, same = bytes.Clone(p), err == nil && sha256.Sum256(record) == h.recordID
		return nil
	})
	if err != nil || !same {
		return nil, err
	}
	key, err := seal.FromSeed(h.id, h.seed[:], a.o.Rand)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Public(), pub) {
		key.Close()
		return nil, nil
	}
	return key, nil
}
