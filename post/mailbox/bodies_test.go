package mailbox

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// readAll reads bodies by Bodies and gives what each came to, and the lengths of the
// Opens.
func readAll(t *testing.T, s *Bodies, es []Entry) (raws [][]byte, kinds []error, opens []int) {
	t.Helper()
	for len(es) > 0 {
		n, err := s.Open(context.Background(), es)
		if err != nil || n < 1 || n > len(es) {
			t.Fatalf("Open of %d: %d, %v", len(es), n, err)
		}
		var all [][]byte
		held := 0
		for i := range n {
			body, err := s.At(i)
			if err != nil {
				all, kinds = append(all, nil), append(kinds, errs.KindOf(err))
				continue
			}
			var out bytes.Buffer
			if m, err := body.WriteTo(&out); err != nil || m != body.Size() {
				t.Fatalf("WriteTo gave %d of %d bytes: %v", m, body.Size(), err)
			}
			held += out.Len()
			all, kinds = append(all, out.Bytes()), append(kinds, nil)
		}
		if n > 1 && held > maxBodyMemory || n > maxBodies {
			t.Fatalf("%d bodies of %d bytes were open at once", n, held)
		}
		for i := range n { // the later ones did not overwrite the earlier ones
			if body, err := s.At(i); err == nil && body.Size() <= MaxInline {
				again := make([]byte, body.Size())
				if m, _ := body.ReadAt(again, 0); m != len(again) || !bytes.Equal(again, all[i]) {
					t.Fatalf("body %d of %d changed", i, n)
				}
			}
		}
		raws, opens, es = append(raws, all...), append(opens, n), es[n:]
	}
	return raws, kinds, opens
}

func entriesOf(v *View) (es []Entry) {
	for _, e := range v.Range(0, v.Len()) {
		es = append(es, e)
	}
	return es
}

// bodiesWorld holds an account with mails of these sizes.
func bodiesWorld(t *testing.T, sizes []int, opts ...worldOption) (w *world, k *seal.Opened, a *Account, es []Entry, raws [][]byte) {
	t.Helper()
	w = newWorld(t, opts...)
	k = w.user()
	a = w.boxes.Account(k, 0)
	for i, size := range sizes {
		raws = append(raws, mailOf(i, size))
		w.deliver(raws[i], k)
	}
	return w, k, a, entriesOf(mustView(t, a, Inbox)), raws
}

// TestBodies reads mails of all sizes, in the order of their arrival and in others.
func TestBodies(t *testing.T) {
	ctx := context.Background()
	sizes := []int{200, 10_000, 10_000, 10_000, 10_000, 500, MaxInline, MaxInline, MaxInline - 1, MaxInline + 1, 300,
		300_000, 300_000, 10_000, 20_000, 40_000, 60_000, 1000, MaxInline + 1}
	_, _, a, es, want := bodiesWorld(t, append(sizes, slices.Repeat([]int{300}, 3*maxBodies)...))
	s := a.Bodies()
	defer s.Close()
	got, _, opens := readAll(t, s, es)
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("mail %d is not what was stored", i)
		}
	}
	if opens[0] < 6 || opens[len(opens)-1] < 10 {
		t.Errorf("neighbours are not opened together: %v", opens)
	}

	// Copies lie in the order they were made, and twice.
	to, err := a.CreateFolder(ctx, "Copies", "")
	if err != nil {
		t.Fatal(err)
	}
	order := []int{9, 5, 4, 4, 0, 11, 1, 2, 3, 2}
	for _, i := range order {
		if _, err := a.Copy(ctx, Inbox, []uint32{es[i].UID}, to.Box); err != nil {
			t.Fatal(err)
		}
	}
	got, _, opens = readAll(t, s, entriesOf(mustView(t, a, to.Box)))
	for i, from := range order {
		if !bytes.Equal(got[i], want[from]) {
			t.Fatalf("copy %d is not what was stored", i)
		}
	}
	if len(opens) >= len(order) {
		t.Errorf("no copies were opened together: %v", opens)
	}
	if n, err := s.Open(ctx, nil); n != 0 || err != nil {
		t.Errorf("Open of nothing: %d, %v", n, err)
	}
}

// TestBodiesGone: a mail that was expunged meanwhile is errs.NotFound by itself, and
// what is open stays open.
func TestBodiesGone(t *testing.T) {
	ctx := context.Background()
	w, k, a, es, want := bodiesWorld(t, []int{1000, 1000, 300_000, 1000, 1000, 1000, 300_000})
	s := a.Bodies()
	defer s.Close()
	if n, err := s.Open(ctx, es[3:]); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	expungeAll(t, w, k, 1, 3, 5, 6)
	body, err := s.At(1)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := body.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), want[4]) {
		t.Fatal("the open mail is not what it was", err)
	}
	got, kinds, _ := readAll(t, s, es)
	for i := range es {
		switch i {
		case 0, 2, 4, 5:
			if kinds[i] != errs.NotFound {
				t.Errorf("mail %d is expunged: %v", i, kinds[i])
			}
		default:
			if kinds[i] != nil || !bytes.Equal(got[i], want[i]) {
				t.Errorf("mail %d is not what was stored: %v", i, kinds[i])
			}
		}
	}
	expungeAll(t, w, k, 2, 4, 7)
	for i, kind := range func() []error { _, kinds, _ := readAll(t, s, es); return kinds }() {
		if kind != errs.NotFound {
			t.Errorf("mail %d, all are expunged: %v", i, kind)
		}
	}
}

// TestBodiesDamaged: damage of one mail is errs.Corrupt for that one and no other.
func TestBodiesDamaged(t *testing.T) {
	ctx := context.Background()
	w, k, a, es, want := bodiesWorld(t, slices.Repeat([]int{1000}, 6))
	damage := map[int]func(store.Tx) error{
		1: func(tx store.Tx) error { return tx.Delete(bodyKey(k.ID(), es[1].Mid)) },
		2: func(tx store.Tx) error { return tx.Set(messageKey(k.ID(), es[2].Mid), []byte{formatVersion, 1}) },
		3: func(tx store.Tx) error {
			b, err := tx.Get(bodyKey(k.ID(), es[3].Mid))
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return tx.Set(bodyKey(k.ID(), es[3].Mid), b)
		},
		5: func(tx store.Tx) error { return tx.Delete(bodyKey(k.ID(), es[5].Mid)) },
	}
	for _, do := range damage {
		if err := w.st.Update(ctx, k.ID().Shard(), do); err != nil {
			t.Fatal(err)
		}
	}
	s := a.Bodies()
	defer s.Close()
	got, kinds, _ := readAll(t, s, es)
	for i := range es {
		switch {
		case damage[i] != nil && kinds[i] != errs.Corrupt:
			t.Errorf("mail %d is damaged: %v", i, kinds[i])
		case damage[i] == nil && (kinds[i] != nil || !bytes.Equal(got[i], want[i])):
			t.Errorf("mail %d is not what was stored: %v", i, kinds[i])
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Open(canceled, es); errs.KindOf(err) != errs.Canceled {
		t.Errorf("Open without time: %v", err)
	}
}

// badBlock is a store in which no reading gets over one record.
type badBlock struct {
	store.Store
	key *[]byte
}

type badReader struct {
	store.Reader
	key []byte
}

func (b badBlock) View(ctx context.Context, s store.Shard, fn func(store.Reader) error) error {
	return b.Store.View(ctx, s, func(r store.Reader) error { return fn(badReader{r, *b.key}) })
}

func (b badReader) GetMany(keys [][]byte, fn func(int, []byte) (bool, error)) error {
	for _, k := range keys {
		if bytes.Equal(k, b.key) {
			return errs.E("test", errs.Corrupt, "", nil)
		}
	}
	return b.Reader.GetMany(keys, fn)
}

// TestBodiesBadBlock: what cannot be read at all takes no neighbours along.
func TestBodiesBadBlock(t *testing.T) {
	var bad []byte
	_, k, a, es, want := bodiesWorld(t, slices.Repeat([]int{1000}, 4),
		withStore(func(st store.Store) store.Store { return badBlock{st, &bad} }))
	s := a.Bodies()
	defer s.Close()
	for _, key := range [][]byte{bodyKey(k.ID(), es[2].Mid), messageKey(k.ID(), es[2].Mid)} {
		bad = key
		got, _, _ := readAll(t, s, es[:2])
		for i, raw := range got {
			if !bytes.Equal(raw, want[i]) {
				t.Errorf("mail %d is not what was stored", i)
			}
		}
		for i := range es {
			n, err := s.Open(context.Background(), es[i:])
			if i == 2 {
				if errs.KindOf(err) != errs.Corrupt {
					t.Errorf("the bad mail: %d, %v", n, err)
				}
			} else if err != nil || n < 1 {
				t.Errorf("Open from mail %d: %d, %v", i, n, err)
			}
		}
	}
}

// TestBodiesLeaveNothing: memory that waits for its next user holds no opened mail.
func TestBodiesLeaveNothing(t *testing.T) {
	_, _, a, es, _ := bodiesWorld(t, slices.Repeat([]int{20_000}, 5))
	s := a.Bodies()
	if n, err := s.Open(context.Background(), es); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	memory := s.memory
	if !bytes.Contains(memory[:], []byte("Subject: [...] 4")) {
		t.Fatal("the bodies lie elsewhere")
	}
	if n, err := s.Open(context.Background(), es[:1]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	s.Close()
	if *memory != [maxBodyMemory]byte{} {
		t.Error("opened mail stays in memory")
	}
	s.Close()
}
