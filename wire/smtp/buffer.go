package smtp

import (
	"sync"

	"postern.email/kit/limits"
)

// Sizes of message buffers: each step is four times the one before, so that a mail is
// copied at most once and a third while it grows.
var bufferSizes = [...]int{16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}

// largeBuffer is the size beyond which buffers may use only half of the budget: a few
// people with huge mails (or who pretend to have some) must not stop the small ones.
const largeBuffer = 1 << 20

// pooledSizes is how many of them are pooled; larger buffers are rare and go back
// to the garbage collector.
const pooledSizes = 4

var bufferPools [pooledSizes]sync.Pool // of *[]byte; free memory, no state

// message is the one buffer that a mail is read into. What it holds is taken from
// a shared budget.
type message struct {
	budget limits.Share
	max    int64 // largest mail
	class  int   // index into bufferSizes of data; -1: none
	data   *[]byte
}

// newMessage takes the first buffer; ok is false when the budget is used up.
func newMessage(budget limits.Share, max int64) (m message, ok bool) {
	m = message{budget: budget, max: max, class: -1}
	return m, m.grow(0)
}

// bytes gives what was appended.
func (m *message) bytes() []byte { return *m.data }

func (m *message) len() int64 { return int64(len(*m.data)) }

// fault is why bytes were not taken.
type fault uint8

const (
	faultNone    fault = iota
	faultSize          // larger than the limit
	faultMemory        // the budget is used up
	faultContent       // bare CR, bare LF or NUL
	faultLine          // a line is too long
)

// reserve makes room for n more bytes.
func (m *message) reserve(n int) fault {
	want := int64(len(*m.data)) + int64(n)
	if want > m.max {
		return faultSize
	}
	for want > int64(cap(*m.data)) {
		if !m.grow(want) {
			return faultMemory
		}
	}
	return faultNone
}

// append adds p.
func (m *message) append(p []byte) fault {
	if f := m.reserve(len(p)); f != faultNone {
		return f
	}
	*m.data = append(*m.data, p...)
	return faultNone
}

// grow moves to the next class, or to exactly want beyond the last.
func (m *message) grow(want int64) bool {
	class := m.class + 1
	for class < len(bufferSizes)-1 && int64(bufferSizes[class]) < want {
		class++
	}
	size := want
	if class < len(bufferSizes) {
		size = max(want, int64(bufferSizes[class]))
	}
	size = min(size, max(m.max, int64(bufferSizes[0]))) // no more than the largest mail needs
	acquire := m.budget.Acquire
	if size > largeBuffer {
		acquire = m.budget.AcquireHalf
	}
	if !acquire(size) {
		return false
	}
	var next *[]byte
	if class < pooledSizes && size == int64(bufferSizes[class]) {
		next, _ = bufferPools[class].Get().(*[]byte)
	}
	if next == nil {
		b := make([]byte, 0, size)
		next = &b
	}
	if m.data != nil {
		*next = append((*next)[:0], *m.data...)
		m.release()
	}
	m.class, m.data = class, next
	return true
}

// release gives the buffer back; the message is empty afterwards.
func (m *message) release() {
	if m.data == nil {
		return
	}
	size := cap(*m.data)
	m.budget.Release(int64(size))
	if m.class < pooledSizes && size == bufferSizes[m.class] {
		*m.data = (*m.data)[:0]
		bufferPools[m.class].Put(m.data)
	}
	m.data = nil
}
