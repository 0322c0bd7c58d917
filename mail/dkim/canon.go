package dkim

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"strings"

	"postern.email/mail"
)

// bodyHash is the hash of a body in one canonical form.
type bodyHash struct {
	done bool
	sum  [sha256.Size]byte
	size int64 // bytes of the canonical form
}

func (m *message) hash(relaxed bool) bodyHash {
	i := 0
	if relaxed {
		i = 1
	}
	if b := &m.hashes[i]; !b.done {
		c := counter{Hash: sha256.New()}
		w := bufio.NewWriterSize(&c, 16<<10)
		if relaxed {
			relaxedBody(w, m.body)
		} else {
			simpleBody(w, m.body)
		}
		w.Flush() // a hash takes everything
		*b = bodyHash{done: true, size: c.n}
		c.Sum(b.sum[:0])
	}
	return m.hashes[i]
}

type counter struct {
	hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.Hash.Write(p)
}

var crlf = []byte("\r\n")

// simpleBody: empty lines at the end are one line end, which is there in any case (RFC
// 6376 §3.4.3). The body may come in parts.
func simpleBody(w io.Writer, body ...[]byte) {
	size := 0
	for _, p := range body {
		size += len(p)
	}
	for size >= 2 && byteAt(body, size-1) == '\n' && byteAt(body, size-2) == '\r' {
		size -= 2
	}
	for _, p := range body {
		n := min(len(p), size)
		w.Write(p[:n])
		size -= n
	}
	w.Write(crlf)
}

// byteAt gives the byte at place i of the parts together.
func byteAt(parts [][]byte, i int) byte {
	for _, p := range parts {
		if i < len(p) {
			return p[i]
		}
		i -= len(p)
	}
	return 0
}

// relaxedBody: in a line white space is one space, none at its end; empty lines at the
// end are nothing (§3.4.4).
func relaxedBody(w *bufio.Writer, body []byte) {
	empty := 0
	for len(body) > 0 {
		line := body
		if i := bytes.Index(body, crlf); i >= 0 {
			line, body = body[:i], body[i+2:]
		} else {
			body = nil
		}
		line = bytes.TrimRight(line, " \t")
		if len(line) == 0 {
			empty++
			continue
		}
		for ; empty > 0; empty-- {
			w.Write(crlf)
		}
		for len(line) > 0 {
			i := bytes.IndexAny(line, " \t")
			if i < 0 {
				w.Write(line)
				break
			}
			w.Write(line[:i])
			w.WriteByte(' ')
			line = bytes.TrimLeft(line[i:], " \t")
		}
		w.Write(crlf)
	}
}

// digest is the hash that is signed: the named fields, then the signature itself
// without its b= (§3.7). own is the place of the signature, which was not there when it
// was made.
func (m *message) digest(s signature, own int) []byte {
	d := sha256.New()
	w := bufio.NewWriterSize(d, 4<<10)
	writeFields(w, m.fields, s.headers, own, s.relaxedHeader)
	writeField(w, withoutB(m.fields[own].Raw), s.relaxedHeader)
	w.Flush()
	return d.Sum(nil)
}

// writeFields writes the named fields from the bottom up (§5.4.2). A name beyond the
// fields of that name stands for nothing: so a signer forbids adding one. own is the place
// of a field that is left out, -1 for none.
func writeFields(w *bufio.Writer, fields []mail.Field, names []string, own int, relaxed bool) {
	at := make(map[string][]int)
	for i, f := range fields {
		if i != own {
			name := strings.ToLower(f.Name)
			at[name] = append(at[name], i)
		}
	}
	for _, name := range names {
		if left := at[name]; len(left) > 0 {
			last := left[len(left)-1]
			at[name] = left[:len(left)-1]
			writeField(w, fields[last].Raw, relaxed)
			if relaxed {
				w.Write(crlf)
			}
		}
	}
}

// writeField writes a field as it is, or in the relaxed form (§3.4.2) without line end.
func writeField(w *bufio.Writer, raw []byte, relaxed bool) {
	if !relaxed {
		w.Write(raw)
		return
	}
	colon := bytes.IndexByte(raw, ':')
	for _, c := range bytes.TrimRight(raw[:colon], " \t") {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		w.WriteByte(c)
	}
	w.WriteByte(':')
	word, space := false, false
	for _, c := range raw[colon+1:] {
		switch c {
		case '\r', '\n':
		case ' ', '\t':
			space = word
		default:
			if space {
				w.WriteByte(' ')
			}
			w.WriteByte(c)
			word, space = true, false
		}
	}
}
