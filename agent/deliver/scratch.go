package deliver

import "sync"

// maxPooled bounds the buffers that are kept for the next mail; larger ones are rare.
const maxPooled = 256 << 10

// scratch is a mail put together for sealing: free memory between two mails.
type scratch struct{ b []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// join puts pieces into one buffer. Call release when nobody looks at it any more.
func join(pieces ...[]byte) *scratch {
	s := scratches.Get().(*scratch)
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	if cap(s.b) < n {
		s.b = make([]byte, 0, n)
	}
	s.b = s.b[:0]
	for _, p := range pieces {
		s.b = append(s.b, p...)
	}
	return s
}

func (s *scratch) release() {
	if cap(s.b) <= maxPooled {
		scratches.Put(s)
	}
}
