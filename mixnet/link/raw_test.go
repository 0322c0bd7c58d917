package link

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"postern.email/mixnet/packet"
)

// rawPeer is the end of a link that does what a test tells it, frame by frame.
type rawPeer struct {
	t testing.TB
	c *Conn
}

// dialRaw connects to addr as the node name, which expects to find to.
func dialRaw(t testing.TB, name, to, addr string) *rawPeer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return rawOver(t, nc, name, to)
}

func rawOver(t testing.TB, nc net.Conn, name, to string) *rawPeer {
	t.Helper()
	return newRaw(t, nc, name, to, false)
}

// newRaw does the handshake, on either side.
func newRaw(t testing.TB, nc net.Conn, name, peer string, server bool) *rawPeer {
	t.Helper()
	l := makeLink(t, options(name, known(t, Mix, peer).who, commitAll))
	s, err := l.shake(soon(t), nc, server, func(Key) error { return nil }, l.o.Who)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := l.newConn(context.Background(), s)
	t.Cleanup(c.cancel)
	return &rawPeer{t: t, c: c}
}

func (p *rawPeer) send(h head, body []byte) {
	p.t.Helper()
	if body == nil {
		body = zeros[:]
	}
	if err := p.c.frame(&h, body, 10*time.Second); err != nil {
		p.t.Fatal(err)
	}
}

// read gives the next frame, or the error of the connection.
func (p *rawPeer) read() (head, []byte, error) {
	h, body, err := p.c.readFrame(10 * time.Second)
	if err != nil {
		return head{}, nil, err
	}
	return h, body[:], nil
}

// expect reads on to a frame of the type.
func (p *rawPeer) expect(typ uint8) head {
	p.t.Helper()
	for {
		h, _, err := p.read()
		if err != nil {
			p.t.Fatalf("waiting for a frame of type %d: %v", typ, err)
		}
		if h.typ == typ {
			return h
		}
	}
}

// answered reads on until unit n is answered, and gives how.
func (p *rawPeer) answered(n uint64) (taken bool) {
	p.t.Helper()
	for {
		h, _, err := p.read()
		if err != nil {
			p.t.Fatalf("waiting for the answer to %d: %v", n, err)
		}
		if n < h.first || n-h.first >= window {
			continue
		}
		if bit := uint64(1) << (n - h.first); (h.taken|h.later)&bit != 0 {
			return h.taken&bit != 0
		}
	}
}

// ends reads on until the connection is closed, and gives the code of the GOAWAY.
func (p *rawPeer) ends() (code uint8) {
	for {
		h, _, err := p.read()
		if err != nil {
			return code
		}
		if h.typ == typeGoAway {
			code = h.code
		}
	}
}

// acceptRaw takes one connection on ln as the node name and gives its end.
func acceptRaw(t testing.TB, ln net.Listener, name, from string) *rawPeer {
	t.Helper()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, nc, name, from, true)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

var _ = [1]struct{}{}[packet.Size-bodyLen] // a unit is a body

// tap forwards one connection to addr, and gives what the dialling side has sent when it has ended.
func tap(t testing.TB, to string) (addr string, seen chan []byte) {
	ln := listen(t)
	seen = make(chan []byte, 1)
	go func() {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			return
		}
		var all bytes.Buffer
		go func() { io.Copy(in, out); in.Close() }()
		io.Copy(out, io.TeeReader(in, &all))
		out.Close()
		seen <- all.Bytes()
	}()
	return ln.Addr().String(), seen
}
