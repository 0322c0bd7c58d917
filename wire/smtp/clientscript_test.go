package smtp

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// TestClientScripts plays the scripts in testdata/client against a Client. Lines of a script:
//
//	# options: words   how the client is set up: tls, requiretls, nochunking, quit
//	M: words "text"    a mail to send: from=, to= (several by commas), body=, utf8, requiretls, ret=, envid=,
//	                   notify=, orcpt=
//	S: text            the server sends text and CRLF
//	R: "text"          the server sends exactly this Go string
//	C: text            the client's next line is exactly text
//	D: "text"          the client's next bytes are exactly this Go string
//	TLS                the server does its handshake
//	CLOSE              the server closes the connection
//	END                the client closes the connection
//	> words            what the client made of it: of NewClient, then of each mail
//	#                  a comment; empty lines are ignored
//
// Consecutive S and R lines go out in one write.
func TestClientScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/client/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	serverTLS, clientTLS := testTLS(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := newClientScript(t, string(script), serverTLS, clientTLS)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			results := make(chan []string)
			go func() {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
				}
				results <- p.client(t, conn)
			}()
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fault := p.server(conn)
			conn.Close()
			if diff := cmp.Diff(p.want, <-results); diff != "" {
				t.Errorf("results: %s", diff)
			}
			if fault != nil {
				t.Error(fault)
			}
		})
	}
}

// clientScript is one script.
type clientScript struct {
	o         ClientOptions
	quit      bool
	mails     []Envelope
	texts     []string
	lines     []string
	want      []string
	serverTLS *tls.Config
}

func newClientScript(t *testing.T, script string, serverTLS, clientTLS *tls.Config) *clientScript {
	t.Helper()
	p := &clientScript{o: ClientOptions{Hostname: "me.example", MaxReplyLines: 10, MaxReplyBytes: 1000}, serverTLS: serverTLS}
	for _, l := range strings.Split(script, "\n") {
		switch {
		case strings.HasPrefix(l, "# options:"):
			for _, w := range strings.Fields(l[len("# options:"):]) {
				switch w {
				case "tls":
					p.o.TLS = clientTLS
				case "requiretls":
					p.o.TLS, p.o.RequireTLS = clientTLS, true
				case "nochunking":
					p.o.NoChunking = true
				case "quit":
					p.quit = true
				default:
					t.Fatalf("option %q", w)
				}
			}
		case strings.HasPrefix(l, "M: "):
			e, text := parseMail(t, l[3:])
			p.mails, p.texts = append(p.mails, e), append(p.texts, text)
		case strings.HasPrefix(l, "> "):
			p.want = append(p.want, l[2:])
		}
		p.lines = append(p.lines, l)
	}
	return p
}

func parseMail(t *testing.T, l string) (e Envelope, text string) {
	t.Helper()
	words, quoted, _ := strings.Cut(l, ` "`)
	text, err := strconv.Unquote(`"` + quoted)
	if err != nil {
		t.Fatal(err)
	}
	var ro RcptOptions
	var to []string
	for _, w := range strings.Fields(words) {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "from":
			e.From = addr(t, value)
		case "to":
			to = strings.Split(value, ",")
		case "body":
			e.Options.Body = map[string]Body{"7": Body7Bit, "8": Body8Bit}[value]
		case "utf8":
			e.Options.UTF8 = true
		case "requiretls":
			e.Options.RequireTLS = true
		case "ret":
			e.Options.Return = map[string]Return{"full": ReturnFull, "hdrs": ReturnHeaders}[value]
		case "envid":
			e.Options.EnvID = value
		case "notify":
			ro.Notify = map[string]Notify{"never": NotifyNever, "some": NotifySuccess | NotifyDelay}[value]
		case "orcpt":
			ro.OriginalType, ro.OriginalAddress, _ = strings.Cut(value, ";")
		default:
			t.Fatalf("what is %q?", w)
		}
	}
	for _, a := range to {
		r := Recipient{To: mail.Address{Local: "postmaster"}, Options: ro}
		if a != "postmaster" {
			r.To = addr(t, a)
		}
		e.Rcpts = append(e.Rcpts, r)
	}
	return e, text
}

// client is the client's part; it gives its results.
func (p *clientScript) client(t *testing.T, conn net.Conn) (out []string) {
	c, err := NewClient(t.Context(), conn, p.o)
	if err != nil {
		var r *Reply
		said := ""
		if errors.As(err, &r) {
			said = ": " + r.String()
		}
		for _, e := range []error{ErrNoTLS, ErrHandshake, ErrProtocol} {
			if errors.Is(err, e) {
				said += ": " + errs.Public(e)
			}
		}
		return []string{errs.KindOf(err).Error() + said}
	}
	x := c.Extensions()
	out = append(out, fmt.Sprintf("connected, size %d, limits %d %d %d", x.Size, x.Limits.MailMax, x.Limits.RcptMax, x.Limits.RcptDomainMax))
	for i, e := range p.mails {
		sent, err := c.Send(t.Context(), e, strings.NewReader(p.texts[i]))
		l := outcomes(sent)
		if sent.Unknown {
			l += " | unknown"
		}
		if sent.Stale {
			l += " | stale"
		}
		if err != nil {
			l += " | over, " + errs.KindOf(err).Error()
			if errors.Is(err, ErrProtocol) {
				l += ", protocol"
			}
		}
		if (err == nil) != c.Reusable() {
			l += fmt.Sprintf(" | reusable %v", c.Reusable())
		}
		out = append(out, l)
	}
	if p.quit {
		c.Quit()
	}
	c.Close()
	return out
}

// server is the server's part.
func (p *clientScript) server(conn net.Conn) error {
	r := bufio.NewReader(conn)
	var pending string
	for i, l := range p.lines {
		kind, text, _ := strings.Cut(l, " ")
		if kind == "D:" || kind == "R:" {
			var err error
			if text, err = strconv.Unquote(text); err != nil {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
		}
		switch kind {
		case "S:":
			pending += text + "\r\n"
			continue
		case "R:":
			pending += text
			continue
		case "", "#", ">", "M:":
			continue
		}
		if pending != "" {
			if _, err := io.WriteString(conn, pending); err != nil {
				return fmt.Errorf("line %d: %w", i, err)
			}
			pending = ""
		}
		switch kind {
		case "C:", "D:":
			if kind == "C:" {
				text += "\r\n"
			}
			got := make([]byte, len(text))
			n, err := io.ReadFull(r, got)
			if string(got[:n]) != text {
				return fmt.Errorf("line %d: the client said %q, want %q (%v)", i+1, got[:n], text, err)
			}
		case "TLS":
			if r.Buffered() > 0 {
				return fmt.Errorf("line %d: words before the handshake", i+1)
			}
			s := tls.Server(conn, p.serverTLS)
			if err := s.Handshake(); err != nil {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
			conn, r = s, bufio.NewReader(s)
		case "CLOSE":
			conn.Close()
		case "END":
			if b, err := io.ReadAll(r); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("line %d: the client said %q, %v", i+1, b, err)
			}
		default:
			return fmt.Errorf("line %d: what is %q?", i+1, l)
		}
	}
	if pending != "" {
		return errors.New("the script ends with the server speaking")
	}
	return nil
}
