// Package feed hands packets that wait in mailboxes over to the clients of a relay, one unit of
// docs/content.md §5 each, at the pace of the client's connection (docs/mix-relay.md §4). A packet
// leaves its mailbox when a client has answered that it is on its own disk; of several connections of
// one account, each packet goes to one at a time.
package feed

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// Defaults of Options.
const (
	// DefaultWindow is enough where client and relay send at the rates of one consensus: a
	// client answers, on average, after its own next frame.
	DefaultWindow = 4
	DefaultPause  = 10 * time.Second
)

// Item is one packet that waits.
type Item struct {
	Number  uint64 // above zero; names it within its mailbox
	Reply   bool
	Mark    packet.Mark
	Payload []byte // packet.PayloadLen bytes
}

// Boxes keep what waits. Accounts are those of link.Peer.
type Boxes interface {
	// Next gives up to limit packets with numbers above after, in the order of their numbers;
	// fewer only if there are no more or memory asks for it, and none only if there are none.
	Next(ctx context.Context, account [8]byte, after uint64, limit int) ([]Item, error)
	// Remove deletes packets; it returns when that is durable.
	Remove(ctx context.Context, account [8]byte, numbers []uint64) error
	// Watch gives a channel that fires after each change of the mailbox, until stop.
	Watch(account [8]byte) (fires <-chan struct{}, stop func())
}

// Options of a Feed. Boxes is needed.
type Options struct {
	Boxes  Boxes
	Window int           // packets that one connection may have unanswered; 0: DefaultWindow
	Pause  time.Duration // after a client that did not take one, or a disk that failed; 0: DefaultPause
	Logger *slog.Logger  // nil: nothing is logged
}

// Feed serves all connections of clients. It may be used by many goroutines.
type Feed struct {
	o     Options
	taken atomic.Uint64

	mu    sync.Mutex
	boxes map[[8]byte]*box
	conns int
	all   sync.WaitGroup
}

// New makes a Feed.
func New(o Options) *Feed {
	defaults.Positive(&o.Window, DefaultWindow)
	defaults.Positive(&o.Pause, DefaultPause)
	defaults.Logger(&o.Logger)
	return &Feed{o: o, boxes: make(map[[8]byte]*box)}
}

// Stats of a Feed.
type Stats struct {
	Connections int    // of clients, now
	Taken       uint64 // packets that clients have taken since New
}

// Stats gives the numbers of now.
func (f *Feed) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{f.conns, f.taken.Load()}
}

// conn is what the feed needs of a *link.Conn.
type conn interface {
	Peer() link.Peer
	Context() context.Context
	Post(unit []byte, done func(error)) error
}

// Opened begins to feed a client's connection, until that ends: for node.Options.Opened.
func (f *Feed) Opened(c *link.Conn) { f.open(c) }

func (f *Feed) open(c conn) { f.all.Go(func() { f.serve(c) }) }

// Wait returns when all connections have ended and what clients answered is written. No
// connection may be opened any more.
func (f *Feed) Wait() { f.all.Wait() }

// box is what the connections of one account share.
type box struct {
	mu    sync.Mutex
	given map[uint64]struct{}        // packets that a connection has
	wakes map[chan struct{}]struct{} // of each connection, of capacity 1
}

func (f *Feed) join(account [8]byte, wake chan struct{}) *box {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.boxes[account]
	if b == nil {
		b = &box{given: make(map[uint64]struct{}), wakes: make(map[chan struct{}]struct{})}
		f.boxes[account] = b
	}
	b.mu.Lock()
	b.wakes[wake] = struct{}{}
	b.mu.Unlock()
	f.conns++
	return b
}

func (f *Feed) leave(account [8]byte, b *box, wake chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.wakes, wake)
	if f.conns--; len(b.wakes) == 0 {
		delete(f.boxes, account)
	}
}

// claim gives up to limit packets that no connection has, and gives them to this one.
func (b *box) claim(ctx context.Context, boxes Boxes, account [8]byte, limit int) (list []Item, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for after := uint64(0); len(list) < limit; {
		page, err := boxes.Next(ctx, account, after, limit-len(list)+len(b.given))
		if err != nil || len(page) == 0 {
			return list, err
		}
		for _, it := range page {
			after = it.Number
			if _, given := b.given[it.Number]; !given && len(list) < limit {
				b.given[it.Number] = struct{}{}
				list = append(list, it)
			}
		}
	}
	return list, nil
}

// release takes packets back from a connection, and wakes all if somebody else should have
// them.
func (b *box) release(again bool, numbers ...uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range numbers {
		delete(b.given, n)
	}
	if !again || len(numbers) == 0 {
		return
	}
	for w := range b.wakes {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// result is a client's answer.
type result struct {
	number uint64
	err    error
}

// serve feeds one connection.
func (f *Feed) serve(c conn) {
	account, ctx := c.Peer().Account, c.Context()
	wake := make(chan struct{}, 1)
	b := f.join(account, wake)
	defer f.leave(account, b, wake)
	fires, stop := f.o.Boxes.Watch(account)
	defer stop()
	results := make(chan result, f.o.Window) // as many as can be unanswered
	out := 0
	pause := time.NewTimer(0)
	defer pause.Stop()
	paused := true // until the timer's first tick
	for {
		if !paused && out < f.o.Window {
			n, err := f.give(ctx, c, b, f.o.Window-out, results)
			out += n
			if err != nil {
				paused = f.rest(pause, err)
			}
		}
		select {
		case <-ctx.Done():
			// Every unit that was posted is answered, with ErrEnded at the latest.
			for ; out > 0; out-- {
				f.settle(ctx, account, b, []result{<-results})
			}
			return
		case r := <-results:
			rs := append(make([]result, 0, f.o.Window), r)
			for len(results) > 0 {
				rs = append(rs, <-results)
			}
			out -= len(rs)
			if err := f.settle(ctx, account, b, rs); err != nil && !paused {
				paused = f.rest(pause, err)
			}
		case <-fires:
		case <-wake:
		case <-pause.C:
			paused = false
		}
	}
}

// rest has the connection do nothing for a while.
func (f *Feed) rest(t *time.Timer, err error) bool {
	if errs.KindOf(err) != errs.Busy && errs.KindOf(err) != errs.Canceled {
		f.o.Logger.Warn("packets could not be handed to a client; it is tried again", "kind", errs.KindOf(err))
	}
	t.Reset(f.o.Pause)
	return true
}

// give posts packets to the connection and says how many.
func (f *Feed) give(ctx context.Context, c conn, b *box, limit int, results chan<- result) (n int, err error) {
	items, err := b.claim(ctx, f.o.Boxes, c.Peer().Account, limit)
	for i, it := range items {
		unit, perr := content.AppendBoxUnit(nil, content.BoxUnit{Reply: it.Reply, Item: it.Number, Mark: it.Mark, Payload: it.Payload})
		if perr == nil {
			perr = c.Post(unit, func(err error) { results <- result{it.Number, err} })
		}
		if perr != nil {
			for _, rest := range items[i:] {
				b.release(true, rest.Number)
			}
			return i, perr
		}
	}
	return len(items), err
}

// settle does what the client's answers ask for. Packets that it has not taken are free
// again; the error says why.
func (f *Feed) settle(ctx context.Context, account [8]byte, b *box, rs []result) error {
	var taken, back []uint64
	var failed error
	for _, r := range rs {
		if r.err == nil {
			taken = append(taken, r.number)
		} else {
			back, failed = append(back, r.number), r.err
		}
	}
	if len(taken) > 0 {
		// The client's answer counts, even if its connection has ended meanwhile.
		err := f.o.Boxes.Remove(context.WithoutCancel(ctx), account, taken)
		if err == nil {
			f.taken.Add(uint64(len(taken)))
			b.release(false, taken...)
		} else {
			back, failed = append(back, taken...), err
		}
	}
	b.release(true, back...)
	return failed
}
