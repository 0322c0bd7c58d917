package account

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"sync"
	"time"

	"postern.email/post/seal"
)

// keyring keeps the opened keys: those of running sessions, and for a grace
// those whose last session ended, so that a client that comes back needs no
// password hash. The password itself is not kept, only a keyed hash of it under
// a random key of this process.
type keyring struct {
	grace   time.Duration
	maxIdle int
	now     func() time.Time

	mu       sync.Mutex
	checkKey [32]byte
	gens     [256]uint64 // by account: moves on when credentials change; see put
	keys     map[seal.AccountID]*openKey
	idle     list.List // of *openKey without session; front: idle for the shortest time
}

// openKey is one account's opened key. All fields but id and key are guarded by
// the ring.
type openKey struct {
	id       seal.AccountID
	key      *seal.Opened
	check    [32]byte // keyed hash of the password
	recordID [32]byte // hash of the key record it was opened from
	refs     int
	gone     bool // no longer in the ring: closed with its last reference
	elem     *list.Element
	since    time.Time // idle since
}

func newKeyring(grace time.Duration, maxIdle int, now func() time.Time, checkKey [32]byte) *keyring {
	return &keyring{grace: grace, maxIdle: maxIdle, now: now, checkKey: checkKey, keys: make(map[seal.AccountID]*openKey)}
}

// passwordCheck is the keyed hash of an account's password.
func (r *keyring) passwordCheck(id seal.AccountID, password string) (c [32]byte) {
	r.mu.Lock()
	key := r.checkKey
	r.mu.Unlock()
	m := hmac.New(sha256.New, key[:])
	m.Write(id[:])
	m.Write([]byte(password))
	m.Sum(c[:0])
	clear(key[:])
	return c
}

// gen is the generation of an account's credentials. A few accounts share one,
// which costs a look at the store now and then.
func (r *keyring) gen(id seal.AccountID) *uint64 { return &r.gens[id[7]] }

// public gives the public half of an account whose key is open, else nil: a kilobyte
// that the account's record and its sessions need not hold again.
func (r *keyring) public(id seal.AccountID) seal.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys[id]; k != nil {
		return k.key.Public()
	}
	return nil
}

// generation is to be read before the credentials that put stores.
func (r *keyring) generation(id seal.AccountID) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.gen(id)
}

// acquire gives a reference to the opened key if there is one and the password
// is right for it; else nil, which says nothing about the password.
func (r *keyring) acquire(id seal.AccountID, password string) *openKey {
	r.mu.Lock()
	_, ok := r.keys[id]
	r.mu.Unlock()
	if !ok {
		return nil
	}
	check := r.passwordCheck(id, password)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys[id]
	if k == nil || !hmac.Equal(k.check[:], check[:]) {
		return nil
	}
	if k.refs == 0 && r.overdue(k) {
		r.remove(k)
		return nil
	}
	r.take(k)
	return k
}

func (r *keyring) overdue(k *openKey) bool { return r.now().Sub(k.since) >= r.grace }

func (r *keyring) take(k *openKey) {
	if k.elem != nil {
		r.idle.Remove(k.elem)
		k.elem = nil
	}
	k.refs++
}

// retain adds a reference to a key that the caller holds one of.
func (r *keyring) retain(k *openKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(k)
}

// release gives a reference back. The last one starts the grace.
func (r *keyring) release(k *openKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.refs--; k.refs > 0 {
		return
	}
	if k.gone || r.grace <= 0 {
		r.remove(k)
		return
	}
	k.key.Trim()
	k.since = r.now()
	k.elem = r.idle.PushFront(k)
	for r.idle.Len() > r.maxIdle {
		r.remove(r.idle.Back().Value.(*openKey))
	}
}

// remove takes a key out of the ring; without references it is closed at once.
func (r *keyring) remove(k *openKey) {
	if r.keys[k.id] == k {
		delete(r.keys, k.id)
	}
	if k.elem != nil {
		r.idle.Remove(k.elem)
		k.elem = nil
	}
	k.gone = true
	if k.refs == 0 {
		k.key.Close()
		clear(k.check[:])
	}
}

// put adds a key that a password has opened and gives a reference to it. gen is
// the generation from before the credentials were read: when it has moved on,
// ok is false, nothing is kept, and the credentials must be read again. So a
// password that was changed meanwhile never gets into the ring.
func (r *keyring) put(key *seal.Opened, check, recordID [32]byte, gen uint64) (k *openKey, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *r.gen(key.ID()) != gen {
		return nil, false
	}
	if k = r.keys[key.ID()]; k != nil {
		if k.recordID == recordID {
			k.check = check
			r.take(k)
			key.Close() // the one in the ring is the same
			return k, true
		}
		r.remove(k) // another process changed the record
	}
	k = &openKey{id: key.ID(), key: key, check: check, recordID: recordID}
	r.keys[k.id] = k
	r.take(k)
	return k, true
}

// changed follows a new password for the same seed: sessions go on.
func (r *keyring) changed(id seal.AccountID, check, recordID [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.gen(id)++
	if k := r.keys[id]; k != nil {
		k.check, k.recordID = check, recordID
	}
}

// end closes an account's key at once, also under its sessions.
func (r *keyring) end(id seal.AccountID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.gen(id)++
	if k := r.keys[id]; k != nil {
		r.remove(k)
		k.key.Close()
	}
}

func (r *keyring) allChanged() {
	for i := range r.gens {
		r.gens[i]++
	}
}

// expire closes the keys whose grace is over.
func (r *keyring) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.idle.Back(); e != nil; e = r.idle.Back() {
		k := e.Value.(*openKey)
		if !r.overdue(k) {
			return
		}
		r.remove(k)
	}
}

// close closes every key.
func (r *keyring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.allChanged()
	for _, k := range r.keys {
		r.remove(k)
		k.key.Close()
	}
	clear(r.checkKey[:])
}

// open gives the number of keys in use and idle.
func (r *keyring) open() (used, idle int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys) - r.idle.Len(), r.idle.Len()
}
