package mailbox

import (
	"bytes"
	"context"
	"testing"

	"postern.email/post/blob"
	"postern.email/post/seal"
)

func TestDeliverAndRead(t *testing.T) {
	w := newWorld(t)
	one, two := w.user(), w.user()
	sizes := []int{300, 10_000, MaxInline, MaxInline + 1, 3 * blob.Chunk, 1_000_000}
	for i, n := range sizes {
		w.deliver(mailOf(i, n), one, two)
	}
	for round := range 2 {
		for _, k := range []*seal.Opened{one, two} {
			a := w.boxes.Account(k, 0)
			v := mustView(t, a, Inbox)
			if v.Len() != len(sizes) || v.UIDNext != uint32(len(sizes)+1) {
				t.Fatalf("round %d: %d mails, next UID %d", round, v.Len(), v.UIDNext)
			}
			for i, n := range sizes {
				e := v.At(i)
				raw := mailOf(i, n)
				if got := readBody(t, a, Inbox, e); !bytes.Equal(got, raw) {
					t.Fatalf("mail %d is not what was delivered", i)
				}
				s, err := a.Summary(context.Background(), Inbox, e)
				if err != nil {
					t.Fatal(err)
				}
				end := bytes.Index(raw, []byte("\r\n\r\n")) + 4
				if s.Size != int64(n) || !bytes.Equal(s.Header, raw[:end]) || !s.Date.Equal(w.clock.Now()) {
					t.Errorf("summary of mail %d: %d bytes, %v", i, s.Size, s.Date)
				}
			}
		}
		w.reopen()
	}
}
