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
	for _, x := range []struct {
		state, how string
		ext        []string
		text       string
		within     time.Duration
		unknown    bool
	}{
		{"greeting", "silent", nil, small, DefaultGreeting, false},
		{"greeting", "drip", nil, small, DefaultGreeting, false},
		{"EHLO", "silent", nil, small, DefaultCommand, false},
		{"EHLO", "drip", nil, small, DefaultCommand, false},
		{"STARTTLS", "silent", nil, small, DefaultCommand, false},
		{"STARTTLS", "drip", nil, small, DefaultCommand, false},
		{"handshake", "silent", nil, small, DefaultHandshake, false},
		{"handshake", "deaf", nil, small, DefaultHandshake, false},
		{"EHLO under TLS", "silent", nil, small, DefaultCommand, false},
		{"EHLO under TLS", "drip", nil, small, DefaultCommand, false},
		{"EHLO under TLS", "deaf", nil, small, DefaultCommand, false},
		{"MAIL under TLS", "silent", nil, small, DefaultCommand, false},
		{"MAIL under TLS", "drip", nil, small, DefaultCommand, false},
		{"RCPT under TLS", "silent", nil, small, DefaultCommand, false},
		{"RCPT under TLS", "drip", nil, small, DefaultCommand, false},
		{"DATA under TLS", "silent", nil, small, DefaultDataInit, false},
		{"DATA under TLS", "drip", nil, small, DefaultDataInit, false},
		{"content", "deaf", nil, large, DefaultDataBlock, false},
		{"content", "slow", nil, large, DefaultTransaction, false},
		{"content", "silent", nil, small, DefaultDataEnd, true},
		{"content", "drip", nil, small, DefaultDataBlock, true}, // the sluggard does not read any more
		{"mail", "silent", nil, small, DefaultDataEnd, true},
		{"mail", "drip", nil, small, DefaultDataEnd, true},
		{"content", "deaf", chunking, large, DefaultDataBlock, false},
		{"content", "slow", chunking, large, DefaultTransaction, false},
		{"content", "silent", chunking, small, DefaultDataEnd, true},
		{"mail", "silent", chunking, small, DefaultDataEnd, true},
		{"mail", "drip", chunking, small, DefaultDataEnd, true},
		{"RSET under TLS", "silent", nil, small, DefaultCommand, false},
		{"QUIT under TLS", "silent", nil, small, DefaultQuit, false},
		{"QUIT under TLS", "drip", nil, small, DefaultQuit, false},
		{"QUIT under TLS", "deaf", nil, small, DefaultQuit, false},
	} {
		t.Run(x.state+" "+x.how+strings.Join(x.ext, ""), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				serverTLS, clientTLS := testTLS(t)
				var wait sync.WaitGroup
				defer wait.Wait()
				s := &sluggard{state: x.state, how: x.how, ext: append([]string{"8BITMIME"}, x.ext...), conf: serverTLS, end: make(chan struct{})}
				defer close(s.end)
				near, far := net.Pipe()
				wait.Go(func() { s.serve(far) })
				defer near.Close()

				began := time.Now()
				c, err := NewClient(t.Context(), near, ClientOptions{TLS: clientTLS})
				reset, quit := strings.HasPrefix(x.state, "RSET"), strings.HasPrefix(x.state, "QUIT")
				if err == nil && !reset && !quit {
					var sent Sent
					sent, err = c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(x.text))
					if got := outcomes(sent); got != "error: unavailable" || sent.Unknown != x.unknown {
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
				if took := time.Since(began); took < x.within || took > x.within+DefaultDataBlock {
					t.Errorf("after %v, want %v", took, x.within)
				}
			})
		})
	}
}
