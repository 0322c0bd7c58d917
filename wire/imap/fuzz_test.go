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
	"idle":            loginLine + "\r\nb SELECT INBOX\r\nc IDLE\r\n",
	"append":          loginLine + "\r\nb APPEND INBOX (\\Seen) {20+}\r\n",
	"sasl":            "b AUTHENTICATE LOGIN\r\n",
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
	nested, err := os.ReadFile("testdata/nested.eml")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		for name, before := range states {
			b := newFake()
			b.deliver("INBOX", strings.ReplaceAll(string(nested), "\n", "\r\n"))
			b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n")
			var log bytes.Buffer
			s, err := New(Options{Backend: b, Private: true, Compress: true, MaxAppend: 1 << 16, MaxCommand: 1 << 14,
				Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			c := &memConn{in: io.MultiReader(strings.NewReader(before), bytes.NewReader(input))}
			if err := s.ServeConn(context.Background(), c); err != nil {
				t.Fatal(err)
			}
			if log.Len() > 0 {
				t.Fatalf("%s: %s", name, log.String())
			}
			if err := wellFormed(c.out.Bytes()); err != nil && !bytes.Contains(bytes.ToUpper(input), []byte("COMPRESS")) {
				t.Fatalf("%s: %v: %q", name, err, c.out.String())
			}
			if b.sessions != 0 {
				t.Fatalf("%s: a session was not closed", name)
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
