package imap

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the answers of the server into the scripts")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer serves on loopback until the test ends.
func startServer(t testing.TB, o Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// testConn is a client that knows lines and literals only.
type testConn struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func dialTest(t testing.TB, addr string) *testConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &testConn{t, nc, bufio.NewReader(nc)}
}

const testPatience = 10 * time.Second

func (c *testConn) send(s string) {
	c.t.Helper()
	_ = c.nc.SetWriteDeadline(time.Now().Add(testPatience))
	if _, err := c.nc.Write([]byte(s)); err != nil {
		c.t.Fatalf("send %q: %v", s, err)
	}
}

// line reads a response line with its literals, CRLF shown as ␍␊ inside literals.
func (c *testConn) line() (string, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(testPatience))
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

// cmd sends a command and gives all lines up to its tagged answer.
func (c *testConn) cmd(line string) []string {
	c.t.Helper()
	c.send(line + "\r\n")
	tag, _, _ := strings.Cut(line, " ")
	return c.until(tag + " ")
}

func (c *testConn) until(prefix string) []string {
	c.t.Helper()
	var out []string
	for {
		s, err := c.line()
		if err != nil {
			c.t.Fatalf("waiting for %q after %q: %v", prefix, out, err)
		}
		out = append(out, s)
		if strings.HasPrefix(s, prefix) {
			return out
		}
	}
}

// TestScripts runs the conversations in testdata. Lines: "C:" is sent; "S:" must
// follow, exactly; "W:" must come without being asked for; "L:" is the literal that
// "{*}" in the line before announces, with Go escapes, or "@file"; "D:" delivers a
// message from outside. A digit behind the letter names a further connection. With
// -update the S lines are written anew.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runScript(t, f, scriptServer) })
	}
}

// scriptServer starts the server a script asks for in its first lines.
func scriptServer(t testing.TB, options map[string]string) (addr string, deliver func(box, raw string)) {
	b := newFake()
	o := Options{Backend: b, Private: true, Now: fixedNow, Name: "Postern", ExtraCapabilities: []string{"XCHATMAIL", "XDELTAPUSH"}}
	if options["private"] == "no" {
		o.Private = false
	}
	if options["compress"] == "yes" {
		o.Compress = true
	}
	if v, err := strconv.ParseUint(options["forget"], 10, 64); err == nil {
		b.forget = v
	}
	return startServer(t, o), func(box, raw string) { b.deliver(box, raw) }
}

var scriptLine = regexp.MustCompile(`^([CSWLD])(\d?): ?(.*)$`)

func runScript(t *testing.T, file string, start func(testing.TB, map[string]string) (string, func(box, raw string))) {
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
	conns := map[string]*testConn{}
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
			c = dialTest(t, addr)
			conns[id] = c
			c.until("* OK [CAPABILITY ")
		}
		switch kind {
		case "D":
			out = append(out, l)
			box, raw, _ := strings.Cut(text, " ")
			deliver(box, scriptLiteral(t, file, raw))
		case "C":
			out = append(out, l)
			tag, _, _ := strings.Cut(text, " ")
			if tags[id] == "" {
				tags[id] = tag + " "
			}
			for strings.Contains(text, "{*") && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "L"+id+":") {
				lit := scriptLiteral(t, file, strings.TrimPrefix(strings.TrimPrefix(lines[i+1], "L"+id+":"), " "))
				i++
				out = append(out, lines[i])
				text = strings.Replace(text, "{*", "{"+strconv.Itoa(len(lit)), 1)
				c.send(text + "\r\n")
				if strings.HasSuffix(text, "+}") {
					c.send(lit)
				} else {
					s, err := c.line()
					if err != nil || !strings.HasPrefix(s, "+") {
						t.Fatalf("%s:%d: literal refused: %q %v", file, i+1, s, err)
					}
					c.send(lit)
				}
				text = ""
				if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "C"+id+": ...") {
					i++
					out = append(out, lines[i])
					text = strings.TrimPrefix(lines[i], "C"+id+": ...")
				}
			}
			c.send(text + "\r\n")
			if *update {
				for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "S"+id+":") {
					i++
				}
				for {
					s, err := c.line()
					if err != nil {
						t.Fatalf("%s: after %q: %v", file, l, err)
					}
					out = append(out, "S"+id+": "+s)
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
			got, err := c.line()
			if err != nil {
				t.Fatalf("%s:%d: want %q: %v", file, i+1, text, err)
			}
			if got != text {
				t.Fatalf("%s:%d:\nwant %s\ngot  %s", file, i+1, text, got)
			}
		}
	}
	if *update {
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
