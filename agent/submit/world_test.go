package submit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/deliver"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/wire/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain   = "mail.example"
	password = "correct horse"
)

// clock is moved by tests only.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a whole post office on one disk, with submission on a socket.
type world struct {
	t        testing.TB
	fs       vfs.FS
	dir      string
	st       store.Store
	accounts *account.Accounts
	boxes    *mailbox.Boxes
	clock    *clock
	addr     string
}

// newWorld opens a world on a disk in memory; set changes the options before that.
func newWorld(t testing.TB, set func(*Options)) *world {
	return openWorld(t, vfs.NewCrashDisk(), "/data", set)
}

func openWorld(t testing.TB, fs vfs.FS, dir string, set func(*Options)) *world {
	t.Helper()
	w := &world{t: t, fs: fs, dir: dir, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(vfs.MkdirAll(fs, dir, 0o700))
	var err error
	w.st, err = pebble.Open(context.Background(), pebble.Options{FS: fs, Dir: dir + "/store"})
	must(err)
	t.Cleanup(func() { w.st.Close() })
	w.boxes, err = mailbox.New(mailbox.Options{Store: w.st, FS: fs, Dir: dir + "/blobs", Now: w.clock.Now,
		Chains: seal.NewChains(seal.ChainOptions{Now: w.clock.Now})})
	must(err)
	t.Cleanup(func() { w.boxes.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(err)
	w.accounts, err = account.New(context.Background(), account.Options{Store: w.st, Root: root, Domains: []string{domain},
		Params: seal.Params{Time: 1, Memory: 8, Threads: 1}, OnCreate: w.boxes.Init, OnDelete: w.boxes.Remove, Now: w.clock.Now,
		CreatePerMinute: -1, CreateNetworkPerMinute: -1})
	must(err)
	t.Cleanup(w.accounts.Close)
	o := Options{Accounts: Register(w.accounts), Rooms: w.boxes, Now: w.clock.Now,
		Deliver: deliver.New(deliver.Options{Store: w.st, Boxes: w.boxes, Now: w.clock.Now})}
	if set != nil {
		set(&o)
	}
	w.addr = w.serve(New(o))
	return w
}

func (w *world) serve(b smtp.Backend) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- smtp.Serve(ctx, l, smtp.Options{Hostname: domain, Backend: b, Private: true, OfferAuth: true, RequireAuth: true,
			MaxMails: 1 << 30})
	}()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return l.Addr().String()
}

func address(t testing.TB, name string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(name + "@" + domain)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// create makes an account as the operator does.
func (w *world) create(name string, set func(*account.CreateRequest)) {
	w.t.Helper()
	r := account.CreateRequest{Address: address(w.t, name), Password: password}
	if set != nil {
		set(&r)
	}
	if _, err := w.accounts.Create(context.Background(), r); err != nil {
		w.t.Fatal(err)
	}
}

// inbox gives the mails in the INBOX of an account, in order.
func (w *world) inbox(name string) []string {
	w.t.Helper()
	ctx := context.Background()
	s, err := w.accounts.Login(ctx, account.LoginRequest{Name: name + "@" + domain, Password: password})
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	box := w.boxes.Account(s.Key, s.Quota)
	v, err := box.View(ctx, mailbox.Inbox)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for i := range v.Len() {
		b, err := box.Body(ctx, mailbox.Inbox, v.At(i))
		if err != nil {
			w.t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		b.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// client speaks to the submission port.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// dial connects and logs in as name.
func (w *world) dial(name string) *client {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &client{t: w.t, conn: conn, r: bufio.NewReader(conn)}
	c.reply()
	c.cmd("EHLO [127.0.0.1]", "250 ")
	c.cmd("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+name+"@"+domain+"\x00"+password)), "235 ")
	return c
}

func (c *client) reply() string {
	c.t.Helper()
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if len(l) > 3 && l[3] == ' ' {
			return strings.TrimRight(l, "\r\n")
		}
	}
}

// cmd sends a line and wants a reply that begins so.
func (c *client) cmd(line, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	if got := c.reply(); !strings.HasPrefix(got, want) {
		c.t.Fatalf("%.60q: %q, want %q", line, got, want)
	}
}

// mail sends a whole mail and gives the last reply.
func (c *client) mail(from, raw string, to ...string) string {
	c.t.Helper()
	c.cmd("MAIL FROM:<"+from+"@"+domain+">", "250 ")
	for _, r := range to {
		c.cmd("RCPT TO:<"+r+"@"+domain+">", "250 ")
	}
	c.cmd("DATA", "354 ")
	io.WriteString(c.conn, raw+".\r\n")
	return c.reply()
}

// encrypted is a mail of about size bytes that passes the check of form.
func encrypted(from string, size int) string {
	packet := append([]byte{0xc0 | 1, 10, 3}, make([]byte, 9)...) // a session key
	n := max(size*3/4-600, 40)
	packet = append(packet, 0xc0|18, 255, byte(n>>24), byte(n>>16), byte(n>>8), byte(n), 1)
	packet = append(packet, bytes.Repeat([]byte{0x5a}, n-1)...)
	var armor strings.Builder
	text := base64.StdEncoding.EncodeToString(packet)
	for len(text) > 0 {
		k := min(64, len(text))
		armor.WriteString(text[:k] + "\r\n")
		text = text[k:]
	}
	return fmt.Sprintf("From: <%s@%s>\r\nTo: \"hidden-recipients\": ;\r\nSubject: secret plans\r\nMessage-ID: <x@localhost>\r\n"+
		"Received: from canary.example\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"b\"\r\n\r\n"+
		"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n"+
		"--b\r\nContent-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n%s-----END PGP MESSAGE-----\r\n\r\n--b--\r\n",
		from, domain, armor.String())
}
