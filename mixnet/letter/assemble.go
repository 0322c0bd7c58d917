package letter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"postern.email/kit/codec"
	"postern.email/kit/defaults"
	"postern.email/kit/errs"
)

// Limits of an Assembler. Zero values stand for the defaults.
type Limits struct {
	Letters int           // that are not whole; DefaultLetters
	Bytes   int64         // of their data; DefaultBytes
	Length  int64         // of one letter before it was cut; MaxWhole
	Age     time.Duration // after the first fragment; DefaultAge
	Known   int           // names of letters that are whole and must not come again; DefaultKnown
}

// sweeps is how often in Limits.Age Add looks for what is too old.
const sweeps = 256

// Defaults of an Assembler.
const (
	DefaultLetters = 256
	DefaultBytes   = 128 << 20
	DefaultAge     = 30 * 24 * time.Hour
	DefaultKnown   = 1 << 16
)

func (l Limits) withDefaults() Limits {
	defaults.Positive(&l.Letters, DefaultLetters)
	defaults.Positive(&l.Bytes, DefaultBytes)
	if l.Length <= 0 || l.Length > MaxWhole {
		l.Length = MaxWhole
	}
	defaults.Positive(&l.Age, DefaultAge)
	defaults.Positive(&l.Known, DefaultKnown)
	return l
}

// Assembler makes letters of fragments. Its state is a value that its owner may keep on disk
// (AppendBinary, ParseAssembler); an owner that keeps fragments adds them again instead. It is
// not for several goroutines at once.
type Assembler struct {
	limits Limits
	parts  map[ID]*partial
	bytes  int64
	known  map[ID]time.Time // when it became whole
	swept  time.Time        // when Expire last looked
}

// partial is a letter that is not whole yet.
type partial struct {
	layout layout
	to     *[sha256.Size]byte
	first  time.Time
	last   time.Time
	data   [][]byte // by index; nil: not there
	have   []int    // of each chunk; one for a letter without code
}

// NewAssembler makes an Assembler that knows nothing.
func NewAssembler(l Limits) *Assembler {
	return &Assembler{limits: l.withDefaults(), parts: make(map[ID]*partial), known: make(map[ID]time.Time)}
}

// Add takes a fragment, whose data it keeps. It gives the letter when that makes it whole, once.
// A fragment that is there already, or is of a letter that was whole before, changes nothing.
// So that there is room for it, the letters that have waited longest for another fragment are
// given up.
//
// errs.Invalid for a fragment that does not fit those before it, errs.TooLarge for a letter
// beyond Limits.Length or Bytes. A letter whose whole is not in order is given up, with
// the error of that: errs.Auth for a wrong signature, else errs.Invalid, errs.Unsupported or
// errs.TooLarge.
func (a *Assembler) Add(f *Fragment, now time.Time) (*Letter, error) {
	const op = "mixnet/letter.Assembler.Add"
	if d := now.Sub(a.swept); d < 0 || d > a.limits.Age/sweeps {
		a.Expire(now)
	}
	if _, ok := a.known[f.ID]; ok {
		return nil, nil
	}
	l := newLayout(f.Length, len(f.Data), f.N != 0)
	if l == nil || l.header(f.ID, f.Index) != f.Header {
		return nil, errs.E(op, errs.Invalid, rejected, errLayout)
	}
	p := a.parts[f.ID]
	switch {
	case p == nil:
		if f.Length > a.limits.Length || int64(len(f.Data)) > a.limits.Bytes {
			return nil, errs.E(op, errs.TooLarge, "the message is too large", nil)
		}
		p = &partial{layout: *l, to: f.to, first: now, data: make([][]byte, l.total()), have: make([]int, max(1, l.chunks))}
		a.room(0, 1, f.ID)
		a.parts[f.ID] = p
	case p.layout != *l || (p.to == nil) != (f.to == nil) || p.to != nil && *p.to != *f.to:
		return nil, errs.E(op, errs.Invalid, rejected, errLayout)
	case p.data[f.Index] != nil:
		return nil, nil
	}
	p.last = now
	if a.room(int64(len(f.Data)), 0, f.ID); a.bytes+int64(len(f.Data)) > a.limits.Bytes {
		a.drop(f.ID)
		return nil, errs.E(op, errs.TooLarge, "the message is too large", nil)
	}
	p.data[f.Index] = f.Data
	a.bytes += int64(len(f.Data))
	p.have[l.chunkOf(f.Index)]++
	if !p.layout.whole(p.have) {
		return nil, nil
	}
	a.drop(f.ID)
	a.remember(f.ID, now)
	whole, err := l.join(p.data)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	letter, err := decode(whole, f.ID, p.to)
	return letter, errs.Wrap(op, err)
}

// room gives up letters until so many bytes and letters more fit, or only keep is left.
func (a *Assembler) room(size int64, letters int, keep ID) {
	for a.bytes+size > a.limits.Bytes || len(a.parts)+letters > a.limits.Letters {
		var oldest ID
		var p *partial
		for id, q := range a.parts {
			if id == keep {
				continue
			}
			if p == nil || q.last.Before(p.last) || q.last.Equal(p.last) && bytes.Compare(id[:], oldest[:]) < 0 {
				oldest, p = id, q
			}
		}
		if p == nil {
			return
		}
		a.drop(oldest)
	}
}

func (a *Assembler) drop(id ID) {
	if p := a.parts[id]; p != nil {
		a.bytes -= p.size()
		delete(a.parts, id)
	}
}

// size is how many bytes of data are there.
func (p *partial) size() (n int64) {
	for _, d := range p.data {
		n += int64(len(d))
	}
	return n
}

func (a *Assembler) remember(id ID, now time.Time) {
	for len(a.known) >= a.limits.Known {
		var oldest ID
		var at time.Time
		for k, t := range a.known {
			if at.IsZero() || t.Before(at) {
				oldest, at = k, t
			}
		}
		delete(a.known, oldest)
	}
	a.known[id] = now
}

// Expire gives up letters whose first fragment came longer than Limits.Age ago, and forgets
// the names of letters that were whole that long ago. It tells how many it gave up.
func (a *Assembler) Expire(now time.Time) (given int) {
	a.swept = now
	for id, p := range a.parts {
		if now.Sub(p.first) > a.limits.Age {
			a.drop(id)
			given++
		}
	}
	for id, at := range a.known {
		if now.Sub(at) > a.limits.Age {
			delete(a.known, id)
		}
	}
	return given
}

// Waiting tells how many letters are not whole, and how many bytes of them are there.
func (a *Assembler) Waiting() (letters int, bytes int64) { return len(a.parts), a.bytes }

// Knows reports whether a letter was whole before.
func (a *Assembler) Knows(id ID) bool {
	_, ok := a.known[id]
	return ok
}

// Forget gives a letter up.
func (a *Assembler) Forget(id ID) { a.drop(id) }

// The state: version, known letters (name, time), letters that are not whole (name, key or
// none, length, size, coded, times, fragments). Docs: docs/letter.md §6.
const stateVersion = 1

// AppendBinary appends the state, in one form.
func (a *Assembler) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, uint64(len(a.known)))
	for _, id := range sortedIDs(a.known) {
		b = append(b, id[:]...)
		b = binary.AppendVarint(b, a.known[id].Unix())
	}
	b = binary.AppendUvarint(b, uint64(len(a.parts)))
	for _, id := range sortedIDs(a.parts) {
		p := a.parts[id]
		b = append(b, id[:]...)
		var to []byte
		if p.to != nil {
			to = p.to[:]
		}
		b = codec.AppendSized(b, to)
		b = binary.AppendUvarint(b, uint64(p.layout.length))
		b = binary.AppendUvarint(b, uint64(p.layout.size))
		b = append(b, byte(min(1, p.layout.chunks)))
		b = binary.AppendVarint(b, p.first.Unix())
		b = binary.AppendVarint(b, p.last.Unix())
		for _, d := range p.data {
			b = append(b, byte(min(1, len(d))))
			b = append(b, d...)
		}
	}
	return b, nil
}

// ParseAssembler reads the state that AppendBinary wrote, and keeps b. What is beyond the
// limits, which may be others than before, is given up. errs.Corrupt.
func ParseAssembler(b []byte, limits Limits) (*Assembler, error) {
	const op = "mixnet/letter.ParseAssembler"
	a := NewAssembler(limits)
	r := codec.NewReader(b, stateVersion)
	for n := r.Uvarint(); n > 0 && !r.Bad(); n-- {
		if id, at := ID(pad(r.Bytes(len(ID{})))), time.Unix(r.Varint(), 0); !r.Bad() {
			a.remember(id, at)
		}
	}
	for n := r.Uvarint(); n > 0 && !r.Bad(); n-- {
		id := ID(pad(r.Bytes(len(ID{}))))
		p := a.readPartial(r)
		if p == nil || a.parts[id] != nil {
			r.Fail()
			break
		}
		size := p.size()
		a.room(size, 1, id)
		if a.bytes+size <= a.limits.Bytes {
			a.parts[id] = p
			a.bytes += size
		}
	}
	if err := r.End(op); err != nil {
		return nil, err
	}
	return a, nil
}

// pad makes the nothing of a bad reader a name.
func pad(b []byte) []byte {
	if b == nil {
		return make([]byte, len(ID{}))
	}
	return b
}

func (a *Assembler) readPartial(r *codec.Reader) *partial {
	to := r.Sized(sha256.Size)
	length, size, coded := r.Int(MaxWhole), r.Int(1<<16), r.Byte()
	p := &partial{first: time.Unix(r.Varint(), 0), last: time.Unix(r.Varint(), 0)}
	l := newLayout(length, int(size), coded == 1)
	if r.Bad() || l == nil || coded > 1 || len(to) != 0 && len(to) != sha256.Size {
		return nil
	}
	if len(to) > 0 {
		p.to = (*[sha256.Size]byte)(to)
	}
	p.layout = *l
	p.data, p.have = make([][]byte, l.total()), make([]int, max(1, l.chunks))
	for i := range p.data {
		switch r.Byte() {
		case 0:
		case 1:
			p.data[i] = r.Bytes(l.size)
			p.have[l.chunkOf(i)]++
		default:
			return nil
		}
		if r.Bad() {
			return nil
		}
	}
	if p.layout.whole(p.have) {
		return nil
	}
	return p
}

func sortedIDs[T any](m map[ID]T) []ID {
	return slices.SortedFunc(maps.Keys(m), func(x, y ID) int { return bytes.Compare(x[:], y[:]) })
}
