package mime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"postern.email/kit/errs"
)

// The example of RFC 9051 §6.4.5.1, with what each part specifier means.
const example = `Subject: top
Content-Type: multipart/mixed; boundary=a

--a
X-Part: 1

one
--a
Content-Type: application/octet-stream
X-Part: 2

two
--a
Content-Type: message/rfc822
X-Part: 3

Subject: third
Content-Type: multipart/mixed; boundary=b

--b
X-Part: 3.1

three-one
--b
X-Part: 3.2

three-two
--b--
--a
Content-Type: multipart/mixed; boundary=c
X-Part: 4

--c
Content-Type: image/gif
X-Part: 4.1

four-one
--c
Content-Type: message/rfc822
X-Part: 4.2

Subject: four-two
X: y

text of 4.2
--c--
--a--
`

func TestSection(t *testing.T) {
	raw := crlf(example)
	root := mustParse(t, raw)
	const none = "NIL"
	for _, c := range []struct {
		path []int
		what What
		want string
	}{
		{nil, Whole, raw},
		{nil, Header, "Subject: top\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"},
		{nil, Text, raw[strings.Index(raw, "--a"):]},
		{nil, MIME, none},
		{[]int{1}, Whole, "one"},
		{[]int{1}, MIME, "X-Part: 1\r\n\r\n"},
		{[]int{1}, Header, none},
		{[]int{1}, Text, none},
		{[]int{1, 1}, Whole, none},
		{[]int{2}, Whole, "two"},
		{[]int{3}, MIME, "Content-Type: message/rfc822\r\nX-Part: 3\r\n\r\n"},
		{[]int{3}, Whole, raw[strings.Index(raw, "Subject: third") : strings.Index(raw, "--b--")+5]},
		{[]int{3}, Header, "Subject: third\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"},
		{[]int{3}, Text, raw[strings.Index(raw, "--b") : strings.Index(raw, "--b--")+5]},
		{[]int{3, 1}, Whole, "three-one"},
		{[]int{3, 1}, MIME, "X-Part: 3.1\r\n\r\n"},
		{[]int{3, 2}, Whole, "three-two"},
		{[]int{3, 3}, Whole, none},
		{[]int{4}, MIME, "Content-Type: multipart/mixed; boundary=c\r\nX-Part: 4\r\n\r\n"},
		{[]int{4}, Text, none},
		{[]int{4, 1}, Whole, "four-one"},
		{[]int{4, 1, 1}, Whole, none},
		{[]int{4, 2}, MIME, "Content-Type: message/rfc822\r\nX-Part: 4.2\r\n\r\n"},
		{[]int{4, 2}, Header, "Subject: four-two\r\nX: y\r\n\r\n"},
		{[]int{4, 2}, Text, "text of 4.2"},
		{[]int{4, 2, 1}, Whole, "text of 4.2"},
		{[]int{4, 2, 1}, MIME, "Subject: four-two\r\nX: y\r\n\r\n"},
		{[]int{4, 2, 2}, Whole, none},
		{[]int{4, 2, 1, 1}, Whole, none},
		{[]int{5}, Whole, none},
		{[]int{0}, Whole, none},
		{[]int{-1}, Whole, none},
		{nil, What(9), none},
	} {
		r, ok := root.Section(c.path, c.what)
		got := none
		if ok {
			got = raw[r.Start:r.End]
		}
		if got != c.want {
			t.Errorf("%v %d: %q", c.path, c.what, got)
		}
	}
	if p := root.Find([]int{4, 1}); p == nil || !p.Is("image/gif") {
		t.Errorf("%+v", p)
	}
	if p := root.Find([]int{3}); p == nil || p.Message == nil {
		t.Errorf("%+v", p)
	}
	if root.Find(nil) != root || root.Find([]int{9}) != nil {
		t.Error("Find")
	}

	// A message that is no multipart is its own part 1; TEXT and HEADER of it are answered.
	raw = "Subject: x\r\n\r\nhello"
	root = mustParse(t, raw)
	for what, want := range map[What]string{Whole: "hello", Text: "hello", Header: "Subject: x\r\n\r\n", MIME: "Subject: x\r\n\r\n"} {
		if r, ok := root.Section([]int{1}, what); !ok || raw[r.Start:r.End] != want {
			t.Errorf("1 %d: %v %v", what, r, ok)
		}
	}
	if _, ok := root.Section([]int{1, 1}, Whole); ok {
		t.Error("1.1 of a text")
	}
	// The root is a message/rfc822: part 1 is the message inside.
	raw = "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nhello"
	root = mustParse(t, raw)
	for _, c := range []struct {
		path []int
		what What
		want string
	}{
		{nil, Header, "Content-Type: message/rfc822\r\n\r\n"},
		{[]int{1}, Whole, "Subject: in\r\n\r\nhello"},
		{[]int{1}, Header, "Subject: in\r\n\r\n"},
		{[]int{1}, Text, "hello"},
		{[]int{1, 1}, Whole, "hello"},
	} {
		if r, ok := root.Section(c.path, c.what); !ok || raw[r.Start:r.End] != c.want {
			t.Errorf("%v %d: %v %v", c.path, c.what, r, ok)
		}
	}
}

func TestFilterFields(t *testing.T) {
	const h = "From: a\r\nTo: b\r\n c\r\nfrom: d\r\nX: e\r\n\r\n"
	for name, c := range map[string]struct {
		header string
		names  []string
		not    bool
		want   string
	}{
		"some":          {h, []string{"FROM", "to"}, false, "From: a\r\nTo: b\r\n c\r\nfrom: d\r\n\r\n"},
		"not":           {h, []string{"FROM", "to"}, true, "X: e\r\n\r\n"},
		"none there":    {h, []string{"Subject"}, false, "\r\n"},
		"no names":      {h, nil, false, "\r\n"},
		"not no names":  {h, nil, true, h},
		"empty":         {"", []string{"From"}, false, "\r\n"},
		"no empty line": {"From: a", []string{"From"}, false, "From: a\r\n\r\n"},
		"garbage":       {"hello\r\nFrom: a\r\nworld\r\nX: b\r\n\r\n", []string{"From", "X"}, false, "From: a\r\nX: b\r\n\r\n"},
	} {
		if got := string(FilterFields([]byte(c.header), c.names, c.not)); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestDecoder(t *testing.T) {
	for _, c := range []struct{ cte, in, want string }{
		{"7bit", "a=b\r\n", "a=b\r\n"}, {"", "a", "a"}, {"8bit", "\xff", "\xff"}, {"binary", "\x00\r", "\x00\r"},
		{"base64", "SGVsbG8=", "Hello"},
		{"base64", "SGVs\r\nbG8=\r\n", "Hello"},
		{"base64", "S G!V*s\tbG8", "Hello"},
		{"base64", "SGVsbG8", "Hello"},
		{"base64", "SGVsbA", "Hell"},
		{"base64", "SGVsbG8=SGVsbG8=", "HelloHello"},
		{"base64", "SGVsbA==\r\nbyE=", "Hello!"},
		{"base64", "SGVsb", "Hel"},
		{"base64", "====", ""},
		{"base64", "", ""},
		{"quoted-printable", "a=3Db=20=\r\nc\r\n", "a=b c\r\n"},
		{"quoted-printable", "a=c3=A9", "aé"},
		{"quoted-printable", "a  \t\r\nb \n", "a\r\nb\n"},
		{"quoted-printable", "a b  ", "a b"},
		{"quoted-printable", "a= \t\r\nb=\nc=", "abc"},
		{"quoted-printable", "a=\r", "a"},
		{"quoted-printable", "a=ZZ=4", "a=ZZ=4"},
		{"quoted-printable", "a\rb \r", "a\rb \r"},
		{"quoted-printable", "\xff=\xff", "\xff=\xff"},
		{"quoted-printable", "a=20\r\n", "a \r\n"},
		{"quoted-printable", "a" + strings.Repeat(" ", 3000) + "b", "a" + strings.Repeat(" ", 3000) + "b"},
		{"quoted-printable", "=" + strings.Repeat(" ", 3000) + "b", "=" + strings.Repeat(" ", 3000) + "b"},
	} {
		for name, in := range map[string]io.Reader{
			"whole": strings.NewReader(c.in), "one byte": iotest.OneByteReader(strings.NewReader(c.in)), "data with EOF": iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			r, err := NewDecoder(in, c.cte)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(iotest.OneByteReader(r))
			if err != nil || string(got) != c.want {
				t.Errorf("%s %.40q %s: %.40q, %v", c.cte, c.in, name, got, err)
			}
		}
	}
	for _, cte := range []string{"base64", "quoted-printable"} {
		r, err := NewDecoder(io.MultiReader(strings.NewReader("QUJD"), iotest.ErrReader(os.ErrClosed)), cte)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); !errors.Is(err, os.ErrClosed) || len(got) < 3 {
			t.Errorf("%s: %q, %v", cte, got, err)
		}
	}
	if _, err := NewDecoder(nil, "x-uuencode"); !errors.Is(err, errs.Unsupported) {
		t.Error(err)
	}
}

func FuzzDecoder(f *testing.F) {
	for _, s := range []string{"SGVsbG8=", "a=3D =\r\nb", "= \t\r\n", "====", "=4"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, cte := range []string{"base64", "quoted-printable"} {
			var out [2]string
			for i := range out {
				var in io.Reader = strings.NewReader(string(b))
				if i == 1 {
					in = iotest.OneByteReader(in)
				}
				r, err := NewDecoder(in, cte)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || len(got) > len(b) {
					t.Fatalf("%s: %d bytes of %d, %v", cte, len(got), len(b), err)
				}
				out[i] = string(got)
			}
			if out[0] != out[1] {
				t.Fatalf("%s: %q and %q", cte, out[0], out[1])
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	raw, err := os.ReadFile("testdata/stored/encrypted.eml")
	if err != nil {
		b.Fatal(err)
	}
	line := strings.Repeat("x", 64) + "\r\n"
	raw = []byte(strings.Replace(string(raw), "wV4DQ3d16YKMtKUSAQdA\r\n", strings.Repeat(line, 145), 1))
	b.Run(fmt.Sprintf("%dkB", len(raw)/1000), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			root, err := Parse(raw)
			if err != nil || len(Encode(root)) == 0 {
				b.Fatal(err)
			}
		}
	})
}
