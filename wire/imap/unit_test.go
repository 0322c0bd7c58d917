package imap

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestSeqMap holds the map against a plain list under random changes.
func TestSeqMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var m seqMap
		var list []uint32
		next := uint32(1 + rnd.IntN(5))
		for range 60 {
			if rnd.IntN(3) > 0 {
				for range rnd.IntN(8) {
					m.add(next)
					list = append(list, next)
					next += uint32(1 + rnd.IntN(10)/8)
				}
			} else {
				var gone []uint32
				var keep []uint32
				for i, uid := range list {
					if rnd.IntN(3) == 0 {
						gone = append(gone, uint32(i+1))
					} else {
						keep = append(keep, uid)
					}
				}
				m.remove(gone)
				list = keep
			}
			if int(m.len()) != len(list) {
				t.Fatalf("len %d, want %d", m.len(), len(list))
			}
			for i, uid := range list {
				if got := m.uid(uint32(i + 1)); got != uid {
					t.Fatalf("uid(%d) = %d, want %d: %v", i+1, got, uid, m)
				}
			}
			for uid := range next + 3 {
				at, ok := slices.BinarySearch(list, uid)
				if seq, has := m.seq(uid); has != ok || seq != uint32(at+1) {
					t.Fatalf("seq(%d) = %d %v, want %d %v: %v", uid, seq, has, at+1, ok, m)
				}
			}
			if got := m.lower(1<<32 - 1); got != m.len()+1 {
				t.Fatalf("lower of the highest UID is %d of %d", got, m.len())
			}
			for i := 1; i < len(m.runs); i++ {
				a, b := m.runs[i-1], m.runs[i]
				if b.uid == a.uid+(b.seq-a.seq) {
					t.Fatalf("two runs touch: %v", m.runs)
				}
			}
		}
	}
}

func TestNumSetResolve(t *testing.T) {
	for _, tt := range []struct {
		set  string
		star uint32
		want string
	}{
		{"1", 9, "1"}, {"*", 9, "9"}, {"3:1", 9, "1:3"}, {"5:*", 9, "5:9"}, {"12:*", 9, "9:12"}, {"1,2,3,7,5:6", 9, "1:3,5:7"},
		{"*:*", 9, "9"}, {"*", 0, ""}, {"1:*", 0, "1"}, {"4294967295,4294967294", 9, "4294967294:4294967295"}, {"1:5,2:3", 9, "1:5"},
	} {
		s, err := (&parser{b: []byte(tt.set)}).sequence()
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		for i, r := range s.resolve(tt.star) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendRange(b, r)
		}
		if string(b) != tt.want {
			t.Errorf("%s with * = %d: %s, want %s", tt.set, tt.star, b, tt.want)
		}
	}
	for _, bad := range []string{"", "0", "1:", ":1", "a", "4294967296", "1,,2", "-1"} {
		p := &parser{b: []byte(bad)}
		if s, err := p.sequence(); err == nil && p.done() {
			t.Errorf("%q gives %v", bad, s)
		}
	}
}

// TestInflatePartialFlush: what comes before a partial flush (an empty block with
// fixed codes, as zlib's Z_PARTIAL_FLUSH makes it) is given at once, though the
// next block has not begun.
func TestInflatePartialFlush(t *testing.T) {
	// zlib: compressobj(wbits=-15), compress(b"a NOOP\r\n"), flush(Z_PARTIAL_FLUSH), twice.
	first, err := hex.DecodeString(partialFlushFirst)
	if err != nil {
		t.Fatal(err)
	}
	second, err := hex.DecodeString(partialFlushSecond)
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	defer pr.Close()
	f := newInflater(pr)
	for _, piece := range [][]byte{first, second} {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = pw.Write(piece)
		}()
		got := make([]byte, 8)
		if _, err := io.ReadFull(f, got); err != nil || string(got) != "a NOOP\r\n" {
			t.Fatalf("%q %v", got, err)
		}
		<-sent
	}
}

// What Python's zlib made of it.
const (
	partialFlushFirst  = "4a54f0f3f70fe0e50208"
	partialFlushSecond = "a044280d10"
)

func TestWindowGrows(t *testing.T) {
	f := newInflater(strings.NewReader(""))
	for i := range 3 * maxWindow {
		f.emit(byte(i))
		if d := min(i+1, maxWindow); f.back(d) != byte(i-d+1) || f.back(1) != byte(i) {
			t.Fatalf("after %d bytes the window is wrong", i+1)
		}
	}
	if cap(f.win) > 2*maxWindow {
		t.Errorf("the window takes %d bytes", cap(f.win))
	}
}

func TestDeflaterHoldsNothing(t *testing.T) {
	var out bytes.Buffer
	d := deflater{&out}
	for _, s := range []string{"* OK one\r\n", strings.Repeat("x", 100000), "* OK two\r\n"} {
		before := out.Len()
		if n, err := d.Write([]byte(s)); err != nil || n != len(s) {
			t.Fatal(n, err)
		}
		if out.Len() == before {
			t.Fatal("nothing was sent")
		}
		if !bytes.HasSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff}) {
			t.Error("no sync flush at the end")
		}
	}
}

// TestBaseSubject: RFC 5256 §2.1.
func TestBaseSubject(t *testing.T) {
	for in, want := range map[string]string{
		"hello": "hello", "Re: hello": "hello", "re:RE: Fwd: hello": "hello", "Fw : hello": "hello", "Re [2]: hello": "hello",
		"[list] hello": "hello", "[list] Re: [other] hello": "hello", "hello (fwd) (FWD)": "hello", "[fwd: hello]": "hello",
		"[Fwd: Re: hello (fwd)]": "hello", "[only]": "[only]", "Re: [only]": "[only]", "re:": "", "": "", "  two\t words ": "two words",
		"[a[b] hello": "[a[b] hello", "Reply: hello": "Reply: hello", "=?utf-8?q?Re:_caf=C3=A9?=": "café", "[x]": "[x]",
	} {
		if got, _ := baseSubject(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}
