package client

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// openTest opens a store in a directory, with a new identity if there is none.
func openTest(t testing.TB, fs vfs.FS, limits StoreLimits, now func() time.Time) *Store {
	t.Helper()
	must(t, vfs.MkdirAll(fs, "/c", 0o700))
	id, err := OpenIdentity(fs, "/c", false)
	if errs.KindOf(err) == errs.NotFound {
		id, err = NewIdentity(fs, "/c", rngReader{rng(1)})
	}
	must(t, err)
	s, err := OpenStore(fs, "/c", id, limits, nil, now)
	must(t, err)
	return s
}

func atBegin() time.Time { return begin }

// fragments are those of a letter to the owner of the store.
func (s *Store) fragments(t testing.TB, text string) []*letter.Fragment {
	t.Helper()
	sealed, err := letter.Seal(s.id.Letter.Public(), letter.Message{Content: []byte(text)}, letter.Options{Room: letter.RoomPlain})
	must(t, err)
	var out []*letter.Fragment
	for _, b := range sealed.Bodies {
		f, err := letter.Open(s.id.Letter, b)
		must(t, err)
		out = append(out, f)
	}
	return out
}

func outgoing(n int) Outgoing {
	o := Outgoing{Kind: content.Letter, Relay: packet.ID{1}, Mailbox: packet.ID{2}, Ack: true, Note: "somebody", Expires: begin.Add(time.Hour)}
	for i := range n {
		o.Bodies = append(o.Bodies, bytes.Repeat([]byte{byte(i + 1)}, letter.RoomACK))
	}
	return o
}

// TestStoreCrash cuts the disk at each sync of a life: what was said to be kept is there, what
// was settled does not come again, what was spent is not spent again.
func TestStoreCrash(t *testing.T) {
	type said struct {
		queued, put, settled int
		spent, remembered    bool
		ended                bool
	}
	c := usual(t, 1)
	seed := &packet.Seed{3}
	set, err := NewSet(1, c, begin, rng(1), Home{FindNode(c, "relay0"), packet.ID{5}}, seed, 0, Want{}, rngReader{rng(2)})
	must(t, err)
	block := set.Blocks[0].SURB
	var items [3][]*letter.Fragment
	life := func(fs vfs.FS, w *said) []string {
		s := openTest(t, fs, StoreLimits{}, atBegin)
		var names []string
		for range 2 {
			n, err := s.Queue(outgoing(2))
			must(t, err)
			names = append(names, n)
			w.queued++
		}
		for i := range items {
			if items[i] == nil {
				items[i] = s.fragments(t, fmt.Sprint("letter ", i))
			}
			must(t, s.put(uint64(i+1), items[i][0], ""))
			w.put++
		}
		must(t, s.RememberSet(set, seed, ""))
		w.remembered = true
		in, err := s.Collect()
		must(t, err)
		for _, r := range in.Letters[:2] {
			must(t, in.Settle(s, r))
			w.settled++
		}
		must(t, s.Spend([]*packet.SURB{block}))
		w.spent = true
		// The second message ends.
		client := &Client{o: Options{Store: s, Now: atBegin}, working: worker{messages: map[string]*message{}}}
		must(t, client.adopt(names[1]))
		m := client.working.messages[names[1]]
		must(t, client.end(m, Sent, ""))
		w.ended = true
		return names
	}
	for _, u := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
		for _, after := range []bool{false, true} {
			for n := int64(1); ; n++ {
				var w, at said
				cut := vfs.CutAt(vfs.NewCrashDisk(), n, after, u, uint64(n), func() { at = w })
				names := life(cut.FS, &w)
				disk := cut.Disk()
				if disk == nil {
					if n < 15 {
						t.Fatalf("only %d syncs", n)
					}
					break
				}
				s := openTest(t, disk, StoreLimits{}, atBegin)
				what := fmt.Sprintf("cut at %d (after %v, %v)", n, after, u)
				list, err := s.List()
				must(t, err)
				for i, name := range names[:at.queued] {
					if !slices.ContainsFunc(list, func(p Progress) bool { return p.Name == name && p.Packets == 2 }) {
						t.Errorf("%s: message %d is lost: %+v", what, i, list)
					}
				}
				if at.ended {
					p, err := s.Progress(names[1])
					must(t, err)
					if p.Result != Delivered {
						t.Errorf("%s: %+v", what, p)
					}
				}
				in, err := s.Collect()
				must(t, err)
				var got []string
				for _, r := range in.Letters {
					got = append(got, string(r.Letter.Content))
				}
				for i := range at.put {
					text := fmt.Sprint("letter ", i)
					there := slices.Contains(got, text)
					if i >= w.settled && !there || i < at.settled && there {
						t.Errorf("%s: %q, %d put, %d settled", what, got, at.put, at.settled)
					}
				}
				if err := s.Spend([]*packet.SURB{block}); at.spent && errs.KindOf(err) != errs.Denied {
					t.Errorf("%s: a block is spent twice: %v", what, err)
				}
				blocks, err := s.Blocks()
				must(t, err)
				if at.remembered && len(blocks) != 1 {
					t.Errorf("%s: %d blocks", what, len(blocks))
				}
			}
		}
	}
}

// TestStoreBounds: how much may wait, and in the inbox.
func TestStoreBounds(t *testing.T) {
	s := openTest(t, crvfs.NewMem(), StoreLimits{Messages: 2, Inbox: 2, Bytes: 200_000}, atBegin)
	for range 2 {
		_, err := s.Queue(outgoing(1))
		must(t, err)
	}
	_, err := s.Queue(outgoing(1))
	wantKind(t, err, errs.Full, "too much waits to be sent already")
	s = openTest(t, crvfs.NewMem(), StoreLimits{Bytes: 100_000}, atBegin)
	_, err = s.Queue(outgoing(6))
	wantKind(t, err, errs.Full, "too much waits to be sent already")
	s = openTest(t, crvfs.NewMem(), StoreLimits{Inbox: 2}, atBegin)
	f := s.fragments(t, "x")[0]
	must(t, s.put(1, f, ""))
	must(t, s.put(2, f, ""))
	must(t, s.put(2, f, "")) // the same again
	wantKind(t, s.put(3, f, ""), errs.Full, "the inbox is full")

	for name, o := range map[string]Outgoing{
		"nothing":       {Kind: content.Letter, Relay: packet.ID{1}, Mailbox: packet.ID{1}},
		"too large":     {Kind: content.Letter, Relay: packet.ID{1}, Mailbox: packet.ID{1}, Ack: true, Bodies: [][]byte{make([]byte, letter.RoomPlain)}},
		"two sizes":     {Kind: content.Letter, Relay: packet.ID{1}, Mailbox: packet.ID{1}, Bodies: [][]byte{{1}, {1, 2}}},
		"no mailbox":    {Kind: content.Letter, Relay: packet.ID{1}, Bodies: [][]byte{{1}}},
		"no exit":       {Kind: content.Mbox, Bodies: [][]byte{{1}}},
		"exit with ack": {Kind: content.Mbox, Relay: packet.ID{1}, Ack: true, Bodies: [][]byte{{1}}},
		"no blocks":     {Kind: content.Inject, Bodies: [][]byte{{1}}},
		"kind":          {Kind: content.Plain, Relay: packet.ID{1}, Bodies: [][]byte{{1}}},
		"path":          {Kind: content.Letter, Relay: packet.ID{1}, Mailbox: packet.ID{1}, Bodies: [][]byte{{1}}, Path: "*9"},
	} {
		if _, err := s.Queue(o); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "../client.key", strings.Repeat("0", 22), "0123456789a-012345678z"} {
		if _, err := s.Progress(name); errs.KindOf(err) != errs.NotFound {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestSeizedStore: without client.key nothing that was written or came can be found on the
// disk; with another key nothing opens, and damage is told.
func TestSeizedStore(t *testing.T) {
	dir := t.TempDir()
	id, err := NewIdentity(vfs.OS(), dir, rngReader{rng(1)})
	must(t, err)
	if _, err := NewIdentity(vfs.OS(), dir, rngReader{rng(1)}); errs.KindOf(err) != errs.Exists {
		t.Errorf("a second identity: %v", err)
	}
	s, err := OpenStore(vfs.OS(), dir, id, StoreLimits{}, nil, atBegin)
	must(t, err)
	canary := "canary-7d1f"
	o := outgoing(1)
	o.Note, o.Path, o.Bodies[0] = canary, canary, bytes.Repeat([]byte(canary+" "), 500)
	name, err := s.Queue(o)
	must(t, err)
	must(t, s.put(7, s.fragments(t, canary)[0], ""))
	c := usual(t, 1)
	set, err := NewSet(1, c, begin, rng(1), Home{FindNode(c, "relay0"), packet.ID{5}}, &packet.Seed{}, 0, Want{}, rngReader{rng(2)})
	must(t, err)
	must(t, s.RememberSet(set, &packet.Seed{}, canary))
	must(t, s.Spend([]*packet.SURB{set.Blocks[0].SURB}))
	must(t, filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, []byte(canary)) || bytes.Contains(b, o.Mailbox[:]) {
			t.Errorf("%s can be read", info.Name())
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
		return err
	}))
	// Others may not read the keys.
	key := filepath.Join(dir, KeyFile)
	must(t, os.Chmod(key, 0o644))
	_, err = OpenIdentity(vfs.OS(), dir, false)
	wantKind(t, err, errs.Denied, "")
	_, err = OpenIdentity(vfs.OS(), dir, true)
	must(t, err)
	must(t, os.Chmod(key, 0o600))
	// Another key.
	b, err := os.ReadFile(key)
	must(t, err)
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(key, b, 0o600))
	other, err := OpenIdentity(vfs.OS(), dir, false)
	must(t, err)
	w, err := OpenStore(vfs.OS(), dir, other, StoreLimits{}, nil, atBegin)
	must(t, err)
	_, err = w.Progress(name)
	wantKind(t, err, errs.Corrupt, "a message that waits is damaged")
	in, err := w.Collect()
	must(t, err)
	if in.Damaged != 1 || len(in.Letters) != 0 {
		t.Errorf("%+v", in)
	}
	if _, err := w.Blocks(); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("%v", err)
	}
	for _, short := range [][]byte{nil, b[:10], append([]byte("X"), b[1:]...)} {
		must(t, os.WriteFile(key, short, 0o600))
		_, err = OpenIdentity(vfs.OS(), dir, false)
		wantKind(t, err, errs.Corrupt, "the file of the client's keys is damaged")
	}
	_, err = OpenIdentity(vfs.OS(), t.TempDir(), false)
	wantKind(t, err, errs.NotFound, "there is no client in this directory")
}

// TestInbox: letters that are not whole wait, and are given up in time; one that is not in order
// is told and goes; a fragment of a letter that was taken out is dropped.
func TestInbox(t *testing.T) {
	now := begin
	fs := crvfs.NewMem()
	s := openTest(t, fs, StoreLimits{Keep: 48 * time.Hour}, func() time.Time { return now })
	long := s.fragments(t, text("long", 60_000))
	if len(long) < 2 {
		t.Fatal("one fragment")
	}
	must(t, s.put(1, long[0], ""))
	must(t, s.put(2, s.fragments(t, "whole")[0], ""))
	in, err := s.Collect()
	must(t, err)
	if in.Partial != 1 || len(in.Letters) != 1 || string(in.Letters[0].Letter.Content) != "whole" || !in.Letters[0].At.Equal(begin) {
		t.Fatalf("%+v", in)
	}
	must(t, in.Settle(s, in.Letters[0]))
	now = now.Add(47 * time.Hour)
	must(t, s.put(3, long[1], ""))
	in, err = s.Collect()
	must(t, err)
	if len(long) == 2 && (len(in.Letters) != 1 || in.Partial != 0) {
		t.Fatalf("%+v", in)
	}
	must(t, in.Settle(s, in.Letters[0]))
	must(t, s.put(4, long[0], "")) // it comes again
	in, err = s.Collect()
	must(t, err)
	if len(in.Letters) != 0 || in.Partial != 0 {
		t.Fatalf("%+v", in)
	}
	if items, err := s.items(); err != nil || len(items) != 0 {
		t.Errorf("%v %v", items, err)
	}
	must(t, s.put(5, s.fragments(t, text("other", 60_000))[0], ""))
	now = now.Add(49 * time.Hour)
	in, err = s.Collect()
	must(t, err)
	if in.Expired != 1 || in.Partial != 0 {
		t.Errorf("%+v", in)
	}
	// A signature that does not fit: the letter was signed for somebody else, who sealed it anew.
	m := letter.Message{Content: []byte("x"), Signer: wrongSigner{signer(t, "mallory")}, Sender: "me"}
	sealed, err := letter.Seal(s.id.Letter.Public(), m, letter.Options{Room: letter.RoomPlain})
	must(t, err)
	f, err := letter.Open(s.id.Letter, sealed.Bodies[0])
	must(t, err)
	must(t, s.put(6, f, ""))
	in, err = s.Collect()
	must(t, err)
	if len(in.Letters) != 1 || errs.KindOf(in.Letters[0].Err) != errs.Auth {
		t.Fatalf("%+v", in)
	}
	must(t, in.Settle(s, in.Letters[0]))
}

// wrongSigner signs something else than it is asked to.
type wrongSigner struct{ *directory.PrivateKey }

func (w wrongSigner) Sign([]byte) (directory.Signature, error) {
	sum := sha256.Sum256(nil)
	return w.PrivateKey.Sign(sum[:])
}

// TestSeeds: a new seed each day; an old one lives until its last block has expired, and a day.
func TestSeeds(t *testing.T) {
	r := rngReader{rng(1)}
	var list []seedRecord
	until := func(now time.Time) time.Time { return now.Add(48 * time.Hour) }
	use := func(now time.Time) (*packet.Seed, bool) {
		t.Helper()
		var i int
		var changed bool
		var err error
		list, i, changed, err = useSeed(list, now, until(now), r)
		must(t, err)
		return list[i].seed(), changed
	}
	first, changed := use(begin)
	if !changed {
		t.Error("a new seed is no change")
	}
	if again, changed := use(begin); *again != *first || changed {
		t.Error("another seed at the same time")
	}
	if again, changed := use(begin.Add(23 * time.Hour)); *again != *first || !changed {
		t.Error("another seed within a day, or its end was not noted")
	}
	if second, _ := use(begin.Add(24 * time.Hour)); *second == *first || len(list) != 2 {
		t.Error("the same seed after a day")
	}
	if list = keepSeeds(list, begin.Add(23*time.Hour+72*time.Hour-1)); len(list) != 2 {
		t.Error("a seed is gone too early")
	}
	if list = keepSeeds(list, begin.Add(23*time.Hour+72*time.Hour)); len(list) != 1 {
		t.Error("a seed is kept for too long")
	}
	if back, _ := use(begin.Add(-time.Hour)); back == nil { // a clock that was set back
		t.Error("no seed")
	}
}

// TestAgain: the first repetition comes after one and a half times the expected time and some
// slack, each later one after twice as long, up to six hours; none in a rhythm.
func TestAgain(t *testing.T) {
	for tries, mean := range map[int]time.Duration{1: 8 * time.Minute, 2: 16 * time.Minute, 3: 32 * time.Minute, 10: 6 * time.Hour, 60: 6 * time.Hour} {
		lo, hi := again(begin, 2*time.Minute, DefaultAckSlack, tries, fixed(0)).Sub(begin), again(begin, 2*time.Minute, DefaultAckSlack, tries, fixed(.99999999)).Sub(begin)
		if lo != mean*8/10 || hi < mean*119/100 || hi > mean*12/10 {
			t.Errorf("try %d: %v to %v, want %v and a fifth", tries, lo, hi, mean)
		}
	}
}

// TestIdentityKeys: what follows from the seeds of a client is for all time what docs/mix-client.md
// §4 says; the numbers are those of an independent computation.
func TestIdentityKeys(t *testing.T) {
	fs := vfs.NewCrashDisk()
	must(t, vfs.MkdirAll(fs, "/c", 0o700))
	seeds := make([]byte, 96)
	for i := range seeds {
		seeds[i] = byte(i)
	}
	id, err := NewIdentity(fs, "/c", bytes.NewReader(seeds))
	must(t, err)
	again, err := OpenIdentity(fs, "/c", false)
	must(t, err)
	if want := "4b230a825f9ab4b57a6b37104ea087e2a755404a0023c92b93c983bba1409f36ddafe23ff6cf79b67d33ecb00b7b3d530451411b4852409f7e6698d642b6ca03"; fmt.Sprintf("%x", id.Sign.Seed()) != want || again.Sign.Public().ID() != id.Sign.Public().ID() {
		t.Errorf("key that signs: %x", id.Sign.Seed())
	}
	if got, want := fmt.Sprintf("%x", id.window("19ca9608140-ef611d532a", 3)), "6108727846938d1aa6d06379b6db8fc7"; got != want || again.window("19ca9608140-ef611d532a", 3) != id.window("19ca9608140-ef611d532a", 3) {
		t.Errorf("name of a window: %s", got)
	}
	if id.window("19ca9608140-ef611d532a", 3) == id.window("19ca9608140-ef611d532a", 4) || id.window("a", 1) == id.window("b", 1) {
		t.Error("two windows have one name")
	}
}
