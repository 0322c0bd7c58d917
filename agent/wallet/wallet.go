// Package wallet keeps the tokens with which an account of a mail proxy sends mail into the world
// (docs/exit.md). It gets them from the account's relay, over the account's own line, and gives each
// out once: a token is gone from the disk before anybody has it.
package wallet

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/token"
)

// Defaults and bounds.
const (
	DefaultBatch = 20 // tokens that are asked for at one time
	MaxTokens    = 2 * token.MaxRequest
	FileName     = "tokens"
)

// Options of a Wallet. FS, Dir, Seal, Open, Relay, Consensus and Fetch are needed.
type Options struct {
	FS  vfs.FS
	Dir string // where FileName is; it is there

	// Seal and Open keep the file from strangers (client.Identity has both).
	Seal func(plain []byte) ([]byte, error)
	Open func(sealed []byte) ([]byte, error)

	Relay     packet.ID // of the account
	Consensus func() (*directory.Consensus, error)
	// Fetch asks the relay over the account's line.
	Fetch func(ctx context.Context, request []byte) ([]byte, error)

	Batch int // DefaultBatch, token.MaxRequest at most
	Now   func() time.Time
	Rand  io.Reader
	Log   *slog.Logger // nil: nothing is logged
}

// Wallet keeps tokens. It may be used by many goroutines.
type Wallet struct {
	o Options

	fetching chan struct{} // holds one: who has it may ask the relay
	asked    *asked        // what was asked and not answered; of who is fetching

	mu   sync.Mutex
	list []*token.Token // in the order in which they are used
}

// asked is a request. It is repeated as it was until there is an answer, since the relay counts
// what it gave, whether that was heard or not.
type asked struct {
	day     token.Day
	request []byte
	blinded []*token.Blinded
}

// Open reads the tokens that are there. errs.Corrupt for a file that cannot be read; errors of the
// disk.
func Open(o Options) (*Wallet, error) {
	const op = "agent/wallet.Open"
	if o.FS == nil || o.Dir == "" || o.Seal == nil || o.Open == nil || o.Consensus == nil || o.Fetch == nil || o.Batch < 0 || o.Batch > token.MaxRequest {
		return nil, errs.E(op, errs.Invalid, "", errors.New("options are missing or out of bounds"))
	}
	if o.Batch == 0 {
		o.Batch = DefaultBatch
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Wallet{o: o, fetching: make(chan struct{}, 1)}
	b, err := vfs.ReadFile(o.FS, o.FS.PathJoin(o.Dir, FileName))
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return w, nil
	case err != nil:
		return nil, errs.Wrap(op, err)
	}
	plain, err := o.Open(b)
	if err == nil {
		w.list, err = decode(plain)
	}
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "the file of tokens is damaged: remove it, and others come tomorrow", err)
	}
	return w, nil
}

const version = 1

func encode(list []*token.Token) []byte {
	b := []byte{version}
	for _, t := range list {
		b = append(b, t.Bytes()...)
	}
	return b
}

func decode(b []byte) (list []*token.Token, err error) {
	const op = "agent/wallet.decode"
	r := codec.NewReader(b, version)
	for rest := max(len(b)-1, 0); rest > 0 && !r.Bad(); rest -= token.Len {
		t, err := token.Parse(r.Bytes(token.Len))
		if err != nil || len(list) == MaxTokens {
			return nil, errs.E(op, errs.Corrupt, "", err)
		}
		list = append(list, t)
	}
	return list, errs.Wrap(op, r.End(op))
}

// save writes the tokens. The lock is held.
func (w *Wallet) save(list []*token.Token) error {
	const op = "agent/wallet.save"
	b, err := w.o.Seal(encode(list))
	if err != nil {
		return errs.Wrap(op, err)
	}
	if err := vfs.WriteFileAtomic(w.o.FS, w.o.FS.PathJoin(w.o.Dir, FileName), b, 0o600); err != nil {
		return errs.Wrap(op, err)
	}
	w.list = list
	return nil
}

// good gives the tokens that can still be used a while.
func (w *Wallet) good() (out []*token.Token) {
	now := w.o.Now()
	for _, t := range w.list {
		if now.Add(spare).Before(t.Day.GoodUntil()) {
			out = append(out, t)
		}
	}
	return out
}

// spare is for how long a token must be good when it is given out: a mail is sent again for so long
// before its sender gives up, and refused if it comes later.
const spare = 5 * 24 * time.Hour

// Have is how many tokens can be used.
func (w *Wallet) Have() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.good())
}

// Take gives a token out, in the form for vouch.Mail.Token; the newest first, which is good for the
// longest time. Where there is none, the relay is asked. Once it returns the token is gone from the disk.
// Kinds of errors: errs.Busy, with a public text, where the account has used its tokens of today;
// errs.Unsupported where the relay gives none; errs.Unavailable where neither directory nor relay can be
// asked now; errors of the disk.
func (w *Wallet) Take(ctx context.Context) ([]byte, error) {
	const op = "agent/wallet.Take"
	if t, err := w.take(); t != nil || err != nil {
		return bytesOf(t), errs.Wrap(op, err)
	}
	err := w.fetch(ctx)
	if t, terr := w.take(); t != nil || terr != nil {
		return bytesOf(t), errs.Wrap(op, terr)
	}
	if err == nil {
		err = errs.E(op, errs.Busy, textUsed, nil)
	}
	return nil, errs.Wrap(op, err)
}

const textUsed = "the tokens of today are used up: mail for other hosts goes on tomorrow"

func bytesOf(t *token.Token) []byte {
	if t == nil {
		return nil
	}
	return t.Bytes()
}

func (w *Wallet) take() (*token.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.good()
	if len(list) == 0 {
		return nil, nil
	}
	last := len(list) - 1
	t := list[last]
	if err := w.save(list[:last:last]); err != nil {
		return nil, err
	}
	return t, nil
}

// fetch asks the relay for tokens of today and keeps them.
func (w *Wallet) fetch(ctx context.Context) error {
	const op = "agent/wallet.fetch"
	select {
	case w.fetching <- struct{}{}:
		defer func() { <-w.fetching }()
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, "", ctx.Err())
	}
	if w.Have() > 0 { // somebody else has asked meanwhile
		return nil
	}
	today := token.DayOf(w.o.Now())
	if w.asked == nil || w.asked.day != today {
		a, err := w.ask(today)
		if err != nil {
			return errs.Wrap(op, err)
		}
		w.asked = a
	}
	b, err := w.o.Fetch(ctx, w.asked.request)
	switch k := errs.KindOf(err); {
	case err == nil:
	case k == errs.Denied:
		w.asked = nil
		return errs.E(op, errs.Busy, textUsed, err)
	case k == errs.NotFound:
		w.asked = nil
		return errs.E(op, errs.Unsupported, textNone, err)
	default:
		return errs.E(op, errs.Unavailable, "the relay cannot be asked for tokens now", err)
	}
	a := w.asked
	w.asked = nil
	sigs, err := token.ParseAnswer(b, len(a.blinded))
	if err != nil {
		return errs.Wrap(op, err)
	}
	var fresh []*token.Token
	for i, s := range sigs {
		t, err := a.blinded[i].Finish(s)
		if err != nil {
			return errs.Wrap(op, err)
		}
		fresh = append(fresh, t)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return errs.Wrap(op, w.save(append(w.good(), fresh...)))
}

const textNone = "the account's relay gives no tokens, without which no exit sends mail to other hosts"

// ask makes a request for tokens of a day, with the key that the directory has for it.
func (w *Wallet) ask(day token.Day) (*asked, error) {
	const op = "agent/wallet.ask"
	cons, err := w.o.Consensus()
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "no directory of the network is known now", err)
	}
	e := cons.Find(w.o.Relay)
	if e == nil {
		return nil, errs.E(op, errs.Unavailable, "the account's relay is not in the directory of the network now", nil)
	}
	raw := e.TokenKey(uint32(day))
	if raw == nil && len(e.TokenKeys) == 0 {
		return nil, errs.E(op, errs.Unsupported, textNone, nil)
	}
	if raw == nil {
		return nil, errs.E(op, errs.Unavailable, "the directory has no key for tokens of today yet", nil)
	}
	k, err := token.ParseKey(raw)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	a := &asked{day: day}
	for range w.o.Batch {
		b, err := token.Blind(k, w.o.Relay, day, w.o.Rand)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		a.blinded = append(a.blinded, b)
	}
	a.request = token.AppendRequest(nil, day, a.blinded)
	return a, nil
}
