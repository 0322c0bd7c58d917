package relay

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"postern.email/agent/deliver"
	"postern.email/kit/vfs"
	"postern.email/post/account"
)

// exchange opens a session on port 25 under TLS, for another server at a made-up address:
// the relay trusts the proxy that the tests are.
func exchange(t *testing.T, s *Server, from string) *client {
	t.Helper()
	c := mustDial(t, s.Info().SMTP)
	if from != "" {
		io.WriteString(c, "PROXY TCP4 "+from+" 192.0.2.99 1 2\r\n")
	}
	for _, x := range []struct{ cmd, code string }{{"", "220"}, {"EHLO x", "250"}, {"STARTTLS", "220"}} {
		if reply, err := c.smtp(x.cmd); err != nil || !strings.HasPrefix(reply, x.code) {
			t.Fatalf("%s: %s %v", x.cmd, reply, err)
		}
	}
	if err := c.secure(nil); err != nil {
		t.Fatal(err)
	}
	says(t, c, "EHLO x", "250")
	return c
}

// says sends a command and wants a reply that begins so.
func says(t *testing.T, c *client, cmd, want string) {
	t.Helper()
	if reply, err := c.smtp("%s", cmd); err != nil || !strings.HasPrefix(reply, want) {
		t.Errorf("%.40q: %q %v, want %q", cmd, reply, err, want)
	}
}

// mxdeliver posts a mail as another server does, from this machine's own address.
func mxdeliver(t *testing.T, s *Server, to, mail string) (status int, text string) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.Info().HTTPS+"/mxdeliv", strings.NewReader(mail))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-MAIL-TO", to)
	res, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(b))
}

// limit is one limit of section exchange: use spends what one network has of it, a
// fifth at a time.
func limit(option string, words string, use func(t *testing.T, c *client), over func(t *testing.T, c *client, want string)) func(*testing.T) {
	return func(t *testing.T) {
		s := inMemory(t, "network.trusted_proxies=127.0.0.1", option)
		allowed(t, login(s, anna, annas))
		one, more := exchange(t, s, "192.0.2.1"), exchange(t, s, "192.0.2.1")
		for range networkBurst {
			use(t, one)
		}
		over(t, one, "451 4.7.1 "+words)
		over(t, more, "451 4.7.1 "+words)
		over(t, exchange(t, s, "192.0.2.2"), "")
		trusted := exchange(t, s, "") // the proxy itself is exempt
		for range 3 * networkBurst {
			use(t, trusted)
		}
		over(t, trusted, "")
		says(t, one, "NOOP", "250") // and nobody is cut off
		key, _, _ := strings.Cut(option, "=")
		s = inMemory(t, "network.trusted_proxies=127.0.0.1", key+"=0")
		allowed(t, login(s, anna, annas))
		free := exchange(t, s, "192.0.2.1")
		for range 3 * networkBurst {
			use(t, free)
		}
		over(t, free, "")
	}
}

// overHTTPS: the same limit for mail over HTTPS, which says later, and which limit it was.
func overHTTPS(t *testing.T, option, words string) {
	t.Helper()
	s := inMemory(t, option)
	for range networkBurst {
		if status, text := mxdeliver(t, s, "nobody@example.org", "hello\r\n"); status != 400 {
			t.Errorf("%d %s", status, text)
		}
	}
	if status, text := mxdeliver(t, s, "nobody@example.org", "hello\r\n"); status != 429 || text != "451 4.7.1 "+words {
		t.Errorf("%d %s", status, text)
	}
}

// begins wants to begin a mail, or to hear why not.
func begins(t *testing.T, c *client, want string) {
	t.Helper()
	if want == "" {
		want = "250 "
	}
	says(t, c, "MAIL FROM:<a@b.example>", want)
	says(t, c, "RSET", "250")
}

func testMailsPerNetwork(t *testing.T) {
	limit("exchange.mails_per_network=1", "too many mails from your network, try again later",
		func(t *testing.T, c *client) { begins(t, c, "250") }, begins)(t)
	overHTTPS(t, "exchange.mails_per_network=1", "too many mails from your network, try again later")
}

func testBytesPerNetwork(t *testing.T) {
	limit("exchange.bytes_per_network=1K", "too many bytes from your network, try again later", func(t *testing.T, c *client) {
		t.Helper()
		says(t, c, "MAIL FROM:<a@b.example>", "250")
		says(t, c, "RCPT TO:<"+anna+">", "250")
		says(t, c, "DATA", "354")
		// 1,023 octets with the end. The mail is refused; what came has come.
		says(t, c, strings.Repeat("1234567890\r\n", 85)+".", "500 ")
	}, begins)(t)
	overHTTPS(t, "exchange.bytes_per_network=1K", "too many bytes from your network, try again later")
}

func testRefusedPerNetwork(t *testing.T) {
	limit("exchange.refused_per_network=1", "too many refused recipients from your network, try again later", func(t *testing.T, c *client) {
		t.Helper()
		says(t, c, "MAIL FROM:<a@b.example>", "250")
		says(t, c, "RCPT TO:<nobody@example.org>", "550 5.1.1")
		says(t, c, "RSET", "250")
	}, func(t *testing.T, c *client, want string) {
		t.Helper()
		if want == "" {
			want = "250 "
		}
		says(t, c, "MAIL FROM:<a@b.example>", "250")
		says(t, c, "RCPT TO:<"+anna+">", want)
		says(t, c, "RSET", "250")
	})(t)
}

// testRemember: a mail that comes again is stored once for so many days; with 0 each time.
func testRemember(t *testing.T) {
	for _, c := range []struct {
		set         string
		twice, late int // mails after two at once, and after one more two days later
	}{{"exchange.remember=1d", 1, 2}, {"exchange.remember=2d", 1, 1}, {"exchange.remember=0", 2, 3}} {
		var now clock
		s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: now.now}, testConfig(t, "/data", c.set))
		allowed(t, login(s, anna, annas))
		again := func() {
			t.Helper()
			a, err := s.accounts.Show(t.Context(), addr(annaAddr))
			if err != nil {
				t.Fatal(err)
			}
			m := []byte("Subject: x\r\n\r\nhello\r\n")
			if err := s.deliver.Begin().Hand(t.Context(), deliver.Parcel{From: addr(annaAddr), Local: []account.Account{a}, Head: m, Proof: [][]byte{[]byte("a signature")}}); err != nil {
				t.Error(err)
			}
		}
		again()
		again()
		if n := count(t, s, "INBOX"); n != c.twice {
			t.Errorf("%s: %d mails", c.set, n)
		}
		now.move(2 * day)
		again()
		if n := count(t, s, "INBOX"); n != c.late {
			t.Errorf("%s: %d mails after two days", c.set, n)
		}
	}
}

// TestForgotten: what an account got is forgotten when it is reset, as its mail is.
func TestForgotten(t *testing.T) {
	s := inMemory(t)
	allowed(t, login(s, anna, annas))
	send := func() {
		t.Helper()
		a, err := s.accounts.Show(t.Context(), addr(annaAddr))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.deliver.Begin().Hand(t.Context(), deliver.Parcel{From: addr(annaAddr), Local: []account.Account{a}, Head: []byte("Subject: x\r\n\r\n"), Proof: [][]byte{[]byte("a signature")}}); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if err := s.accounts.Reset(t.Context(), addr(annaAddr), annas); err != nil {
		t.Fatal(err)
	}
	send()
	if n := count(t, s, "INBOX"); n != 1 {
		t.Errorf("%d mails", n)
	}
}
