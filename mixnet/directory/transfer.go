package directory

import (
	"bytes"
	"compress/flate"
	"io"

	"postern.email/kit/errs"
)

var packedForm = form{{"size", 1, 1, 1, 0}}

// Pack makes a document smaller for its way over a link: keys and hashes in base64 and hex
// lose a quarter and more.
func Pack(doc []byte) []byte {
	w := &writer{}
	w.line("postern-packed", 1)
	w.line("size", len(doc))
	out := bytes.NewBuffer(w.b)
	// Nothing in a document repeats but keywords; a higher level finds no more and takes longer.
	z, err := flate.NewWriter(out, flate.BestSpeed)
	if err == nil {
		_, err = z.Write(doc)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return doc // cannot be: the level exists, and a buffer takes everything
	}
	return out.Bytes()
}

// Unpack gives back what Pack was given; what was not packed is given as it is. errs.TooLarge
// for more than limit bytes, which are not unpacked; errs.Invalid for what Pack did not make.
func Unpack(b []byte, limit int) ([]byte, error) {
	const op = "directory.Unpack"
	if title(b) != "postern-packed" {
		if len(b) > limit {
			return nil, errs.E(op, errs.TooLarge, "the document is too large", nil)
		}
		return b, nil
	}
	deflated, size, err := readPacked(op, b)
	switch {
	case err != nil:
		return nil, err
	case size > uint64(limit):
		return nil, errs.E(op, errs.TooLarge, "the document is too large", nil)
	}
	in := bytes.NewReader(deflated)
	z := flate.NewReader(in)
	// What is claimed is not allocated before it has come.
	out := bytes.NewBuffer(make([]byte, 0, min(int(size), 8*len(b))))
	if _, err := io.Copy(out, io.LimitReader(z, int64(size)+1)); err != nil {
		return nil, errs.E(op, errs.Invalid, "the document is packed wrongly", err)
	}
	if uint64(out.Len()) != size || in.Len() > 0 {
		return nil, errs.E(op, errs.Invalid, "the document is packed wrongly", nil)
	}
	return out.Bytes(), nil
}

func readPacked(op string, b []byte) (deflated []byte, size uint64, err error) {
	s, err := head(op, "postern-packed", packedForm, b, func(_ string, v *fields) error {
		size = v.uint(0, MaxProof)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return b[s.pos:], size, nil
}

// head reads the lines before bytes that are no lines. The last line of f must be there
// once, and ends them.
func head(op, title string, f form, b []byte, visit func(key string, v *fields) error) (*scanner, error) {
	s, err := begin(op, title, b, len(b))
	if err != nil {
		return nil, err
	}
	for _, k := range f {
		l, err := s.next()
		if err != nil {
			return nil, err
		}
		if l == nil || l.critical || l.key != k.name || len(l.args) != k.args {
			return nil, errs.E(op, errs.Invalid, "no "+k.name, nil)
		}
		v := fields{in: l.args}
		if err := visit(l.key, &v); err != nil {
			return nil, err
		}
		if v.bad != "" {
			return nil, s.fault(errs.Invalid, "%s: %s", l.key, v.bad)
		}
	}
	return s, nil
}

var deltaForm = form{
	{"base", 1, 1, 1, 0},
	{"size", 1, 1, 1, 0},
}

// Delta writes a consensus as what is different from another one that the reader has, with
// all its signatures. From one hour to the next most lines of a large network stay.
func (c *Consensus) Delta(base *Consensus) []byte {
	w := &writer{}
	w.line("postern-delta", 1)
	w.line("base", base.Hash())
	w.line("size", len(c.raw))
	d := delta{w: w, base: base.raw[:base.body], text: c.raw}
	d.write()
	return w.b
}

// delta writes the steps from base to text.
type delta struct {
	w          *writer
	base, text []byte
	from, upTo int // of base: what is to be copied
	add        int // of text: where what is to be added begins
}

func (d *delta) write() {
	once := linesOnce(d.base)
	at := 0
	for at < len(d.text) {
		end := at + bytes.IndexByte(d.text[at:], '\n') + 1
		line := d.text[at:end]
		switch o, ok := once[string(line)]; {
		case d.upTo > d.from && bytes.HasPrefix(d.base[d.upTo:], line):
			d.upTo += len(line) // goes on behind the last one
			d.add = end
		case ok && o >= 0:
			d.flush(at)
			d.from, d.upTo, d.add = o, o+len(line), end
		default:
			// Nothing more is copied: what is added goes on.
			d.copied()
		}
		at = end
	}
	d.flush(at)
}

// linesOnce tells where a line is; -1 if it is there more than once.
func linesOnce(text []byte) map[string]int {
	out := make(map[string]int, len(text)/64)
	for at := 0; at < len(text); {
		end := at + bytes.IndexByte(text[at:], '\n') + 1
		if _, ok := out[string(text[at:end])]; ok {
			out[string(text[at:end])] = -1
		} else {
			out[string(text[at:end])] = at
		}
		at = end
	}
	return out
}

func (d *delta) copied() {
	if d.upTo > d.from {
		d.w.line("copy", d.from, d.upTo-d.from)
		d.from, d.upTo = 0, 0
	}
}

// flush writes what is waiting, up to a place in text.
func (d *delta) flush(at int) {
	d.copied()
	if at > d.add {
		d.w.line("add", at-d.add)
		d.w.b = append(d.w.b, d.text[d.add:at]...)
	}
	d.add = at
}

// OpenConsensus gives the text of a consensus from an answer to RequestConsensus: as it is,
// packed, or as a difference from base (nil: there was none). It verifies nothing: see
// ParseConsensus and Verify. errs.TooLarge beyond MaxConsensus, errs.NotFound if the
// difference is from another consensus than base, errs.Invalid.
func OpenConsensus(answer []byte, base *Consensus) ([]byte, error) {
	const op = "directory.OpenConsensus"
	b, err := Unpack(answer, MaxConsensus)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if title(b) != "postern-delta" {
		return b, nil
	}
	var from Hash
	size := 0
	s, err := head(op, "postern-delta", deltaForm, b, func(key string, v *fields) error {
		switch key {
		case "base":
			from = v.hash()
		case "size":
			size = int(v.uint(1, MaxConsensus))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if base == nil || from != base.Hash() {
		return nil, errs.E(op, errs.NotFound, "the answer is a difference from a consensus that is not here", nil)
	}
	return apply(s, base.raw[:base.body], size)
}

// apply goes the steps of a delta.
func apply(s *scanner, base []byte, size int) ([]byte, error) {
	out := make([]byte, 0, min(size, len(base)+len(s.text)))
	for {
		l, err := s.next()
		if err != nil {
			return nil, err
		}
		if l == nil {
			break
		}
		v := fields{in: l.args}
		switch {
		case l.critical || v.left() < 1:
			return nil, s.fault(errs.Invalid, "neither copy nor add")
		case l.key == "copy" && v.left() == 2:
			at := v.uint(0, uint64(len(base)))
			n := v.uint(1, uint64(len(base))-at)
			if v.bad == "" && n > uint64(size-len(out)) {
				v.fail("more than the size")
			}
			if v.bad == "" {
				out = append(out, base[at:at+n]...)
			}
		case l.key == "add" && v.left() == 1:
			n := int(v.uint(1, uint64(len(s.text)-s.pos)))
			if v.bad == "" && n > size-len(out) {
				v.fail("more than the size")
			}
			if v.bad == "" {
				out = append(out, s.text[s.pos:s.pos+n]...)
				s.pos += n
			}
		default:
			return nil, s.fault(errs.Invalid, "neither copy nor add")
		}
		if v.bad != "" {
			return nil, s.fault(errs.Invalid, "%s: %s", l.key, v.bad)
		}
	}
	if len(out) != size {
		return nil, errs.E(s.op, errs.Invalid, "the difference is not as long as it says", nil)
	}
	return out, nil
}

// Deflated gives the deflated bytes (RFC 1951) of a packed document, for other wrappings; nil
// for what is not packed.
func Deflated(b []byte) []byte {
	if title(b) != "postern-packed" {
		return nil
	}
	deflated, _, err := readPacked("directory.Deflated", b)
	if err != nil {
		return nil
	}
	return deflated
}
