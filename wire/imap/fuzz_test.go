package imap

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memConn is a connection whose client has sent all it will ever send.
type memConn struct {
	in  io.Reader
	out bytes.Buffer
}

func (c *memConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// states are what a client has sent before the fuzzed bytes.
var states = map[string]string{
	"unauthenticated": "",
	"authenticated":   loginLine + "\r\n",
	"selected":        loginLine + "\r\nb SELECT INBOX\r\n",
	"qresync":         loginLine + "\r\nb ENABLE QRESYNC IMAP4rev2 UTF8=ACCEPT\r\nc SELECT INBOX\r\n",
	"examined":        loginLine + "\r\nb EXAMINE INBOX\r\n",
	"idle":            loginLine + "\r\nb SELECT INBOX\r\nc IDLE\r\n",
	"append":          loginLine + "\r\nb APPEND INBOX (\\Seen) {20+}\r\n",
	"literal":         loginLine + "\r\nb SELECT INBOX\r\nc SEARCH SUBJECT {3+}\r\n",
	"sasl":            "b AUTHENTICATE LOGIN\r\n",
	"notify":          loginLine + "\r\nb SELECT INBOX\r\nc " + notifyAll + "\r\n",
	"notify in idle":  loginLine + "\r\nb SELECT INBOX\r\nc " + notifyAll + "\r\nd IDLE\r\n",
	"compress":        loginLine + "\r\nb SELECT INBOX\r\nc COMPRESS DEFLATE\r\n", // then deflated
	"bad compress":    loginLine + "\r\nb SELECT INBOX\r\nc COMPRESS DEFLATE\r\n", // then as it is
}

const notifyAll = "NOTIFY SET STATUS (selected (MessageNew (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange)) " +
	"(personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange))"

// deflated is input as a client with COMPRESS sends it.
func deflated(input []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed)
	_, _ = w.Write(input)
	_ = w.Flush()
	return b.Bytes()
}

// inflated gives output without compression behind the line that begins with "c OK".
func inflated(out []byte) []byte {
	_, rest, ok := bytes.Cut(out, []byte("\r\nc OK Compression begins\r\n"))
	if !ok {
		return out
	}
	plain, _ := io.ReadAll(flate.NewReader(bytes.NewReader(rest))) // cut by the end of the session
	return plain
}

// session serves what a client sends in a state, on mailboxes with two messages.
func session(t *testing.T, state string, input []byte) (b *fakeBackend, s *Server, out []byte, log string) {
	t.Helper()
	nested, err := os.ReadFile("testdata/nested.eml")
	if err != nil {
		t.Fatal(err)
	}
	b = newFake()
	b.deliver("INBOX", strings.ReplaceAll(string(nested), "\n", "\r\n"))
	b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
	var logged lockedBuffer
	s, err = New(Options{Backend: b, Private: true, Compress: true, MaxAppend: 1 << 16, MaxCommand: 1 << 14,
		Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if state == "compress" {
		input = deflated(input)
	}
	c := &memConn{in: io.MultiReader(strings.NewReader(states[state]), bytes.NewReader(input))}
	if err := s.ServeConn(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	out = c.out.Bytes()
	if state == "compress" {
		out = inflated(out)
	}
	return b, s, out, logged.String()
}

// TestFuzzStates: the fuzzed bytes really meet the session in the state that is named.
func TestFuzzStates(t *testing.T) {
	for state, probe := range map[string][2]string{
		"unauthenticated": {"x NOOP\r\ny SELECT INBOX\r\n", "y BAD Log in first"},
		"authenticated":   {"x LIST \"\" INBOX\r\ny CLOSE\r\n", "y BAD Select a mailbox first"},
		"selected":        {"x STORE 1 FLAGS ()\r\n", "x OK STORE done"},
		"qresync":         {"x UID FETCH 1 (UID) (CHANGEDSINCE 1 VANISHED)\r\n", "x OK FETCH done"},
		"examined":        {"x STORE 1 FLAGS ()\r\n", "x NO [READ-ONLY]"},
		"idle":            {"DONE\r\n", "c OK IDLE done"},
		"append":          {"Subject: twenty!\r\n\r\n\r\n", "b OK [APPENDUID"},
		"literal":         {"abc\r\n", "* SEARCH\r\nc OK"},
		"sasl":            {"*\r\n", "b BAD"},
		"notify":          {"x STORE 1 +FLAGS.SILENT (\\Deleted)\r\ny EXPUNGE\r\n", "* 1 EXPUNGE\r\ny OK"},
		"notify in idle":  {"DONE\r\n", "d OK IDLE done"},
		"compress":        {"x FETCH 1 (UID)\r\n", "* 1 FETCH (UID 1)\r\nx OK"},
		"bad compress":    {"\xff\xff\xff\xff", "c OK Compression begins"},
	} {
		_, _, out, log := session(t, state, []byte(probe[0]))
		if !bytes.Contains(out, []byte(probe[1])) || log != "" {
			t.Errorf("%s: %q is not in %q; log %q", state, probe[1], out, log)
		}
	}
	if len(states) != 13 {
		t.Errorf("%d states", len(states))
	}
}

// wellFormed checks that output is lines that end with CRLF, with literals as long
// as they say; the last may be cut by the end of the session.
func wellFormed(out []byte) error {
	for len(out) > 0 {
		i := bytes.IndexByte(out, '\n')
		if i < 0 {
			return nil
		}
		if i == 0 || out[i-1] != '\r' {
			return errors.New("a line ends without CR")
		}
		line := out[:i-1]
		if bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0 {
			return errors.New("NUL or CR in a line")
		}
		out = out[i+1:]
		open := bytes.LastIndexByte(line, '{')
		if open >= 0 && line[len(line)-1] == '}' {
			if n, err := strconv.Atoi(string(line[open+1 : len(line)-1])); err == nil {
				out = out[min(n, len(out)):]
			}
		}
	}
	return nil
}

// FuzzSession sends arbitrary bytes in each state of a session.
func FuzzSession(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, l := range strings.Split(string(raw), "\n") {
			if c, ok := strings.CutPrefix(l, "C: "); ok && !strings.Contains(c, "{*") {
				f.Add([]byte(c + "\r\n"))
			}
		}
	}
	f.Add([]byte("a SEARCH {3+}\r\nALL\r\n"))
	f.Add([]byte("From: x\r\n\r\n0123456789 {3+}\r\nabc\r\nx NOOP\r\n"))
	f.Add([]byte("a FETCH 1 (BODY[1.2.HEADER.FIELDS (\"a\" b)]<1.2>)\r\nDONE\r\n"))
	f.Add([]byte("DONE\r\na CREATE &AOk-\r\nb LIST \"\" &AOk-\r\n"))
	f.Add([]byte("a NOTIFY SET (selected-delayed (MessageNew (UID) MessageExpunge)) (subtree (a b) (MailboxName))\r\nb NOTIFY NONE\r\n"))
	f.Add([]byte("a SORT RETURN (MIN SAVE) (REVERSE SUBJECT ARRIVAL) UTF-8 SAVEDSINCE 1-Jan-2020\r\nb UID THREAD REFERENCES UTF-8 $\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		for name := range states {
			b, s, out, log := session(t, name, input)
			if log != "" {
				t.Fatalf("%s: %s", name, log)
			}
			// Who switches to COMPRESS by hand is answered in both forms.
			if err := wellFormed(out); err != nil && name != "bad compress" && !bytes.Contains(bytes.ToUpper(input), []byte("COMPRESS")) {
				t.Fatalf("%s: %v: %q", name, err, out)
			}
			if b.sessions != 0 || b.watching() != 0 {
				t.Fatalf("%s: %d sessions and %d watches were not closed", name, b.sessions, b.watching())
			}
			if n := s.o.Memory.Used(); n != 0 {
				t.Fatalf("%s: %d bytes of messages are still counted", name, n)
			}
		}
	})
}

// FuzzInflate compares the inflater with the standard library's.
func FuzzInflate(f *testing.F) {
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, level)
		if err != nil {
			f.Fatal(err)
		}
		_, _ = w.Write(bytes.Repeat([]byte("some text, some more text "), 100))
		_ = w.Flush()
		_, _ = w.Write([]byte("tail"))
		_ = w.Close()
		f.Add(b.Bytes(), 3)
	}
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), 1<<20))
		got, gotErr := io.ReadAll(io.LimitReader(&smallReads{newInflater(bytes.NewReader(raw)), step}, 1<<20))
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("errors: want %v, got %v", wantErr, gotErr)
		}
		if !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got) || (wantErr == nil && !bytes.Equal(got, want)) {
			t.Fatalf("want %q, got %q", want, got)
		}
	})
}

// smallReads asks for few bytes at once.
type smallReads struct {
	r    io.Reader
	step int
}

func (s *smallReads) Read(p []byte) (int, error) {
	if s.step > 0 && s.step < len(p) {
		p = p[:s.step]
	}
	return s.r.Read(p)
}

// FuzzUTF7: what decodes encodes to the same name.
func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"INBOX", "Entw&APw-rfe", "&-", "~peter/mail/&U,BTFw-/&ZeVnLIqe-", "&Jjo!", "&2D3cqQ-", "a&b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := decodeUTF7(s)
		if err == nil && encodeUTF7(out) != s {
			t.Fatalf("%q decodes to %q, which encodes to %q", s, out, encodeUTF7(out))
		}
	})
}

// FuzzMatchPattern compares the matcher with the plain definition.
func FuzzMatchPattern(f *testing.F) {
	f.Add("*", "a/b")
	f.Add("%", "a/b")
	f.Add("a%b*c", "axxb/y/c")
	f.Add("inbox*", "INBOX/x")
	f.Add("%/%", "INBOX/x")
	f.Add("**%%a", "bca")
	var plain func(p, n string) bool
	plain = func(p, n string) bool {
		switch {
		case p == "":
			return n == ""
		case p[0] == '*' || p[0] == '%':
			return plain(p[1:], n) || n != "" && (p[0] == '*' || n[0] != '/') && plain(p, n[1:])
		}
		return n != "" && p[0] == n[0] && plain(p[1:], n[1:])
	}
	f.Fuzz(func(t *testing.T, p, n string) {
		if len(p) > 12 || len(n) > 20 || strings.HasPrefix(n, "INBOX") {
			return
		}
		if got, want := matchPattern(p, n), plain(p, n); got != want {
			t.Fatalf("%q matches %q: %v, want %v", p, n, got, want)
		}
	})
}
