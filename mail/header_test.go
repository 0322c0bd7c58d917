package mail

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"postern.email/kit/errs"
)

func parse(t *testing.T, s string) Header {
	t.Helper()
	h, _, err := ParseHeader([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestParseHeader(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		fields []string // name=value
		off    int
		err    error
	}{
		"empty":               {"", nil, 0, nil},
		"no fields":           {"\r\nbody", nil, 2, nil},
		"one":                 {"A: b\r\n\r\nbody", []string{"A=b"}, 8, nil},
		"no empty line":       {"A: b\r\n", []string{"A=b"}, 6, nil},
		"no line end":         {"A: b", []string{"A=b"}, 4, nil},
		"LF":                  {"A: b\nC: d\n\nbody", []string{"A=b", "C=d"}, 11, nil},
		"folded":              {"A: b\r\n\tc\r\n  d\r\nE: f\r\n\r\n", []string{"A=b\tc  d", "E=f"}, 23, nil},
		"fold of white space": {"A: b\r\n \r\nE: f\r\n\r\n", []string{"A=b", "E=f"}, 17, nil},
		"no value":            {"A:\r\nB: \r\n\r\n", []string{"A=", "B="}, 11, nil},
		"no space":            {"A:b:c\r\n\r\n", []string{"A=b:c"}, 9, nil},
		"space before colon":  {"A \t: b\r\n\r\n", []string{"A=b"}, 10, nil},
		"8-bit value, NUL":    {"A: \xff\x00é\r\n\r\n", []string{"A=\xff é"}, 11, nil},
		"bare CR":             {"A: b\rc\r\n\r\n", []string{"A=bc"}, 10, nil},

		"no colon":         {"A: b\r\nhello\r\n\r\n", []string{"A=b"}, 6, errs.Invalid},
		"space in name":    {"A b: c\r\n\r\n", nil, 0, errs.Invalid},
		"no name":          {": c\r\n\r\n", nil, 0, errs.Invalid},
		"8-bit name":       {"Ä: c\r\n\r\n", nil, 0, errs.Invalid},
		"control in name":  {"A\x01: c\r\n\r\n", nil, 0, errs.Invalid},
		"folded first":     {" A: b\r\n\r\n", nil, 0, errs.Invalid},
		"mbox line":        {"From a@b Mon Jan\r\nA: b\r\n\r\n", nil, 0, errs.Invalid},
		"too large":        {"A: b\r\nB: " + strings.Repeat("x", MaxHeaderBytes), []string{"A=b"}, 6, errs.TooLarge},
		"too large folded": {"A: b\r\n" + strings.Repeat(" 123456789\r\n", MaxHeaderBytes/12+1), nil, 6 + 12*((MaxHeaderBytes-6)/12), errs.TooLarge},
		"too many":         {strings.Repeat("A:\r\n", MaxFields+1), nil, 4 * MaxFields, errs.TooLarge},
	} {
		h, off, err := ParseHeader([]byte(c.in))
		if off != c.off || !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s: offset %d, %v", name, off, err)
		}
		if c.err == errs.TooLarge && c.fields == nil {
			continue
		}
		var got []string
		for _, f := range h.Fields() {
			got = append(got, f.Name+"="+f.Value())
		}
		if !reflect.DeepEqual(got, c.fields) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, _, err := ParseHeader([]byte(strings.Repeat("A:\r\n", MaxFields))); err != nil {
		t.Error(err)
	}
}

func TestHeaderAccess(t *testing.T) {
	h := parse(t, "Received: 1\r\nTo: a\r\nreceived: 2\r\n\r\n")
	if h.Get("RECEIVED") != "1" || h.Get("x") != "" || h.Count("Received") != 2 || h.Count("x") != 0 {
		t.Error("Get, Count")
	}
	if got := h.All("Received"); !reflect.DeepEqual(got, []string{"1", "2"}) {
		t.Error(got)
	}
}

func TestHeaderEdits(t *testing.T) {
	const in = "A: 1\r\nB: 2\r\n  x\r\na: 3\r\n\r\n"
	h := parse(t, in)
	for name, c := range map[string]struct {
		h    Header
		want string
	}{
		"none":            {h, in},
		"remove":          {h.Remove("A", "none"), "B: 2\r\n  x\r\n\r\n"},
		"replace":         {h.Replace("a", "9"), "a: 9\r\nB: 2\r\n  x\r\n\r\n"},
		"replace missing": {h.Replace("C", "9"), "A: 1\r\nB: 2\r\n  x\r\na: 3\r\nC: 9\r\n\r\n"},
		"prepend":         {h.Prepend("C", "9"), "C: 9\r\nA: 1\r\nB: 2\r\n  x\r\na: 3\r\n\r\n"},
		"append":          {h.Append("C", "9"), "A: 1\r\nB: 2\r\n  x\r\na: 3\r\nC: 9\r\n\r\n"},
		"injection":       {h.Remove("A", "B").Append("C", "9\r\nBcc: x\x00y"), "C: 9  Bcc: x y\r\n\r\n"},
		"LF is mended":    {parse(t, "A: 1\n b\nC: 2"), "A: 1\r\n b\r\nC: 2\r\n\r\n"},
		"empty":           {Header{}, "\r\n"},
	} {
		if got := string(c.h.Bytes()); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := string(h.Bytes()); got != in {
		t.Errorf("the first header changed: %q", got)
	}
	// Two appends to one header do not share room.
	x, y := h.Append("X", "1"), h.Append("Y", "2")
	if x.Get("X") != "1" || y.Get("Y") != "2" || x.Count("Y") != 0 {
		t.Error("appends share memory")
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	name := rapid.StringMatching(`[!-9;-~]{1,20}`)
	value := rapid.StringMatching(`( ?[ -~é]{0,30}\r\n)([ \t][ -~]{0,20}\r\n){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		var b bytes.Buffer
		n := rapid.IntRange(0, 40).Draw(t, "n")
		for range n {
			b.WriteString(name.Draw(t, "name") + ":" + value.Draw(t, "value"))
		}
		b.WriteString("\r\n")
		h, off, err := ParseHeader(append(bytes.Clone(b.Bytes()), "body"...))
		if err != nil || off != b.Len() || len(h.Fields()) != n || !bytes.Equal(h.Bytes(), b.Bytes()) {
			t.Fatalf("%q: %d fields, %d, %v", b.String(), len(h.Fields()), off, err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"A: b\r\n c\r\n\r\nbody", "A : b\n\n", "From x\r\n", "\r\n", "A: b\r\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, off, err := ParseHeader(raw)
		if off < 0 || off > len(raw) || len(h.Fields()) > MaxFields {
			t.Fatal(off)
		}
		pos := 0
		for _, x := range h.Fields() {
			if !bytes.Equal(raw[pos:pos+len(x.Raw)], x.Raw) || !bytes.HasPrefix(x.Raw, []byte(x.Name)) {
				t.Fatalf("field %q is not the bytes at %d", x.Name, pos)
			}
			if strings.ContainsAny(x.Value(), "\r\n\x00") {
				t.Fatalf("value %q", x.Value())
			}
			pos += len(x.Raw)
		}
		if pos > off {
			t.Fatal("fields beyond the body")
		}
		if err == nil {
			b := h.Bytes()
			g, n, err := ParseHeader(b)
			if len(b) < MaxHeaderBytes && (err != nil || n != len(b) || !bytes.Equal(g.Bytes(), b)) {
				t.Fatalf("%q: %v", b, err)
			}
		}
		FromAddress(h)
	})
}
