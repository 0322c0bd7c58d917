package access

import (
	"strings"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/wire/imap"
	"postern.email/wire/imap/imaptest"
)

// TestModel: random commands of three sessions on the real store agree with a model
// written from the RFCs.
func TestModel(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
		err := imaptest.RunModel(imaptest.ModelOptions{Addr: w.addr, Login: "bobbobbob@example.org secret-word",
			Sessions: 3, Steps: 400, Seed: 1000 + seed,
			Deliver: func() { w.deliver("bobbobbob@example.org", "INBOX", "Subject: x\r\n\r\nbody\r\n") }})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestMaxSessions: one account may not take more sessions than allowed, and a
// session that ends makes room.
func TestMaxSessions(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), "/data", func(o *Options, _ *imap.Options) { o.MaxSessions = 2 })
	login := func() (*imaptest.Conn, string) {
		c := imaptest.Dial(t, w.addr)
		c.Until("* OK ")
		lines := c.Cmd("a LOGIN bobbobbob@example.org secret-word")
		return c, lines[len(lines)-1]
	}
	first, answer := login()
	if !strings.HasPrefix(answer, "a OK ") {
		t.Fatal(answer)
	}
	if _, answer = login(); !strings.HasPrefix(answer, "a OK ") {
		t.Fatal(answer)
	}
	if _, answer = login(); answer != "a NO [UNAVAILABLE] Too many sessions of this account" {
		t.Fatal(answer)
	}
	first.Cmd("b LOGOUT")
	if _, err := first.Line(); err == nil {
		t.Fatal("the connection stays open")
	}
	if _, answer = login(); !strings.HasPrefix(answer, "a OK ") {
		t.Fatal(answer)
	}
}

// TestBlockedSessionEnds: a session of an account that is blocked ends with its
// next command.
func TestBlockedSessionEnds(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
	c := imaptest.Dial(t, w.addr)
	c.Until("* OK ")
	c.Cmd("a LOGIN bobbobbob@example.org secret-word")
	c.Cmd("b SELECT INBOX")
	addr, err := mail.ParseAddress("bobbobbob@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Accounts.Block(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	lines := c.Cmd("c NOOP")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "* BYE ") || !strings.HasPrefix(lines[1], "c NO [NOPERM] ") {
		t.Fatal(lines)
	}
	if s, err := c.Line(); err == nil {
		t.Fatalf("the session goes on: %q", s)
	}
}

// TestDeviceTokens: SETMETADATA adds to a set that GETMETADATA gives whole.
func TestDeviceTokens(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
	c := imaptest.Dial(t, w.addr)
	c.Until("* OK ")
	c.Cmd("a LOGIN bobbobbob@example.org secret-word")
	long := "openpgp:" + strings.Repeat("x", 1000)
	for _, token := range []string{"one", long, "one"} {
		lines := c.Cmd(`b SETMETADATA "INBOX" (/private/devicetoken "` + token + `")`)
		if !strings.HasPrefix(lines[0], "b OK ") {
			t.Fatal(lines)
		}
	}
	lines := c.Cmd("c GETMETADATA INBOX /private/devicetoken")
	if got, want := lines[0], `* METADATA "INBOX" (/private/devicetoken {1012}`+long+" one)"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// TestStress: many sessions at once on the real store.
func TestStress(t *testing.T) {
	w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
	c := imaptest.Dial(t, w.addr)
	c.Until("* OK ")
	c.Cmd("a LOGIN bobbobbob@example.org secret-word")
	err := imaptest.RunStress(imaptest.ModelOptions{Addr: w.addr, Login: "bobbobbob@example.org secret-word",
		Sessions: 6, Steps: 150, Seed: 1,
		Deliver: func() { w.deliver("bobbobbob@example.org", "INBOX", "Subject: x\r\n\r\nbody\r\n") }})
	if err != nil {
		t.Fatal(err)
	}
}
