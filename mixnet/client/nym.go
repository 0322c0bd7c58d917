package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// Bounds of reply addresses.
const (
	MaxNyms = 32 // of one user
	// DailyBlocks are given to the relay of a reply address each day, whether any were used or not: so many
	// that two days of them fill the stock that a relay keeps. An address lives for BlockLife after
	// it was fed last.
	DailyBlocks = 32

	maxLabel = 64 // characters
)

// Nym is a reply address of this user (docs/content.md §10).
type Nym struct {
	Label  string // what it is used for: nobody else learns it
	Key    []byte // seed of the Ed25519 key that feeds it
	Serial uint64 // of the last feed
	Made   time.Time
	Minute int       // of the day, UTC, at which it is fed; drawn once, so that the moment tells nothing of its use
	Fed    time.Time // when the last feed was complete; zero: never
	Blocks int       // that the relay had when it was asked last
	Until  time.Time // the address lives until then; zero: it does not
	// Answered is how many answers had come by then, of those blocks that are remembered.
	Answered int `json:",omitempty"`
}

// Name is the name in the address.
func (n *Nym) Name() string { return content.ReplyName(n.owner().Public().(ed25519.PublicKey)) }

func (n *Nym) owner() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(n.Key) }

// Alive reports whether answers reach it at a time.
func (n *Nym) Alive(now time.Time) bool { return now.Before(n.Until) }

// Next is when it is to be fed: at the first minute of its own after it was fed, and at once when it
// never was, or that moment was missed.
func (n *Nym) Next() time.Time {
	if n.Fed.IsZero() {
		return time.Time{}
	}
	t := n.Fed.UTC().Truncate(24 * time.Hour).Add(time.Duration(n.Minute) * time.Minute)
	for !t.After(n.Fed) {
		t = t.Add(24 * time.Hour)
	}
	return t
}

// NymOptions is what Nyms need; all of it.
type NymOptions struct {
	Store     *Store
	Ask       func(ctx context.Context, relay packet.ID, service uint8, request []byte) (status uint8, answer []byte, err error) // Client.Ask
	Consensus func() (*directory.Consensus, error)
	Home      func(*directory.Consensus) (Home, error) // of this user; the addresses are at the same relay
	Choose    Chooser
	Now       func() time.Time
	Rand      io.Reader
}

// Nyms are the reply addresses of one user. It may be used by many goroutines, and is the one writer of
// the list and of the blocks that were given away.
type Nyms struct {
	o  NymOptions
	mu sync.Mutex
}

// NewNyms makes Nyms.
func NewNyms(o NymOptions) *Nyms { return &Nyms{o: o} }

// List gives all addresses in the order in which they were made.
func (y *Nyms) List() ([]Nym, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	return list, errs.Wrap("mixnet/client.Nyms.List", err)
}

// Get gives the address with a label, and makes it if there is none; it is durable on return.
// errs.Full beyond MaxNyms, errs.Invalid for a label that is too long.
func (y *Nyms) Get(label string) (Nym, error) {
	const op = "mixnet/client.Nyms.Get"
	if len([]rune(label)) > maxLabel {
		return Nym{}, errs.E(op, errs.Invalid, "the name is too long", nil)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return Nym{}, errs.Wrap(op, err)
	}
	if i := slices.IndexFunc(list, func(n Nym) bool { return n.Label == label }); i >= 0 {
		return list[i], nil
	}
	if len(list) >= MaxNyms {
		return Nym{}, errs.E(op, errs.Full, "the account has 32 reply addresses, which is the most", nil)
	}
	var random [ed25519.SeedSize + 8]byte
	if _, err := io.ReadFull(y.o.Rand, random[:]); err != nil {
		return Nym{}, errs.E(op, errs.Internal, "", err)
	}
	n := Nym{Label: label, Key: random[:ed25519.SeedSize], Made: y.o.Now().Truncate(time.Second)}
	for _, b := range random[ed25519.SeedSize:] {
		n.Minute = (n.Minute<<8 | int(b)) % (24 * 60)
	}
	return n, errs.Wrap(op, y.save(append(list, n)))
}

// Forget takes an address from the list, so that it is fed no more. What was given to the relay stays
// there until it expires, and answers that come with it can still be read. It is durable on return.
// errs.NotFound.
func (y *Nyms) Forget(label string) error {
	const op = "mixnet/client.Nyms.Forget"
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return errs.Wrap(op, err)
	}
	i := slices.IndexFunc(list, func(n Nym) bool { return n.Label == label })
	if i < 0 {
		return errs.Wrap(op, noNym())
	}
	return errs.Wrap(op, y.save(slices.Delete(list, i, i+1)))
}

func noNym() error {
	return errs.E("mixnet/client.Nyms", errs.NotFound, "there is no such reply address", nil)
}

// Left tells for each address, by its name, how many blocks the relay can still use, as far as that is
// known here: those that it had when it was asked last, without those that an answer has come with
// since, and that have expired.
func (y *Nyms) Left() (map[string]int, error) {
	const op = "mixnet/client.Nyms.Left"
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	count, err := y.count()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	left := make(map[string]int, len(list))
	for i := range list {
		n, c := &list[i], count[list[i].Name()]
		left[n.Name()] = max(0, min(c.open, n.Blocks-max(0, c.answered-n.Answered)))
	}
	return left, nil
}

// countedBlocks are the blocks of one name that are remembered: those that a relay may still use, and those
// whose answer has come.
type countedBlocks struct{ open, answered int }

func (y *Nyms) count() (map[string]countedBlocks, error) {
	made, err := y.o.Store.Blocks()
	if err != nil {
		return nil, err
	}
	out := make(map[string]countedBlocks)
	last := y.o.Now().Add(leastLife)
	for i := range made {
		c := out[made[i].Note]
		switch b := &made[i]; {
		case b.Answered:
			c.answered++
		case last.Before(b.Expires):
			c.open++
		}
		out[made[i].Note] = c
	}
	return out, nil
}

// leastLife is for how long before its end a block is not used any more (docs/content.md §10).
const leastLife = time.Hour

// Feed gives the relay a set of DailyBlocks fresh blocks for an address, in as many questions as that
// takes, and notes what it has after each answer; more, if it is not nil, is called then. A feed that is
// broken off may be repeated: the relay keeps what it got, up to its bound. Each block is noted before it
// is given away, and each serial before it is used.
//
// errs.NotFound without such an address; errs.Unsupported, with a public text, when the relay has no
// reply addresses; errs.Unavailable when it does not answer, or the directory is not there; errs.Busy
// when it takes no more now; the errors of NewSet and RememberSet.
func (y *Nyms) Feed(ctx context.Context, label string, more func()) (Nym, error) {
	const op = "mixnet/client.Nyms.Feed"
	cons, err := y.o.Consensus()
	if err != nil {
		return Nym{}, errs.Wrap(op, err)
	}
	home, err := y.o.Home(cons)
	if err != nil {
		return Nym{}, errs.Wrap(op, err)
	}
	now := y.o.Now()
	n, requests, err := y.requests(label, cons, home, now)
	if err != nil {
		return Nym{}, errs.Wrap(op, err)
	}
	for i, r := range requests {
		status, answer, err := y.o.Ask(ctx, home.Relay.ID, content.ServiceReply, r)
		if err != nil {
			return n, errs.Wrap(op, err)
		}
		switch status {
		case content.AnswerOK:
		case content.AnswerLater:
			return n, errs.E(op, errs.Busy, "the relay takes no reply blocks now", nil)
		default:
			return n, errs.E(op, errs.Unsupported, "the relay of this account has no reply addresses", nil)
		}
		blocks, until, err := content.ParseStock(answer)
		if err != nil {
			return n, errs.Wrap(op, err)
		}
		n.Blocks, n.Until = int(blocks), time.Time{}
		if blocks > 0 { // what a relay says of the time counts up to what the blocks are good for
			n.Until = time.Unix(int64(until), 0).UTC()
			if most := hour(now).Add(BlockLife); n.Until.After(most) {
				n.Until = most
			}
		}
		if i == len(requests)-1 {
			n.Fed = now
		}
		if err := y.update(&n); err != nil {
			return n, errs.Wrap(op, err)
		}
		if more != nil {
			more()
		}
	}
	return n, nil
}

// requests makes the questions of one feed.
func (y *Nyms) requests(label string, cons *directory.Consensus, home Home, now time.Time) (Nym, [][]byte, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return Nym{}, nil, err
	}
	i := slices.IndexFunc(list, func(n Nym) bool { return n.Label == label })
	if i < 0 {
		return Nym{}, nil, noNym()
	}
	seed, err := y.o.Store.Seed()
	if err != nil {
		return Nym{}, nil, err
	}
	set, err := NewSet(DailyBlocks, cons, now, y.o.Choose, home, seed, 0, Want{}, y.o.Rand)
	if err != nil {
		return Nym{}, nil, err
	}
	if err := y.o.Store.RememberSet(set, seed, list[i].Name()); err != nil {
		return Nym{}, nil, err
	}
	n := list[i]
	owner := n.owner()
	f := content.Feed{Owner: owner.Public().(ed25519.PublicKey), Hint: set.Hint, Key: [letter.PublicKeyLen]byte(set.Blocks[0].Key.Bytes())}
	var out [][]byte
	for part := range slices.Chunk(set.Blocks, content.MaxFeed) {
		n.Serial++
		f.Serial, f.Blocks = n.Serial, nil
		for _, b := range part {
			f.Blocks = append(f.Blocks, b.SURB)
		}
		r, err := f.Sign(home.Relay.ID, owner)
		if err != nil {
			return Nym{}, nil, err
		}
		out = append(out, r)
	}
	list[i] = n
	return n, out, y.save(list)
}

// update writes what a feed found out; the serial may be a later one meanwhile, and the address be
// forgotten.
func (y *Nyms) update(n *Nym) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return err
	}
	count, err := y.count()
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Label == n.Label && bytes.Equal(list[i].Key, n.Key) {
			n.Serial = max(n.Serial, list[i].Serial)
			n.Answered = count[n.Name()].answered
			list[i] = *n
			return y.save(list)
		}
	}
	return noNym()
}

func (y *Nyms) load() (list []Nym, err error) {
	if err := y.o.Store.loadJSON(nymsFile, &list); err != nil {
		return nil, err
	}
	for i := range list {
		if len(list[i].Key) != ed25519.SeedSize {
			return nil, errs.E("mixnet/client.Nyms", errs.Corrupt, "the list of reply addresses is damaged", nil)
		}
	}
	return list, nil
}

func (y *Nyms) save(list []Nym) error { return y.o.Store.saveJSON(nymsFile, list) }
