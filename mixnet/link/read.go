package link

import (
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// read takes frames until the connection ends.
func (c *Conn) read() error {
	for {
		if !c.patience() {
			return nil
		}
		h, body, err := c.readFrame(c.l.o.Idle)
		if err != nil {
			return err
		}
		c.l.counts.framesIn.Add(1)
		body, err = c.handle(&h, body)
		if body != nil {
			c.l.units.Put(body)
		}
		if err != nil {
			return err
		}
	}
}

// patience waits until the peer may have another frame. It is false when the connection
// is over.
func (c *Conn) patience() bool {
	for {
		ok, next := c.rate.Allow(c.rkey)
		if ok {
			return true
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-t.C:
		case <-c.dead:
			t.Stop()
			return false
		}
	}
}

// readFrame reads one frame and checks its form. The body comes from Link.units. The
// first byte is waited for for idle, the rest for FrameTime.
func (c *Conn) readFrame(idle time.Duration) (h head, body *[packet.Size]byte, err error) {
	var b [headLen]byte
	c.raw.SetReadDeadline(time.Now().Add(idle))
	n, err := io.ReadAtLeast(c.tls, b[:], 1)
	if err == nil {
		c.raw.SetReadDeadline(time.Now().Add(c.l.o.FrameTime))
		_, err = io.ReadFull(c.tls, b[n:])
	}
	if err != nil {
		return head{}, nil, brokenConn(err)
	}
	if h, err = parseHead(&b); err != nil {
		return head{}, nil, err
	}
	body = c.l.units.Get().(*[packet.Size]byte)
	if _, err = io.ReadFull(c.tls, body[:]); err == nil {
		if isZero(body[h.used():]) {
			return h, body, nil
		}
		err = errPadding
	} else {
		err = brokenConn(err)
	}
	c.l.units.Put(body)
	return head{}, nil, err
}

// brokenConn is the error for a connection that broke.
func brokenConn(err error) error {
	return errs.E("mixnet/link", errs.Unavailable, "the connection to the peer broke", err)
}

// handle does what a frame asks for. It gives the body back unless somebody keeps it.
func (c *Conn) handle(h *head, body *[packet.Size]byte) (*[packet.Size]byte, error) {
	if err := c.answered(h.answers); err != nil {
		return body, err
	}
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	if left != 0 && (h.typ == typeSend || h.typ == typeFetch || h.typ == typeGoAway) {
		return body, broken("new frames after the farewell")
	}
	switch h.typ {
	case typeSend:
		return c.received(h.number, body)
	case typeJunk:
		return body, nil
	case typeFetch:
		return body, c.fetched(h, body[:h.length])
	case typePiece:
		return body, c.piece(h, body[:h.length])
	case typeGoAway:
		c.mu.Lock()
		c.left = h.code
		c.mu.Unlock()
		if h.code == awayUnknown || h.code == awayBroken {
			return body, errOver
		}
		c.kick()
		return body, nil
	}
	return body, errFrameType // HELLO, which comes once
}
