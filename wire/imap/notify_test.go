package imap

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern.email/wire/imap/imaptest"
)

// watcher is a logged-in session.
func watcher(t *testing.T, addr string) *imaptest.Conn {
	t.Helper()
	c := dial(t, addr)
	want(t, c.Cmd(loginLine), strings.Fields(loginLine)[0]+" OK ")
	return c
}

func line(t *testing.T, c *imaptest.Conn, wanted string) {
	t.Helper()
	if s, err := c.Line(); err != nil || s != wanted {
		t.Fatalf("got %q (%v), want %q", s, err, wanted)
	}
}

// TestNotifyOverflow: too many mailboxes are refused and what was asked for before stays;
// when they become too many later, the client is told and nothing more comes (RFC 5465 §5.8).
func TestNotifyOverflow(t *testing.T) {
	b := newFake()
	c := watcher(t, startServer(t, Options{Backend: b, Private: true}))
	s := &fakeSession{b}
	for i := len(b.boxes); i < maxWatches; i++ {
		if _, err := s.CreateFolder(t.Context(), "box"+strconv.Itoa(i), ""); err != nil {
			t.Fatal(err)
		}
	}
	want(t, c.Cmd("b NOTIFY SET (personal (MessageNew MessageExpunge))"), "b OK ")
	if n := b.watching(); n != maxWatches+1 {
		t.Fatalf("%d watches", n)
	}
	if _, err := s.CreateFolder(t.Context(), "one-more", ""); err != nil {
		t.Fatal(err)
	}
	line(t, c, "* OK [NOTIFICATIONOVERFLOW] Too many mailboxes to watch")
	if n := b.watching(); n != 0 {
		t.Fatalf("%d watches after the overflow", n)
	}
	b.deliver("Sent", "Subject: x\r\n\r\n")
	want(t, c.Cmd("c NOTIFY SET (mailboxes Sent (MessageNew MessageExpunge))"), "c OK ")
	for _, set := range []string{"(personal (MessageNew MessageExpunge))", strings.TrimSpace(strings.Repeat("(inboxes NONE) ", maxEventGroups+1)),
		"(mailboxes (" + strings.TrimSpace(strings.Repeat("x ", maxEventNames+1)) + ") (MessageNew MessageExpunge))"} {
		want(t, c.Cmd("d NOTIFY SET "+set), "d NO [NOTIFICATIONOVERFLOW] ")
	}
	b.deliver("Sent", "Subject: x\r\n\r\n")
	line(t, c, `* STATUS "Sent" (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 1005)`)
}

// TestNotifyEnds: no watch stays behind a session, or behind NOTIFY NONE.
func TestNotifyEnds(t *testing.T) {
	b := newFake()
	addr := startServer(t, Options{Backend: b, Private: true})
	const all = "(selected (MessageNew MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge MailboxName ServerMetadataChange))"
	c := watcher(t, addr)
	want(t, c.Cmd("b SELECT INBOX"), "b OK ")
	want(t, c.Cmd("c NOTIFY SET "+all), "c OK ")
	want(t, c.Cmd("d NOTIFY SET "+all), "d OK ") // the first ones end
	want(t, c.Cmd("e SELECT Sent"), "e OK ")
	want(t, c.Cmd("f NOOP"), "f OK ") // the watch of the selected mailbox is set up before
	b.deliver("Sent", "Subject: x\r\n\r\n")
	line(t, c, "* 1 EXISTS")
	line(t, c, "* 1 RECENT")
	if n := b.watching(); n != 5+1+1+1 { // mailboxes, the selected one, the list, the server
		t.Fatalf("%d watches", n)
	}
	want(t, c.Cmd("g NOTIFY NONE"), "g OK ")
	if n := b.watching(); n != 0 {
		t.Fatalf("%d watches behind NONE", n)
	}
	want(t, c.Cmd("h NOTIFY SET "+all), "h OK ")
	c.Cmd("i LOGOUT")
	if s, err := c.Line(); err == nil {
		t.Fatal(s)
	}
	second := watcher(t, addr)
	want(t, second.Cmd("b NOTIFY SET "+all), "b OK ")
	second.Close()
	third := watcher(t, addr)
	for n := -1; n != 0; n = b.watching() {
		want(t, third.Cmd("b NOOP"), "b OK ")
	}
}

// TestNotifyVanished: with QRESYNC expunged messages come as VANISHED, between commands.
func TestNotifyVanished(t *testing.T) {
	b := newFake()
	addr := startServer(t, Options{Backend: b, Private: true})
	for range 3 {
		b.deliver("INBOX", "Subject: x\r\n\r\n")
	}
	c, other := watcher(t, addr), watcher(t, addr)
	want(t, c.Cmd("b ENABLE QRESYNC"), "b OK ")
	want(t, c.Cmd("c SELECT INBOX"), "c OK ")
	want(t, c.Cmd("d NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))"), "d OK ")
	want(t, other.Cmd("b SELECT INBOX"), "b OK ")
	want(t, other.Cmd(`c STORE 1:2 +FLAGS.SILENT (\Deleted)`), "c OK ")
	line(t, c, `* 1 FETCH (UID 1 FLAGS (\Deleted \Recent) MODSEQ (5))`)
	line(t, c, `* 2 FETCH (UID 2 FLAGS (\Deleted \Recent) MODSEQ (5))`)
	want(t, other.Cmd("d EXPUNGE"), "d OK ")
	line(t, c, "* VANISHED 1:2")
	b.deliver("INBOX", "Subject: y\r\n\r\n")
	line(t, c, "* 2 EXISTS")
	line(t, c, "* 2 RECENT")
	line(t, c, "* 2 FETCH (UID 4)")
	// A message whose flags are wanted comes with its keywords announced, and with MODSEQ.
	want(t, c.Cmd("e NOTIFY SET (selected (MessageNew (FLAGS BODY[]) MessageExpunge))"), "e OK ")
	want(t, other.Cmd("e APPEND INBOX ($Own) {14+}\r\nSubject: z\r\n\r\n"), "e OK ")
	line(t, c, "* 3 EXISTS")
	line(t, c, "* 3 RECENT")
	s, err := c.Line()
	if err != nil || !strings.HasPrefix(s, "* FLAGS (") || !strings.Contains(s, "$Own") {
		t.Fatal(s, err)
	}
	line(t, c, `* 3 FETCH (FLAGS ($Own \Recent) BODY[] {14}Subject: z␍␊␍␊ MODSEQ (8))`)
	if got := other.Cmd("f SEARCH SEEN"); got[0] != "* SEARCH" { // it was not opened by being told
		t.Fatal(got)
	}
}

// TestNotifySelectedGone: the end of the selected mailbox ends a session that is told of it.
func TestNotifySelectedGone(t *testing.T) {
	b := newFake()
	c := watcher(t, startServer(t, Options{Backend: b, Private: true}))
	want(t, c.Cmd("b SELECT Junk"), "b OK ")
	want(t, c.Cmd("c NOTIFY SET (selected (MessageNew MessageExpunge))"), "c OK ")
	if err := (&fakeSession{b}).DeleteFolder(context.Background(), "Junk"); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Line(); err != nil || !strings.HasPrefix(s, "* BYE [NONEXISTENT] ") {
		t.Fatal(s, err)
	}
	if s, err := c.Line(); err == nil {
		t.Fatal(s)
	}
}

// TestFolderChanges: which names a change of the list affects (RFC 5465 §5.4, §5.5).
func TestFolderChanges(t *testing.T) {
	f := func(box uint32, name string) Folder { return Folder{Box: box, Name: name, UIDValidity: box} }
	sub := func(f Folder) Folder { f.Subscribed = true; return f }
	gone := func(f Folder) Folder { f.NonExistent, f.NoSelect = true, true; return f }
	noselect := func(f Folder) Folder { f.NoSelect = true; return f }
	for _, c := range []struct {
		what     string
		old, now []Folder
		want     map[string]string // events, and the old name
	}{
		{"nothing", []Folder{f(1, "a")}, []Folder{f(1, "a")}, nil},
		{"made", nil, []Folder{f(1, "a")}, map[string]string{"a": "name"}},
		{"made below", []Folder{f(1, "a")}, []Folder{f(1, "a"), f(2, "a/b/c")}, map[string]string{"a/b": "name", "a/b/c": "name"}},
		{"deleted", []Folder{f(1, "a"), f(2, "a/b")}, []Folder{f(1, "a")}, map[string]string{"a": "name", "a/b": "name"}},
		{"deleted and subscribed", []Folder{sub(f(1, "a"))}, []Folder{sub(gone(f(1, "a")))}, map[string]string{"a": "name"}},
		{"deleted with one below", []Folder{f(1, "a"), f(2, "a/b")}, []Folder{noselect(f(1, "a")), f(2, "a/b")}, map[string]string{"a": "name"}},
		{"made again", []Folder{f(1, "a")}, []Folder{f(2, "a")}, map[string]string{"a": "name"}},
		{"renamed", []Folder{f(1, "a")}, []Folder{f(1, "b")}, map[string]string{"b": "name a"}},
		{"renamed with those below", []Folder{f(1, "a"), f(2, "a/x"), f(3, "a/x/y")}, []Folder{f(1, "b"), f(2, "b/x"), f(3, "b/x/y")}, map[string]string{"b": "name a"}},
		{"renamed differently", []Folder{f(1, "a"), f(2, "a/x")}, []Folder{f(1, "b"), f(2, "c/x")}, map[string]string{"b": "name a", "c/x": "name a/x"}},
		{"subscribed", []Folder{f(1, "a")}, []Folder{sub(f(1, "a"))}, map[string]string{"a": "subscription"}},
		{"unsubscribed", []Folder{sub(f(1, "a"))}, []Folder{f(1, "a")}, map[string]string{"a": "subscription"}},
		{"a subscription without mailbox", nil, []Folder{sub(gone(f(1, "a")))}, map[string]string{"a": "subscription"}},
		{"that one ended", []Folder{sub(gone(f(1, "a")))}, nil, map[string]string{"a": "subscription"}},
		{"made and subscribed", nil, []Folder{sub(f(1, "a"))}, map[string]string{"a": "name subscription"}},
	} {
		got := map[string]string{}
		for name, ch := range folderChanges(c.old, c.now) {
			var words []string
			if ch.events&evName != 0 {
				words = append(words, "name")
			}
			if ch.events&evSubscription != 0 {
				words = append(words, "subscription")
			}
			if ch.oldName != "" {
				words = append(words, ch.oldName)
			}
			got[name] = strings.Join(words, " ")
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
}

// TestEventGroupCovers: RFC 5465 §6.
func TestEventGroupCovers(t *testing.T) {
	all := []Folder{{Name: "INBOX"}, {Name: "a", Subscribed: true}, {Name: "a/b"}, {Name: "ab"}}
	for _, c := range []struct {
		g    eventGroup
		want []string
	}{
		{eventGroup{scope: scopeInboxes}, []string{"INBOX"}},
		{eventGroup{scope: scopePersonal}, []string{"INBOX", "a", "a/b", "ab"}},
		{eventGroup{scope: scopeSubscribed}, []string{"a"}},
		{eventGroup{scope: scopeSubtree, names: []string{"a"}}, []string{"a", "a/b"}},
		{eventGroup{scope: scopeMailboxes, names: []string{"a", "INBOX", "*"}}, []string{"INBOX", "a"}},
	} {
		var got []string
		for i := range all {
			if c.g.covers(&all[i]) {
				got = append(got, all[i].Name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.g, got, c.want)
		}
	}
}
