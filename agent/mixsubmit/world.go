package mixsubmit

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/token"
)

// Tokens for exits (docs/exit.md). They are asked for once a day, whatever is sent: that an account
// asks, and when, then tells its relay nothing about mail.
const (
	tokensADay = 20 // as many as a relay gives by default; one that gives fewer says so with its answer
	tokensFile = "tokens"
	maxTokens  = 3 * tokensADay
	// Pauses after a request that failed: the first, which each further one doubles, and the longest. The
	// first is short because a proxy that was just started has no line to its relay yet.
	firstAskPause = 5 * time.Second
	askPause      = time.Hour
)

// spare is for how long a token must be good when a letter gets it: the letter is sent again for so
// long before it is given up, and refused if it comes later.
const spare = client.Lifetime

// wallet holds the tokens of an account, sealed on the disk.
type wallet struct {
	mu    sync.Mutex
	open  bool
	state walletState
	due   time.Time // not asked before
	tries int       // since an answer came
	asks  bool      // an answer is awaited, which may take long: the line is slow, or not there
	asked *asked
}

// asked is a request without an answer. It is repeated as it was, since the relay counts what it gave,
// whether that was heard or not.
type asked struct {
	day     token.Day
	request []byte
	blinded []*token.Blinded
}

type walletState struct {
	Asked  token.Day // the last day of which there are tokens, or were
	Tokens [][]byte  // token.Token.Bytes, the oldest first
}

// load reads the file once; the lock is held.
func (w *wallet) load(sp *spool) error {
	if w.open {
		return nil
	}
	b, err := sp.read(tokensFile)
	if err == nil {
		err = json.Unmarshal(b, &w.state)
		if err != nil {
			err = errs.E("agent/mixsubmit.wallet", errs.Corrupt, "the tokens for exits are damaged", err)
		}
	}
	switch k := errs.KindOf(err); {
	case err == nil, k == errs.NotFound:
	case k == errs.Corrupt: // worth nothing: there will be others
		w.state = walletState{}
	default:
		return err
	}
	w.open = true
	return nil
}

func (w *wallet) save(sp *spool) error {
	b, err := json.Marshal(w.state)
	if err != nil {
		return errs.E("agent/mixsubmit.wallet", errs.Internal, "", err)
	}
	return sp.write(tokensFile, b)
}

// tidy drops tokens that no exit takes any more; the lock is held.
func (w *wallet) tidy(now time.Time) {
	w.state.Tokens = slices.DeleteFunc(w.state.Tokens, func(b []byte) bool { return !good(b, now) })
}

// good reports whether an exit takes a token for long enough.
func good(b []byte, now time.Time) bool {
	t, err := token.Parse(b)
	return err == nil && now.Add(spare).Before(t.Day.GoodUntil())
}

// take gives the newest token, which is good for the longest time: a mail may be days on its way. It
// is gone from the disk then: a crash loses it rather than that two mails have it. errs.NotFound:
// there is none now.
func (w *wallet) take(sp *spool, now time.Time) ([]byte, error) {
	const op = "agent/mixsubmit.wallet.take"
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.load(sp); err != nil {
		return nil, errs.Wrap(op, err)
	}
	w.tidy(now)
	if len(w.state.Tokens) == 0 {
		return nil, errs.E(op, errs.NotFound, "there are no tokens for exits of the network left: there will be others tomorrow", nil)
	}
	last := len(w.state.Tokens) - 1
	t := w.state.Tokens[last]
	w.state.Tokens = slices.Clone(w.state.Tokens[:last])
	if err := w.save(sp); err != nil {
		w.open = false // as the disk has it
		return nil, errs.Wrap(op, err)
	}
	return t, nil
}

// wants tells whether the day's tokens are to be asked for now. One request is under way at a time: two
// answers to the same would put each token into the wallet twice.
func (w *wallet) wants(sp *spool, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asks || w.load(sp) != nil || now.Before(w.due) || w.state.Asked >= token.DayOf(now) {
		return false
	}
	w.asks, w.due = true, now.Add(min(firstAskPause<<min(w.tries, 10), askPause))
	w.tries++
	return true
}

// answered ends what a wants that was true began.
func (w *wallet) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks = false
}

// refill asks the own relay for the day's tokens, where the network has an exit for the account.
func (s *Submit) refill(ctx context.Context, wg *sync.WaitGroup, sp *spool) {
	a, now := sp.a, s.o.Now()
	if a.Fetch == nil {
		return
	}
	cons, err := a.Consensus()
	if err != nil || exitOf(cons, a, true, false) == nil && exitOf(cons, a, true, true) == nil {
		return
	}
	relay := cons.Find(a.Home.Relay)
	if relay == nil || relay.TokenKey(uint32(token.DayOf(now))) == nil || !sp.tokens.wants(sp, now) {
		return
	}
	wg.Go(func() {
		err := s.askTokens(ctx, sp, relay)
		sp.tokens.answered()
		if err == nil {
			sp.hurry() // what waits for a token
		} else if ctx.Err() == nil {
			s.o.Logger.Debug("no tokens for exits came", "err", err)
		}
		s.Look()
	})
}

// askTokens asks for the tokens of today.
func (s *Submit) askTokens(ctx context.Context, sp *spool, relay *directory.Entry) error {
	const op = "agent/mixsubmit.askTokens"
	day := token.DayOf(s.o.Now())
	w := &sp.tokens
	w.mu.Lock()
	q := w.asked
	w.mu.Unlock()
	if q == nil || q.day != day {
		var err error
		if q, err = s.request(relay, day); err != nil {
			return errs.Wrap(op, err)
		}
		w.mu.Lock()
		w.asked = q
		w.mu.Unlock()
	}
	answer, err := sp.a.Fetch(ctx, q.request)
	if err != nil {
		return errs.Wrap(op, err)
	}
	signatures, err := token.ParseAnswer(answer, tokensADay)
	if err != nil {
		return errs.Wrap(op, err)
	}
	var got [][]byte
	for i, sig := range signatures {
		t, err := q.blinded[i].Finish(sig)
		if err != nil {
			return errs.Wrap(op, err)
		}
		got = append(got, t.Bytes())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked, w.tries = nil, 0
	if err := w.load(sp); err != nil {
		return errs.Wrap(op, err)
	}
	w.tidy(s.o.Now())
	w.state.Asked = day
	w.state.Tokens = append(w.state.Tokens, got...)
	if n := len(w.state.Tokens) - maxTokens; n > 0 {
		w.state.Tokens = w.state.Tokens[n:]
	}
	return errs.Wrap(op, w.save(sp))
}

// request makes a request for a day's tokens.
func (s *Submit) request(relay *directory.Entry, day token.Day) (*asked, error) {
	key, err := token.ParseKey(relay.TokenKey(uint32(day)))
	if err != nil {
		return nil, err
	}
	q := &asked{day: day}
	for range tokensADay {
		b, err := token.Blind(key, relay.ID, day, s.o.Rand)
		if err != nil {
			return nil, err
		}
		q.blinded = append(q.blinded, b)
	}
	q.request = token.AppendRequest(nil, day, q.blinded)
	return q, nil
}

// exit is the target of a part that goes into the world; the part has its token then.
func (s *Submit) exit(ctx context.Context, wg *sync.WaitGroup, sp *spool, e *entry, p *part) (*letter.Address, kind, error) {
	const op = "agent/mixsubmit.exit"
	a := sp.a
	cons, err := a.Consensus()
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	if !e.Encrypted {
		if wait, err := s.pgp(ctx, wg, sp, e, p); err != nil || wait {
			return nil, 0, err
		}
	}
	encrypted := e.Encrypted || p.PGP
	if !encrypted && !s.o.AllowCleartext {
		return nil, 0, replyWorldClear
	}
	node := exitOf(cons, a, encrypted, e.Anon != nil)
	if node == nil && p.NoKey { // it was taken because there might have been a key
		return nil, 0, replyNoExit
	}
	if node == nil {
		return nil, 0, errs.E(op, errs.Unavailable, "no exit of the network takes this mail now", nil)
	}
	key, err := letter.ParsePublicKey(node.LetterKey)
	if err != nil {
		return nil, 0, errs.Wrap(op, err)
	}
	if t, err := token.Parse(p.Token); err != nil || !s.o.Now().Before(t.Day.GoodUntil()) {
		if p.Token, err = sp.tokens.take(sp, s.o.Now()); err != nil {
			return nil, 0, errs.E(op, errs.Unavailable, errs.Public(err), err)
		}
		if err := sp.save(e); err != nil {
			return nil, 0, errs.Wrap(op, err)
		}
	}
	return &letter.Address{Relay: node.ID, Key: key}, toWorld, nil
}
