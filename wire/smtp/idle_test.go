package smtp

import (
	"runtime"
	"testing"
)

// TestIdleMemory: sessions that wait hold no buffers. The bound is for the server's and the
// client's end together and leaves room for the race detector's own bookkeeping.
func TestIdleMemory(t *testing.T) {
	const sessions, bound = 400, 16 << 10
	addr := start(t, Options{Backend: &fake{}})
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := inUse()
	clients := make([]*client, sessions)
	for i := range clients {
		c := dial(t, addr, nil)
		c.r = nil // the reader's own 4 KiB are not the server's
		clients[i] = c
		read := func(n int) {
			for range n {
				for b := (&[1]byte{}); b[0] != '\n'; {
					if _, err := c.conn.Read(b[:]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		read(1)
		c.send("EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 20000 LAST\r\n" + string(make([]byte, 20_000)))
		read(10 + 3) // NUL bytes: refused, but read into buffers
	}
	each := (inUse() - before) / sessions
	t.Logf("%d bytes a session", each)
	if each > bound {
		t.Errorf("%d bytes a session, want at most %d", each, bound)
	}
	runtime.KeepAlive(clients)
}
