package canary_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cockroachdb/pebble/v2"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"postern.email/interop/canary"
)

const planted = "Kanarienvogel-Größe-4711=x"

func searcher(t *testing.T) *canary.Searcher {
	t.Helper()
	s, err := canary.New(map[string]string{"bird": planted, "other": "this one is never planted"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
}

func compressed(t *testing.T, w func(io.Writer) io.WriteCloser, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := w(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEachDisguiseIsFound plants one canary in every form the package claims to
// see through, between noise.
func TestEachDisguiseIsFound(t *testing.T) {
	// Repeated, so that a compressor replaces all but the first by copies, and
	// halved by a prefix, so that not even the first is raw.
	text := []byte(strings.Repeat(planted[:10]+" "+planted+" ", 20))
	u := utf16.Encode([]rune(planted))
	var le, be []byte
	for _, c := range u {
		le, be = append(le, byte(c), byte(c>>8)), append(be, byte(c>>8), byte(c))
	}
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	fmt.Fprint(w, strings.Repeat("y", 60)+planted) // longer than a line: a soft break falls within
	w.Close()
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var qpAll string
	for _, c := range []byte(planted) {
		qpAll += fmt.Sprintf("=%02X", c)
	}
	mimeLines := func(offset int) []byte {
		s := base64.StdEncoding.EncodeToString(append(noise(50+offset), planted...))
		return []byte(s[:76] + "\r\n" + s[76:])
	}
	forms := map[string][]byte{
		"raw":                      []byte(planted),
		"lower case":               []byte(strings.ToLower(planted)),
		"base64 +0":                []byte(base64.StdEncoding.EncodeToString([]byte(planted + "tail"))),
		"base64 +1":                []byte(base64.StdEncoding.EncodeToString([]byte("a" + planted + "tail"))),
		"base64 +2":                []byte(base64.StdEncoding.EncodeToString([]byte("ab" + planted + "tail"))),
		"base64 alone":             []byte(base64.StdEncoding.EncodeToString([]byte(planted))),
		"base64url +1":             []byte(base64.URLEncoding.EncodeToString([]byte("\xff" + planted + "\xff\xff"))),
		"base64 over two lines +0": mimeLines(0),
		"base64 over two lines +1": mimeLines(1),
		"base64 over two lines +2": mimeLines(2),
		"quoted-printable":         qp.Bytes(),
		"quoted-printable, all":    []byte(qpAll),
		"quoted-printable, lower":  []byte(strings.ToLower(qpAll)),
		"hex":                      []byte(hex.EncodeToString([]byte(planted))),
		"HEX":                      []byte(strings.ToUpper(hex.EncodeToString([]byte(planted)))),
		"UTF-16LE":                 le,
		"UTF-16BE":                 be,
		"gzip":                     compressed(t, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, text),
		"zlib":                     compressed(t, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }, text),
		"zstd":                     zw.EncodeAll(text, nil),
		"snappy block":             snappy.Encode(nil, text),
		"snappy stream":            compressed(t, func(w io.Writer) io.WriteCloser { return snappy.NewBufferedWriter(w) }, text),
		"base64 in zstd":           zw.EncodeAll([]byte(strings.Repeat(base64.StdEncoding.EncodeToString([]byte("a"+planted+"tail"))+"\n", 9)), nil),
	}
	s := searcher(t)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			for _, lead := range []int{0, 1, 4097} {
				file := append(append(noise(lead), form...), noise(300)...)
				found := false
				for _, h := range s.Bytes("f", file) {
					if h.Canary != "bird" {
						t.Errorf("found what was not planted: %v", h)
					}
					found = true
				}
				if !found {
					t.Errorf("not found behind %d bytes of noise", lead)
				}
			}
		})
	}
	t.Run("bare deflate", func(t *testing.T) {
		form := compressed(t, func(w io.Writer) io.WriteCloser { z, _ := flate.NewWriter(w, 6); return z }, text)
		if len(s.Bytes("f", form)) == 0 {
			t.Error("not found")
		}
	})
}

// TestNothingIsFoundInNoise is the other half: what was not planted is not seen.
func TestNothingIsFoundInNoise(t *testing.T) {
	if hits := searcher(t).Bytes("f", noise(2<<20)); len(hits) != 0 {
		t.Fatalf("found in noise: %v", hits)
	}
}

// TestTableIsFound plants canaries in a Pebble database, with each of its
// compressions, as a value that was overwritten and as a key.
func TestTableIsFound(t *testing.T) {
	settings := map[string]func() pebble.DBCompressionSettings{
		"none": func() pebble.DBCompressionSettings { return pebble.DBCompressionNone },
		"fast": func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest },
		"good": func() pebble.DBCompressionSettings { return pebble.DBCompressionGood },
	}
	for name, setting := range settings {
		for _, where := range []string{"key", "value"} {
			t.Run(name+" "+where, func(t *testing.T) {
				dir := t.TempDir()
				o := &pebble.Options{FormatMajorVersion: pebble.FormatNewest, DisableWAL: true}
				o.ApplyCompressionSettings(setting)
				db, err := pebble.Open(dir, o)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 500 {
					key, value := fmt.Sprintf("key %d", i), "harmless"
					if where == "key" {
						key += planted
					} else {
						value = strings.Repeat(planted[:9], 5) + planted
					}
					if err := db.Set([]byte(key), []byte(value), pebble.NoSync); err != nil {
						t.Fatal(err)
					}
				}
				if err := db.Flush(); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
				if err != nil || len(tables) == 0 {
					t.Fatalf("no table: %v", err)
				}
				hits, err := searcher(t).Tree(dir)
				if err != nil {
					t.Fatal(err)
				}
				inTable := 0
				for _, h := range hits {
					if strings.HasSuffix(h.File, ".sst") && strings.HasPrefix(h.How, "table "+where) {
						inTable++
					}
				}
				if inTable < 500 {
					t.Errorf("%d of 500 found in the table", inTable)
				}
			})
		}
	}
}

func TestFileNamesAreSearched(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", planted), 0o755); err != nil {
		t.Fatal(err)
	}
	hits, err := searcher(t).Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(hits) != 1 || !strings.Contains(hits[0].How, "file name") {
		t.Fatalf("hits: %v", hits)
	}
}

func TestShortCanaryIsRefused(t *testing.T) {
	if _, err := canary.New(map[string]string{"short": "too short"}); err == nil {
		t.Fatal("a canary that turns up by chance was accepted")
	}
}
