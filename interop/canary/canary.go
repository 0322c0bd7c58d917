// Package canary looks for planted strings in everything a program left on
// disk: as they are, and in the disguises in which mail and storage engines
// keep bytes (base64 at each of its three offsets, quoted-printable, hex,
// UTF-16, compressed blocks, Pebble tables).
//
// It proves presence, not absence: what it does not know to unpack, it does not
// see. Its own tests plant a canary in each disguise it claims to see through.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// MinLength is the shortest canary, in bytes: shorter ones turn up by chance.
const MinLength = 12

// MaxFile bounds how much of one file is held in memory; a larger file is an
// error, not a silent gap.
const MaxFile = 1 << 30

// Hit is one canary found.
type Hit struct {
	File   string // path below the root
	Canary string // name it was planted under
	How    string // "raw", "hex", "zstd at 4711: base64", ...
	Offset int    // within the file, or within what was unpacked
}

func (h Hit) String() string {
	return fmt.Sprintf("%s: canary %q as %s at offset %d", h.File, h.Canary, h.How, h.Offset)
}

type pattern struct {
	canary, how string
	text        []byte
}

// Searcher looks for a fixed set of canaries. It is safe for concurrent use.
type Searcher struct {
	first    [1 << 16]bool // first two bytes of any pattern
	patterns map[[4]byte][]pattern
}

// New prepares the search; canaries maps names to what was planted.
func New(canaries map[string]string) (*Searcher, error) {
	s := &Searcher{patterns: map[[4]byte][]pattern{}}
	for name, value := range canaries {
		if len(value) < MinLength {
			return nil, fmt.Errorf("canary %q is shorter than %d bytes", name, MinLength)
		}
		for how, text := range disguises(value) {
			key := [4]byte(text[:4])
			s.first[binary.LittleEndian.Uint16(text)] = true
			s.patterns[key] = append(s.patterns[key], pattern{name, how, text})
		}
	}
	return s, nil
}

// disguises lists the forms of a value that one scan looks for.
func disguises(value string) map[string][]byte {
	raw := []byte(value)
	all := map[string][]byte{"raw": raw}
	add := func(how string, text []byte) {
		for _, have := range all {
			if bytes.Equal(have, text) {
				return
			}
		}
		all[how] = text
	}
	add("lower case", bytes.ToLower(raw))
	add("upper case", bytes.ToUpper(raw))
	add("hex", []byte(hex.EncodeToString(raw)))
	add("HEX", []byte(strings.ToUpper(hex.EncodeToString(raw))))
	for i := range 3 {
		add(fmt.Sprintf("base64 +%d", i), base64Inner(base64.RawStdEncoding, raw, i))
		add(fmt.Sprintf("base64url +%d", i), base64Inner(base64.RawURLEncoding, raw, i))
	}
	var qp, qpLower []byte
	for _, c := range raw {
		qp = fmt.Appendf(qp, "=%02X", c)
		qpLower = fmt.Appendf(qpLower, "=%02x", c)
	}
	add("quoted-printable", qp)
	add("quoted-printable (lower case)", qpLower)
	add("quoted-printable (only what must be)", qpNeeded(raw))
	var le, be []byte
	for _, u := range utf16.Encode([]rune(value)) {
		le = binary.LittleEndian.AppendUint16(le, u)
		be = binary.BigEndian.AppendUint16(be, u)
	}
	add("UTF-16LE", le)
	add("UTF-16BE", be)
	reversed := bytes.Clone(raw)
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	add("reversed", reversed)
	return all
}

// base64Inner gives the characters that depend on value alone when it starts
// at a position that leaves offset after division by three.
func base64Inner(enc *base64.Encoding, value []byte, offset int) []byte {
	padded := append(make([]byte, offset), value...)
	text := enc.EncodeToString(padded)
	start := (offset*8 + 5) / 6 // first character without a bit of the padding
	end := len(padded) * 8 / 6  // last characters may hold bits of what follows
	return []byte(text[start:end])
}

// qpNeeded is quoted-printable that escapes only "=" and bytes beyond ASCII.
func qpNeeded(raw []byte) []byte {
	var out []byte
	for _, c := range raw {
		if c == '=' || c < 0x20 || c > 0x7e {
			out = fmt.Appendf(out, "=%02X", c)
		} else {
			out = append(out, c)
		}
	}
	return out
}

// Tree searches every file below root, and the names of files themselves.
func (s *Searcher) Tree(root string) ([]Hit, error) {
	var all []Hit
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, h := range s.scan([]byte(rel)) {
			h.File, h.How = rel, "file name, "+h.How
			all = append(all, h)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > MaxFile {
			return fmt.Errorf("%s: larger than %d bytes", rel, MaxFile)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, s.Bytes(rel, data)...)
		return nil
	})
	return all, err
}

// Bytes searches one file's content.
func (s *Searcher) Bytes(name string, data []byte) []Hit {
	var all []Hit
	add := func(prefix string, part []byte) {
		for _, h := range s.scan(part) {
			h.File, h.How = name, prefix+h.How
			all = append(all, h)
		}
		// Line breaks cut base64 and quoted-printable texts in two.
		if flat, changed := unfold(part); changed {
			for _, h := range s.scan(flat) {
				h.File, h.How = name, prefix+"without line breaks, "+h.How
				all = append(all, h)
			}
		}
	}
	add("", data)
	unpack(data, func(how string, part []byte) { add(how+": ", part) })
	if strings.HasSuffix(name, ".sst") {
		table(data, func(how string, part []byte) { add(how+": ", part) })
	}
	return all
}

// scan finds all patterns in data in one pass.
func (s *Searcher) scan(data []byte) []Hit {
	var hits []Hit
	for i := 0; i+4 <= len(data); i++ {
		if !s.first[uint16(data[i])|uint16(data[i+1])<<8] {
			continue
		}
		for _, p := range s.patterns[[4]byte(data[i:i+4])] {
			if bytes.HasPrefix(data[i:], p.text) {
				hits = append(hits, Hit{Canary: p.canary, How: p.how, Offset: i})
			}
		}
	}
	return hits
}

// unfold removes soft line breaks of quoted-printable and all other line breaks.
func unfold(data []byte) (flat []byte, changed bool) {
	if !bytes.ContainsAny(data, "\r\n") {
		return data, false
	}
	flat = make([]byte, 0, len(data))
	for i, c := range data {
		soft := c == '=' && i+1 < len(data) && (data[i+1] == '\r' || data[i+1] == '\n')
		if c != '\r' && c != '\n' && !soft {
			flat = append(flat, c)
		}
	}
	return flat, true
}
