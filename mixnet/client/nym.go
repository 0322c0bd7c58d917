package client

import (
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
	Blocks int       // that the relay had then
	Until  time.Time // the address lives until then; zero: it does not
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

// Due gives the labels of the addresses that are to be fed now.
func (y *Nyms) Due() (labels []string, err error) {
	list, err := y.List()
	now := y.o.Now()
	for i := range list {
		if !now.Before(list[i].Next()) {
			labels = append(labels, list[i].Label)
		}
	}
	return labels, err
}

// Feed gives the relay a set of DailyBlocks fresh blocks for an address, in as many questions as that
// takes, and notes what it has then. A feed that is broken off may be repeated: the relay keeps what it
// got, up to its bound. Each block is noted before it is given away, and each serial before it is used.
//
// errs.NotFound without such an address; errs.Unavailable, with a public text, when the relay has no
// reply addresses, or does not answer, or the directory is not there; errs.Busy when it takes no more
// now; the errors of NewSet and RememberSet.
func (y *Nyms) Feed(ctx context.Context, label string) (Nym, error) {
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
	for _, r := range requests {
		status, answer, err := y.o.Ask(ctx, home.Relay.ID, content.ServiceReply, r)
		if err != nil {
			return n, errs.Wrap(op, err)
		}
		switch status {
		case content.AnswerOK:
		case content.AnswerLater:
			return n, errs.E(op, errs.Busy, "the relay takes no reply blocks now", nil)
		default:
			return n, errs.E(op, errs.Unavailable, "the relay has no reply addresses", nil)
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
	}
	n.Fed = now
	return n, errs.Wrap(op, y.update(n))
}

// requests makes the questions of one feed.
func (y *Nyms) requests(label string, cons *directory.Consensus, home Home, now time.Time) (Nym, [][]byte, error) {
	const op = "mixnet/client.Nyms.requests"
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return Nym{}, nil, err
	}
	i := slices.IndexFunc(list, func(n Nym) bool { return n.Label == label })
	if i < 0 {
		return Nym{}, nil, errs.E(op, errs.NotFound, "there is no such reply address", nil)
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

// update writes what a feed found out; the serial may be a later one meanwhile.
func (y *Nyms) update(n Nym) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.load()
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Label == n.Label {
			n.Serial = max(n.Serial, list[i].Serial)
			list[i] = n
		}
	}
	return y.save(list)
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
