package imap

import (
	"errors"
	"io"
)

var errInflate = errors.New("compressed stream is broken")

// inflater reads a deflate stream (RFC 1951) without end, as RFC 4978 has it. The
// standard library's reader holds back what comes before a partial flush until
// the next block begins; this one hands on every byte as soon as its bits are
// there. Its window grows with the data, up to 32 KiB.
type inflater struct {
	src io.Reader
	in  [512]byte
	r,
	w int
	bits uint64
	nb   uint // valid bits

	win  []byte // ring once it has reached maxWindow
	pos  int    // next write position in win when it is a ring
	mode inflateMode
	last bool
	left int // bytes left of a stored block or of a copy
	dist int

	lit, off huffman
}

type inflateMode uint8

const (
	modeBlock  inflateMode = iota // at the border of a block
	modeStored                    // inside a stored block
	modeCodes                     // inside a compressed block
	modeCopy                      // inside a copy of a compressed block
	modeEnd
)

const maxWindow = 32 << 10

func newInflater(src io.Reader) *inflater { return &inflater{src: src} }

// Read decodes at least one byte; it waits for input only when it has none to give.
func (f *inflater) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		switch f.mode {
		case modeEnd:
			if n > 0 {
				return n, nil
			}
			return 0, io.EOF
		case modeBlock:
			// A block's head may wait for input, so what is decoded goes first.
			if n > 0 {
				return n, nil
			}
			if f.last {
				f.mode = modeEnd
				continue
			}
			if err := f.head(); err != nil {
				return 0, err
			}
		case modeStored:
			if f.left == 0 {
				f.mode = modeBlock
				continue
			}
			b, err := f.byte(n > 0)
			if err != nil {
				return giveFirst(n, err)
			}
			f.left--
			f.emit(b)
			p[n] = b
			n++
		case modeCopy:
			if f.left == 0 {
				f.mode = modeCodes
				continue
			}
			b := f.back(f.dist)
			f.left--
			f.emit(b)
			p[n] = b
			n++
		case modeCodes:
			b, isByte, err := f.code(n > 0)
			if err != nil {
				return giveFirst(n, err)
			}
			if isByte {
				f.emit(b)
				p[n] = b
				n++
			}
		}
	}
	return n, nil
}

var errNeedInput = errors.New("no input without waiting")

func giveFirst(n int, err error) (int, error) {
	if n > 0 {
		// Any error comes again with the next read.
		return n, nil
	}
	return 0, err
}

// more puts one more byte into bits. With noWait it gives errNeedInput rather
// than to read from the connection.
func (f *inflater) more(noWait bool) error {
	if f.r == f.w {
		if noWait {
			return errNeedInput
		}
		n, err := f.src.Read(f.in[:])
		f.r, f.w = 0, n
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	f.bits |= uint64(f.in[f.r]) << f.nb
	f.r++
	f.nb += 8
	return nil
}

// take gives n ≤ 16 bits, waiting for them.
func (f *inflater) take(n uint) (int, error) {
	for f.nb < n {
		if err := f.more(false); err != nil {
			return 0, err
		}
	}
	v := int(f.bits & (1<<n - 1))
	f.drop(n)
	return v, nil
}

func (f *inflater) drop(n uint) {
	f.bits >>= n
	f.nb -= n
}

// byte gives one byte of a stored block.
func (f *inflater) byte(noWait bool) (byte, error) {
	for f.nb < 8 {
		if err := f.more(noWait); err != nil {
			return 0, err
		}
	}
	b := byte(f.bits)
	f.drop(8)
	return b, nil
}

func (f *inflater) emit(b byte) {
	if len(f.win) < maxWindow {
		f.win = append(f.win, b)
		return
	}
	f.win[f.pos] = b
	f.pos = (f.pos + 1) % maxWindow
}

// back gives the byte that was written d bytes ago.
func (f *inflater) back(d int) byte {
	if len(f.win) < maxWindow {
		return f.win[len(f.win)-d]
	}
	return f.win[(f.pos-d+maxWindow)%maxWindow]
}

// head reads the head of a block (RFC 1951 §3.2.3).
func (f *inflater) head() error {
	h, err := f.take(3)
	if err != nil {
		return err
	}
	f.last = h&1 != 0
	switch h >> 1 {
	case 0:
		f.drop(f.nb % 8)
		n, err := f.take(16)
		if err != nil {
			return err
		}
		inverse, err := f.take(16)
		if err != nil {
			return err
		}
		if n^0xffff != inverse {
			return errInflate
		}
		f.left, f.mode = n, modeStored
		return nil
	case 1:
		var lengths [288 + 30]uint8
		for i := range lengths {
			switch {
			case i < 144:
				lengths[i] = 8
			case i < 256:
				lengths[i] = 9
			case i < 280:
				lengths[i] = 7
			case i < 288:
				lengths[i] = 8
			default:
				lengths[i] = 5
			}
		}
		f.lit.init(lengths[:288])
		f.off.init(lengths[288:])
		f.mode = modeCodes
		return nil
	case 2:
		return f.dynamic()
	}
	return errInflate
}

var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the code tables of a block (RFC 1951 §3.2.7).
func (f *inflater) dynamic() error {
	counts, err := f.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, ncode := counts&31+257, counts>>5&31+1, counts>>10+4
	if nlit > 286 || ndist > 30 {
		return errInflate
	}
	var lengths [286 + 30]uint8
	for i := range ncode {
		n, err := f.take(3)
		if err != nil {
			return err
		}
		lengths[codeOrder[i]] = uint8(n)
	}
	var h huffman
	if !h.init(lengths[:19]) {
		return errInflate
	}
	lengths = [286 + 30]uint8{}
	for i := 0; i < nlit+ndist; {
		sym, err := f.symbol(&h)
		if err != nil {
			return err
		}
		if sym < 16 {
			lengths[i] = uint8(sym)
			i++
			continue
		}
		var value uint8
		var repeat int
		switch sym {
		case 16:
			if i == 0 {
				return errInflate
			}
			value = lengths[i-1]
			repeat, err = f.take(2)
			repeat += 3
		case 17:
			repeat, err = f.take(3)
			repeat += 3
		default:
			repeat, err = f.take(7)
			repeat += 11
		}
		if err != nil {
			return err
		}
		if i+repeat > nlit+ndist {
			return errInflate
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	if lengths[256] == 0 || !f.lit.init(lengths[:nlit]) || !f.off.init(lengths[nlit:nlit+ndist]) {
		return errInflate
	}
	f.mode = modeCodes
	return nil
}

// symbol decodes one symbol, waiting for its bits.
func (f *inflater) symbol(h *huffman) (int, error) {
	for {
		if sym, n := h.decode(f.bits, f.nb); n > 0 {
			f.drop(n)
			return sym, nil
		} else if sym < 0 {
			return 0, errInflate
		}
		if err := f.more(false); err != nil {
			return 0, err
		}
	}
}

// Lengths and distances of RFC 1951 §3.2.5: base value and extra bits.
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// code decodes a byte, the start of a copy, or the end of the block. Bits are
// dropped only when all of them (48 at most) are there, so that it can be called
// again after errNeedInput.
func (f *inflater) code(noWait bool) (b byte, isByte bool, err error) {
	for {
		b, isByte, used, err := f.tryCode()
		if err != nil {
			return 0, false, err
		}
		if used > 0 {
			f.drop(used)
			return b, isByte, nil
		}
		if err := f.more(noWait); err != nil {
			return 0, false, err
		}
	}
}

func (f *inflater) tryCode() (b byte, isByte bool, used uint, err error) {
	sym, n := f.lit.decode(f.bits, f.nb)
	switch {
	case sym < 0:
		return 0, false, 0, errInflate
	case n == 0:
		return 0, false, 0, nil
	case sym < 256:
		return byte(sym), true, n, nil
	case sym == 256:
		f.mode = modeBlock
		return 0, false, n, nil
	case sym > 285:
		return 0, false, 0, errInflate
	}
	used = n
	length := int(lengthBase[sym-257])
	if extra := uint(lengthExtra[sym-257]); extra > 0 {
		if f.nb < used+extra {
			return 0, false, 0, nil
		}
		length += int(f.bits >> used & (1<<extra - 1))
		used += extra
	}
	sym, n = f.off.decode(f.bits>>used, f.nb-used)
	switch {
	case sym < 0 || sym > 29:
		return 0, false, 0, errInflate
	case n == 0:
		return 0, false, 0, nil
	}
	used += n
	dist := int(distBase[sym])
	if extra := uint(distExtra[sym]); extra > 0 {
		if f.nb < used+extra {
			return 0, false, 0, nil
		}
		dist += int(f.bits >> used & (1<<extra - 1))
		used += extra
	}
	if dist > len(f.win) {
		return 0, false, 0, errInflate
	}
	f.left, f.dist, f.mode = length, dist, modeCopy
	return 0, false, used, nil
}

// huffman is a canonical code: how many codes there are of each length, and the
// symbols in the order of their codes.
type huffman struct {
	count  [16]uint16
	symbol [288]uint16
}

// init makes the code from the lengths of its symbols; false: they make no code.
// An incomplete code is allowed only with a single symbol, which then has one bit
// (RFC 1951 §3.2.7, as for distances), or with none.
func (h *huffman) init(lengths []uint8) bool {
	*h = huffman{}
	for _, n := range lengths {
		h.count[n]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	left := 1
	var offsets [16]uint16
	for n := 1; n < 16; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return false
		}
		if n < 15 {
			offsets[n+1] = offsets[n] + h.count[n]
		}
	}
	for sym, n := range lengths {
		if n != 0 {
			h.symbol[offsets[n]] = uint16(sym)
			offsets[n]++
		}
	}
	return left == 0 || used == 0 || used == 1 && h.count[1] == 1
}

// decode finds the symbol at the start of bits: its length n is 0 when bits are
// missing, and sym is -1 when no code begins so.
func (h *huffman) decode(bits uint64, nb uint) (sym int, n uint) {
	code, first, index := 0, 0, 0
	for n = 1; n < 16; n++ {
		if n > nb {
			return 0, 0
		}
		code |= int(bits & 1)
		bits >>= 1
		count := int(h.count[n])
		if code-count < first {
			return int(h.symbol[index+code-first]), n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return -1, 0
}
