package imap

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// goneBackend loses messages between the view and the body, as if another session
// had expunged them meanwhile.
type goneBackend struct {
	*fakeBackend
	gone map[uint32]bool
}

type goneSession struct {
	Session
	gone map[uint32]bool
}

type goneMailbox struct {
	Mailbox
	gone map[uint32]bool
}

type goneBodies struct {
	Bodies
	gone map[uint32]bool
	es   []Entry
}

func (b goneBackend) Login(ctx context.Context, r LoginRequest) (Session, error) {
	s, err := b.fakeBackend.Login(ctx, r)
	return goneSession{s, b.gone}, err
}

func (s goneSession) Open(ctx context.Context, box uint32) (Mailbox, error) {
	m, err := s.Session.Open(ctx, box)
	return goneMailbox{m, s.gone}, err
}

func (m goneMailbox) Bodies() Bodies { return &goneBodies{Bodies: m.Mailbox.Bodies(), gone: m.gone} }

func (b *goneBodies) Open(ctx context.Context, es []Entry) (int, error) {
	b.es = es
	return b.Bodies.Open(ctx, es)
}

func (b *goneBodies) At(i int) (Body, error) {
	if b.gone[b.es[i].UID] {
		return nil, errs.E("fake", errs.NotFound, "", nil)
	}
	return b.Bodies.At(i)
}

// TestFetchAhead: bodies that are opened together are answered as if each had been
// opened alone: in order, each once, without those that are gone, \Seen behind
// every 64.
func TestFetchAhead(t *testing.T) {
	b := goneBackend{newFake(), map[uint32]bool{2: true, 64: true, 65: true, 150: true}}
	c := dial(t, startServer(t, Options{Backend: b, Private: true}))
	c.Cmd(loginLine)
	const n = 150
	text := "b APPEND INBOX"
	for i := range n {
		raw := fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", i+1, i+1)
		text += fmt.Sprintf(" {%d+}\r\n%s", len(raw), raw)
		if i%75 == 74 {
			c.Send(text + "\r\n")
			want(t, c.Until("b "), "b OK ")
			text = "b APPEND INBOX"
		}
	}
	want(t, c.Cmd("c SELECT INBOX"), "c OK ")
	expect := func(seen bool, more string) (lines []string) {
		var pending []string
		for uid := 1; uid <= n; uid++ {
			if !b.gone[uint32(uid)] {
				raw := fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", uid, uid)
				line := fmt.Sprintf("* %d FETCH (UID %d BODY[] {%d}%s%s)", uid, uid, len(raw), raw, strings.ReplaceAll(more, "SIZE", fmt.Sprintf("SIZE %d", len(raw))))
				lines = append(lines, strings.ReplaceAll(line, "\r\n", "␍␊"))
				pending = append(pending, fmt.Sprintf(`* %d FETCH (UID %d FLAGS (\Seen \Recent))`, uid, uid))
			}
			if seen && (len(pending) == seenBatch || uid == n) {
				lines, pending = append(lines, pending...), nil
			}
		}
		return lines
	}
	same := func(what string, got, want []string) {
		t.Helper()
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("%s: line %d is %q, want %q", what, i, got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d lines, want %d", what, len(got), len(want))
		}
	}
	same("by UID", c.Cmd("d UID FETCH 1:* BODY.PEEK[]"), append(expect(false, ""), "d OK FETCH done"))
	same("by number", c.Cmd("e FETCH 1:* (UID BODY.PEEK[] RFC822.SIZE)"),
		append(expect(false, " RFC822.SIZE"), "e NO [EXPUNGEISSUED] Some of these messages exist no more"))
	same("that sets \\Seen", c.Cmd("f UID FETCH 1:* BODY[]"), append(expect(true, ""), "f OK FETCH done"))
}
