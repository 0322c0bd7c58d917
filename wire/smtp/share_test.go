package smtp

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/limits"
)

// dialFrom is dial from another address of this machine: another network.
func dialFrom(t testing.TB, from, addr string) *client {
	t.Helper()
	local := &net.TCPAddr{IP: net.ParseIP(from)}
	conn, err := (&net.Dialer{LocalAddr: local}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// TestGreedyNetwork: 200 connections of one network each send a large part of a mail and
// stay. The network gets its share of the memory and no more, and the mails of another network,
// small and large, go on.
func TestGreedyNetwork(t *testing.T) {
	const budget, share, greedy = 128 << 20, 32 << 20, 200
	memory := limits.NewBytes(budget)
	f := &fake{}
	addr := start(t, Options{Backend: f, Memory: memory, Share: share})
	block := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 3000) // needs a buffer of 1 MB
	var wg sync.WaitGroup
	for i := range greedy {
		c := dialFrom(t, "127.0.0.2", addr)
		wg.Go(func() {
			c.send("EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n")
			c.expect("220 ")
			for range 3 {
				c.expect("250 ")
			}
			if i%2 == 0 {
				c.send("DATA\r\n")
				if l := c.line(); !strings.HasPrefix(l, "354 ") {
					return // there was no room for a first buffer
				}
				c.send(block)
				return
			}
			c.send("BDAT 900000\r\n" + block)
		})
	}
	wg.Wait()
	eventually(t, "the network has its share", func() bool { return memory.Used() > share-1<<20 })
	if n := memory.Used(); n > share {
		t.Errorf("one network holds %d bytes of %d", n, share)
	}
	c := dialFrom(t, "127.0.0.3", addr)
	c.expect("220 ")
	c.send("EHLO me\r\n")
	c.expect("250 ")
	for i, text := range []string{"small\r\n", strings.Repeat(block, 20), "small\r\n"} {
		c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
		c.expect("250 ")
		c.expect("250 ")
		c.expect("354 ")
		c.send(text + ".\r\n")
		c.expect("250 ")
		if n := len(f.taken()); n != i+1 {
			t.Errorf("%d mails taken", n)
		}
	}
	late := dialFrom(t, "127.0.0.2", addr)
	late.send("EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	late.expect("220 ")
	for range 3 {
		late.expect("250 ")
	}
	if l := late.line(); strings.HasPrefix(l, "354 ") {
		late.send(block + ".\r\n")
		late.expect("452 4.3.1 too many mails at once")
	} else if !strings.HasPrefix(l, "452 4.3.1 ") {
		t.Error(l)
	}
	late.send("NOOP\r\n")
	late.expect("250 ") // the session goes on
}

// TestReceived: every octet of mails is counted to its peer: taken, refused while it came,
// refused at its end, in chunks, and broken off.
func TestReceived(t *testing.T) {
	var mu sync.Mutex
	var total int64
	seen := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return total
	}
	peer := limits.Peer{}
	addr := start(t, Options{Backend: &fake{}, MaxSize: 10_000, PeerOf: func(net.Conn) limits.Peer { return peer },
		Received: func(p limits.Peer, n int64) {
			mu.Lock()
			defer mu.Unlock()
			if p != peer {
				t.Errorf("counted to %v", p)
			}
			total += n
		}})
	var want int64
	check := func(what string, n int) {
		t.Helper()
		want += int64(n)
		if got := seen(); got != want {
			t.Errorf("%s: %d octets counted, want %d", what, got, want)
		}
	}
	c := dial(t, addr, nil)
	c.expect("220 ")
	c.send("EHLO me\r\n")
	c.expect("250 ")
	begin := func() {
		t.Helper()
		c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n")
		c.expect("250 ")
		c.expect("250 ")
	}
	send := func(text, reply string) {
		t.Helper()
		begin()
		c.send("DATA\r\n")
		c.expect("354 ")
		c.send(text + ".\r\n")
		c.expect(reply)
		c.send("NOOP\r\n") // counted before the next command
		c.expect("250 ")
		check(reply, len(text)+3)
	}
	send("hello\r\n", "250 ")
	send("X-Refuse: 1\r\n\r\n", "523 ")
	send(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 150), "552 ")
	begin()
	c.send("BDAT 7\r\nhello\r\nBDAT 7 LAST\r\nworld\r\n")
	c.expect("250 ")
	c.expect("250 ")
	c.send("BDAT 5 LAST\r\nworld") // no transaction: the octets come all the same
	c.expect("503 ")
	c.send("NOOP\r\n")
	c.expect("250 ")
	check("chunks", 19)
	begin()
	c.send("DATA\r\n")
	c.expect("354 ")
	c.send("one line\r\n")
	c.conn.Close()
	want += 10
	eventually(t, "what was broken off is counted", func() bool { return seen() == want })
}

// TestRefusedRecipients: who meets only refusals is sent away; what is put off is none, and
// a mail that is taken makes up for those before it.
func TestRefusedRecipients(t *testing.T) {
	addr := start(t, Options{Backend: &fake{}, MaxRefused: 3})
	c := dial(t, addr, nil)
	c.expect("220 ")
	c.send("EHLO me\r\n")
	c.expect("250 ")
	say := func(line, want string) {
		t.Helper()
		c.send(line + "\r\n")
		c.expect(want)
	}
	for range 3 {
		say("MAIL FROM:<a@example.org>", "250 ")
		say("RCPT TO:<unknown@example.org>", "550 ")
		for range 4 {
			say("RCPT TO:<bug@example.org>", "451 ")
		}
		say("RCPT TO:<unknown@example.org>", "550 ")
		say("RCPT TO:<b@example.org>", "250 ")
		say("DATA", "354 ")
		say("hello\r\n.", "250 ")
	}
	say("MAIL FROM:<a@example.org>", "250 ")
	say("RCPT TO:<unknown@example.org>", "550 ")
	say("RCPT TO:<b@example.org>", "250 ")
	say("DATA", "354 ")
	say("X-Refuse: 1\r\n\r\n.", "523 ") // not taken: it makes up for nothing
	say("MAIL FROM:<a@example.org>", "250 ")
	say("RCPT TO:<unknown@example.org>", "550 ")
	say("RCPT TO:<unknown@example.org>", "550 ")
	c.expect("421 4.7.0 too many errors")
	c.closed()
}
