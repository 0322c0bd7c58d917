package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Offsets of a HELLO that are the same in every version of the protocol.
const (
	helloLowest  = 45
	helloHighest = 46
)

// session is a connection after handshake and HELLO.
type session struct {
	raw  net.Conn
	out  *gather
	tls  *tls.Conn
	peer Peer
}

// shake does the handshake and exchanges HELLO. It closes raw with an error:
// errs.Denied for a wrong or unknown key, errs.Unsupported without a common version,
// errs.Unavailable for what may be otherwise the next time, errs.Canceled.
func (l *Link) shake(ctx context.Context, raw net.Conn, server bool, know func(Key) error, who func(Key) (Peer, bool)) (*session, error) {
	const op = "mixnet/link.handshake"
	deadline := time.Now().Add(l.o.HandshakeTime)
	raw.SetDeadline(deadline)
	forget := context.AfterFunc(ctx, func() { raw.Close() })
	s := &session{raw: raw, out: &gather{Conn: raw}}
	if server {
		s.tls = tls.Server(s.out, l.config(know))
	} else {
		s.tls = tls.Client(s.out, l.config(know))
	}
	err := s.tls.HandshakeContext(ctx)
	if err != nil {
		err = handshakeError(op, err)
	} else {
		err = l.hello(s)
	}
	if err == nil {
		// The set of keys may have changed in the meantime.
		state := s.tls.ConnectionState()
		key, failed := peerKey(&state)
		var ok bool
		if s.peer, ok = who(key); failed != nil || !ok {
			err = errs.Wrap(op, errUnknownKey)
		}
	}
	if err == nil {
		raw.SetDeadline(time.Time{})
	}
	switch {
	case forget():
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = errs.E(op, errs.Unavailable, "the peer does not answer in time", ctx.Err())
	default:
		err = errs.E(op, errs.Canceled, "", ctx.Err())
	}
	if err == nil {
		return s, nil
	}
	l.counts.refused.Add(1)
	if server && errs.KindOf(err) == errs.Denied {
		linger(raw)
	}
	if errs.KindOf(err) == errs.Unsupported {
		l.counts.versions.Add(1)
		s.tls.CloseWrite()
		linger(raw)
	}
	raw.Close()
	return nil, err
}

// Bounds of linger.
const (
	lingerTime  = time.Second
	lingerBytes = 2 * FrameSize
)

// linger reads and drops for a moment, so that the last words reach a peer that is
// still sending: closing with bytes unread resets the connection (RFC 2525 §2.17).
func linger(raw net.Conn) {
	if c, ok := raw.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	raw.SetDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, raw, lingerBytes)
}

// hello sends HELLO, reads the other's, and decides.
func (l *Link) hello(s *session) error {
	written := make(chan error, 1)
	go func() {
		h := head{typ: typeHello, lowest: l.lowest, highest: l.highest}
		var b [headLen]byte
		h.put(&b)
		s.out.begin(make([]byte, 0, recordRoom))
		_, err := s.tls.Write(b[:])
		if err == nil {
			_, err = s.tls.Write(zeros[:])
		}
		_, failed := s.out.flush()
		written <- errors.Join(err, failed)
	}()
	err := l.readHello(s)
	if err != nil && errs.KindOf(err) != errs.Unsupported {
		s.raw.Close()
		<-written
		return err
	}
	if failed := <-written; failed != nil && err == nil {
		return errs.E("mixnet/link.hello", errs.Unavailable, "no connection to the peer", failed)
	}
	return err
}

func (l *Link) readHello(s *session) error {
	const op = "mixnet/link.hello"
	body := l.units.Get().(*[packet.Size]byte)
	defer l.units.Put(body)
	var b [headLen]byte
	_, err := io.ReadFull(s.tls, b[:])
	if err == nil {
		_, err = io.ReadFull(s.tls, body[:])
	}
	if err != nil {
		// A refusal comes as late as this: in TLS 1.3 the client has ended its handshake
		// before the server has seen its certificate (RFC 8446 §4.4.2.4).
		return handshakeError(op, err)
	}
	lowest, highest := b[helloLowest], b[helloHighest]
	if b[0] != typeHello || lowest == 0 || lowest > highest {
		return broken("a malformed HELLO")
	}
	alpn := s.tls.ConnectionState().NegotiatedProtocol
	if alpn == alpnHello {
		return versionError(lowest, highest, l.lowest, l.highest)
	}
	if _, err := parseHead(&b); err != nil {
		return err
	}
	if !isZero(body[:]) {
		return errPadding
	}
	if alpn != alpnPrefix+strconv.Itoa(int(min(highest, l.highest))) || min(highest, l.highest) < max(lowest, l.lowest) {
		return broken("another version than the best common one")
	}
	return nil
}

// versionError says which versions both sides speak.
func versionError(lowest, highest, ourLowest, ourHighest uint8) error {
	return errs.E("mixnet/link", errs.Unsupported, fmt.Sprintf("peer speaks link version %s, this node %s: update one of them",
		span(lowest, highest), span(ourLowest, ourHighest)), nil)
}

func span(lowest, highest uint8) string {
	if lowest == highest {
		return strconv.Itoa(int(lowest))
	}
	return fmt.Sprintf("%d to %d", lowest, highest)
}
