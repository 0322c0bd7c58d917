package directory

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Hash is a SHA-256 sum.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// line is one line of a document, cut at its spaces.
type line struct {
	number   int
	start    int // offset of its first byte
	key      string
	args     []string
	critical bool
}

// scanner reads a document line by line. The first fault ends it.
type scanner struct {
	op   string
	text []byte
	pos  int // behind the line that was peeked at
	n    int
	cur  *line
	keys []PacketKey // that need not be made again
}

// fault is an error of the line that was read last. What documents hold is public, so the
// text may be shown.
func (s *scanner) fault(kind errs.Kind, format string, a ...any) error {
	return errs.E(s.op, kind, fmt.Sprintf("line %d: %s", s.n, fmt.Sprintf(format, a...)), nil)
}

// begin checks the bound, then the first line.
func begin(op, title string, text []byte, limit int) (*scanner, error) {
	s := &scanner{op: op, text: text}
	if len(text) > limit {
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("longer than %d bytes", limit), nil)
	}
	l, err := s.next()
	switch {
	case err != nil:
		return nil, err
	case l == nil || l.critical || l.key != title || len(l.args) != 1:
		return nil, s.fault(errs.Invalid, "no %s", title)
	case l.args[0] != "1":
		return nil, s.fault(errs.Unsupported, "version of %s is unknown", title)
	}
	return s, nil
}

// peek gives the next line without passing it; nil at the end.
func (s *scanner) peek() (*line, error) {
	if s.cur != nil || s.pos == len(s.text) {
		return s.cur, nil
	}
	s.n++
	rest := s.text[s.pos:]
	end := -1
	for i, c := range rest[:min(len(rest), MaxLine+1)] {
		if c == '\n' {
			end = i
			break
		}
		if c < ' ' || c > '~' {
			return nil, s.fault(errs.Invalid, "not printable ASCII")
		}
	}
	if end < 0 {
		if len(rest) > MaxLine {
			return nil, s.fault(errs.TooLarge, "longer than %d bytes", MaxLine)
		}
		return nil, s.fault(errs.Invalid, "no end of line")
	}
	l := &line{number: s.n, start: s.pos, args: strings.Split(string(rest[:end]), " ")}
	for _, a := range l.args {
		if a == "" {
			return nil, s.fault(errs.Invalid, "empty, or an extra space")
		}
	}
	if l.args[0] == "critical" {
		l.critical, l.args = true, l.args[1:]
	}
	if len(l.args) == 0 || !isKeyword(l.args[0]) {
		return nil, s.fault(errs.Invalid, "no keyword")
	}
	l.key, l.args = l.args[0], l.args[1:]
	s.pos += end + 1
	s.cur = l
	return l, nil
}

// next gives the next line; nil at the end.
func (s *scanner) next() (*line, error) {
	l, err := s.peek()
	s.cur = nil
	return l, err
}

func isKeyword(s string) bool { return len(s) <= MaxName && isToken(s, "-") && s[0] >= 'a' }

// isToken reports whether s is made of lower-case letters, digits and the extra characters.
func isToken(s, extra string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(extra, c) < 0 {
			return false
		}
	}
	return s != ""
}

// keyword is the place of one keyword in a form.
type keyword struct {
	name     string
	min, max int // lines
	args     int // of a line
	more     int // further ones that may follow
}

// form is the known keywords of a document or of a part of it, in their order.
type form []keyword

// read visits the known lines up to one whose keyword is in ends, or the end. Unknown lines
// are passed over unless they are critical.
func (s *scanner) read(f form, ends []string, visit func(key string, v *fields) error) error {
	counts := make([]int, len(f))
	at := 0
scan:
	for {
		l, err := s.peek()
		if err != nil {
			return err
		}
		if l == nil {
			break
		}
		for _, e := range ends {
			if l.key == e {
				break scan
			}
		}
		s.cur = nil
		i := 0
		for i < len(f) && f[i].name != l.key {
			i++
		}
		switch {
		case i == len(f) && l.critical:
			return s.fault(errs.Unsupported, "critical keyword is unknown")
		case i == len(f):
			continue
		case l.critical:
			return s.fault(errs.Invalid, "a known keyword is not marked critical")
		case i < at:
			return s.fault(errs.Invalid, "%s is out of order", l.key)
		case counts[i] == f[i].max:
			return s.fault(errs.Invalid, "more than %d of %s", f[i].max, l.key)
		case len(l.args) < f[i].args || len(l.args) > f[i].args+f[i].more:
			return s.fault(errs.Invalid, "wrong number of arguments of %s", l.key)
		}
		counts[i]++
		at = i
		v := fields{in: l.args, keys: s.keys}
		if err := visit(l.key, &v); err != nil {
			return s.fault(errs.KindOf(err), "%s: %s", l.key, errs.Public(err))
		}
		if v.bad != "" {
			return s.fault(errs.Invalid, "%s: %s", l.key, v.bad)
		}
	}
	for i, k := range f {
		if counts[i] < k.min {
			return errs.E(s.op, errs.Invalid, fmt.Sprintf("line %d: too few of %s before it", s.n, k.name), nil)
		}
	}
	return nil
}

// signatures reads the lines that end a document, least to most of them, sorted by signer
// and each once, and tells where what they sign ends.
func (s *scanner) signatures(least, most int) (body int, sigs []Signature, err error) {
	body = -1
	for {
		l, err := s.next()
		if err != nil {
			return 0, nil, err
		}
		if l == nil {
			break
		}
		if body < 0 {
			body = l.start
		}
		if l.key != "signature" || l.critical || len(l.args) != 3 {
			return 0, nil, s.fault(errs.Invalid, "only signatures may follow")
		}
		if len(sigs) == most {
			return 0, nil, s.fault(errs.Invalid, "more than %d of signature", most)
		}
		v := fields{in: l.args}
		g := Signature{Signer: v.id()}
		copy(g.Ed25519[:], v.bytes(len(g.Ed25519)))
		copy(g.MLDSA[:], v.bytes(len(g.MLDSA)))
		if v.bad != "" {
			return 0, nil, s.fault(errs.Invalid, "signature: %s", v.bad)
		}
		if n := len(sigs); n > 0 && compareID(sigs[n-1].Signer, g.Signer) >= 0 {
			return 0, nil, s.fault(errs.Invalid, "signatures are not sorted")
		}
		sigs = append(sigs, g)
	}
	if len(sigs) < least {
		return 0, nil, errs.E(s.op, errs.Invalid, "not signed", nil)
	}
	if body < 0 {
		body = len(s.text)
	}
	return body, sigs, nil
}

// fields reads the arguments of a line. The first malformed one makes it bad; all later
// reads give zero.
type fields struct {
	in   []string
	bad  string
	keys []PacketKey // as in scanner
}

func (f *fields) fail(why string) {
	if f.bad == "" {
		f.bad = why
	}
}

func (f *fields) left() int { return len(f.in) }

func (f *fields) str() string {
	if f.bad != "" || len(f.in) == 0 {
		f.fail("an argument is missing")
		return ""
	}
	s := f.in[0]
	f.in = f.in[1:]
	return s
}

func (f *fields) hash() (h Hash) {
	s := f.str()
	if b, err := hex.DecodeString(s); err != nil || len(b) != len(h) || strings.ToLower(s) != s {
		f.fail("not 64 digits of lower-case hex")
	} else {
		copy(h[:], b)
	}
	return h
}

func (f *fields) id() packet.ID { return packet.ID(f.hash()) }

func (f *fields) bytes(n int) []byte {
	b, err := base64.RawStdEncoding.Strict().DecodeString(f.str())
	if err != nil || len(b) != n {
		f.fail(fmt.Sprintf("not %d bytes of base64", n))
		return make([]byte, n)
	}
	return b
}

// uint reads a number from lo to hi, in its shortest form.
func (f *fields) uint(lo, hi uint64) uint64 {
	s := f.str()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < lo || n > hi || strconv.FormatUint(n, 10) != s {
		f.fail(fmt.Sprintf("not a number from %d to %d", lo, hi))
		return 0
	}
	return n
}

func (f *fields) time() time.Time {
	s := f.str()
	t, err := time.Parse(timeForm, s)
	if err != nil || formatTime(t) != s || t.Unix() < 0 {
		f.fail("not a time like 2006-01-02T15:04:05Z")
		return time.Time{}
	}
	return t
}

// name reads a word of lower-case letters, digits, dots and hyphens.
func (f *fields) name() string {
	s := f.str()
	if len(s) > MaxName || !isToken(s, ".-") {
		f.fail(fmt.Sprintf("not 1 to %d of a-z, 0-9, dot and hyphen", MaxName))
	}
	return s
}

// words reads all that is left as a text of at most that many bytes.
func (f *fields) words(most int) string {
	s := strings.Join(f.in, " ")
	f.in = nil
	if len(s) > most {
		f.fail(fmt.Sprintf("longer than %d bytes", most))
	}
	return s
}

func (f *fields) key() *PublicKey {
	ed, ml := f.bytes(edKeyLen), f.bytes(mlKeyLen)
	if f.bad != "" {
		return nil
	}
	k, err := NewPublicKey(ed, ml)
	if err != nil {
		f.fail("key is malformed")
	}
	return k
}

const timeForm = "2006-01-02T15:04:05Z"

func formatTime(t time.Time) string { return t.UTC().Format(timeForm) }

// writer makes a document.
type writer struct{ b []byte }

func (w *writer) line(parts ...any) {
	for i, p := range parts {
		if i > 0 {
			w.b = append(w.b, ' ')
		}
		switch v := p.(type) {
		case string:
			w.b = append(w.b, v...)
		case Hash:
			w.b = hex.AppendEncode(w.b, v[:])
		case packet.ID:
			w.b = hex.AppendEncode(w.b, v[:])
		case uint64:
			w.b = strconv.AppendUint(w.b, v, 10)
		case int:
			w.b = strconv.AppendInt(w.b, int64(v), 10)
		case time.Time:
			w.b = v.UTC().AppendFormat(w.b, timeForm)
		case []byte:
			w.b = base64.RawStdEncoding.AppendEncode(w.b, v)
		case *PublicKey:
			w.b = base64.RawStdEncoding.AppendEncode(w.b, v.ed)
			w.b = append(w.b, ' ')
			w.b = base64.RawStdEncoding.AppendEncode(w.b, v.ml.Bytes())
		}
	}
	w.b = append(w.b, '\n')
}

func (w *writer) signature(s *Signature) {
	w.line("signature", s.Signer, s.Ed25519[:], s.MLDSA[:])
}
