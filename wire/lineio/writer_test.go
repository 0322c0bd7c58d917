package lineio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sink takes writes and counts them.
type sink struct {
	bytes.Buffer
	writes int
	err    error
}

func (s *sink) Write(p []byte) (int, error) {
	s.writes++
	if s.err != nil {
		return 0, s.err
	}
	return s.Buffer.Write(p)
}
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func TestWriter(t *testing.T) {
	s := &sink{}
	w := NewWriter(s, 0)
	w.WriteString("250-a\r\n")
	w.Write([]byte("250 b\r\n"))
	if s.writes != 0 || w.Buffered() != 14 {
		t.Fatal("written too early")
	}
	if err := w.Flush(); err != nil || s.writes != 1 || s.String() != "250-a\r\n250 b\r\n" || w.buf != nil {
		t.Fatalf("%v %d %q", err, s.writes, s.String())
	}
	if err := w.Flush(); err != nil || s.writes != 1 {
		t.Fatal("an empty flush writes")
	}
	s.Reset()
	large := strings.Repeat("x", BufferSize+5)
	w.WriteString("y")
	if n, err := w.WriteString(large); n != len(large) || err != nil {
		t.Fatal(n, err)
	}
	if n, err := w.Write([]byte(large)); n != len(large) || err != nil {
		t.Fatal(n, err)
	}
	w.Flush()
	if s.String() != "y"+large+large {
		t.Fatal("bytes lost")
	}
	other := &sink{}
	w.WriteString("z")
	if err := w.Rebase(other); err != nil || !strings.HasSuffix(s.String(), "z") {
		t.Fatal(err)
	}
	other.err = errors.New("gone")
	w.WriteString("z")
	if err := w.Flush(); err != other.err {
		t.Fatal(err)
	}
	if _, err := w.WriteString("z"); err != other.err {
		t.Fatal("the error is forgotten")
	}
	if _, err := w.Write([]byte(large)); err != other.err {
		t.Fatal("the error is forgotten")
	}
}

func TestWriterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		w := NewWriter(far, time.Minute)
		began := time.Now()
		w.WriteString("x")
		if err := w.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Fatal(err, time.Since(began))
		}
	})
}

func TestDotWriter(t *testing.T) {
	for in, want := range map[string]string{
		"":                  ".\r\n",
		"a":                 "a\r\n.\r\n",
		"a\r\n":             "a\r\n.\r\n",
		".\r\n":             "..\r\n.\r\n",
		"a\r\n.b\r\n..\r\n": "a\r\n..b\r\n...\r\n.\r\n",
		"\r\n.":             "\r\n..\r\n.\r\n",
		"a.b\r\n":           "a.b\r\n.\r\n",
	} {
		for size := 1; size < 5; size++ {
			var b bytes.Buffer
			d := NewDotWriter(&b)
			for r := strings.NewReader(in); ; {
				p := make([]byte, size)
				n, err := r.Read(p)
				if err == io.EOF {
					break
				}
				if k, err := d.Write(p[:n]); k != n || err != nil {
					t.Fatal(k, err)
				}
			}
			if d.Close(); b.String() != want {
				t.Errorf("%q in pieces of %d: %q, want %q", in, size, b.String(), want)
			}
		}
	}
}
