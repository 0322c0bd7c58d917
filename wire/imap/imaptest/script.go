// Package imaptest runs scripted IMAP conversations against a server: what the
// tests of wire/imap (on mailboxes in memory) and of agent/access (on the real
// store) have in common.
package imaptest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Start starts a server for a script. deliver puts a message into a mailbox from outside.
type Start func(tb testing.TB, options map[string]string) (addr string, deliver func(box, raw string))

// Patience is how long an answer may take.
const Patience = 10 * time.Second

// Conn is a client that knows lines and literals only.
type Conn struct {
	t testing.TB
	// Validity is the last UIDVALIDITY that the server told; scripts write $UIDVALIDITY.
	Validity string
	nc       net.Conn
	r        *bufio.Reader
}

// Dial connects; the connection is closed with the test.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return New(t, nc)
}

// New makes a client of a connection.
func New(t testing.TB, nc net.Conn) *Conn { return &Conn{t: t, nc: nc, r: bufio.NewReader(nc)} }

// Close ends the connection.
func (c *Conn) Close() { _ = c.nc.Close() }

// Send sends text as it is.
func (c *Conn) Send(s string) {
	c.t.Helper()
	_ = c.nc.SetWriteDeadline(time.Now().Add(Patience))
	if _, err := c.nc.Write([]byte(s)); err != nil {
		c.t.Fatalf("send %q: %v", s, err)
	}
}

// Line reads a response line with its literals, CRLF shown as ␍␊ inside literals.
func (c *Conn) Line() (string, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(Patience))
	var b strings.Builder
	for {
		s, err := c.r.ReadString('\n')
		if err != nil {
			return b.String() + s, err
		}
		if !strings.HasSuffix(s, "\r\n") {
			return b.String() + s, fmt.Errorf("line without CRLF: %q", s)
		}
		s = s[:len(s)-2]
		b.WriteString(s)
		if m := validity.FindStringSubmatch(s); m != nil && m[1] == "UIDVALIDITY " {
			c.Validity = m[2]
		}
		open := strings.LastIndexByte(s, '{')
		if open < 0 || !strings.HasSuffix(s, "}") {
			return b.String(), nil
		}
		n, err := strconv.Atoi(s[open+1 : len(s)-1])
		if err != nil {
			return b.String(), nil
		}
		lit := make([]byte, n)
		for k := 0; k < n; {
			m, err := c.r.Read(lit[k:])
			if err != nil {
				return b.String(), err
			}
			k += m
		}
		b.WriteString(strings.NewReplacer("\r", "␍", "\n", "␊").Replace(string(lit)))
	}
}

// Cmd sends a command and gives all lines up to its tagged answer.
func (c *Conn) Cmd(line string) []string {
	c.t.Helper()
	c.Send(line + "\r\n")
	tag, _, _ := strings.Cut(line, " ")
	return c.Until(tag + " ")
}

// Until gives all lines up to one that begins with prefix.
func (c *Conn) Until(prefix string) []string {
	c.t.Helper()
	var out []string
	for {
		s, err := c.Line()
		if err != nil {
			c.t.Fatalf("waiting for %q after %q: %v", prefix, out, err)
		}
		out = append(out, s)
		if strings.HasPrefix(s, prefix) {
			return out
		}
	}
}

var scriptLine = regexp.MustCompile(`^([CSWLD])(\d?): ?(.*)$`)

// RunScript runs the conversation in a file. Lines: "C:" is sent; "S:" must follow,
// exactly; "W:" must come without being asked for; "L:" is the literal that "{*}" in
// the line before announces, with Go escapes, or "@file"; "C: ..." behind it goes on
// with the command; "D:" delivers a message from outside. A digit behind the letter
// names a further connection. "option name=value" lines go to start. All else is
// comment. With update the S lines are written anew.
func RunScript(t *testing.T, file string, update bool, start Start) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	options := map[string]string{}
	for _, l := range lines {
		if k, v, ok := strings.Cut(strings.TrimPrefix(l, "option "), "="); ok && strings.HasPrefix(l, "option ") {
			options[k] = v
		}
	}
	addr, deliver := start(t, options)
	conns := map[string]*Conn{}
	tags := map[string]string{}
	var out []string
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		m := scriptLine.FindStringSubmatch(l)
		if m == nil {
			out = append(out, l)
			continue
		}
		kind, id, text := m[1], m[2], m[3]
		c := conns[id]
		if c == nil && kind != "D" {
			c = Dial(t, addr)
			conns[id] = c
			c.Until("* OK [CAPABILITY ")
		}
		switch kind {
		case "D":
			out = append(out, l)
			box, raw, _ := strings.Cut(text, " ")
			deliver(box, scriptLiteral(t, file, raw))
		case "C":
			out = append(out, l)
			text = strings.ReplaceAll(text, "$UIDVALIDITY", c.Validity)
			tag, _, _ := strings.Cut(text, " ")
			if tags[id] == "" {
				tags[id] = tag + " "
			}
			for strings.Contains(text, "{*") && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "L"+id+":") {
				lit := scriptLiteral(t, file, strings.TrimPrefix(strings.TrimPrefix(lines[i+1], "L"+id+":"), " "))
				i++
				out = append(out, lines[i])
				text = strings.Replace(text, "{*", "{"+strconv.Itoa(len(lit)), 1)
				c.Send(text + "\r\n")
				if strings.HasSuffix(text, "+}") {
					c.Send(lit)
				} else {
					s, err := c.Line()
					if err != nil || !strings.HasPrefix(s, "+") {
						t.Fatalf("%s:%d: literal refused: %q %v", file, i+1, s, err)
					}
					c.Send(lit)
				}
				text = ""
				if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "C"+id+": ...") {
					i++
					out = append(out, lines[i])
					text = strings.TrimPrefix(lines[i], "C"+id+": ...")
				}
			}
			c.Send(text + "\r\n")
			if update {
				for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "S"+id+":") {
					i++
				}
				for {
					s, err := c.Line()
					if err != nil {
						t.Fatalf("%s: after %q: %v", file, l, err)
					}
					out = append(out, "S"+id+": "+mask(s, options))
					if strings.HasPrefix(s, "+") {
						break
					}
					if strings.HasPrefix(s, tags[id]) || strings.HasPrefix(s, "* BAD ") {
						tags[id] = ""
						break
					}
				}
				continue
			}
			if i+1 < len(lines) && !strings.HasPrefix(lines[i+1], "S"+id+": +") {
				tags[id] = ""
			}
		case "S", "W":
			out = append(out, l)
			got, err := c.Line()
			got = mask(got, options)
			if err != nil {
				t.Fatalf("%s:%d: want %q: %v", file, i+1, text, err)
			}
			if got != text {
				t.Fatalf("%s:%d:\nwant %s\ngot  %s", file, i+1, text, got)
			}
		}
	}
	if update {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for id, c := range conns { // nothing more may come
		_ = c.nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if b, err := c.r.Peek(1); err == nil {
			s, _ := c.r.ReadString('\n')
			t.Errorf("%s: connection %q said more: %q (%q)", file, id, s, b)
		}
	}
}

var validity = regexp.MustCompile(`((?:UIDVALIDITY|APPENDUID|COPYUID) |\(F[0-9]+-)([1-9][0-9]*)`)

var capabilities = regexp.MustCompile(`\[CAPABILITY [^]]*\]`)

var sizeOver0 = regexp.MustCompile(` SIZE [1-9][0-9]*`)

// mask hides what differs from run to run, unless "option mask=no", and the list of
// capabilities, unless "option capabilities=show".
func mask(s string, options map[string]string) string {
	if options["mask"] == "no" {
		return s
	}
	s = validity.ReplaceAllString(s, "$1#")
	if options["capabilities"] != "show" { // one script shows them; the others need not change with them
		s = capabilities.ReplaceAllString(s, "[CAPABILITY ...]")
	}
	if strings.HasPrefix(s, "* STATUS ") { // what a store needs for a mail is its own affair
		s = sizeOver0.ReplaceAllString(s, " SIZE #")
	}
	return s
}

func scriptLiteral(t testing.TB, file, s string) string {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(file), name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n", "\r\n")
	}
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%s: literal %q: %v", file, s, err)
	}
	return out
}
