package link

import (
	"context"
	"errors"
	"net"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// TestMisuse: who does not keep to the protocol is told so and loses the connection, and nothing of
// the offending frame is taken.
func TestMisuse(t *testing.T) {
	body := func(i int) []byte {
		b := make([]byte, bodyLen)
		b[i] = 1
		return b
	}
	send := func(n uint64) head { return head{typ: typeSend, number: n} }
	fetch := func(n uint32) head { return head{typ: typeFetch, request: n} }
	authority := Peer{Key: keyOf(t, "a"), Role: Authority}
	for _, v := range []struct {
		name   string
		as     Role
		frames []head
		body   []byte // of the last one
		public string
	}{
		{"a number left out", Mix, []head{send(1), send(3)}, nil, "a unit out of order"},
		{"a number again", Mix, []head{send(1), send(1)}, nil, "a unit out of order"},
		{"the wrong way round", Mix, []head{send(2)}, nil, "a unit out of order"},
		{"an authority sends", authority.Role, []head{send(1)}, nil, "units from somebody who may not send any"},
		{"HELLO again", Mix, []head{{typ: typeHello, lowest: 1, highest: 1}}, nil, "a frame of an unknown type"},
		{"an unknown type", Mix, []head{{typ: 7}}, nil, "a frame of an unknown type"},
		{"a reserved field", Mix, []head{{typ: typeJunk, total: 1}}, nil, "a reserved field is not zero"},
		{"JUNK that says something", Mix, []head{{typ: typeJunk}}, body(0), "padding is not zero"},
		{"at its end", Mix, []head{{typ: typeJunk}}, body(bodyLen - 1), "padding is not zero"},
		{"GOAWAY that says something", Mix, []head{{typ: typeGoAway, code: awayOld}}, body(7), "padding is not zero"},
		{"a request with a tail", Mix, []head{{typ: typeFetch, request: 1, length: 3}}, body(3), "padding is not zero"},
		{"an answer to nothing", Mix, []head{{typ: typeJunk, answers: answers{1, 1, 0}}}, nil, "malformed answers"},
		{"an answer in the future", Mix, []head{{typ: typeJunk, answers: answers{1 << 62, 1, 0}}}, nil, "malformed answers"},
		{"two answers in one", Mix, []head{{typ: typeJunk, answers: answers{1, 1, 1}}}, nil, "malformed answers"},
		{"a piece unasked", Mix, []head{{typ: typePiece, request: 1}}, nil, "a piece that nobody asked for"},
		{"a second request", Mix, []head{fetch(1), fetch(2)}, nil, "a request out of turn"},
		{"a unit after the farewell", Mix, []head{send(1), {typ: typeGoAway, code: awayOld}, send(2)}, nil, "new frames after the farewell"},
		{"a request after the farewell", Mix, []head{send(1), {typ: typeGoAway, code: awayOld}, fetch(1)}, nil, "new frames after the farewell"},
		{"two farewells", Mix, []head{send(1), {typ: typeGoAway, code: awayOld}, {typ: typeGoAway, code: awayOld}}, nil, "new frames after the farewell"},
	} {
		t.Run(v.name, func(t *testing.T) {
			closed := make(chan error, 1)
			held := make(chan Receipt, 8)
			o := options("b", known(t, v.as, "a").who, take(func(_ context.Context, _ Peer, _ []byte, r Receipt) { held <- r }))
			o.Closed = func(_ *Conn, err error) { closed <- err }
			o.Documents = func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
			b := start(t, o)
			p := dialRaw(t, "a", "b", b.addr)
			for i, h := range v.frames {
				if i == len(v.frames)-1 {
					p.send(h, v.body)
				} else {
					p.send(h, nil)
				}
			}
			said := p.ends()
			wantKind(t, <-closed, errs.Invalid, "the peer does not keep to the link protocol: "+v.public)
			if left := len(v.frames) > 1 && v.frames[len(v.frames)-2].typ == typeGoAway; !left && said != awayBroken {
				t.Errorf("told %d", said)
			}
			for len(held) > 0 {
				(<-held).Later()
			}
			if n := b.memory.Used(); n != 0 {
				t.Errorf("%d bytes are still counted", n)
			}
		})
	}
}

// TestWindow: 64 units may be unanswered, not one more.
func TestWindow(t *testing.T) {
	held := make(chan Receipt, window+1)
	b := start(t, options("b", known(t, Mix, "a").who, take(func(_ context.Context, _ Peer, _ []byte, r Receipt) { held <- r })))
	p := dialRaw(t, "a", "b", b.addr)
	go func() {
		for {
			if _, _, err := p.read(); err != nil {
				return
			}
		}
	}()
	for n := range uint64(window) {
		p.send(head{typ: typeSend, number: n + 1}, unit(n))
	}
	var all []Receipt
	for range window {
		all = append(all, <-held)
	}
	c := b.Open(p.c.l.Key())[0]
	if used := b.memory.Used(); used != window*packet.Size {
		t.Errorf("%d bytes are counted", used)
	}
	p.send(head{typ: typeSend, number: window + 1}, unit(0))
	<-c.Context().Done()
	for _, r := range all {
		r.Commit()
	}
	if len(held) != 0 || b.memory.Used() != 0 {
		t.Errorf("%d more were taken, %d bytes are still counted", len(held), b.memory.Used())
	}
}

// TestMemory: units beyond the memory are put off, without the handler.
func TestMemory(t *testing.T) {
	held := make(chan Receipt, 8)
	o := options("b", known(t, Mix, "a").who, take(func(_ context.Context, _ Peer, _ []byte, r Receipt) { held <- r }))
	o.Memory = 2 * packet.Size
	b := start(t, o)
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	results := make(chan error, 3)
	for i := range uint64(3) {
		if err := line.Post(unit(i), func(err error) { results <- err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-results; !errors.Is(err, ErrLater) || errs.Public(err) != "the peer does not take packets now" {
		t.Errorf("%v", err)
	}
	(<-held).Commit()
	if err := <-results; err != nil {
		t.Error(err)
	}
	go func() { (<-held).Commit(); (<-held).Commit() }()
	if err := line.Send(soon(t), unit(4)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := <-results; err != nil {
		t.Error(err)
	}
	if n := b.memory.Used(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// TestConnsPerKey: beyond the bound the oldest connection of a key has to go; others stay.
func TestConnsPerKey(t *testing.T) {
	o := options("b", known(t, Mix, "a", "x").who, commitAll)
	o.ConnsPerKey = 2
	b := start(t, o)
	other := dialRaw(t, "x", "b", b.addr)
	other.send(head{typ: typeSend, number: 1}, unit(1))
	other.answered(1)
	first := dialRaw(t, "a", "b", b.addr)
	second := dialRaw(t, "a", "b", b.addr)
	for _, p := range []*rawPeer{first, second} { // both are known to be registered, in this order
		p.send(head{typ: typeSend, number: 1}, unit(1))
		p.answered(1)
	}
	third := dialRaw(t, "a", "b", b.addr)
	if h := first.expect(typeGoAway); h.code != awayReplaced {
		t.Errorf("code %d", h.code)
	}
	first.c.raw.Close()
	for i, p := range []*rawPeer{second, third} {
		n := uint64(2 - i)
		p.send(head{typ: typeSend, number: n}, unit(1))
		if !p.answered(n) {
			t.Error("not taken")
		}
	}
	other.send(head{typ: typeSend, number: 2}, unit(2))
	if !other.answered(2) {
		t.Error("not taken")
	}
}

// TestConnsAndHandshakes: the bounds that hold before anything is known of the other side.
func TestConnsAndHandshakes(t *testing.T) {
	refused := func(addr string) {
		t.Helper()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("an answer")
		}
	}
	for _, change := range []func(*Options){
		func(o *Options) { o.Conns = 1 },
		func(o *Options) { o.ConnsPerNetwork = 1 },
	} {
		o := options("b", known(t, Mix, "a").who, commitAll)
		change(&o)
		b := start(t, o)
		p := dialRaw(t, "a", "b", b.addr)
		refused(b.addr)
		p.c.raw.Close()
		b.stop()
	}
	o := options("b", known(t, Mix, "a").who, commitAll)
	o.Handshakes, o.HandshakeBurst = 1, 1
	b := start(t, o)
	p := dialRaw(t, "a", "b", b.addr)
	refused(b.addr)
	p.send(head{typ: typeSend, number: 1}, unit(1)) // what is open stays
	if !p.answered(1) || b.Counts().Refused != 1 {
		t.Errorf("%+v", b.Counts())
	}
}

// TestOptions: what is missing is said.
func TestOptions(t *testing.T) {
	good := options("a", known(t, Mix).who, commitAll)
	for _, change := range []func(*Options){
		func(o *Options) { o.Key = nil }, func(o *Options) { o.Who = nil }, func(o *Options) { o.Handler = nil },
	} {
		o := good
		change(&o)
		_, err := New(o)
		wantKind(t, err, errs.Invalid, "key, set of peers or handler is missing")
	}
	l := makeLink(t, good)
	_, err := l.Line(LineOptions{Addresses: func() []string { return nil }})
	wantKind(t, err, errs.Invalid, "peer or addresses are missing")
	_, err = KeyOf(nil)
	wantKind(t, err, errs.Invalid, "not an Ed25519 key")
	n := runLine(t, l, LineOptions{Peer: Peer{Key: keyOf(t, "b")}, Addresses: func() []string { return nil }})
	s := n.until(t, func(s Status) bool { return s.Err != nil })
	wantKind(t, s.Err, errs.Unavailable, "no address of the peer is known")
}
