package packetbox

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

var errOwn = errors.New("own")

// TestPutAndTake: packets come out in the order in which they went in, as they were, until
// they are removed, over restarts; an account sees its own only.
func TestPutAndTake(t *testing.T) {
	w := newWorld(t, runTwice)
	w.register(anna, 1)
	w.register(dora, 2)
	w.put(anna, 1, 2, 3, 4, 5)
	w.put(dora, 11)
	if got := w.next(anna); !slices.Equal(got, []uint32{1, 2, 3, 4, 5}) {
		t.Error(got)
	}
	if err := w.b.Remove(ctx, anna, []uint64{4, 2, 2, 99}); err != nil {
		t.Error(err)
	}
	if err := w.b.Remove(ctx, anna, []uint64{2, 4}); err != nil { // the answer was lost
		t.Error(err)
	}
	if err := w.b.Remove(ctx, anna, nil); err != nil {
		t.Error(err)
	}
	w.reopen()
	w.put(anna, 6)
	if got := w.next(anna); !slices.Equal(got, []uint32{1, 3, 5, 6}) {
		t.Error(got)
	}
	if got := w.next(dora); !slices.Equal(got, []uint32{11}) {
		t.Error(got)
	}
	list, err := w.b.Next(ctx, anna, 3, 1)
	if err != nil || len(list) != 1 || list[0].Number != 5 {
		t.Errorf("%v %v: a number must not be used twice", list, err)
	}
	if list, err := w.b.Next(ctx, anna, 1<<64-1, 1); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if list, err := w.b.Next(ctx, ben, 0, 10); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	w.sound()
	if st := w.b.Stats(); st.Boxes != 2 || st.Waiting != 5 || st.Stored != 1 {
		t.Errorf("%+v", st)
	}
}

// TestMany: more than one transaction and one page hold.
func TestMany(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.register(ben, 2)
	var list []Packet
	var want []uint32
	for n := range uint32(2*maxTogether + 7) {
		list = append(list, w.packet(anna, n), w.packet(ben, n))
		want = append(want, n)
	}
	for i, err := range w.b.Put(ctx, list) {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	for _, id := range []seal.AccountID{anna, ben} {
		if got := w.next(id); !slices.Equal(got, want) {
			t.Errorf("%s: %d packets, or in another order", id, len(got))
		}
	}
	got, err := w.b.Next(ctx, anna, 0, 10*maxNext)
	if err != nil || len(got) != maxNext {
		t.Errorf("%d at once, %v", len(got), err)
	}
	w.sound()
}

// TestOnce: a packet that is put again is there once, also when its client has taken it
// meanwhile, after a restart, in one call, and by many at a time; on the day after it is
// forgotten it counts as new.
func TestOnce(t *testing.T) {
	w := newWorld(t, runTwice)
	w.register(anna, 1)
	w.put(anna, 1, 1, 2)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, err := range w.b.Put(ctx, []Packet{w.packet(anna, 2), w.packet(anna, 3)}) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := w.next(anna); !slices.Equal(got, []uint32{1, 2, 3}) {
		t.Error(got)
	}
	if err := w.b.Remove(ctx, anna, []uint64{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.clock.Add(3 * 24 * time.Hour)
	w.put(anna, 1, 2)
	if got := w.next(anna); len(got) != 0 {
		t.Error("they came twice:", got)
	}
	if st := w.b.Stats(); st.Again != 2 || st.Stored != 0 {
		t.Errorf("%+v", st)
	}
	w.clock.Add(24 * time.Hour)
	w.put(anna, 1)
	if got := w.next(anna); len(got) != 1 {
		t.Error(got)
	}
	// Another account's packet of the same name is another packet.
	w.register(dora, 2)
	w.put(dora, 1)
	if got := w.next(dora); len(got) != 1 {
		t.Error(got)
	}
	w.sound()
}

// TestRefused: what is not taken says for good or for now, changes nothing, and keeps nothing
// else of the call back.
func TestRefused(t *testing.T) {
	asked := map[seal.AccountID]error{carl: errs.E("x", errs.Denied, "", nil), dora: errs.E("x", errs.Unavailable, "", errOwn)}
	w := newWorld(t, withOptions(func(o *Options) {
		o.MaxPackets = 2
		o.May = func(_ context.Context, id seal.AccountID) error { return asked[id] }
	}))
	for i, id := range []seal.AccountID{anna, carl, dora} {
		w.register(id, byte(i+1))
	}
	short := w.packet(anna, 9)
	short.Payload = short.Payload[1:]
	list := []Packet{w.packet(anna, 1), w.packet(ben, 2), w.packet(carl, 3), w.packet(dora, 4), short, w.packet(anna, 5), w.packet(anna, 6), w.packet(anna, 1)}
	var got []string
	for _, err := range w.b.Put(ctx, list) {
		got = append(got, kindOf(err))
	}
	want := "nil not found denied unavailable invalid nil quota exceeded nil"
	if strings.Join(got, " ") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, " "), want)
	}
	if st := w.b.Stats(); st.Stored != 2 || st.Again != 1 || st.Refused != 4 {
		t.Errorf("%+v", st)
	}
	for _, err := range w.b.Put(ctx, []Packet{w.packet(anna, 7)}) {
		if errs.Public(err) != "the mailbox is full" {
			t.Error(errs.Public(err))
		}
	}
	// What was taken makes room.
	if err := w.b.Remove(ctx, anna, []uint64{1}); err != nil {
		t.Fatal(err)
	}
	w.put(anna, 6)
	if got := w.next(anna); !slices.Equal(got, []uint32{5, 6}) {
		t.Error(got)
	}
	w.sound()
}

// TestClients: up to four, each found by its key, until it is taken away; another account's
// key is refused; where account and names have one log or not.
func TestClients(t *testing.T) {
	for name, opt := range map[string]func(*world){"one log": runTwice, "two logs": twoLogs} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, opt)
			if _, err := w.b.Register(ctx, anna, [KeyLen]byte{}); errs.KindOf(err) != errs.Invalid {
				t.Error(err)
			}
			if _, err := w.b.Clients(ctx, anna); errs.KindOf(err) != errs.NotFound {
				t.Error(err)
			}
			for n := range byte(MaxKeys) {
				w.register(anna, n+1)
				w.clock.Add(24 * time.Hour)
				w.register(anna, n+1) // again: nothing changes
			}
			_, err := w.b.Register(ctx, anna, linkKey(9))
			if errs.KindOf(err) != errs.Full || !strings.Contains(errs.Public(err), "remove one first") {
				t.Error(err)
			}
			_, err = w.b.Register(ctx, ben, linkKey(1))
			if errs.KindOf(err) != errs.Exists || errs.Public(err) != "this link key is that of another account's client" {
				t.Error(err)
			}
			if list, err := w.b.Clients(ctx, ben); err == nil && len(list) > 0 {
				t.Error("another's client stayed in the list")
			}
			list, err := w.b.Clients(ctx, anna)
			if err != nil || len(list) != MaxKeys {
				t.Fatal(list, err)
			}
			for n, c := range list {
				if c.Key != linkKey(byte(n+1)) || !c.Since().Equal(start.Truncate(24*time.Hour).AddDate(0, 0, n)) {
					t.Errorf("client %d: %x since %v", n, c.Key, c.Since())
				}
				if id, err := w.b.Client(ctx, c.Key); err != nil || id != anna {
					t.Error(id, err)
				}
			}
			for i, want := range []string{"nil", "not found"} {
				if err := w.b.Unregister(ctx, anna, linkKey(2)); kindOf(err) != want {
					t.Error(i, err)
				}
			}
			if _, err := w.b.Client(ctx, linkKey(2)); errs.KindOf(err) != errs.NotFound {
				t.Error(err)
			}
			if err := w.b.Unregister(ctx, carl, linkKey(1)); errs.KindOf(err) != errs.NotFound || errs.Public(err) != "the account has no client with this link key" {
				t.Error(err)
			}
			if id, err := w.b.Client(ctx, linkKey(1)); err != nil || id != anna {
				t.Error("another took it away:", id, err)
			}
			w.put(anna, 1)
			w.reopen()
			if got := w.next(anna); len(got) != 1 {
				t.Error(got)
			}
			w.register(ben, 2) // free again
			if id, err := w.b.Client(ctx, linkKey(2)); err != nil || id != ben {
				t.Error(id, err)
			}
			w.sound()
		})
	}
}

func (w *world) has(n byte) bool {
	_, err := w.b.Client(ctx, linkKey(n))
	return err == nil
}

// TestMailboxes: the mailbox of an account is always the same, others have others, and it does
// not show the account's number.
func TestMailboxes(t *testing.T) {
	w := newWorld(t)
	seen := map[[KeyLen]byte]bool{}
	for _, id := range []seal.AccountID{anna, ben, carl, dora} {
		m := w.b.Mailbox(id)
		if seen[m] || m != w.b.Mailbox(id) || strings.Contains(string(m[:]), string(id[:4])) {
			t.Errorf("%s: %x", id, m)
		}
		seen[m] = true
	}
	other, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	if other.MailboxID(anna) == w.b.Mailbox(anna) {
		t.Error("it does not depend on the root key")
	}
}

// TestDrop: everything of an account goes, its keys and its mailbox are unknown afterwards;
// a repetition and an account without mailbox are no errors.
func TestDrop(t *testing.T) {
	for name, opt := range map[string]func(*world){"one log": runTwice, "two logs": twoLogs} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, opt)
			w.register(anna, 1)
			w.register(anna, 2)
			w.register(dora, 3)
			w.put(anna, 1, 2)
			w.put(dora, 3)
			watch := w.b.Watch(anna)
			defer watch.Close()
			for range 2 {
				if err := w.b.Drop(ctx, anna); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.b.Drop(ctx, ben); err != nil {
				t.Fatal(err)
			}
			<-watch.C
			if w.has(1) || w.has(2) || !w.has(3) {
				t.Error("the wrong clients went")
			}
			if errs := w.b.Put(ctx, []Packet{w.packet(anna, 9)}); kindOf(errs[0]) != "not found" {
				t.Error(errs)
			}
			if got := w.next(dora); len(got) != 1 {
				t.Error(got)
			}
			w.sound()
			left := 0
			err := w.st.View(ctx, anna.Shard(), func(r store.Reader) error {
				return r.Scan(anna.Prefix(), anna.End(), func(_, _ []byte) (bool, error) { left++; return true, nil })
			})
			if err != nil || left != 0 {
				t.Error(left, err)
			}
			// The same account can begin anew.
			w.register(anna, 1)
			w.put(anna, 1)
			if got := w.next(anna); len(got) != 1 {
				t.Error(got)
			}
			w.sound()
		})
	}
}

// TestWatch: putting and taking fire, each for its own account.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.register(dora, 2)
	a, d := w.b.Watch(anna), w.b.Watch(dora)
	defer a.Close()
	defer d.Close()
	w.put(anna, 1)
	<-a.C
	if err := w.b.Remove(ctx, anna, []uint64{1}); err != nil {
		t.Fatal(err)
	}
	<-a.C
	select {
	case <-d.C:
		t.Error("another account's watch fired")
	default:
	}
}

// TestAges: a packet is kept for thirty whole days, and gone on the day after; one that cannot
// be read goes with the first younger one that does; a clock that was wrong keeps nothing for
// ever.
func TestAges(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.put(anna, 1)
	pass := func(days int) {
		t.Helper()
		w.clock.Add(time.Duration(days) * 24 * time.Hour)
		if err := w.b.sweep(ctx, true); err != nil {
			t.Fatal(err)
		}
	}
	pass(15)
	w.put(anna, 2, 3)
	w.raw(anna.Shard(), func(tx store.Tx) error { return tx.Set(packetKey(anna, 2), []byte{version, 1}) })
	pass(15)
	if got := w.next(anna); !slices.Equal(got, []uint32{1, 3}) {
		t.Error("too early:", got)
	}
	pass(1)
	if got := w.next(anna); !slices.Equal(got, []uint32{3}) {
		t.Error(got)
	}
	pass(15)
	if got := w.next(anna); len(got) != 0 {
		t.Error(got)
	}
	w.put(anna, 4)
	pass(-40)
	if got := w.next(anna); len(got) != 0 {
		t.Error(got)
	}
	if st := w.b.Stats(); st.Expired != 4 || st.Waiting != 0 || w.deleted.Load() == 0 {
		t.Errorf("%+v, told of %d", st, w.deleted.Load())
	}
	w.sound()
}

// TestRun: old packets go at the start and every SweepEvery; no name of a packet is forgotten
// at the start.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		w := newWorld(t, withOptions(func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			o.SweepEvery = time.Minute
		}))
		defer w.close()
		w.register(anna, 1)
		w.put(anna, 1)
		ahead.Store(int64(31 * 24 * time.Hour))
		run, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- w.b.Run(run) }()
		synctest.Wait()
		if got := w.next(anna); len(got) != 0 {
			t.Error(got)
		}
		if n := w.marks(anna); n != 1 {
			t.Error("a name was forgotten at the start")
		}
		w.put(anna, 2)
		ahead.Add(int64(31 * 24 * time.Hour))
		<-time.After(time.Minute)
		synctest.Wait()
		if got, n := w.next(anna), w.marks(anna); len(got) != 0 || n != 0 {
			t.Error(got, n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNamesAreForgotten: the sweep removes names of packets on the fourth day, never in the
// first round after a start, and leaves those of younger ones.
func TestNamesAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.register(anna, 1)
	w.put(anna, 1)
	w.clock.Add(4 * 24 * time.Hour)
	w.put(anna, 2)
	if err := w.b.sweep(ctx, false); err != nil || w.marks(anna) != 2 {
		t.Error(w.marks(anna), err)
	}
	if err := w.b.sweep(ctx, true); err != nil || w.marks(anna) != 1 {
		t.Error(w.marks(anna), err)
	}
	w.put(anna, 2)
	if got := w.next(anna); len(got) != 2 {
		t.Error(got)
	}
	w.clock.Add(-40 * 24 * time.Hour) // the clock had been wrong
	if err := w.b.sweep(ctx, true); err != nil || w.marks(anna) != 0 {
		t.Error(w.marks(anna), err)
	}
	w.sound()
}

func TestOptions(t *testing.T) {
	w := newWorld(t)
	for _, o := range []Options{{}, {Store: w.st}, {Store: w.st, Root: w.root, MaxPackets: -1}, {Store: w.st, Root: w.root, Retention: time.Hour},
		{Store: w.st, Root: w.root, Remember: -1}, {Store: w.st, Root: w.root, SweepEvery: -1}} {
		if _, err := Open(ctx, o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
