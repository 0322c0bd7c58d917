package serve

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/limits"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) (addr string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Listener(ctx, l, o) }()
	return l.Addr().String(), func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("Listener did not end")
			return nil
		}
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestBound: a connection over the bound is told why and closed; when one ends
// there is room again.
func TestBound(t *testing.T) {
	addr, stop := start(t, Options{
		Conns:  limits.NewConns(1, 0),
		Refuse: func(c net.Conn) { io.WriteString(c, "full\r\n") },
		Handle: func(_ context.Context, c net.Conn, p limits.Peer) {
			if !p.Addr.IsLoopback() {
				t.Errorf("peer %v", p.Addr)
			}
			io.Copy(c, c)
		},
	})
	one := dial(t, addr)
	io.WriteString(one, "x")
	if _, err := io.ReadFull(one, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(dial(t, addr))
	if string(got) != "full\r\n" {
		t.Errorf("over the bound: %q", got)
	}
	one.Close()
	deadline := time.Now().Add(5 * time.Second)
	for {
		c := dial(t, addr)
		io.WriteString(c, "y")
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err == nil && b[0] == 'y' {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no room after a connection ended")
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestEnd: sessions that listen to their context end by themselves; one that does
// not is cut after the grace.
func TestEnd(t *testing.T) {
	polite := make(chan struct{})
	addr, stop := start(t, Options{
		Grace: 50 * time.Millisecond,
		Handle: func(ctx context.Context, c net.Conn, _ limits.Peer) {
			b := make([]byte, 1)
			io.ReadFull(c, b)
			c.Write(b)
			if b[0] == 'p' {
				<-ctx.Done()
				close(polite)
				return
			}
			io.ReadFull(c, b) // until the connection is cut
		},
	})
	p, rude := dial(t, addr), dial(t, addr)
	io.WriteString(p, "p")
	io.WriteString(rude, "r")
	io.ReadFull(p, make([]byte, 1))
	io.ReadFull(rude, make([]byte, 1))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-polite:
	default:
		t.Error("the session was not told of the end")
	}
}

// TestListenerFails: a listener closed from outside is an error.
func TestListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Listener(context.Background(), l, Options{Handle: func(context.Context, net.Conn, limits.Peer) {}}); err == nil {
		t.Error("no error")
	}
}
