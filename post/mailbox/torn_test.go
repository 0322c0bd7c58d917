package mailbox

import (
	"context"
	"slices"
	"testing"
)

// TestFlagsAndKeywordsOfOneState: a reader with an old entry gets flags and keywords
// of the same moment, never the flags of one state and the keywords of another.
func TestFlagsAndKeywordsOfOneState(t *testing.T) {
	w := newWorld(t)
	key := w.user()
	a := w.boxes.Account(key, 0)
	ctx := context.Background()
	uid, _, err := a.Append(ctx, Inbox, Message{Raw: []byte("From: <a@b.example>\r\n\r\nx\r\n"), Keywords: []string{"one"}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.View(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	old := v.At(0)
	if _, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{uid}, Op: FlagsAdd, Flags: Draft, Keywords: []string{"two"}}); err != nil {
		t.Fatal(err)
	}
	e := old
	words, err := a.Keywords(ctx, Inbox, &e)
	if err != nil || !slices.Equal(words, []string{"one", "two"}) || e.Flags&Draft == 0 || e.ModSeq <= old.ModSeq {
		t.Errorf("%v with %+v, %v", words, e, err)
	}
	if _, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{uid}, Op: FlagsSet, Flags: Seen}); err != nil {
		t.Fatal(err)
	}
	e = old
	if words, err = a.Keywords(ctx, Inbox, &e); err != nil || words != nil || e.Flags != Seen {
		t.Errorf("%v with %+v, %v", words, e, err)
	}
}
