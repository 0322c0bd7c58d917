package relay

import (
	"bufio"
	"bytes"

	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/config"
	"postern.email/kit/sysinfo"
	"postern.email/kit/vfs"
)

func TestMain(m *testing.M) {
	// certmagic keeps one goroutine for each authority that was asked, as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).permit"))
}

// testConfig is a relay on free loopback ports with cheap passwords. set has
// further "key=value" words.
func testConfig(t *testing.T, dir string, set ...string) Config {
	t.Helper()
	words := []string{"domain=example.org", "dir=" + dir, "password.time=1", "password.memory=8K",
		"accounts.max_load=0", "accounts.min_available_memory=0", "accounts.min_free_disk_space=0", "accounts.nocreate_file=",
		"accounts.create_per_network=0", "submission.max_user_send_per_minute=0", "tls.mode=self-signed"}
	for _, k := range []string{"http", "https", "https_alt", "imaps", "imap", "smtp", "submissions", "submission", "pop3s", "pop3", "private_imap", "private_submission", "private_pop3"} {
		words = append(words, "listen."+k+"=127.0.0.1:0")
	}
	var c Config
	if err := config.Load(&c, "", append(words, set...)); err != nil {
		t.Fatal(err)
	}
	return c
}

// begin starts a relay on fs; it is closed when the test ends.
func begin(t *testing.T, d Deps, c Config) *Server {
	t.Helper()
	if d.StopGrace == 0 {
		d.StopGrace = 50 * time.Millisecond
	}
	if d.NewRSA == nil {
		d.NewRSA = someRSA
	}
	s, err := Start(t.Context(), d, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// someRSA gives one of two short keys: those of full length cost seconds when a test's code
// is watched for races.
func someRSA() (*rsa.PrivateKey, error) {
	keys := shortKeys()
	return keys[turns.Add(1)%2], nil
}

var (
	turns     atomic.Int64
	shortKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
		for i := range keys {
			k, err := rsa.GenerateKey(rand.Reader, 1024)
			if err != nil {
				panic(err)
			}
			keys[i] = k
		}
		return keys
	})
)

// inMemory starts a relay on a disk in memory.
func inMemory(t *testing.T, set ...string) *Server {
	t.Helper()
	return begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true}, testConfig(t, "/data", set...))
}

// machine is a made-up machine for sysinfo.
func machine(fs vfs.FS, load, memory string) *sysinfo.Reader {
	return &sysinfo.Reader{FS: fs, Dir: "/", ReadFile: func(name string) ([]byte, error) {
		if strings.HasSuffix(name, "loadavg") {
			return []byte(load + " 0 0 1/2 3\n"), nil
		}
		return []byte("MemAvailable: " + memory + " kB\n"), nil
	}}
}

// client speaks any line protocol.
type client struct {
	net.Conn
	r *bufio.Reader
	n int
}

func connect(addr string) (*client, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(5 * time.Minute)) // for a whole session, under the race detector on a busy machine
	return &client{Conn: c, r: bufio.NewReader(c)}, nil
}

func mustDial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := connect(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// secure turns the connection into a TLS one.
func (c *client) secure(cfg *tls.Config) error {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.InsecureSkipVerify = true
	t := tls.Client(c.Conn, cfg)
	if err := t.Handshake(); err != nil {
		return err
	}
	c.Conn, c.r = t, bufio.NewReader(t)
	return nil
}

// line reads one line without its end.
func (c *client) line() (string, error) {
	s, err := c.r.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err
}

// smtp sends one command (none when empty) and reads the whole reply.
func (c *client) smtp(format string, args ...any) (string, error) {
	if format != "" {
		if _, err := fmt.Fprintf(c, format+"\r\n", args...); err != nil {
			return "", err
		}
	}
	var all []string
	for {
		l, err := c.line()
		if err != nil {
			return strings.Join(all, "\n"), err
		}
		all = append(all, l)
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(all, "\n"), nil
		}
	}
}

// imap sends one command and reads up to its tagged reply, which is an error
// unless it is OK. Literals come as lines.
func (c *client) imap(format string, args ...any) (string, error) {
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	if _, err := fmt.Fprintf(c, tag+" "+format+"\r\n", args...); err != nil {
		return "", err
	}
	var all []string
	for {
		l, err := c.line()
		if err != nil {
			return strings.Join(all, "\n"), err
		}
		all = append(all, l)
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				err = fmt.Errorf("%s: %s", strings.Fields(format)[0], rest)
			}
			return strings.Join(all, "\n"), err
		}
	}
}

// submitter opens a logged-in session on the private submission port.
func submitter(s *Server, user, password string) (*client, error) {
	c, err := connect(s.Info().PrivateSubmission)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct{ cmd, code string }{{"", "220"}, {"EHLO x", "250"},
		{"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)), "235"}} {
		reply, err := c.smtp(x.cmd)
		if err == nil && !strings.HasPrefix(reply, x.code) {
			err = fmt.Errorf("%s: %s", x.cmd, reply)
		}
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// send hands in one mail; the error is nil after 250.
func (c *client) send(from string, to []string, mail []byte) error {
	want := func(code, reply string, err error) error {
		if err == nil && !strings.HasPrefix(reply, code) {
			err = fmt.Errorf("%s", reply)
		}
		return err
	}
	reply, err := c.smtp("MAIL FROM:<%s>", from)
	if err := want("250", reply, err); err != nil {
		return err
	}
	for _, r := range to {
		reply, err := c.smtp("RCPT TO:<%s>", r)
		if err := want("250", reply, err); err != nil {
			return err
		}
	}
	reply, err = c.smtp("DATA")
	if err := want("354", reply, err); err != nil {
		return err
	}
	reply, err = c.smtp("%s.", mail)
	return want("250", reply, err)
}

// reader opens a logged-in IMAP session on the private port.
func reader(s *Server, user, password string) (*client, error) {
	c, err := connect(s.Info().PrivateIMAP)
	if err != nil {
		return nil, err
	}
	if _, err := c.line(); err != nil {
		c.Close()
		return nil, err
	}
	if _, err := c.imap(`LOGIN "%s" "%s"`, user, password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// append stores a mail.
func (c *client) append(box, flags string, mail []byte) error {
	_, err := c.imap("APPEND %s (%s) {%d+}\r\n%s", box, flags, len(mail), mail)
	return err
}

// sealedMail makes a mail of OpenPGP/MIME's outside (RFC 3156) with noise inside,
// at least size bytes long. The text mark stands in its body.
func sealedMail(from string, size int) (mail []byte, mark string) {
	var id [12]byte
	rand.Read(id[:])
	mark = hex.EncodeToString(id[:])
	packet := func(tag byte, body []byte) []byte {
		n := len(body)
		return append([]byte{0xC0 | tag, 255, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
	noise := make([]byte, max(size*3/4, 100))
	rand.Read(noise)
	packets := append(packet(1, append([]byte{3}, make([]byte, 90)...)), packet(18, append([]byte{1}, noise...))...)
	text := base64.StdEncoding.EncodeToString(packets)
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\nMessage-ID: <%s@localhost>\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"%s\"\r\n\r\n", from, mark, mark)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--%[1]s\r\nContent-Type: application/octet-stream\r\n\r\n"+
		"-----BEGIN PGP MESSAGE-----\r\n\r\n", mark)
	for len(text) > 0 {
		n := min(64, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	fmt.Fprintf(&b, "-----END PGP MESSAGE-----\r\n\r\n--%s--\r\n", mark)
	return b.Bytes(), mark
}

// body is what follows the header, which servers may change.
func body(mail []byte) string {
	_, b, _ := bytes.Cut(mail, []byte("\r\n\r\n"))
	return string(b)
}

// until asks again until ok says so, or fails the test.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("%s: not in time", what)
		}
	}
}

// readAll reads a fetched mail through the mailbox itself.
func readAll(b interface {
	io.WriterTo
	Close() error
}) (string, error) {
	var buf bytes.Buffer
	_, err := b.WriteTo(&buf)
	if cerr := b.Close(); err == nil {
		err = cerr
	}
	return buf.String(), err
}
