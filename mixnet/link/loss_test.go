package link

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// cutter forwards connections to addr and cuts the first ones after some bytes from the
// dialling side, later ones never.
type cutter struct {
	addr string
	to   string
	wg   sync.WaitGroup
	ln   net.Listener
}

func cutAfter(t *testing.T, to string, cuts ...int64) *cutter {
	c := &cutter{ln: listen(t), to: to}
	c.addr = c.ln.Addr().String()
	c.wg.Go(func() {
		for i := 0; ; i++ {
			in, err := c.ln.Accept()
			if err != nil {
				return
			}
			limit := int64(-1)
			if i < len(cuts) {
				limit = cuts[i]
			}
			c.wg.Go(func() { c.forward(in, limit) })
		}
	})
	t.Cleanup(func() { c.ln.Close(); c.wg.Wait() })
	return c
}

func (c *cutter) forward(in net.Conn, limit int64) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	c.wg.Go(func() { io.Copy(in, out); in.Close() })
	if limit < 0 {
		io.Copy(out, in)
		return
	}
	io.CopyN(out, in, limit)
}

// sizes on the wire of what the dialling side sends before its first frame, measured.
func handshakeBytes(t *testing.T) int64 {
	b := start(t, options("b", known(t, Mix, "a").who, commitAll))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	addr, seen := tap(t, b.addr)
	line := a.line(t, "b", addr)
	if err := line.Send(soon(t), unit(0)); err != nil {
		t.Fatal(err)
	}
	line.stop()
	n := int64(len(<-seen))
	// HELLO, one SEND, GOAWAY and close_notify (24 bytes) come behind the handshake.
	return n - 3*recordRoom - 24
}

// TestCut: a connection that breaks anywhere, between frames or inside of one, loses
// nothing, and keeps the order of what was not acknowledged.
func TestCut(t *testing.T) {
	base := handshakeBytes(t)
	var cuts []int64
	for frame := range int64(4) {
		at := base + frame*recordRoom
		cuts = append(cuts, at, at+1, at+5, at+headLen+22, at+headLen+22+1, at+recordRoom/2, at+recordRoom-1)
	}
	cuts = append(cuts, 0, 1, base/2, base-1)
	for _, cut := range cuts {
		got := newRecorder()
		b := start(t, options("b", known(t, Mix, "a").who, got))
		a := start(t, options("a", known(t, Mix, "b").who, commitAll))
		c := cutAfter(t, b.addr, cut, cut)
		line := a.line(t, "b", c.addr)
		const count = 6
		var wg sync.WaitGroup
		for i := range uint64(count) {
			wg.Add(1)
			if err := line.Post(unit(i), func(err error) {
				if err != nil {
					t.Errorf("cut at %d: %v", cut, err)
				}
				wg.Done()
			}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		line.stop()
		a.stop()
		b.stop()
		// Each connection's units are a rising run that ends at the end or where it was cut.
		numbers := got.numbers(t)
		first := slices.Clone(numbers)
		slices.Sort(first)
		if first = slices.Compact(first); len(first) != count {
			t.Fatalf("cut at %d: %v", cut, numbers)
		}
		for i := 1; i < len(numbers); i++ {
			if numbers[i] > numbers[i-1]+1 {
				t.Fatalf("cut at %d: a unit was passed over: %v", cut, numbers)
			}
		}
	}
}

// TestCommitBeforeAnswer: nothing is acknowledged before the handler says so; a receiver
// that dies before its commit gets the unit again, and so does one that dies between
// commit and answer.
func TestCommitBeforeAnswer(t *testing.T) {
	for _, committed := range []bool{false, true} {
		ln := listen(t)
		a := start(t, options("a", known(t, Mix, "b").who, commitAll))
		line := a.line(t, "b", ln.Addr().String())
		result := make(chan error, 1)
		if err := line.Post(unit(7), func(err error) { result <- err }); err != nil {
			t.Fatal(err)
		}
		disk := 0
		dying := acceptRaw(t, ln, "b", "a")
		if h := dying.expect(typeSend); h.number != 1 {
			t.Fatalf("number %d", h.number)
		}
		if committed {
			disk++
		}
		// JUNK without answers is no acknowledgement.
		dying.send(head{typ: typeJunk}, nil)
		dying.c.raw.Close()
		again := acceptRaw(t, ln, "b", "a")
		if h := again.expect(typeSend); h.number != 1 {
			t.Fatalf("number %d", h.number)
		}
		select {
		case err := <-result:
			t.Fatalf("acknowledged without an answer: %v", err)
		default:
		}
		if disk == 0 {
			disk++
		}
		again.send(head{typ: typeJunk, answers: answers{1, 1, 0}}, nil)
		if err := <-result; err != nil || disk != 1 {
			t.Fatalf("%v, %d on disk", err, disk)
		}
		again.c.raw.Close()
		ln.Close()
		line.stop()
		if n := a.Counts().Again; n != 1 {
			t.Errorf("%d sent again", n)
		}
	}
}

// TestAnswersInAnyOrder: a handler answers afterwards, in groups, from other goroutines; each
// answer reaches its own unit, and answering twice changes nothing.
func TestAnswersInAnyOrder(t *testing.T) {
	type one struct {
		n uint64
		r Receipt
	}
	come := make(chan one, window+1)
	b := start(t, options("b", known(t, Mix, "a").who, take(func(_ context.Context, _ Peer, u []byte, r Receipt) {
		come <- one{number(u), r}
	})))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	type result struct {
		n   uint64
		err error
	}
	results := make(chan result, window+1)
	for i := range uint64(window + 1) { // one more than may be unanswered
		if err := line.Post(unit(i), func(err error) { results <- result{i, err} }); err != nil {
			t.Fatal(err)
		}
	}
	var held []one
	for range window {
		held = append(held, <-come)
	}
	if len(results) != 0 {
		t.Fatal("answered before the handler did")
	}
	go func() {
		for i := len(held) - 1; i > 0; i-- { // the first one stays open
			if held[i].n%3 == 0 {
				held[i].r.Later()
			} else {
				held[i].r.Commit()
			}
			held[i].r.Commit()
			held[i].r.Later()
		}
	}()
	for range window - 1 {
		if r := <-results; r.n == 0 || (r.n%3 == 0) != errors.Is(r.err, ErrLater) || r.n%3 != 0 && r.err != nil {
			t.Errorf("unit %d: %v", r.n, r.err)
		}
	}
	// The window moves on only with the first one.
	if n := line.Status().Waiting; n != 2 || len(come) != 0 {
		t.Errorf("%d wait, %d more have come", n, len(come))
	}
	held[0].r.Commit()
	if r := <-results; r.n != 0 || r.err != nil {
		t.Errorf("%+v", r)
	}
	(<-come).r.Commit()
	if r := <-results; r.n != window || r.err != nil {
		t.Errorf("%+v", r)
	}
	if c := b.Counts(); c.UnitsIn+c.LaterIn != window+1 {
		t.Errorf("%+v", c)
	}
}

// TestRotation: connections end after their time and others take their place; units that go
// on all the time arrive in order, none is lost, none comes twice.
func TestRotation(t *testing.T) {
	got := newRecorder()
	opened := make(chan struct{}, 1<<10)
	o := options("b", known(t, Mix, "a").who, got)
	o.Opened = func(*Conn) { opened <- struct{}{} }
	b := start(t, o)
	ao := options("a", known(t, Mix, "b").who, commitAll)
	ao.MinLife, ao.MaxLife = time.Millisecond, 30*time.Millisecond
	a := start(t, ao)
	line := a.line(t, "b", b.addr)
	var wg sync.WaitGroup
	sem := make(chan struct{}, 50)
	n := uint64(0)
	for connections := 0; connections < 10; {
		select {
		case <-opened:
			connections++
		case sem <- struct{}{}:
			wg.Add(1)
			if err := line.Post(unit(n), func(err error) {
				if err != nil {
					t.Error(err)
				}
				<-sem
				wg.Done()
			}); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n == 1<<14-1 {
			t.Fatal("connections are not replaced")
		}
	}
	wg.Wait()
	numbers := got.numbers(t)
	if uint64(len(numbers)) != n || !slices.IsSorted(numbers) {
		t.Errorf("%d of %d units, in order: %v", len(numbers), n, slices.IsSorted(numbers))
	}
	if c := a.Counts(); c.Again != 0 {
		t.Errorf("%d sent again", c.Again)
	}
}

// TestEnd: a node that ends answers what it has taken, takes nothing new, and its
// peer's line waits for the next one.
func TestEnd(t *testing.T) {
	held := make(chan Receipt, 10)
	b := start(t, options("b", known(t, Mix, "a").who, take(func(_ context.Context, _ Peer, _ []byte, r Receipt) { held <- r })))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	result := make(chan error, 1)
	if err := line.Post(unit(1), func(err error) { result <- err }); err != nil {
		t.Fatal(err)
	}
	r := <-held
	stopped := make(chan struct{})
	conn := b.Open(a.Key())[0]
	go func() { b.stop(); close(stopped) }()
	for !conn.leaving() {
		select {
		case <-stopped:
			t.Fatal("ended with a unit unanswered")
		default:
		}
	}
	r.Commit()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	<-stopped
	ctx, cancel := context.WithCancel(context.Background())
	late := make(chan error, 1)
	go func() { late <- line.Send(ctx, unit(2)) }()
	line.until(t, func(s Status) bool { return !s.Connected })
	cancel()
	wantKind(t, <-late, errs.Canceled, "")
	line.stop()
	wantKind(t, line.Send(soon(t), unit(3)), errs.Unavailable, "the link to the peer has ended")
	if _, err := line.Fetch(soon(t), nil); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

// TestAccepted: who was dialled sends over the connection too, and learns when it has ended.
func TestAccepted(t *testing.T) {
	opened := make(chan *Conn, 1)
	closed := make(chan error, 1)
	o := options("relay", known(t, Client, "proxy").who, commitAll)
	o.Opened = func(c *Conn) { opened <- c }
	o.Closed = func(_ *Conn, err error) { closed <- err }
	o.Queue = 2
	relay := start(t, o)
	hold := make(chan Receipt, 4)
	proxy := start(t, options("proxy", known(t, Relay, "relay").who, take(func(_ context.Context, from Peer, u []byte, r Receipt) {
		if from.Role != Relay {
			t.Errorf("from %+v", from)
		}
		if number(u) == 1 {
			r.Commit()
		} else {
			hold <- r
		}
	})))
	line := runLine(t, proxy.Link, LineOptions{Peer: Peer{Key: relay.Key(), Role: Relay}, Addresses: func() []string { return []string{relay.addr} }})
	c := <-opened
	if err := c.Send(soon(t), unit(1)); err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 2)
	for i := range uint64(2) {
		if err := c.Post(unit(2+i), func(err error) { results <- err }); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, c.Post(unit(4), nil), errs.Busy, "too many packets wait for this peer")
	wantKind(t, c.Post(make([]byte, 5), nil), errs.Invalid, "not a unit: the size is wrong")
	(<-hold).Commit()
	if err := <-results; err != nil {
		t.Fatal(err)
	}
	c.raw.Close()
	if err := <-results; !errors.Is(err, ErrEnded) {
		t.Errorf("%v", err)
	}
	wantKind(t, <-closed, errs.Unavailable, "the connection to the peer broke")
	<-c.Context().Done()
	wantKind(t, c.Post(unit(1), nil), errs.Unavailable, "the link to the peer has ended")
	(<-hold).Later() // of a connection that is over
	line.stop()
}

// TestCancel: a Send that is given up frees its place, whether it waits or is on its way,
// and the caller may change the unit.
func TestCancel(t *testing.T) {
	held := make(chan Receipt, 10)
	b := start(t, options("b", known(t, Mix, "a").who, take(func(_ context.Context, _ Peer, _ []byte, r Receipt) { held <- r })))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := runLine(t, a.Link, LineOptions{Peer: Peer{Key: b.Key()}, Queue: 1, Addresses: func() []string { return []string{b.addr} }})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- line.Send(ctx, unit(1)) }()
	first := <-held
	wantKind(t, line.Send(soon(t), unit(2)), errs.Busy, "too many packets wait for this peer")
	cancel()
	wantKind(t, <-result, errs.Canceled, "")
	go func() { result <- line.Send(soon(t), unit(3)) }()
	second := <-held
	first.Commit() // nobody waits for it
	second.Commit()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	idle, err := a.Line(LineOptions{Peer: Peer{Key: b.Key()}, Addresses: func() []string { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	wantKind(t, idle.Send(done, unit(4)), errs.Canceled, "")
	if n := idle.Status().Waiting; n != 0 {
		t.Errorf("%d wait", n)
	}
}
