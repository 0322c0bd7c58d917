package mailbox

import (
	"context"
	"testing"
)

// TestMetadataRaisesModSeq: annotations are changes of their mailbox (RFC 7162 §3.2), those
// of the account have a watch of their own.
func TestMetadataRaisesModSeq(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	box, own := a.Watch(2), a.WatchMetadata()
	defer box.Close()
	defer own.Close()
	before := mustView(t, a, 2).HighestModSeq
	if err := a.SetMetadata(ctx, 2, []MetadataEntry{{"/private/a", []byte("b")}}); err != nil {
		t.Fatal(err)
	}
	<-box.C
	if err := a.Annotated(ctx, 2); err != nil {
		t.Fatal(err)
	}
	<-box.C
	if got := mustView(t, a, 2).HighestModSeq; got != before+2 {
		t.Errorf("HIGHESTMODSEQ is %d, was %d", got, before)
	}
	if err := a.SetMetadata(ctx, 0, []MetadataEntry{{"/private/a", []byte("b")}}); err != nil {
		t.Fatal(err)
	}
	<-own.C
	select {
	case <-box.C:
		t.Error("a mailbox changed")
	default:
	}
	w.check()
}
