package access

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/wire/pop3"
)

// servePOP3 puts a POP3 server on the world's accounts.
func (w *world) servePOP3() string {
	w.TB.Helper()
	s, err := pop3.New(pop3.Options{Backend: NewMaildrops(w.Accounts, w.Boxes), Private: true})
	if err != nil {
		w.TB.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.TB.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	w.TB.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.TB.Error(err)
		}
	})
	return l.Addr().String()
}

type popClient struct {
	tb testing.TB
	net.Conn
	r *bufio.Reader
}

func dialPOP3(tb testing.TB, addr, password string) *popClient {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	c := &popClient{tb, nc, bufio.NewReader(nc)}
	c.line("+OK")
	c.say("USER bobbobbob@example.org", "+OK")
	fmt.Fprintf(c, "PASS %s\r\n", password)
	return c
}

func (c *popClient) line(want string) string {
	c.tb.Helper()
	l, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(l, want) {
		c.tb.Fatalf("want %q, got %q, %v", want, l, err)
	}
	return strings.TrimRight(l, "\r\n")
}

func (c *popClient) say(command, want string) string {
	c.tb.Helper()
	fmt.Fprintf(c, "%s\r\n", command)
	return c.line(want)
}

func (c *popClient) body() string {
	c.tb.Helper()
	var out strings.Builder
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			c.tb.Fatal(err)
		}
		if l == ".\r\n" {
			return out.String()
		}
		out.WriteString(strings.TrimPrefix(l, "."))
	}
}

func login(name, password string) account.LoginRequest {
	return account.LoginRequest{Name: name, Password: password}
}

const popPassword = "a long enough password"

// TestPOP3Maildrop: POP3 over real mailboxes: exact sizes and bytes, stable
// unique-ids, one lock a mailbox, and only QUIT deletes, only what DELE named.
func TestPOP3Maildrop(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
	addr := w.servePOP3()
	maker := dialPOP3(t, addr, popPassword) // makes the account
	maker.line("+OK")
	maker.say("QUIT", "+OK")
	mails := []string{
		"From: <a@example.org>\r\nSubject: one\r\n\r\nfirst\r\n.dot\r\n",
		"From: <a@example.org>\r\nSubject: two\r\n\r\n" + strings.Repeat("a long line of a large mail\r\n", 10_000),
		"From: <a@example.org>\r\nSubject: three\r\n\r\nthird\r\n",
	}
	for _, m := range mails {
		w.deliver("bobbobbob@example.org", "INBOX", m)
	}

	one := dialPOP3(t, addr, popPassword)
	one.line("+OK")
	total := len(mails[0]) + len(mails[1]) + len(mails[2])
	one.say("STAT", fmt.Sprintf("+OK 3 %d\r\n", total))
	first := one.say("UIDL 1", "+OK 1 ")
	for i, m := range mails {
		one.say(fmt.Sprintf("RETR %d", i+1), "+OK")
		if got := one.body(); got != m {
			t.Errorf("mail %d: %d bytes differ from %d", i+1, len(got), len(m))
		}
	}

	two := dialPOP3(t, addr, popPassword)
	two.line("-ERR [IN-USE]")
	one.say("DELE 1", "+OK")
	one.Close() // no QUIT: nothing is deleted, and the lock is free again

	third := reconnect(t, addr)
	third.say("STAT", fmt.Sprintf("+OK 3 %d\r\n", total))
	if again := third.say("UIDL 1", "+OK 1 "); again != first {
		t.Errorf("the unique-id was %q and is %q", first, again)
	}
	// Another client marks mail 3 \Deleted; POP3 must not take it along.
	s, err := w.Accounts.Login(t.Context(), login("bobbobbob@example.org", popPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	box := w.Boxes.Account(s.Key, s.Quota)
	v, err := box.View(t.Context(), mailbox.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	mark := mailbox.SetFlags{UIDs: []uint32{v.At(2).UID}, Op: mailbox.FlagsAdd, Flags: mailbox.Deleted}
	if _, err := box.SetFlags(t.Context(), mailbox.Inbox, mark); err != nil {
		t.Fatal(err)
	}
	third.say("DELE 2", "+OK")
	third.say("QUIT", "+OK")
	if _, err := third.r.ReadByte(); err != io.EOF {
		t.Errorf("after QUIT: %v", err)
	}
	if v, err = box.View(t.Context(), mailbox.Inbox); err != nil {
		t.Fatal(err)
	}
	if v.Len() != 2 || v.At(1).Flags&mailbox.Deleted == 0 {
		t.Errorf("left: %d mails", v.Len())
	}
}

// TestPOP3ExpungedMeanwhile: what another client expunged is gone for RETR too.
func TestPOP3ExpungedMeanwhile(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
	addr := w.servePOP3()
	maker := dialPOP3(t, addr, popPassword)
	maker.line("+OK")
	maker.say("QUIT", "+OK")
	w.deliver("bobbobbob@example.org", "INBOX", "From: <a@example.org>\r\n\r\nx\r\n")
	c := reconnect(t, addr)
	s, err := w.Accounts.Login(t.Context(), login("bobbobbob@example.org", popPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	box := w.Boxes.Account(s.Key, s.Quota)
	mark := mailbox.SetFlags{UIDs: []uint32{1}, Op: mailbox.FlagsAdd, Flags: mailbox.Deleted}
	if _, err := box.SetFlags(t.Context(), mailbox.Inbox, mark); err != nil {
		t.Fatal(err)
	}
	if gone, _, err := box.Expunge(t.Context(), mailbox.Inbox, nil); err != nil || len(gone) != 1 {
		t.Fatal(gone, err)
	}
	c.say("RETR 1", "-ERR ")
	c.say("STAT", "+OK 1 0\r\n")
	c.say("DELE 1", "+OK")
	c.say("QUIT", "+OK")
}

// reconnect logs in again as soon as the last session's lock is free.
func reconnect(t *testing.T, addr string) *popClient {
	t.Helper()
	for range 10_000 {
		c := dialPOP3(t, addr, popPassword)
		l, err := c.r.ReadString('\n')
		if err == nil && strings.HasPrefix(l, "+OK") {
			return c
		}
		if !strings.HasPrefix(l, "-ERR [IN-USE]") {
			t.Fatalf("%q, %v", l, err)
		}
		c.Close()
	}
	t.Fatal("the lock stays")
	return nil
}
