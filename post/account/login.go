package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/post/seal"
)

// LoginRequest is one attempt. Nothing of it is shown, however it is printed.
type LoginRequest struct {
	secret.Hidden
	Name     string // full address
	Password string
	Peer     limits.Peer
}

// Session is a login that lives until Close. Key is shared with the account's
// other sessions.
type Session struct {
	Account
	Key *seal.Opened

	a     *Accounts
	k     *openKey
	close sync.Once
}

// Close ends the session. The opened key stays for the grace. It may be called
// more than once.
func (s *Session) Close() { s.close.Do(func() { s.a.ring.release(s.k) }) }

// Current gives the account's record as it is now: errs.Denied when it was
// blocked meanwhile, errs.NotFound when it was deleted or reset.
func (s *Session) Current(ctx context.Context) (Account, error) {
	const op = "account.Current"
	r, err := s.a.find(ctx, s.Address)
	if err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	if r.ID != s.ID || string(r.Public) != string(s.Public) {
		return Account{}, errs.E(op, errs.NotFound, "", nil)
	}
	if err := usable(r); err != nil {
		return Account{}, errs.Wrap(op, err)
	}
	return r.Account, nil
}

func usable(r *record) error {
	if r.Blocked {
		return errs.E("account", errs.Denied, textBlocked, nil)
	}
	if r.resetting {
		return errs.E("account", errs.Unavailable, textReset, nil)
	}
	return nil
}

// runTimeout bounds one run behind the gate, of which the hash takes some 20 ms
// and the rest waits for the disk. It is far below OrphanAge, so the sweeper
// never takes records from under an account that is being made.
const runTimeout = time.Minute

// Login opens the account of a name with its password, and makes it if the name
// is new and new addresses may be made. Kinds of error: errs.Auth (name or
// password wrong), errs.Busy (slowed down, or too many at once: try later),
// errs.Denied (blocked, no new address by policy, name or password against the
// rules), errs.Unavailable and errs.NoSpace (not now), errs.Canceled.
func (a *Accounts) Login(ctx context.Context, r LoginRequest) (*Session, error) {
	const op = "account.Login"
	addr, err := a.parse(r.Name)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if r.Password == "" || len(r.Password) > a.o.MaxPassword {
		return nil, errs.E(op, errs.Auth, textAuth, nil)
	}
	rec, err := a.find(ctx, addr)
	if err != nil && !is(err, errs.NotFound) {
		return nil, errs.Wrap(op, err)
	}
	if rec != nil {
		// The road of nearly all logins: no password hash, no limits. A password
		// that is not the one of the opened key takes the long road like any other:
		// a quick refusal would tell a stranger who is logged in just now.
		if k := a.ring.acquire(rec.ID, r.Password); k != nil {
			return a.session(ctx, addr, k)
		}
	}
	network := r.Peer.Network()
	at := a.slow.attempt(network, addr)
	if err := a.slow.check(at); err != nil {
		return nil, errs.Wrap(op, err)
	}
	t := ticket{key: a.jobKey(network, addr, r.Password), class: waitLogin, network: network, account: addr.Local + "@" + addr.Domain}
	switch {
	case rec != nil && a.slow.isProven(at):
		t.class = waitProven
	case rec == nil:
		refusal := a.mayCreate(addr, r.Password, err)
		if refusal != nil && !errors.Is(refusal, errHidden) {
			return nil, errs.Wrap(op, refusal)
		}
		if refusal == nil {
			t.class = waitCreate
		}
	}
	out := a.gate.do(ctx, t, func() outcome {
		ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
		defer cancel()
		k, err := a.open(ctx, addr, r.Password, at, network)
		return outcome{key: k, err: err}
	})
	if out.err != nil {
		return nil, errs.Wrap(op, out.err)
	}
	return a.session(ctx, addr, out.key)
}

// session makes a session of a key the caller owns a reference of.
func (a *Accounts) session(ctx context.Context, addr mail.Address, k *openKey) (*Session, error) {
	const op = "account.Login"
	rec, err := a.find(ctx, addr)
	if err == nil && rec.ID != k.id {
		err = errs.E(op, errs.Auth, textAuth, nil)
	}
	if err == nil {
		err = usable(rec)
	}
	if err != nil {
		a.ring.release(k)
		return nil, errs.Wrap(op, err)
	}
	a.touch(ctx, rec)
	s := &Session{Account: rec.Account, Key: k.key, a: a, k: k}
	if pub := k.key.Public(); string(s.Public) == string(pub) {
		s.Public = pub // the one copy of sessions, record and key: see keep
		a.share(addr, pub)
	}
	return s, nil
}

// share has the remembered record of an account use pub, if it was read before the
// key was opened.
func (a *Accounts) share(addr mail.Address, pub seal.PublicKey) {
	r, gen := a.cache.get(addr)
	if r == nil || &r.Public[0] == &pub[0] || string(r.Public) != string(pub) {
		return
	}
	shared := *r // records are never changed: others may be reading it
	shared.Public = pub
	a.cache.put(addr, &shared, gen)
}

// touch writes the day of the login, once a day. A disk that is full or fails
// does not keep anybody out.
func (a *Accounts) touch(ctx context.Context, rec *record) {
	today := DayOf(a.o.Now())
	if rec.LastLogin >= today {
		return
	}
	err := a.update(ctx, rec.ID, rec.Address, func(i *infoRecord) error {
		i.lastLogin = max(i.lastLogin, today)
		return nil
	})
	if err != nil {
		a.o.Logger.Warn("the day of a login was not written", "kind", errs.KindOf(err).Error())
	}
}

// jobKey names equal attempts, so that clients which open several connections at
// once cost one password hash.
func (a *Accounts) jobKey(network string, addr mail.Address, password string) (k jobKey) {
	m := hmac.New(sha256.New, a.jobSecret[:])
	for _, s := range []string{network, addr.Local, addr.Domain, password} {
		var n [8]byte
		for i, v := 0, len(s); i < len(n); i, v = i+1, v>>8 {
			n[i] = byte(v)
		}
		m.Write(n[:])
		m.Write([]byte(s))
	}
	m.Sum(k[:0])
	return k
}

// open is what a slot of the gate does: it reads the name anew, since things may
// have changed in the queue, and verifies the password or makes the account.
func (a *Accounts) open(ctx context.Context, addr mail.Address, password string, at attempt, network string) (*openKey, error) {
	const op = "account.open"
	for range maxRounds {
		rec, keyRecord, err := a.findFresh(ctx, addr)
		switch {
		case err == nil:
			if k := a.ring.acquire(rec.ID, password); k != nil {
				return k, nil
			}
			k, again, err := a.verify(ctx, rec, keyRecord, password, at)
			if !again {
				return k, err
			}
		case !is(err, errs.NotFound):
			return nil, err
		default:
			refusal := a.mayCreate(addr, password, err)
			if errors.Is(refusal, errHidden) {
				// Creation is off: an unknown name looks and costs like a wrong password.
				if err := a.slow.check(at); err != nil {
					return nil, err
				}
				a.hash(func() { a.o.Params.Burn(password) })
				a.slow.failed(at)
				return nil, errs.E(op, errs.Auth, textAuth, nil)
			}
			if refusal != nil {
				return nil, refusal
			}
			// The network first: what it is refused must not use up everybody's.
			if ok, _ := a.newNetwork.Allow(network); !ok {
				return nil, errs.E(op, errs.Busy, textNewLimit, nil)
			}
			if ok, _ := a.newTotal.Allow("all"); !ok {
				return nil, errs.E(op, errs.Busy, textNewLimit, nil)
			}
			k, err := a.makeOnLogin(ctx, addr, password)
			if err == nil {
				a.slow.passed(at)
			}
			if !is(err, errs.Exists) {
				return k, err
			}
			// Another process was faster: it is a login now.
		}
	}
	return nil, errs.E(op, errs.Conflict, "", nil)
}

// maxRounds bounds how often credentials that change under a login are read again.
const maxRounds = 5

// verify spends one password hash. again means that credentials changed meanwhile.
func (a *Accounts) verify(ctx context.Context, rec *record, keyRecord []byte, password string, at attempt) (k *openKey, again bool, err error) {
	const op = "account.verify"
	if err := a.slow.check(at); err != nil {
		return nil, false, err
	}
	pub, wrapped, err := openKeyRecord(a.o.Root, rec.ID, keyRecord)
	if err != nil {
		return nil, false, errs.Wrap(op, err)
	}
	var key *seal.Opened
	a.hash(func() { key, err = wrapped.Unwrap(rec.ID, pub, password) })
	if is(err, errs.Auth) {
		a.slow.failed(at)
		return nil, false, errs.E(op, errs.Auth, textAuth, nil)
	}
	if err != nil {
		return nil, false, errs.Wrap(op, err)
	}
	a.slow.passed(at)
	k, err = a.admit(ctx, key, keyRecord, password)
	return k, k == nil && err == nil, err
}

// hash runs fn, which contains one password hash; tests put a cost of their own
// in its place.
func (a *Accounts) hash(fn func()) {
	a.hashed.Add(1)
	if a.o.hash != nil {
		a.o.hash(fn)
		return
	}
	fn()
}
