package mailbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

func TestCleanName(t *testing.T) {
	good := map[string]string{"inbox": "INBOX", "INBOX/a": "INBOX/a", "inBox/a": "INBOX/a", "a/": "a", "a/b": "a/b",
		"A\u0308rger": "Ärger", "inboxes": "inboxes", "a b": "a b", strings.Repeat("x", MaxFolderName): strings.Repeat("x", MaxFolderName)}
	for in, want := range good {
		if got, err := CleanName(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	bad := map[string]errs.Kind{"": errs.Invalid, "/": errs.Invalid, "/a": errs.Invalid, "a//b": errs.Invalid, "a\x00": errs.Invalid,
		"a\nb": errs.Invalid, "a\u0085": errs.Invalid, "a\u2028": errs.Invalid, "\xff": errs.Invalid, "a%": errs.Invalid, "*": errs.Invalid,
		strings.Repeat("x", MaxFolderName+1): errs.TooLarge, strings.Repeat("x", 3*MaxFolderName): errs.TooLarge}
	for in, want := range bad {
		if got, err := CleanName(in); errs.KindOf(err) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestFolderLimits(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	if _, err := a.CreateFolder(ctx, "a", `\Nonsense`); errs.KindOf(err) != errs.Invalid {
		t.Errorf("unknown special use: %v", err)
	}
	if f, err := a.CreateFolder(ctx, "Old", `\Archive`); err != nil || f.Use != `\Archive` {
		t.Errorf("%+v, %v", f, err)
	}
	if err := a.DeleteFolder(ctx, "inbox"); errs.KindOf(err) != errs.Denied {
		t.Errorf("DELETE INBOX: %v", err)
	}
	err := w.boxes.update(ctx, k.ID(), func(t *txn) error { // as if there were many
		c, err := t.counters()
		c.folders = MaxFolders
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.CreateFolder(ctx, "one more", ""); errs.KindOf(err) != errs.TooLarge || errs.Public(err) != "too many folders" {
		t.Errorf("folder %d: %v", MaxFolders+1, err)
	}
	if err := a.Subscribe(ctx, "one more", true); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("subscription %d: %v", MaxFolders+1, err)
	}
}

func TestRenameTooLong(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	a := w.boxes.Account(w.user(), 0)
	if _, err := a.CreateFolder(ctx, "a/"+strings.Repeat("y", 500), ""); err != nil {
		t.Fatal(err)
	}
	if err := a.RenameFolder(ctx, "a", strings.Repeat("x", 600)); errs.KindOf(err) != errs.TooLarge {
		t.Fatalf("a child's name would be too long: %v", err)
	}
	if f, err := a.Folder(ctx, "a"); err != nil || f.Name != "a" {
		t.Fatal("a refused rename changed something")
	}
}

func TestFolderOrderAndWatch(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	watch := a.WatchFolders()
	defer watch.Close()
	if _, err := a.CreateFolder(ctx, "Archive/2026", ""); err != nil {
		t.Fatal(err)
	}
	<-watch.C
	list, err := a.Folders(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name)
	}
	if want := []string{"INBOX", "Archive", "Archive/2026", "Drafts", "Junk", "Sent", "Trash"}; !slices.Equal(names, want) {
		t.Errorf("folders %v", names)
	}
	box := a.Watch(Inbox)
	defer box.Close()
	w.deliver(mailOf(1, 300), k)
	<-box.C
	if err := a.RenameFolder(ctx, "INBOX", "Archive/old"); err != nil {
		t.Fatal(err)
	}
	<-box.C
	<-watch.C
	w.check()
}

// TestFoldersOfTwoSessions: a list that a session remembers is never older than the last
// change, whoever made it, and belongs to its caller.
func TestFoldersOfTwoSessions(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	mine, theirs := w.boxes.Account(k, 0), w.boxes.Account(k, 0)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	list := func(a *Account) string {
		t.Helper()
		all, err := a.Folders(ctx)
		must(err)
		text := fmt.Sprintf("%+v", all)
		for i := range all {
			all[i] = Folder{Name: "spoilt"}
		}
		return text
	}
	last := list(theirs)
	for i, change := range []func() error{
		func() error { _, err := mine.CreateFolder(ctx, "A/B", ""); return err },
		func() error { return mine.Subscribe(ctx, "A/B", true) },
		func() error { return mine.RenameFolder(ctx, "A", "C") },
		func() error { return mine.Subscribe(ctx, "nowhere", true) },
		func() error { return mine.RenameFolder(ctx, "INBOX", "Old") },
		func() error { return mine.DeleteFolder(ctx, "C/B") },
		func() error { _, err := mine.CreateFolder(ctx, "C/B", ""); return err }, // the same list but for a UIDVALIDITY
		func() error { return mine.DeleteFolder(ctx, "C/B") },
	} {
		must(change())
		got, fresh := list(theirs), list(w.boxes.Account(k, 0))
		if got != fresh || got == last {
			t.Fatalf("change %d: %s, want %s (before: %s)", i, got, fresh, last)
		}
		if again := list(theirs); again != got || list(mine) != got {
			t.Fatalf("change %d: asked again: %s, want %s", i, again, got)
		}
		last = got
	}
	for i := range keepFolders { // more than are remembered
		_, err := mine.CreateFolder(ctx, fmt.Sprintf("many %d", i), "")
		must(err)
	}
	if got := list(theirs); got != list(w.boxes.Account(k, 0)) || got != list(theirs) {
		t.Error("a long list is not what it is")
	}
}

func TestRecent(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	recent := func(want int) {
		t.Helper()
		if st, err := a.Status(ctx, Inbox); err != nil || st.Recent != want {
			t.Fatalf("%d recent, want %d: %v", st.Recent, want, err)
		}
	}
	claim := func(upTo, want uint32) {
		t.Helper()
		if from, err := a.ClaimRecent(ctx, Inbox, upTo); err != nil || from != want {
			t.Fatalf("recent from %d, want %d: %v", from, want, err)
		}
	}
	w.deliver(mailOf(1, 300), k)
	w.deliver(mailOf(2, 300), k)
	recent(2)
	claim(3, 1)
	recent(0)
	claim(3, 3)
	w.deliver(mailOf(3, 300), k) // takes the claim to the disk
	recent(1)
	w.reopen()
	a = w.boxes.Account(k, 0)
	recent(1)
	claim(4, 3)
	claim(1000, 4) // beyond UIDNEXT: only what there is
	claim(4, 4)
}

func TestKeywordLimits(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	w.deliver(mailOf(1, 300), k)
	set := func(words ...string) error {
		_, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{1}, Op: FlagsAdd, Keywords: words})
		return err
	}
	for _, bad := range []string{"", "a b", `\Seen`, "a(", "ä", "a*", `"`, "]", strings.Repeat("x", MaxKeyword+1)} {
		if err := set(bad); errs.KindOf(err) != errs.Invalid {
			t.Errorf("keyword %q: %v", bad, err)
		}
	}
	var many []string
	for i := range MaxKeywords + 1 {
		many = append(many, fmt.Sprint("k", i))
	}
	if err := set(many...); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("%d keywords at once: %v", len(many), err)
	}
	if err := set(many[1:]...); err != nil {
		t.Fatal(err)
	}
	if err := set("one-more"); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("keyword %d of a mail: %v", MaxKeywords+1, err)
	}
	for i := 0; ; i++ {
		_, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{1}, Op: FlagsSet, Keywords: []string{fmt.Sprint("set", i)}})
		if err != nil {
			if errs.KindOf(err) != errs.TooLarge || i != MaxBoxKeywords-MaxKeywords {
				t.Errorf("different keyword %d: %v", MaxKeywords+i+1, err)
			}
			break
		}
	}
	if _, _, err := a.Append(ctx, Inbox, Message{Raw: mailOf(2, 300), Keywords: []string{"K5"}}); err != nil {
		t.Fatal(err)
	}
	e := mustView(t, a, Inbox).At(1)
	if got, err := a.Keywords(ctx, Inbox, &e); err != nil || !slices.Equal(got, []string{"k5"}) {
		t.Errorf("keyword in another spelling: %v, %v", got, err)
	}
	all := map[uint32][]string{}
	if err := a.AllKeywords(ctx, Inbox, 1, 1<<32-1, func(uid uint32, words []string) { all[uid] = words }); err != nil || len(all) != 2 {
		t.Errorf("AllKeywords: %v, %v", all, err)
	}
	if words, err := a.BoxKeywords(ctx, Inbox); err != nil || len(words) != MaxBoxKeywords {
		t.Errorf("%d keywords of the mailbox, %v", len(words), err)
	}
	// A delivery from outside cannot set keywords.
	_, err := w.boxes.Prepare(ctx, Message{Raw: mailOf(1, 300), Keywords: []string{"x"}}, []Target{{ID: k.ID(), Public: k.Public(), Box: Inbox}})
	if errs.KindOf(err) != errs.Invalid {
		t.Errorf("keywords without the owner: %v", err)
	}
	w.check()
}

func TestMetadata(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	set := func(box uint32, name string, v []byte) error {
		return a.SetMetadata(ctx, box, []MetadataEntry{{name, v}})
	}
	for _, box := range []uint32{0, Inbox} {
		if err := set(box, "/Private/Comment", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := set(box, "/private/a", []byte{}); err != nil {
			t.Fatal(err)
		}
		got, err := a.Metadata(ctx, box)
		if err != nil || len(got) != 2 || got[0].Name != "/private/a" || got[1].Name != "/private/comment" || string(got[1].Value) != "x" {
			t.Fatalf("%v, %v", got, err)
		}
		if err := set(box, "/private/comment", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Metadata(ctx, box); err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if err := set(99, "/private/a", []byte("x")); errs.KindOf(err) != errs.NotFound {
		t.Errorf("annotation of no mailbox: %v", err)
	}
	for _, bad := range []string{"", "a", "/", "/a/", "/a//b", "/a*", "/a%", "/ä", "/" + strings.Repeat("x", maxEntryName)} {
		if err := set(0, bad, nil); errs.KindOf(err) != errs.Invalid {
			t.Errorf("annotation %q: %v", bad, err)
		}
	}
	if err := set(0, "/private/big", make([]byte, MaxMetadataBytes)); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("large annotation: %v", err)
	}
	var many []MetadataEntry
	for i := range MaxMetadataEntries + 1 {
		many = append(many, MetadataEntry{fmt.Sprint("/private/", i), []byte("x")})
	}
	if err := a.SetMetadata(ctx, 0, many); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("many annotations: %v", err)
	}
	w.check()
}
