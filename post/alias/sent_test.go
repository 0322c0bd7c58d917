package alias

import (
	"bytes"
	"fmt"
	"testing"

	"postern.email/kit/errs"
	"postern.email/store"
)

// answers reports whether a mail with a Message-ID is known to have been sent as an alias.
func (w *world) answers(addr, id string) bool {
	w.Helper()
	yes, err := w.Answers(ctx, w.lookup(addr), id)
	if err != nil {
		w.Fatal(err)
	}
	return yes
}

// sentRecord gives what lies on the disk of what was sent as an alias; nil: nothing.
func (w *world) sentRecord(owner Owner, addr string) (b []byte) {
	w.Helper()
	err := w.st.View(ctx, owner.Shard(), func(r store.Reader) (err error) {
		b, err = r.Get(sentKey(owner, w.lookup(addr).place()))
		return err
	})
	if err != nil && errs.KindOf(err) != errs.NotFound {
		w.Fatal(err)
	}
	return b
}

// TestSent: of an alias so many mails that were sent as it are known for so many days, whatever is asked about others;
// nothing of it shows on the disk, and housekeeping takes it away when all of it is old.
func TestSent(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxSent, o.SentDays = 3, 5 })
	v := w.account(1)
	const one, two = "one@example.org", "two@example.org"
	w.create(v.Vault, New{Local: "one"})
	w.create(v.Vault, New{Local: "two"})
	id := func(n int) string { return fmt.Sprintf("<%d@example.org>", n) }
	w.wrote(one, "  "+id(1)+" ")
	w.wrote(one, "") // has none
	w.wrote(two, id(9))
	for q, want := range map[string]bool{id(1): true, " " + id(1): true, id(9): false, "": false, "<>": false} {
		if got := w.answers(one, q); got != want {
			t.Errorf("%q: %v", q, got)
		}
	}
	if got := w.lookup(one); got.Sent != 2 {
		t.Errorf("%d were sent", got.Sent)
	}
	w.clock.Add(3 * aDay)
	for n := 2; n <= 4; n++ {
		w.wrote(one, id(n))
	}
	for n := 1; n <= 4; n++ {
		if got := w.answers(one, id(n)); got != (n > 1) {
			t.Errorf("the %dth of four, with room for three: %v", n, got)
		}
	}
	w.reopen(func(o *Options) { o.MaxSent, o.SentDays = 3, 5 })
	if !w.answers(one, id(4)) || bytes.Contains(w.sentRecord(v.Owner, one), []byte("example")) {
		t.Error("after a restart it is gone, or it can be read")
	}
	w.clock.Add(5 * aDay)
	if !w.answers(one, id(4)) {
		t.Error("on the last day it is forgotten")
	}
	if w.answers(two, id(9)) {
		t.Error("after eight days it is known")
	}
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if w.sentRecord(v.Owner, one) == nil || w.sentRecord(v.Owner, two) != nil {
		t.Error("housekeeping takes away what is still good, or leaves what is not")
	}
	w.sound()
	w.clock.Add(aDay)
	if w.answers(one, id(4)) {
		t.Error("after its days it is known")
	}
	w.wrote(one, id(5)) // the old ones make room
	if list, err := decodeSentOf(w, v.Owner, one); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	// A derived alias that got no mail yet has sent none.
	al, err := w.Resolve(ctx, derive(v.Vault, "shop", 0), peer("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if yes, err := w.Answers(ctx, al, id(5)); err != nil || yes {
		t.Error(yes, err)
	}
	if err := w.DeleteOwner(ctx, v.Owner); err != nil {
		t.Fatal(err)
	}
	w.sound()
	if o := (Options{}).withDefaults(); o.MaxSent != 128 || o.SentDays != 14 {
		t.Errorf("by default %d mails for %d days", o.MaxSent, o.SentDays)
	}
}

func decodeSentOf(w *world, owner Owner, addr string) (list []sentMail, err error) {
	err = w.st.View(ctx, owner.Shard(), func(r store.Reader) (err error) {
		list, err = w.getSent(r, owner, w.lookup(addr).place())
		return err
	})
	return list, err
}
