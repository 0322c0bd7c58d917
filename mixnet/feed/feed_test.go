package feed

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var anna, ben = [8]byte{1}, [8]byte{2}

// memory is Boxes in memory.
type memory struct {
	mu      sync.Mutex
	items   map[[8]byte][]Item
	watches map[[8]byte][]chan struct{}
	removed []uint64
	fail    error // of Next and Remove
}

func newMemory() *memory {
	return &memory{items: map[[8]byte][]Item{}, watches: map[[8]byte][]chan struct{}{}}
}

func (m *memory) put(account [8]byte, numbers ...uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range numbers {
		it := Item{Number: n, Reply: n%2 == 0, Payload: bytes.Repeat([]byte{byte(n)}, packet.PayloadLen)}
		if it.Reply {
			it.Mark = packet.Mark{byte(n), 7}
		}
		m.items[account] = append(m.items[account], it)
	}
	m.fire(account)
}

func (m *memory) fire(account [8]byte) {
	for _, w := range m.watches[account] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Next gives two at most, so that pages are turned.
func (m *memory) Next(_ context.Context, account [8]byte, after uint64, limit int) (list []Item, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, it := range m.items[account] {
		if it.Number > after && len(list) < min(limit, 2) {
			list = append(list, it)
		}
	}
	return list, m.fail
}

func (m *memory) Remove(_ context.Context, account [8]byte, numbers []uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.items[account] = slices.DeleteFunc(m.items[account], func(it Item) bool { return slices.Contains(numbers, it.Number) })
	m.removed = append(m.removed, numbers...)
	m.fire(account)
	return nil
}

func (m *memory) Watch(account [8]byte) (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := make(chan struct{}, 1)
	m.watches[account] = append(m.watches[account], w)
	return w, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.watches[account] = slices.DeleteFunc(m.watches[account], func(x chan struct{}) bool { return x == w })
	}
}

func (m *memory) left(account [8]byte) (ns []uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, it := range m.items[account] {
		ns = append(ns, it.Number)
	}
	return ns
}

// client is the connection of one.
type client struct {
	t       *testing.T
	account [8]byte
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex
	got     []uint64
	open    map[uint64]func(error)
	refuse  error
}

func connect(t *testing.T, account [8]byte) *client {
	c := &client{t: t, account: account, open: map[uint64]func(error){}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *client) Peer() link.Peer          { return link.Peer{Role: link.Client, Account: c.account} }
func (c *client) Context() context.Context { return c.ctx }

func (c *client) Post(unit []byte, done func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return c.refuse
	}
	u, err := content.ParseBoxUnit(unit)
	if err != nil || u.Reply != (u.Item%2 == 0) || u.Payload[0] != byte(u.Item) || u.Reply != (u.Mark == packet.Mark{byte(u.Item), 7}) {
		c.t.Errorf("unit of item %d: %v", u.Item, err)
	}
	c.got = append(c.got, u.Item)
	c.open[u.Item] = done
	return nil
}

// answer answers units.
func (c *client) answer(err error, numbers ...uint64) {
	c.t.Helper()
	for _, n := range numbers {
		c.mu.Lock()
		done := c.open[n]
		delete(c.open, n)
		c.mu.Unlock()
		if done == nil {
			c.t.Fatalf("packet %d is not with this client", n)
		}
		done(err)
	}
	synctest.Wait()
}

// end ends the connection as a link does: what is open is answered afterwards.
func (c *client) end() {
	c.cancel()
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for _, done := range open {
		done(link.ErrEnded)
	}
	synctest.Wait()
}

func (c *client) has(want ...uint64) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []uint64
	for n := range c.open {
		open = append(open, n)
	}
	slices.Sort(open)
	if !slices.Equal(open, want) {
		c.t.Errorf("the client has %v to answer, want %v", open, want)
	}
}

// TestInOrder: packets come in their order, four at a time, new ones as soon as there is room,
// and leave the mailbox with the client's answer and not before.
func TestInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.put(anna, 1, 2, 3, 4, 5, 6)
		m.put(ben, 100)
		f := New(Options{Boxes: m})
		c := connect(t, anna)
		f.open(c)
		synctest.Wait()
		c.has(1, 2, 3, 4)
		if got := m.left(anna); len(got) != 6 {
			t.Error("gone before the client had them:", got)
		}
		c.answer(nil, 2)
		c.has(1, 3, 4, 5)
		if got := m.left(anna); !slices.Equal(got, []uint64{1, 3, 4, 5, 6}) {
			t.Error(got)
		}
		c.answer(nil, 1, 3, 4, 5)
		c.answer(nil, 6)
		c.has()
		m.put(anna, 7)
		synctest.Wait()
		c.has(7)
		if !slices.Equal(c.got, []uint64{1, 2, 3, 4, 5, 6, 7}) {
			t.Error(c.got)
		}
		if st := f.Stats(); st.Connections != 1 || st.Taken != 6 {
			t.Errorf("%+v", st)
		}
		c.end()
		f.Wait()
		if got := m.left(ben); !slices.Equal(got, []uint64{100}) || len(m.watches[anna]) != 0 || len(f.boxes) != 0 || f.Stats().Connections != 0 {
			t.Error("something was left over", got)
		}
	})
}

// TestAgain: what a connection that ended had not answered comes over the next one, and an
// answer that came at its end counts.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.put(anna, 1, 2, 3)
		f := New(Options{Boxes: m})
		first := connect(t, anna)
		f.open(first)
		synctest.Wait()
		first.cancel()
		first.answer(nil, 2)
		first.end()
		if got := m.left(anna); !slices.Equal(got, []uint64{1, 3}) {
			t.Error(got)
		}
		second := connect(t, anna)
		f.open(second)
		synctest.Wait()
		second.has(1, 3)
		second.answer(nil, 1, 3)
		second.end()
		f.Wait()
	})
}

// TestOneAtATime: of two connections of one account each packet goes to one; when that ends,
// the other gets it.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.put(anna, 1, 2, 3, 4, 5, 6)
		f := New(Options{Boxes: m})
		first, second := connect(t, anna), connect(t, anna)
		f.open(first)
		synctest.Wait()
		f.open(second)
		synctest.Wait()
		first.has(1, 2, 3, 4)
		second.has(5, 6)
		first.answer(nil, 1)
		first.end()
		second.has(2, 3, 5, 6)
		second.answer(nil, 2, 3, 5, 6)
		second.has(4)
		second.answer(nil, 4)
		second.end()
		f.Wait()
		if got := m.left(anna); len(got) != 0 {
			t.Error(got)
		}
	})
}

// TestFailures: a client that does not take a packet now, a queue that is full and a disk that
// fails are tried again after a pause, and nothing is lost or removed.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.put(anna, 1, 2)
		f := New(Options{Boxes: m, Pause: time.Minute})
		c := connect(t, anna)
		c.refuse = link.ErrQueue
		f.open(c)
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		pass(59 * time.Second)
		c.has()
		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		pass(2 * time.Second)
		c.has(1, 2)
		c.answer(link.ErrLater, 1)
		m.put(anna, 3) // the pause holds for it too
		pass(50 * time.Second)
		c.has(2)
		pass(20 * time.Second)
		c.has(1, 2, 3)
		own := errs.E("x", errs.Unavailable, "", errors.New("disk"))
		m.setFail(own)
		c.answer(nil, 1)
		if got := m.left(anna); !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Error(got)
		}
		m.setFail(nil)
		c.has(2, 3)
		pass(61 * time.Second)
		c.has(1, 2, 3)
		c.answer(nil, 1, 2, 3)
		if got := m.left(anna); len(got) != 0 {
			t.Error(got)
		}
		// A mailbox that cannot be read at first.
		m.setFail(own)
		m.put(anna, 4)
		pass(time.Second)
		m.setFail(nil)
		pass(61 * time.Second)
		c.answer(nil, 4)
		c.end()
		f.Wait()
	})
}
