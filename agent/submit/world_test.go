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
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/vfs"
	"postern.email/wire/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain   = "mail.example"
	password = agenttest.Password
)

// world is a post office with submission on a socket.
type world struct {
	*agenttest.Office
	addr string
}

// newWorld opens a world on a disk in memory; set changes the options before that.
func newWorld(t testing.TB, set func(*Options)) *world { return openWorld(t, nil, "/data", set) }

func openWorld(t testing.TB, fs vfs.FS, dir string, set func(*Options)) *world {
	t.Helper()
	w := &world{Office: agenttest.Open(t, domain, fs, dir)}
	o := Options{Accounts: Register(w.Accounts), Rooms: w.Boxes, Now: w.Clock.Now,
		Deliver: deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Now: w.Clock.Now})}
	if set != nil {
		set(&o)
	}
	w.addr = serve(t, New(o))
	return w
}

func serve(t testing.TB, b smtp.Backend) string {
	t.Helper()
	return agenttest.Serve(t, func(ctx context.Context, l net.Listener) error {
		return smtp.Serve(ctx, l, smtp.Options{Hostname: domain, Backend: b, Private: true, OfferAuth: true, RequireAuth: true,
			MaxMails: 1 << 30})
	})
}

// client speaks to the submission port.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// dial connects and logs in as name.
func (w *world) dial(name string) *client {
	w.TB.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.TB.Fatal(err)
	}
	w.TB.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &client{t: w.TB, conn: conn, r: bufio.NewReader(conn)}
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
