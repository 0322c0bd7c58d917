package lineio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// still is a Conn over bytes, without deadlines.
type still struct{ io.Reader }

func (still) SetReadDeadline(time.Time) error { return nil }

func reader(s string) *Reader { return NewReader(still{strings.NewReader(s)}, Times{}) }

func TestLine(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  []string
		err   error
	}{
		{"a\r\n\r\nbc\r\n", 10, []string{"a", "", "bc"}, io.EOF},
		{"", 10, nil, io.EOF},
		{"abc", 10, nil, io.ErrUnexpectedEOF},
		{"abc\r", 10, nil, io.ErrUnexpectedEOF},
		{"a\nb\r\n", 10, nil, ErrBareLF},
		{"\nb\r\n", 10, nil, ErrBareLF},
		{"a\rb\r\n", 10, nil, ErrBareCR},
		{"a\r\r\n", 10, nil, ErrBareCR},
		{"a\rb", 10, nil, ErrBareCR},
		{"a\x00b\r\n", 10, nil, ErrNUL},
		{"a\x00b", 10, nil, ErrNUL},
		{"12345\r\n123456\r\n", 5, []string{"12345"}, ErrTooLong},
		{"123456", 5, nil, io.ErrUnexpectedEOF}, // the sixth could be the CR
		{"1234567", 5, nil, ErrTooLong},
		{strings.Repeat("x", BufferSize-2) + "\r\n", BufferSize, []string{strings.Repeat("x", BufferSize-2)}, io.EOF},
		{strings.Repeat("x", BufferSize-1) + "\r\n", BufferSize, nil, ErrTooLong},
		{strings.Repeat("x", 3*BufferSize), 1 << 30, nil, ErrTooLong},
	} {
		for _, src := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in)), iotest.DataErrReader(strings.NewReader(tc.in))} {
			r := NewReader(still{src}, Times{})
			var got []string
			var err error
			for {
				var l []byte
				if l, err = r.Line(tc.limit); err != nil {
					break
				}
				got = append(got, string(l))
			}
			// A fault deeper in the line may be seen only after more has come; the
			// error is the same in the end.
			if strings.Join(got, "|") != strings.Join(tc.want, "|") || !errors.Is(err, tc.err) {
				t.Errorf("%.40q in pieces of %T: %.40q, %v; want %v", tc.in, src, got, err, tc.err)
			}
		}
	}
}

func TestCounts(t *testing.T) {
	r := reader("ab\r\n12345678xy\r\n")
	if _, err := r.Line(10); err != nil || r.Total() != 4 || r.Buffered() != 12 {
		t.Fatal(err, r.Total(), r.Buffered())
	}
	p := make([]byte, 5)
	if err := r.ReadFull(p); err != nil || string(p) != "12345" || r.Total() != 9 {
		t.Fatalf("%q %v", p, err)
	}
	if err := r.Discard(3); err != nil || r.Total() != 12 {
		t.Fatal(err)
	}
	if l, err := r.Line(10); err != nil || string(l) != "xy" {
		t.Fatalf("%q %v", l, err)
	}
	if err := r.Discard(1); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	if err := r.ReadFull(p); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	if err := r.ReadFull(nil); err != nil {
		t.Error(err)
	}
}

func TestLargeReads(t *testing.T) {
	text := strings.Repeat("0123456789", 20_000)
	r := reader("go\r\n" + text + "end\r\n")
	if _, err := r.Line(10); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100_000)
	if err := r.ReadFull(p); err != nil || string(p) != text[:100_000] {
		t.Fatal("first half differs", err)
	}
	if err := r.Discard(100_000); err != nil {
		t.Fatal(err)
	}
	if l, err := r.Line(10); err != nil || string(l) != "end" {
		t.Fatalf("%q %v", l, err)
	}
}

func TestPeek(t *testing.T) {
	r := NewReader(still{io.MultiReader(strings.NewReader("abc"), strings.NewReader("def"))}, Times{})
	if p, err := r.Peek(); err != nil || string(p) != "abc" {
		t.Fatalf("%q %v", p, err)
	}
	r.Advance(1)
	if p, err := r.PeekMore(); err != nil || string(p) != "bcdef" {
		t.Fatalf("%q %v", p, err)
	}
	r.Advance(100) // no more than there is
	if r.Total() != 6 || r.Buffered() != 0 {
		t.Fatal(r.Total(), r.Buffered())
	}
	if _, err := r.PeekMore(); err != io.EOF {
		t.Fatal(err)
	}
	r = reader(strings.Repeat("x", 2*BufferSize))
	for range 3 {
		if _, err := r.PeekMore(); err != nil {
			if err != ErrTooLong || r.Buffered() != BufferSize {
				t.Fatal(err, r.Buffered())
			}
			return
		}
	}
	t.Fatal("the buffer has no end")
}

func TestSkipLine(t *testing.T) {
	r := reader("a\nb\rc\x00" + strings.Repeat("x", 40_000) + "\r\nnext\r\n")
	if _, err := r.Line(10); err != ErrBareLF {
		t.Fatal(err)
	}
	if err := r.SkipLine(50_000); err != nil {
		t.Fatal(err)
	}
	if l, err := r.Line(10); err != nil || string(l) != "next" {
		t.Fatalf("%q %v", l, err)
	}
	if err := reader(strings.Repeat("x", 40_000) + "\r\n").SkipLine(20_000); err != ErrTooLong {
		t.Fatal(err)
	}
	if err := NewReader(still{iotest.OneByteReader(strings.NewReader("x\r\ny"))}, Times{}).SkipLine(9); err != nil {
		t.Fatal(err)
	}
	if err := reader("x").SkipLine(9); err != io.EOF {
		t.Fatal(err)
	}
}

func TestRebase(t *testing.T) {
	r := NewReader(still{strings.NewReader("STARTTLS\r\nMAIL")}, Times{})
	if _, err := r.Line(10); err != nil {
		t.Fatal(err)
	}
	if err := r.Rebase(still{strings.NewReader("x\r\n")}); err != ErrBuffered {
		t.Fatal("early bytes are not noticed:", err)
	}
	r.Advance(4)
	if err := r.Rebase(still{strings.NewReader("x\r\n")}); err != nil {
		t.Fatal(err)
	}
	if l, err := r.Line(10); err != nil || string(l) != "x" {
		t.Fatalf("%q %v", l, err)
	}
}

// TestIdleHoldsNoBuffer: what a waiting reader has taken from the pool is given back.
func TestIdleHoldsNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		r := NewReader(far, Times{})
		lines := make(chan string)
		go func() {
			defer close(lines)
			for {
				l, err := r.Line(100)
				if err != nil {
					return
				}
				lines <- string(l)
			}
		}()
		io.WriteString(near, "one\r\n")
		if got := <-lines; got != "one" {
			t.Error(got)
		}
		synctest.Wait()
		if r.buf != nil {
			t.Error("a buffer is held while idle")
		}
		io.WriteString(near, "two\r")
		synctest.Wait()
		if r.buf == nil {
			t.Error("where is the half line?")
		}
		io.WriteString(near, "\n")
		<-lines
		near.Close()
		<-lines
		far.Close()
	})
}

func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		r := NewReader(far, Times{Idle: time.Minute, Line: 10 * time.Second})
		began := time.Now()
		if _, err := r.Line(100); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Fatal(err, time.Since(began))
		}
		// A byte every 4 s does not move the end of the line.
		go func() {
			for range 4 {
				time.Sleep(4 * time.Second)
				if _, err := near.Write([]byte("x")); err != nil {
					return
				}
			}
		}()
		began = time.Now()
		if _, err := r.Line(100); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 14*time.Second {
			t.Fatal(err, time.Since(began))
		}
		r.SetTimes(Times{})
		r.Until(time.Now().Add(time.Hour))
		began = time.Now()
		for {
			if _, err := r.PeekMore(); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Hour {
					t.Fatal(err, time.Since(began))
				}
				return
			}
		}
	})
}

func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		r := NewReader(far, Times{Idle: time.Hour})
		go func() {
			time.Sleep(time.Minute)
			r.Interrupt()
		}()
		if _, err := r.Line(100); err != ErrInterrupted {
			t.Fatal(err)
		}
		if _, err := r.Line(100); err != ErrInterrupted {
			t.Fatal("only once:", err)
		}
		r.Resume()
		go near.Write([]byte("x\r\n"))
		if l, err := r.Line(100); err != nil || string(l) != "x" {
			t.Fatalf("%q %v", l, err)
		}
	})
}

func TestOnWait(t *testing.T) {
	r := NewReader(still{iotest.OneByteReader(strings.NewReader("ab\r\n"))}, Times{})
	n := 0
	r.OnWait(func() error { n++; return nil })
	if _, err := r.Line(10); err != nil || n != 4 {
		t.Fatal(err, n)
	}
	stop := errors.New("stop")
	r.OnWait(func() error { return stop })
	if _, err := r.Line(10); err != stop {
		t.Fatal(err)
	}
}

func TestCutLiteral(t *testing.T) {
	for _, tc := range []struct {
		in, before string
		want       Literal
		ok         bool
	}{
		{"A LOGIN {5}", "A LOGIN ", Literal{Size: 5}, true},
		{"{0+}", "", Literal{NoWait: true}, true},
		{"x ~{12}", "x ", Literal{Size: 12, Binary: true}, true},
		{"x ~{12+}", "x ", Literal{Size: 12, Binary: true, NoWait: true}, true},
		{"{999999999999999999}", "", Literal{Size: 999999999999999999}, true},
		{"{9999999999999999999}", "{9999999999999999999}", Literal{}, false},
		{"{}", "{}", Literal{}, false},
		{"{+}", "{+}", Literal{}, false},
		{"{-1}", "{-1}", Literal{}, false},
		{"5}", "5}", Literal{}, false},
		{"}", "}", Literal{}, false},
		{"{5} ", "{5} ", Literal{}, false},
		{"", "", Literal{}, false},
	} {
		before, lit, ok := CutLiteral([]byte(tc.in))
		if string(before) != tc.before || lit != tc.want || ok != tc.ok {
			t.Errorf("%q: %q %+v %v", tc.in, before, lit, ok)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"a\r\nb\r\n", "a\n", "\r\r\n", "x\x00\r\n", "{5}\r\nhello"} {
		f.Add([]byte(s), uint16(10))
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		whole := NewReader(still{bytes.NewReader(in)}, Times{})
		pieces := NewReader(still{iotest.HalfReader(bytes.NewReader(in))}, Times{})
		pos := 0
		for {
			a, errA := whole.Line(int(limit))
			b, errB := pieces.Line(int(limit))
			if !bytes.Equal(a, b) || (errA == nil) != (errB == nil) {
				t.Fatalf("%q: %q %v, in pieces %q %v", in, a, errA, b, errB)
			}
			if errA != nil {
				return
			}
			CutLiteral(a)
			if bytes.ContainsAny(a, "\r\n\x00") || len(a) > int(limit) || !bytes.HasPrefix(in[pos:], a) {
				t.Fatalf("%q: line %q", in, a)
			}
			pos += len(a) + 2
			if int64(pos) != whole.Total() {
				t.Fatalf("%q: %d bytes counted, %d taken", in, whole.Total(), pos)
			}
		}
	})
}
