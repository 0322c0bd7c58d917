package imap

import (
	"errors"
	"io"

	"postern.email/kit/errs"
	"postern.email/mail/mime"
)

// errNoPart says that there is no such part.
var errNoPart = errors.New("no such part")

// decodedPart gives a part without its content transfer encoding. Parts that hold
// others have none, and are given as they are (RFC 3516 §4.2: their data is 7bit,
// 8bit or binary); so is the whole message.
func decodedPart(it *fetchItem, tree *mime.Part, body Body) (io.Reader, error) {
	r, encoding := mime.Range{Start: 0, End: body.Size()}, ""
	if len(it.path) > 0 {
		var ok bool
		if r, ok = tree.Section(it.path, mime.Whole); !ok || r.End > body.Size() {
			return nil, errNoPart
		}
		if p := tree.Find(it.path); p != nil && len(p.Parts) == 0 && p.Message == nil {
			encoding = p.Encoding
		}
	}
	return mime.NewDecoder(io.NewSectionReader(body, r.Start, r.Len()), encoding)
}

// binarySizes gives the decoded sizes of the BINARY and BINARY.SIZE items by their
// place, -1 for parts that do not exist. It runs before the response begins: the
// size is told before the data, so a part is decoded twice rather than held in
// memory, and what cannot be decoded is still an honest NO.
func (f *fetch) binarySizes(tree *mime.Part, lazy *lazyBody) (map[int]int64, error) {
	var sizes map[int]int64
	for i := range f.items {
		it := &f.items[i]
		if it.kind != itemBinary && it.kind != itemBinarySize {
			continue
		}
		if sizes == nil {
			sizes = make(map[int]int64)
		}
		body, err := lazy.get()
		if err != nil {
			return nil, err
		}
		src, err := decodedPart(it, tree, body)
		switch {
		case errors.Is(err, errNoPart):
			sizes[i] = -1
			if it.kind == itemBinarySize {
				sizes[i] = 0
			}
			continue
		case err == nil:
			sizes[i], err = io.Copy(io.Discard, src)
		}
		if k := errs.KindOf(err); err != nil && (k == errs.Unsupported || k == errs.Invalid) {
			return nil, no("UNKNOWN-CTE", "The part cannot be decoded")
		}
		if err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// binary writes BINARY[…] (RFC 9051 §6.4.5, RFC 3516).
func (f *fetch) binary(it *fetchItem, tree *mime.Part, lazy *lazyBody, size int64) error {
	w := &f.c.w
	w.s(it.name)
	if it.partial {
		w.s("<").u(it.offset).s(">")
	}
	if size < 0 {
		w.s(" NIL")
		return w.err
	}
	offset, length := int64(0), size
	if it.partial {
		offset = int64(min(it.offset, uint64(size)))
		length = int64(min(it.len, uint64(size-offset)))
	}
	body, err := lazy.get()
	if err != nil {
		return err
	}
	src, err := decodedPart(it, tree, body)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, src, offset); err != nil {
		return err
	}
	w.s(" ~{").u(uint64(length)).s("}\r\n")
	_, err = io.CopyN(w, src, length)
	return err
}
