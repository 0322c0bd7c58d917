package imap

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/wire/imap/imaptest"
)

// TestManyIdle: more waiting sessions than one group holds; all hear of each
// message, those that left hear nothing, and groups end with their last member.
func TestManyIdle(t *testing.T) {
	b := newFake()
	s, addr := startedServer(t, Options{Backend: b, Private: true})
	conns := make([]*imaptest.Conn, groupSize*2+10)
	for i := range conns {
		c := dial(t, addr)
		c.Cmd(loginLine)
		c.Cmd("b SELECT INBOX")
		c.Send("c IDLE\r\n")
		c.Until("+ ")
		conns[i] = c
	}
	groups := func() int {
		s.watchers.mu.Lock()
		defer s.watchers.mu.Unlock()
		return len(s.watchers.groups)
	}
	if n := groups(); n != 3 {
		t.Errorf("%d groups, want 3", n)
	}
	for round := 1; round <= 3; round++ {
		b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
		for _, c := range conns {
			want(t, c.Until("* "), fmt.Sprintf("* %d EXISTS", round))
			c.Until("* ") // RECENT
		}
	}
	for _, c := range conns[:groupSize] {
		c.Send("DONE\r\n")
		want(t, c.Until("c "), "c OK ")
	}
	b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
	for i, c := range conns {
		if i >= groupSize {
			want(t, c.Until("* "), "* 4 EXISTS")
			c.Until("* ")
			c.Send("DONE\r\n")
			want(t, c.Until("c "), "c OK ")
		}
	}
	for _, c := range conns[:groupSize] { // told with the next command, not before
		if lines := c.Cmd("d NOOP"); !strings.HasPrefix(lines[0], "* 4 EXISTS") {
			t.Fatal(lines)
		}
	}
	if n := groups(); n != 0 {
		t.Errorf("%d groups are left", n)
	}
}

// TestIdleMailboxDeleted: a waiting session whose mailbox is deleted is told so and
// ends.
func TestIdleMailboxDeleted(t *testing.T) {
	addr := startServer(t, Options{Backend: newFake(), Private: true})
	a, c := dial(t, addr), dial(t, addr)
	a.Cmd(loginLine)
	c.Cmd(loginLine)
	c.Cmd("b SELECT Junk")
	c.Send("c IDLE\r\n")
	c.Until("+ ")
	want(t, a.Cmd("b DELETE Junk"), "b OK ")
	want(t, c.Until("* BYE"), "* BYE [NONEXISTENT] ")
	if s, err := c.Line(); err == nil {
		t.Fatalf("the session goes on: %q", s)
	}
}

// TestIdleClientGone: a session whose client vanished while it waited ends.
func TestIdleClientGone(t *testing.T) {
	b := newFake()
	addr := startServer(t, Options{Backend: b, Private: true})
	c := dial(t, addr)
	c.Cmd(loginLine)
	c.Cmd("b SELECT INBOX")
	c.Send("c IDLE\r\n")
	c.Until("+ ")
	c.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(imaptest.Patience)
	for {
		b.mu.Lock()
		n := b.sessions
		b.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the session goes on")
		}
	}
}

// TestIdleWithoutMailbox: IDLE is allowed before SELECT (RFC 2177 §3).
func TestIdleWithoutMailbox(t *testing.T) {
	c := dial(t, startServer(t, Options{Backend: newFake(), Private: true, KeepAlive: 10 * time.Millisecond}))
	c.Cmd(loginLine)
	c.Send("b IDLE\r\n")
	c.Until("* OK Still here")
	c.Send("DONE\r\nc NOOP\r\n")
	want(t, c.Until("b "), "b OK ")
	want(t, c.Until("c "), "c OK ")
}

// BenchmarkIdleWake measures the way from a change to the line at the client, with
// a full group of waiting sessions.
func BenchmarkIdleWake(b *testing.B) {
	backend := newFake()
	addr := startServer(b, Options{Backend: backend, Private: true})
	var last *imaptest.Conn
	for i := range groupSize {
		c := dial(b, addr)
		c.Cmd(loginLine)
		if i < groupSize-1 {
			c.Cmd("b SELECT Junk")
		} else {
			c.Cmd("b SELECT INBOX")
			last = c
		}
		c.Send("c IDLE\r\n")
		c.Until("+ ")
	}
	for b.Loop() {
		backend.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
		last.Until("* ")
		last.Until("* ")
	}
}
