package mime

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

var update = flag.Bool("update", false, "write the golden vectors of the stored form anew")

// The stored form never changes without a new version: mailboxes hold it.
func TestStoredGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/stored/*.eml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		root, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := Encode(root)
		golden := strings.TrimSuffix(f, ".eml") + ".hex"
		if *update {
			if err := os.WriteFile(golden, []byte(fold(hex.EncodeToString(got))), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: stored as %x", f, got)
		}
		back, err := Decode(want)
		if err != nil || !reflect.DeepEqual(back, root) {
			t.Errorf("%s: %+v, %v", f, back, err)
		}
	}
}

func fold(s string) string {
	var b strings.Builder
	for len(s) > 80 {
		b.WriteString(s[:80] + "\n")
		s = s[80:]
	}
	return b.String() + s + "\n"
}

func TestDecodeMalformed(t *testing.T) {
	raw, err := os.ReadFile("testdata/stored/forwarded.eml")
	if err != nil {
		t.Fatal(err)
	}
	root, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	good := Encode(root)
	for i := range good { // cut off anywhere
		if _, err := Decode(good[:i]); !errors.Is(err, errs.Corrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); !errors.Is(err, errs.Corrupt) {
		t.Errorf("one octet behind: %v", err)
	}
	if _, err := Decode(append([]byte{storedVersion + 1}, good[1:]...)); !errors.Is(err, errs.Unsupported) {
		t.Errorf("later version: %v", err)
	}
	if _, err := Decode(append([]byte{0}, good[1:]...)); !errors.Is(err, errs.Corrupt) {
		t.Errorf("version 0: %v", err)
	}
	leaf := func(kind byte, rest ...byte) []byte {
		b := append([]byte{1, kind, 4}, "text\x05plain\x047bit\x00"...)
		return append(b, rest...)
	}
	if _, err := Decode(leaf(0, 0, 2, 3, 1)); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"unknown kind":            leaf(32, 0, 2, 3, 1),
		"parts in a leaf":         leaf(hasParts, 0, 2, 3, 1, 0),
		"message in text":         leaf(hasMessage, 0, 2, 3, 1),
		"more lines than octets":  leaf(0, 0, 2, 3, 4),
		"offset beyond 4 GiB":     leaf(0, 0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0),
		"number without end":      leaf(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"string beyond the end":   {1, 0, 0xff, 0x7f, 'a'},
		"too many parameters":     append([]byte{1, 0, 0, 0, 0, maxParams + 1}, make([]byte, 1000)...),
		"multipart without parts": append([]byte{1, 0}, "\x09multipart\x05mixed\x00\x00\x00\x00\x00\x00"...),
		"nothing":                 {},
	} {
		if _, err := Decode(b); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// check walks a tree and reports what must never be.
func check(t *testing.T, p *Part, from, to int64, depth int, message bool) (parts int) {
	t.Helper()
	if p.HeaderStart < from || p.HeaderStart > p.BodyStart || p.BodyStart > p.BodyEnd || p.BodyEnd > to {
		t.Fatalf("offsets %d %d %d outside of %d..%d", p.HeaderStart, p.BodyStart, p.BodyEnd, from, to)
	}
	if p.Lines < 0 || p.Lines > p.Size() {
		t.Fatalf("%d lines in %d octets", p.Lines, p.Size())
	}
	if p.MediaType == "" || p.Subtype == "" || p.Encoding == "" || (p.Envelope != nil) != message {
		t.Fatalf("%+v", p)
	}
	if (len(p.Parts) > 0) != p.Multipart() || p.Message != nil && !p.isMessage() || depth > MaxDepth {
		t.Fatalf("%s/%s with %d parts at depth %d", p.MediaType, p.Subtype, len(p.Parts), depth)
	}
	at := p.BodyStart
	for _, c := range p.Parts {
		parts += check(t, c, at, p.BodyEnd, depth+1, false)
		at = c.BodyEnd
	}
	if p.Message != nil {
		parts += check(t, p.Message, p.BodyStart, p.BodyEnd, depth+1, true)
	}
	return parts + 1
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/stored/*.eml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/digest; boundary=bb\n\n--bb\n--bb--\n--b--"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		root, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		check(t, root, 0, int64(len(raw)), 0, true)
		if root.HeaderStart != 0 || root.BodyEnd != int64(len(raw)) {
			t.Fatalf("the root is %d..%d of %d", root.HeaderStart, root.BodyEnd, len(raw))
		}
		b := Encode(root)
		back, err := Decode(b)
		if err != nil || !reflect.DeepEqual(root, back) {
			t.Fatalf("%+v\n%+v\n%v", root, back, err)
		}
		for _, path := range [][]int{nil, {1}, {2}, {1, 1}, {1, 2, 1}} {
			for _, what := range []What{Whole, Header, Text, MIME} {
				r, ok := root.Section(path, what)
				if r.Start < 0 || r.Len() < 0 || r.End > int64(len(raw)) || !ok && r != (Range{}) {
					t.Fatalf("%v %d: %v %v", path, what, r, ok)
				}
			}
		}
		if r, ok := root.Section(nil, Header); ok {
			FilterFields(raw[r.Start:r.End], []string{"From"}, true)
		}
		DecodeParams(root.Params)
		root.FileName()
	})
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/stored/*.eml")
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		root, err := Parse(raw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(Encode(root))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := Decode(b)
		if err != nil {
			if root != nil {
				t.Fatal("a tree and an error")
			}
			return
		}
		again, err := Decode(Encode(root))
		if err != nil || !reflect.DeepEqual(root, again) {
			t.Fatalf("%+v\n%+v\n%v", root, again, err)
		}
	})
}
