package link

import (
	"net"
	"sync"
)

// gather joins the TLS records of one frame, so that they leave in one write: an
// observer sees a frame and not its parts, and the system is asked once.
type gather struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	buf  []byte
}

// Write is called by TLS. Outside of a frame (handshake, alerts) nothing is held back.
func (g *gather) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hold {
		g.buf = append(g.buf, b...)
		return len(b), nil
	}
	return g.Conn.Write(b)
}

// begin holds records back, in buf, until flush.
func (g *gather) begin(buf []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold, g.buf = true, buf[:0]
}

// flush writes what was held back. It gives the buffer back.
func (g *gather) flush() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.Conn.Write(g.buf)
	buf := g.buf
	g.hold, g.buf = false, nil
	return buf, err
}
