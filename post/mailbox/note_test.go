package mailbox

import (
	"context"
	"testing"

	"postern.email/store"
)

// purges counts the purges of a store.
type purges struct {
	store.Store
	n int
}

func (p *purges) Purge(ctx context.Context) error {
	p.n++
	return p.Store.Purge(ctx)
}

// TestNoteDeleted: what somebody else deleted is purged once, with the next turn.
func TestNoteDeleted(t *testing.T) {
	var p *purges
	w := newWorld(t, withStore(func(st store.Store) store.Store { p = &purges{Store: st}; return p }))
	purge := func(want int) {
		t.Helper()
		if err := w.boxes.purgeOnce(context.Background()); err != nil || p.n != want {
			t.Errorf("%d purges, want %d, %v", p.n, want, err)
		}
	}
	purge(1) // the one of every start
	purge(1)
	w.boxes.NoteDeleted()
	purge(2)
	purge(2)
}
