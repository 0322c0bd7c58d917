package imap

import (
	"bytes"
	"testing"
	"time"
)

// pieces keeps what each write brought.
type pieces [][]byte

func (p *pieces) Write(b []byte) (int, error) {
	*p = append(*p, bytes.Clone(b))
	return len(b), nil
}

func (*pieces) SetWriteDeadline(time.Time) error { return nil }

// TestWriterPieces: whatever is written in whatever steps leaves in pieces of one buffer,
// of which only the last is smaller.
func TestWriterPieces(t *testing.T) {
	all := make([]byte, 5*writeBufferSize+123)
	for i := range all {
		all[i] = byte(i * 7 / 5)
	}
	for _, steps := range [][]int{{len(all)}, {1, len(all) - 1}, {writeBufferSize, len(all) - writeBufferSize}, {writeBufferSize - 1, 2, len(all)},
		{3 * writeBufferSize, 1, len(all)}, {100, 2*writeBufferSize + 5, 1000, len(all)}} {
		var got pieces
		w := &writer{dst: &got, conn: &got}
		rest := all
		for _, n := range steps {
			n = min(n, len(rest))
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatalf("Write of %d: %d, %v", n, m, err)
			}
			rest = rest[n:]
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.Join(got, nil), all) {
			t.Fatalf("steps %d: the bytes are not those that were written", steps)
		}
		for i, p := range got {
			if i < len(got)-1 && len(p) != writeBufferSize || len(p) > writeBufferSize {
				t.Errorf("steps %d: piece %d of %d has %d bytes", steps, i, len(got), len(p))
			}
		}
	}
}
