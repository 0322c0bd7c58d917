package mailbox

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// damaged is a world in which every kind of record exists: three mails in INBOX, one of
// them large, one with keywords, one shared with Drafts (box 2), and one expunge remembered.
func damaged(t *testing.T) (*world, *seal.Opened) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	w.deliver(mailOf(1, 300), k)
	w.deliver(mailOf(2, 100_000), k)
	w.deliver(mailOf(3, 300), k)
	w.deliver(mailOf(4, 300), k)
	if _, err := a.SetFlags(ctx, Inbox, SetFlags{UIDs: []uint32{3}, Op: FlagsAdd, Keywords: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Copy(ctx, Inbox, []uint32{1}, 2); err != nil {
		t.Fatal(err)
	}
	expungeAll(t, w, k, 4)
	w.check()
	return w, k
}

// changeState, changeCounters and changePage rewrite one record.
func changeState(box uint32, fn func(*boxState)) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) {
		st, err := getState(tx, id, box)
		if err != nil {
			t.Fatal(err)
		}
		fn(st)
		put(t, tx, stateKey(id, box), st.encode())
	}
}

func changeCounters(fn func(*counters)) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) {
		c, err := getCounters(tx, id)
		if err != nil {
			t.Fatal(err)
		}
		fn(&c)
		put(t, tx, countersKey(id), c.encode())
	}
}

func changePage(fn func([]Entry) []Entry) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) {
		k := pageKey(id, 1, 1)
		v, err := tx.Get(k)
		if err != nil {
			t.Fatal(err)
		}
		rows, _, err := decodePage(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		put(t, tx, k, encodePage(fn(rows)))
	}
}

func put(t *testing.T, tx store.Tx, k, v []byte) {
	t.Helper()
	if err := tx.Set(k, v); err != nil {
		t.Fatal(err)
	}
}

func drop(kind func(seal.AccountID) []byte) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) {
		k := kind(id)
		if _, err := tx.Get(k); err != nil {
			t.Fatalf("nothing to damage: %v", err)
		}
		if err := tx.Delete(k); err != nil {
			t.Fatal(err)
		}
	}
}

func plant(kind func(seal.AccountID) []byte, v []byte) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) { put(t, tx, kind(id), v) }
}

func changeMessage(mid uint64, fn func(*messageHead)) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) {
		v, err := tx.Get(messageKey(id, mid))
		if err != nil {
			t.Fatal(err)
		}
		h, sum, err := decodeMessage(v)
		if err != nil {
			t.Fatal(err)
		}
		fn(&h)
		put(t, tx, messageKey(id, mid), encodeMessage(&h, slices.Clone(sum)))
	}
}

// firstOf gives the only key of a kind.
func firstOf(t *testing.T, tx store.Tx, id seal.AccountID, kind byte) (k []byte) {
	t.Helper()
	start := key(id, kind)
	err := tx.Scan(start, after(start), func(key, _ []byte) (bool, error) { k = slices.Clone(key); return false, nil })
	if err != nil || k == nil {
		t.Fatal("no such record", err)
	}
	return k
}

func dropFirst(kind byte) func(*testing.T, store.Tx, seal.AccountID) {
	return func(t *testing.T, tx store.Tx, id seal.AccountID) {
		if err := tx.Delete(firstOf(t, tx, id, kind)); err != nil {
			t.Fatal(err)
		}
	}
}

var damages = []struct {
	finding string
	do      func(*testing.T, store.Tx, seal.AccountID)
}{
	{"a record of kind 'p' cannot be read", func(t *testing.T, tx store.Tx, id seal.AccountID) { put(t, tx, pageKey(id, 1, 1), []byte{1, 2, 3}) }},
	{"a record of kind 's' cannot be read", plant(func(id seal.AccountID) []byte { return append(stateKey(id, 1), 0) }, nil)},
	{"the account has no counters", drop(countersKey)},
	{"the account has no INBOX", drop(func(id seal.AccountID) []byte { return stateKey(id, Inbox) })},
	{"the account has no folder list record", drop(folderListKey)},
	{"the number of folders is not what the counters say", changeCounters(func(c *counters) { c.folders++ })},
	{"a folder has a number that was not given out yet", changeCounters(func(c *counters) { c.nextBox = 3 })},
	{"annotations belong to no mailbox", plant(func(id seal.AccountID) []byte { return metadataKey(id, 99) }, []byte{1})},
	{"a mailbox has no folder name", drop(func(id seal.AccountID) []byte { return folderKey(id, 2) })},
	{"a mailbox has a series that was not given out yet", changeCounters(func(c *counters) { c.nextSeries = 2 })},
	{"a mailbox has a UIDVALIDITY that was not given out yet", changeCounters(func(c *counters) { c.nextUIDValidity = 1 })},
	{"records of a mailbox that does not exist", plant(func(id seal.AccountID) []byte { return keywordsKey(id, 77, 1) }, []byte{1})},
	{"two mailboxes share their records", changeState(3, func(s *boxState) { s.series = 1 })},
	{"a mail in a mailbox has no message record", drop(func(id seal.AccountID) []byte { return messageKey(id, 3) })},
	{"pages are out of order", func(t *testing.T, tx store.Tx, id seal.AccountID) {
		put(t, tx, pageKey(id, 1, 2), encodePage([]Entry{{UID: 2, Mid: 2, ModSeq: 2}}))
	}},
	{"a page that changed is not noted as changed", changeState(Inbox, func(s *boxState) { s.dirty = nil })},
	{"a UID is not below UIDNEXT", changeState(Inbox, func(s *boxState) { s.uidNext = 3 })},
	{"a modseq is above HIGHESTMODSEQ", changeState(Inbox, func(s *boxState) { s.highest = 3 })},
	{"keywords of a mail are missing", drop(func(id seal.AccountID) []byte { return keywordsKey(id, 1, 3) })},
	{"keywords belong to no mail", plant(func(id seal.AccountID) []byte { return keywordsKey(id, 1, 1) }, []byte{1})},
	{"the save date of a copied mail is missing", drop(func(id seal.AccountID) []byte { return savedKey(id, 2, 1) })},
	{"a save date belongs to no copied mail", plant(func(id seal.AccountID) []byte { return savedKey(id, 1, 1) }, []byte{1})},
	{"the list of keywords is missing", drop(func(id seal.AccountID) []byte { return keyNamesKey(id, 1) })},
	{"the page for new mails is not the last one", func(t *testing.T, tx store.Tx, id seal.AccountID) {
		put(t, tx, pageKey(id, 1, 100), encodePage([]Entry{{UID: 100, Mid: 2, ModSeq: 2}}))
	}},
	{"the page for new mails does not exist", changeState(Inbox, func(s *boxState) { s.tail = 2 })},
	{"the number of mails is not what the pages hold", changeState(Inbox, func(s *boxState) { s.messages-- })},
	{"the number of unseen mails is not what the pages hold", changeState(Inbox, func(s *boxState) { s.unseen-- })},
	{"the number of deleted mails is not what the pages hold", changeState(Inbox, func(s *boxState) { s.deleted++ })},
	{"the size of the mailbox is not the sum of its mails", changeState(Inbox, func(s *boxState) { s.size++ })},
	{"a claim of recent mails reaches beyond UIDNEXT", changeState(Inbox, func(s *boxState) { s.recent = 1000 })},
	{"an expunge is remembered under a wrong modseq", changeState(Inbox, func(s *boxState) { s.tombFloor = 1000 })},
	{"a mail is remembered as expunged and is not", plant(func(id seal.AccountID) []byte { return tombstoneKey(id, 1, 3) }, encodeTombstone([]uint32{1}))},
	{"the number of remembered expunges is wrong", changeState(Inbox, func(s *boxState) { s.tombs++ })},
	{"a message record has a number that was not given out yet", changeCounters(func(c *counters) { c.nextMid = 2 })},
	{"a message record belongs to no mailbox", changePage(func(rows []Entry) []Entry { return rows[:2] })},
	{"a message record counts its mailboxes wrongly", plant(func(id seal.AccountID) []byte { return refsKey(id, 1) }, encodeCount(3))},
	{"a message record's body file is not listed", dropFirst(kindBlob)},
	{"the body of a mail is missing", drop(func(id seal.AccountID) []byte { return bodyKey(id, 1) })},
	{"the stored size of a mail is wrong", changeMessage(1, func(h *messageHead) { h.stored++ })},
	{"a body belongs to no mail", plant(func(id seal.AccountID) []byte { return bodyKey(id, 99) }, []byte{1})},
	{"a reference count belongs to no mail", plant(func(id seal.AccountID) []byte { return refsKey(id, 99) }, encodeCount(2))},
	{"a listed body file belongs to no mail", plant(func(id seal.AccountID) []byte { return blobKey(id, blob.Name{1}) }, encodeCount(1))},
	{"the used bytes are not the sum of the mails", changeCounters(func(c *counters) { c.used++ })},
	{"an encapsulation that mails need is missing", dropFirst(kindEncap)},
	{"the mails of an encapsulation are counted wrongly", func(t *testing.T, tx store.Tx, id seal.AccountID) {
		put(t, tx, firstOf(t, tx, id, kindChainRefs), encodeCount(9))
	}},
	{"an encapsulation is kept that no mail needs", plant(func(id seal.AccountID) []byte { return encapKey(id, seal.ChainID{1}) }, make([]byte, seal.EncapLen))},
	{"a count of mails belongs to no encapsulation", plant(func(id seal.AccountID) []byte { return chainRefsKey(id, seal.ChainID{1}) }, encodeCount(1))},
	{"a body file has the wrong length", changeMessage(2, func(h *messageHead) { h.stored++ })},
}

// TestCheckFindsDamage plants each kind of damage and sees it named.
func TestCheckFindsDamage(t *testing.T) {
	for _, c := range damages {
		t.Run(c.finding, func(t *testing.T) {
			w, k := damaged(t)
			err := w.st.Update(context.Background(), k.ID().Shard(), func(tx store.Tx) error {
				c.do(t, tx, k.ID())
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			wantFinding(t, w, c.finding)
		})
	}
	t.Run("the body file of a mail is missing", func(t *testing.T) {
		w, _ := damaged(t)
		list, err := w.fs.List(w.blobDir())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if err := w.fs.Remove(w.fs.PathJoin(w.blobDir(), list[0])); err != nil {
			t.Fatal(err)
		}
		wantFinding(t, w, "the body file of a mail is missing")
	})
	t.Run("a body file belongs to no mail", func(t *testing.T) {
		w, _ := damaged(t)
		f, err := w.fs.Create(w.blobPath(blob.Name{7}), vfs.Unspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		wantFinding(t, w, "a body file belongs to no mail")
	})
}

func wantFinding(t *testing.T, w *world, want string) {
	t.Helper()
	var got []string
	if err := w.boxes.Check(context.Background(), func(f Finding) { got = append(got, f.What) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got, want) {
		t.Fatalf("findings: %q", got)
	}
}

// TestEveryFindingIsPlanted: no sentence of the check lacks its damage above.
func TestEveryFindingIsPlanted(t *testing.T) {
	src, err := os.ReadFile("check.go")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("check_test.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?:say\((?s:.*?)|What: )"([^"]+)"[,)}]`).FindAllStringSubmatch(string(src), -1) {
		n++
		if !strings.Contains(string(self), `"`+m[1]+`"`) {
			t.Errorf("no damage shows %q", m[1])
		}
	}
	if n < 45 {
		t.Errorf("found only %d sentences", n)
	}
}
