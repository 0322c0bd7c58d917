package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/lru"
	"postern.email/mail"
)

// throttle slows wrong passwords. It remembers failures under three keys:
//
//   - network and account: the rule that stops guessing at one account;
//   - network: guessing at many accounts from one place;
//   - account: guessing from many places. It binds only a network that has
//     itself failed at that account, so nobody can lock an owner out from afar.
//
// A network from which the account was opened lately has a budget of its own at
// that account, which no failures of others there use up. Exempt peers share one
// nameless network, which is bound at single accounts only, and with a shorter
// delay: there owner and stranger cannot be told apart.
//
// All keys are keyed hashes under a random key of this process; nothing here is
// ever written.
type throttle struct {
	o   *Options
	key [32]byte

	mu     sync.Mutex
	fails  *lru.Map[throttleKey, failures]
	proven *lru.Map[throttleKey, time.Time] // when the account was last opened from there
}

type throttleKey [16]byte

type failures struct {
	n     int
	last  time.Time // the end of the delay if there was one, else the failure
	until time.Time
}

// provenFor is how long a network counts as the owner's after a right login.
const provenFor = 30 * 24 * time.Hour

// exemptMaxDelay is the longest delay of an account towards exempt peers.
const exemptMaxDelay = 2 * time.Second

// maxDoublings bounds the count of failures, and so how long peace must last
// before all are forgotten.
const maxDoublings = 20

// attempt is one login as the throttle sees it.
type attempt struct {
	exempt             bool
	network, pair, all throttleKey
	own                throttleKey // the pair's own budget, used once it is proven
}

func (t *throttle) hash(kind byte, network string, addr mail.Address) (k throttleKey) {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte{kind})
	for _, s := range []string{network, addr.Local, addr.Domain} {
		m.Write([]byte(s))
		m.Write([]byte{0})
	}
	copy(k[:], m.Sum(nil))
	return k
}

func (t *throttle) attempt(network string, addr mail.Address) attempt {
	return attempt{
		exempt:  network == "",
		network: t.hash('n', network, mail.Address{}),
		pair:    t.hash('p', network, addr),
		all:     t.hash('a', "", addr),
		own:     t.hash('o', network, addr),
	}
}

// isProven reports whether the account was lately opened from this network.
func (t *throttle) isProven(at attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.provenLocked(at)
}

func (t *throttle) provenLocked(at attempt) bool {
	if at.exempt {
		return false
	}
	when, ok := t.proven.Get(at.own)
	return ok && t.o.Now().Sub(when) < provenFor
}

// check is nil, or errs.Busy with the time to wait.
func (t *throttle) check(at attempt) error {
	if t.o.FailFree < 0 {
		return nil
	}
	now := t.o.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var until time.Time
	look := func(k throttleKey) (f failures) {
		f, _ = t.fails.Get(k)
		if f.until.After(until) {
			until = f.until
		}
		return f
	}
	switch {
	case t.provenLocked(at):
		look(at.own)
	case at.exempt:
		look(at.pair)
	default:
		look(at.network)
		if look(at.pair).n > 0 {
			look(at.all)
		}
	}
	if wait := until.Sub(now); wait > 0 {
		sec := int((wait + time.Second - 1) / time.Second)
		return errs.E("account.Login", errs.Busy, fmt.Sprintf(textSlowed, sec), nil)
	}
	return nil
}

// failed counts one wrong password.
func (t *throttle) failed(at attempt) {
	if t.o.FailFree < 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.provenLocked(at):
		t.add(at.own, t.o.FailFree, t.o.FailMaxDelay)
	case at.exempt:
		t.add(at.pair, t.o.FailFree, min(exemptMaxDelay, t.o.FailMaxDelay))
	default:
		t.add(at.pair, t.o.FailFree, t.o.FailMaxDelay)
		t.add(at.network, t.o.FailNetworkFree, t.o.FailNetworkMaxDelay)
		t.add(at.all, t.o.FailFree, t.o.FailMaxDelay)
	}
}

// add counts a failure of k: free ones cost nothing, each further one doubles
// the delay. One failure is forgotten for every FailForget of peace.
func (t *throttle) add(k throttleKey, free int, longest time.Duration) {
	now := t.o.Now()
	f, ok := t.fails.Get(k)
	if ok {
		if peace := now.Sub(f.last); peace > 0 {
			f.n = max(0, f.n-int(min(peace/t.o.FailForget, time.Duration(f.n))))
		}
	}
	f.n++
	f.last = now
	if over := f.n - free; over > 0 {
		over = min(over, maxDoublings)
		f.n = free + over
		delay := t.o.FailDelay << (over - 1)
		if delay <= 0 || delay > longest || delay>>(over-1) != t.o.FailDelay {
			delay = longest
		}
		f.until = now.Add(delay)
		f.last = f.until
	}
	t.fails.Put(k, f, 0)
}

// passed counts a right password: the pair begins anew, and the network gets one
// failure back, so that many users behind one address do not use it up.
func (t *throttle) passed(at attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fails.Delete(at.pair)
	t.fails.Delete(at.own)
	if at.exempt {
		return
	}
	t.proven.Put(at.own, t.o.Now(), 0)
	if f, ok := t.fails.Get(at.network); ok {
		f.n = max(0, f.n-1)
		t.fails.Put(at.network, f, 0)
	}
}
