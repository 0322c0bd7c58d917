package link

import (
	"context"
	"net"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// FuzzSession feeds a whole session frames that the fuzzer makes: each 8 bytes of the input
// change a frame of a kind. Whatever comes, the session ends, says one of its errors, takes
// units in order only, and gives all memory back.
func FuzzSession(f *testing.F) {
	f.Add([]byte{2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0})       // SEND 1, JUNK
	f.Add([]byte{4, 1, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0})       // FETCH, PIECE
	f.Add([]byte{2, 1, 0, 0, 0, 0, 0, 0, 6, 1, 0, 0, 0, 0, 0, 0})       // SEND, GOAWAY
	f.Add([]byte{3, 0, 1, 1, 0, 0, 0, 0, 2, 1, 1, 3, 0, 0, 0, 0})       // answers to the units sent here
	f.Add([]byte{2, 1, 0, 0, 0, 47, 1, 0, 2, 2, 0, 0, 0, 0, 0, 0xff})   // a reserved byte
	f.Add([]byte{5, 1, 0, 0, 9, 0, 0, 0, 3, 0, 1, 0, 1, 0, 0, 0, 0, 1}) // a piece, a refusal
	f.Fuzz(func(t *testing.T, in []byte) {
		last := uint64(0)
		h := take(func(_ context.Context, _ Peer, _ []byte, r Receipt) {
			if last++; r.n != last {
				t.Errorf("unit %d after %d", r.n, last-1)
			}
			if r.n%2 == 0 {
				r.Later()
			} else {
				r.Commit()
			}
		})
		closed := make(chan error, 1)
		o := options("b", known(t, Mix, "a").who, h)
		o.Documents = func(_ context.Context, _ Peer, r []byte) ([]byte, error) { return r, nil }
		sent := 0
		o.Opened = func(c *Conn) {
			for range 2 {
				if c.Post(unit(0), func(error) { sent++ }) != nil {
					t.Error("not posted")
				}
			}
		}
		o.Closed = func(_ *Conn, err error) { closed <- err }
		b := makeLink(t, o)
		one, two := net.Pipe()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		served := make(chan struct{})
		go func() { defer close(served); b.accept(ctx, two, limits.Peer{}) }()
		p := rawOver(t, one, "a", "b")
		drained := make(chan struct{})
		go func() { defer close(drained); p.ends() }()
		for len(in) >= 8 {
			frame := in[:8]
			in = in[8:]
			h := head{typ: frame[0] % 8}
			switch h.typ {
			case typeSend:
				h.number = uint64(frame[1])
			case typeFetch:
				h.request, h.length = uint32(frame[1]), uint16(frame[4])
			case typePiece:
				h.request, h.length, h.total, h.code = uint32(frame[1]), uint16(frame[4]), uint32(frame[4]), frame[7]
			case typeGoAway:
				h.code = frame[1]
			}
			h.answers = answers{uint64(frame[2]), uint64(frame[3]) << (frame[2] % 57), uint64(frame[6]) << (frame[3] % 57)}
			var b [headLen]byte
			h.put(&b)
			if frame[5] < headLen && frame[7] != 0 {
				b[frame[5]] ^= frame[7]
			}
			if _, err := p.c.tls.Write(b[:]); err != nil {
				break
			}
			if _, err := p.c.tls.Write(zeros[:]); err != nil {
				break
			}
		}
		one.Close()
		<-served
		<-drained
		switch err := <-closed; errs.KindOf(err) {
		case errs.Invalid, errs.Unavailable, errs.TooLarge, errs.Denied:
		default:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		}
		if n := b.memory.Used(); n != 0 || sent != 2 {
			t.Errorf("%d bytes are still counted, %d of 2 units told of", n, sent)
		}
	})
}
