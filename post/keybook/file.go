package keybook

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
)

// Headers of the PEM blocks that the book writes (docs/keybook.md §2).
const (
	headAddress   = "Address"
	headState     = "State"
	headSince     = "Since"
	headWas       = "Was"
	headCertified = "Certified"
	offered       = "offered" // State of the block with the new key
)

const (
	suffix      = ".pem"
	maxFileName = 255 - len(".tmp") // what file systems take, and what an atomic write appends
)

// fileName gives the name of an address's file: the canonical address with every byte
// that a file system could take for something else as %xx, and ".pem".
func fileName(a mail.Address) string {
	const hex = "0123456789abcdef"
	s := a.Canonical().String()
	b := make([]byte, 0, len(s)+len(suffix))
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c == 0x7f || strings.IndexByte(`/\%:*?"<>|`, c) >= 0 || c == '.' && i == 0 {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b) + suffix
}

// parseName gives the address that a file is for. People write files too, so capitals and the
// like do not matter.
func parseName(name string) (mail.Address, error) {
	const op = "post/keybook.parseName"
	s := strings.TrimSuffix(name, suffix)
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return mail.Address{}, errs.E(op, errs.Invalid, "the file is not named after an address", nil)
		}
		hi, lo := strings.IndexByte("0123456789abcdef", s[i+1]|0x20), strings.IndexByte("0123456789abcdef", s[i+2]|0x20)
		if hi < 0 || lo < 0 {
			return mail.Address{}, errs.E(op, errs.Invalid, "the file is not named after an address", nil)
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	a, err := mail.ParseAddress(string(b))
	if err != nil || a.Domain == "" {
		return mail.Address{}, errs.E(op, errs.Invalid, "the file is not named after an address", err)
	}
	return a.Canonical(), nil
}

// encode gives the file of an entry.
func encode(e *Entry) []byte {
	head := map[string]string{headAddress: e.Address.String(), headState: e.State.String()}
	if !e.Since.IsZero() {
		head[headSince] = e.Since.UTC().Format(time.RFC3339)
	}
	if e.State == Changed {
		head[headWas] = e.Was.String()
	}
	out := pem.EncodeToMemory(&pem.Block{Type: e.Key.Type, Headers: certifiedIn(head, e.Key), Bytes: e.Key.Bytes})
	if e.State == Changed {
		head := certifiedIn(map[string]string{headAddress: e.Address.String(), headState: offered}, e.New)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: e.New.Type, Headers: head, Bytes: e.New.Bytes})...)
	}
	return out
}

func certifiedIn(head map[string]string, k Key) map[string]string {
	if !k.Certified.IsZero() {
		head[headCertified] = k.Certified.UTC().Format(time.RFC3339)
	}
	return head
}

// decode reads a file: what encode wrote, or a key in any form that Parse reads.
func (b *Book) decode(a mail.Address, text []byte) (*Entry, error) {
	const op = "post/keybook.decode"
	bad := func(text string) (*Entry, error) { return nil, errs.E(op, errs.Invalid, text, nil) }
	var blocks []*pem.Block
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
		if len(blocks) > 2 {
			return bad("the file has more than one key")
		}
	}
	if len(blocks) == 0 {
		k, err := b.parse(text)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		return &Entry{Address: a, Key: k, State: File}, nil
	}
	var keys []Key
	for _, block := range blocks {
		if v, ok := block.Headers[headAddress]; ok {
			if of, err := mail.ParseAddress(v); err != nil || !of.Equal(a) {
				return bad("the file is named after one address and says another")
			}
		}
		k, err := b.parse(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		if v, ok := block.Headers[headCertified]; ok {
			if k.Certified, err = time.Parse(time.RFC3339, v); err != nil {
				return bad("the file has a malformed date")
			}
			k.Certified = k.Certified.UTC()
		}
		keys = append(keys, k)
	}
	e := &Entry{Address: a, Key: keys[0], State: File}
	head := blocks[0].Headers
	if v, ok := head[headState]; ok {
		if e.State = stateOf(v); e.State == 0 {
			return bad("the file is of a later version of Postern: update this one")
		}
	}
	if v, ok := head[headSince]; ok {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return bad("the file has a malformed date")
		}
		e.Since = t.UTC()
	}
	if (e.State == Changed) != (len(keys) == 2) {
		return bad("the file has more than one key, or one too few")
	}
	if e.State == Changed {
		e.Was = stateOf(head[headWas])
		if e.Was == 0 || e.Was == Changed || blocks[1].Headers[headState] != offered {
			return bad("the file is malformed")
		}
		e.New = keys[1]
	}
	return e, nil
}

func stateOf(s string) State { return State(max(0, slices.Index(stateNames[:], s))) }

// Rescan reads the directory and the configuration again: what was put there is there, what was taken
// away is gone. A file that cannot be read is reported and keeps no other from being read; its
// recipient has no key until it is mended. errs.Unavailable and the like where the directory itself
// cannot be read; then the book stays as it was.
func (b *Book) Rescan() (Report, error) {
	b.write.Lock()
	defer b.write.Unlock()
	r, err := b.rescan()
	return r, errs.Wrap("post/keybook.Rescan", err)
}

func (b *Book) rescan() (Report, error) {
	const op = "post/keybook.rescan"
	names, err := b.o.FS.List(b.o.Dir)
	if err != nil {
		return Report{}, vfs.Error(op, err)
	}
	// Of two files for one recipient that which the book wrote counts: a crash can leave the
	// one that it took the place of.
	ours := func(name string) int {
		if a, err := parseName(name); err == nil && fileName(a) == name {
			return 0
		}
		return 1
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(cmp.Compare(ours(x), ours(y)), cmp.Compare(x, y)) })
	entries, broken := make(map[mail.Address]*record), make(map[mail.Address]*Bad)
	var bad []*Bad
	note := func(a mail.Address, name string, err error) {
		x := &Bad{Name: name, Err: err}
		bad = append(bad, x)
		if !a.IsZero() && broken[a] == nil {
			broken[a] = x
		}
	}
	for name, text := range b.o.Config {
		a, err := mail.ParseAddress(name)
		if err != nil || a.Domain == "" {
			note(mail.Address{}, name, errs.E(op, errs.Invalid, "Recipients: this is no address", err))
			continue
		}
		a = a.Canonical()
		k, err := b.parse([]byte(text))
		switch {
		case err != nil:
			note(a, name, err)
		case entries[a] != nil:
			note(mail.Address{}, name, errs.E(op, errs.Exists, "Recipients: the address stands there twice", nil))
		default:
			entries[a] = &record{Entry: Entry{Address: a, Key: k, State: Config}}
		}
	}
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		a, err := parseName(name)
		if err != nil {
			note(mail.Address{}, name, err)
			continue
		}
		e, err := b.read(a, name)
		old := entries[a]
		switch {
		case err != nil && errs.KindOf(err) != errs.NotFound:
			note(a, name, err)
		case err != nil: // taken away meanwhile
		case old != nil && old.State == Config && e.State == Changed && e.Was == Config && e.Key.Text == old.Key.Text:
			entries[a] = &record{*e, name}
		case old != nil && old.State == Config && e.Key.Text != old.Key.Text:
			note(mail.Address{}, name, errs.E(op, errs.Exists, "the configuration names another key of this recipient, and counts", nil))
		case old != nil && old.State == Config:
		case e.State == Config || e.Was == Config:
			// The configuration does not name it any more; the file was only about that.
			note(mail.Address{}, name, errs.E(op, errs.Invalid, "the key stood in the configuration and does not any more: remove the file", nil))
		case old != nil:
			note(mail.Address{}, name, errs.E(op, errs.Exists, "there is another file for this recipient, and it counts", nil))
		case len(entries) >= b.o.MaxEntries:
			note(mail.Address{}, name, errs.E(op, errs.Full, "the key book is full", nil))
		default:
			entries[a] = &record{*e, name}
		}
	}
	for a := range entries {
		delete(broken, a) // one of two that could be read
	}
	slices.SortFunc(bad, func(x, y *Bad) int { return cmp.Compare(x.Name, y.Name) })

	b.mu.Lock()
	defer b.mu.Unlock()
	r := Report{Entries: len(entries)}
	for a := range entries {
		if b.entries[a] == nil {
			r.Added++
		}
	}
	for a := range b.entries {
		if entries[a] == nil {
			r.Removed++
		}
	}
	for _, x := range bad {
		r.Bad = append(r.Bad, *x)
	}
	if !maps.EqualFunc(b.entries, entries, func(x, y *record) bool { return x.same(y) }) || b.entries == nil {
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.entries, b.broken, b.bad = entries, broken, r.Bad
	return r, nil
}

func (r *record) same(o *record) bool {
	return r.file == o.file && r.State == o.State && r.Was == o.Was && r.Key.Text == o.Key.Text && r.Key.Certified.Equal(o.Key.Certified) && r.New.Text == o.New.Text && r.New.Certified.Equal(o.New.Certified) && r.Since.Equal(o.Since)
}

// read reads one file, which somebody else may have written. errs.NotFound where it is gone.
func (b *Book) read(a mail.Address, name string) (*Entry, error) {
	const op = "post/keybook.read"
	path := b.o.FS.PathJoin(b.o.Dir, name)
	info, err := b.o.FS.Stat(path)
	switch {
	case err != nil:
		return nil, vfs.Error(op, err)
	case !info.Mode().IsRegular():
		return nil, errs.E(op, errs.Invalid, "this is no file", nil)
	case info.Size() > MaxFile:
		return nil, errs.E(op, errs.TooLarge, "the file is too large for a key", nil)
	}
	text, err := vfs.ReadFile(b.o.FS, path)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if len(text) > MaxFile {
		return nil, errs.E(op, errs.TooLarge, "the file is too large for a key", nil)
	}
	e, err := b.decode(a, bytes.TrimSpace(text))
	return e, errs.Wrap(op, err)
}
