package smtp

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
)

// sluggard is a server that works well up to one state, and then fails to.
type sluggard struct {
	state string // the command that gets no proper answer; "greeting", "handshake", "content", "mail" (its end)
	how   string // "silent"; "drip": a byte a minute; "deaf": reads no more; "slow": reads 300 bytes a second
	ext   []string
	conf  *tls.Config
	end   chan struct{}
}

func (s *sluggard) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	fails := func(state string) bool {
		if s.state != state {
			return false
		}
		switch s.how {
		case "drip":
			for text := "250-x\r\n"; ; text = text[1:] + text[:1] {
				time.Sleep(time.Minute) // of the bubble
				if _, err := io.WriteString(conn, text[:1]); err != nil {
					return true
				}
			}
		case "slow":
			for few := make([]byte, 300); ; time.Sleep(time.Second) {
				if _, err := r.Read(few); err != nil {
					return true
				}
			}
		case "deaf":
			<-s.end
		case "silent":
			io.Copy(io.Discard, r)
		}
		return true
	}
	if fails("greeting") {
		return
	}
	io.WriteString(conn, "220 mx.example\r\n")
	secure := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.Fields(line)[0])
		state := verb
		if secure {
			state += " under TLS"
		}
		if fails(state) {
			return
		}
		switch verb {
		case "EHLO":
			io.WriteString(conn, "250-mx.example\r\n250-"+strings.Join(s.ext, "\r\n250-")+"\r\n250 STARTTLS\r\n")
		case "STARTTLS":
			io.WriteString(conn, "220 go\r\n")
			if fails("handshake") {
				return
			}
			conn = tls.Server(conn, s.conf)
			r, secure = bufio.NewReader(conn), true
		case "DATA":
			io.WriteString(conn, "354 go\r\n")
			if fails("content") {
				return
			}
			for line != ".\r\n" {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			if fails("mail") {
				return
			}
			io.WriteString(conn, "250 ok\r\n")
		case "BDAT":
			if fails("content") {
				return
			}
			if _, err := io.CopyN(io.Discard, r, 22); err != nil || fails("mail") {
				return
			}
			io.WriteString(conn, "250 ok\r\n")
		default:
			io.WriteString(conn, "250 ok\r\n")
		}
	}
}

// TestClientHangs: a server that falls silent, or sends a byte a minute, or reads slowly or not at
// all, in any state, holds nobody longer than the time that has the state's name.
func TestClientHangs(t *testing.T) {
	small, large := "Subject: x\r\n\r\n.\r\n..a\r\n", strings.Repeat("12345678\r\n", 400_000)
	chunking := []string{"CHUNKING"}
	own := Timeouts{Greeting: 7 * time.Minute, Command: 4 * time.Minute, Handshake: 20 * time.Second, DataInit: 6 * time.Minute,
		DataBlock: 4 * time.Minute, DataEnd: 20 * time.Minute, Transaction: 30 * time.Minute, Quit: 3 * time.Second}
	for _, x := range []struct {
		state, how string
		ext        []string
		text       string
		within     string // field of Timeouts
		unknown    bool
	}{
		{"greeting", "silent", nil, small, "Greeting", false},
		{"greeting", "drip", nil, small, "Greeting", false},
		{"EHLO", "silent", nil, small, "Command", false},
		{"EHLO", "drip", nil, small, "Command", false},
		{"STARTTLS", "silent", nil, small, "Command", false},
		{"STARTTLS", "drip", nil, small, "Command", false},
		{"handshake", "silent", nil, small, "Handshake", false},
		{"handshake", "deaf", nil, small, "Handshake", false},
		{"EHLO under TLS", "silent", nil, small, "Command", false},
		{"EHLO under TLS", "drip", nil, small, "Command", false},
		{"EHLO under TLS", "deaf", nil, small, "Command", false},
		{"MAIL under TLS", "silent", nil, small, "Command", false},
		{"MAIL under TLS", "drip", nil, small, "Command", false},
		{"RCPT under TLS", "silent", nil, small, "Command", false},
		{"RCPT under TLS", "drip", nil, small, "Command", false},
		{"DATA under TLS", "silent", nil, small, "DataInit", false},
		{"DATA under TLS", "drip", nil, small, "DataInit", false},
		{"content", "deaf", nil, large, "DataBlock", false},
		{"content", "slow", nil, large, "Transaction", false},
		{"content", "silent", nil, small, "DataEnd", true},
		{"content", "drip", nil, small, "DataBlock", true}, // the sluggard does not read any more
		{"mail", "silent", nil, small, "DataEnd", true},
		{"mail", "drip", nil, small, "DataEnd", true},
		{"content", "deaf", chunking, large, "DataBlock", false},
		{"content", "slow", chunking, large, "Transaction", false},
		{"content", "silent", chunking, small, "DataEnd", true},
		{"mail", "silent", chunking, small, "DataEnd", true},
		{"mail", "drip", chunking, small, "DataEnd", true},
		{"RSET under TLS", "silent", nil, small, "Command", false},
		{"QUIT under TLS", "silent", nil, small, "Quit", false},
		{"QUIT under TLS", "drip", nil, small, "Quit", false},
		{"QUIT under TLS", "deaf", nil, small, "Quit", false},
	} {
		for name, limits := range map[string]Timeouts{"": {}, "own": own} {
			t.Run(x.state+" "+x.how+strings.Join(x.ext, "")+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hang(t, &sluggard{state: x.state, how: x.how, ext: append([]string{"8BITMIME"}, x.ext...)}, x.text, limits, x.within, x.unknown)
				})
			})
		}
	}
}

// hang has one mail sent to s, which holds it for the time named within.
func hang(t *testing.T, s *sluggard, text string, limits Timeouts, within string, unknown bool) {
	serverTLS, clientTLS := testTLS(t)
	var wait sync.WaitGroup
	defer wait.Wait()
	s.conf, s.end = serverTLS, make(chan struct{})
	defer close(s.end)
	near, far := net.Pipe()
	wait.Go(func() { s.serve(far) })
	defer near.Close()

	began := time.Now()
	c, err := NewClient(t.Context(), near, ClientOptions{TLS: clientTLS, Timeouts: limits})
	reset, quit := strings.HasPrefix(s.state, "RSET"), strings.HasPrefix(s.state, "QUIT")
	if err == nil && !reset && !quit {
		var sent Sent
		sent, err = c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(text))
		if got := outcomes(sent); got != "error: unavailable" || sent.Unknown != unknown {
			t.Errorf("%s, unknown %v", got, sent.Unknown)
		}
	}
	if err == nil && reset {
		err = c.Reset(t.Context())
	}
	if quit {
		c.Quit()
	} else if errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	limits = limits.withDefaults()
	want := map[string]time.Duration{"Greeting": limits.Greeting, "Command": limits.Command, "Handshake": limits.Handshake, "DataInit": limits.DataInit,
		"DataBlock": limits.DataBlock, "DataEnd": limits.DataEnd, "Transaction": limits.Transaction, "Quit": limits.Quit}[within]
	slack := time.Duration(0)
	if within == "Transaction" { // it is looked at between blocks
		slack = limits.DataBlock
	}
	if took := time.Since(began); took < want || took > want+slack {
		t.Errorf("after %v, want %v", took, want)
	}
}
