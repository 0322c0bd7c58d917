package deliver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

var from = mail.Address{Local: "anna", Domain: "mail.example"}

// office is a store with mailboxes.
type office struct {
	t     testing.TB
	st    store.Store
	boxes *mailbox.Boxes
}

func open(t testing.TB, fs vfs.FS) *office {
	t.Helper()
	if err := vfs.MkdirAll(fs, "/data", 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := pebble.Open(context.Background(), pebble.Options{FS: fs, Dir: "/data/store"})
	if err != nil {
		t.Fatal(err)
	}
	boxes, err := mailbox.New(mailbox.Options{Store: st, FS: fs, Dir: "/data/blobs", Chains: seal.NewChains(seal.ChainOptions{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		boxes.Close()
		st.Close()
	})
	return &office{t: t, st: st, boxes: boxes}
}

// user makes an account.
func (o *office) user() (account.Account, *seal.Opened) {
	o.t.Helper()
	id, err := seal.NewAccountID(rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	key, err := seal.Generate(id, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.st.Update(context.Background(), id.Shard(), func(tx store.Tx) error { return o.boxes.Init(tx, key) }); err != nil {
		o.t.Fatal(err)
	}
	return account.Account{ID: id, Public: key.Public()}, key
}

func (o *office) users(n int) (a []account.Account, keys []*seal.Opened) {
	for range n {
		x, k := o.user()
		a, keys = append(a, x), append(keys, k)
	}
	return a, keys
}

// inbox gives the bodies in an INBOX.
func (o *office) inbox(key *seal.Opened) (out []string) {
	o.t.Helper()
	box := o.boxes.Account(key, 0)
	v, err := box.View(context.Background(), mailbox.Inbox)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := range v.Len() {
		b, err := box.Body(context.Background(), mailbox.Inbox, v.At(i))
		if err != nil {
			o.t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		b.Close()
		if err != nil {
			o.t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// counted is a store that counts transactions and announcements, and can refuse
// to join shards or fail.
type counted struct {
	store.Store
	apart   bool // shards share no log
	updates int
	intents int               // not ended
	fail    func(n int) error // asked after the n-th update was done
}

func (c *counted) Intend() func() {
	c.intents++
	done := c.Store.Intend()
	return func() { c.intents--; done() }
}

func (c *counted) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	c.updates++
	n := c.updates
	err := c.Store.Update(ctx, s, func(tx store.Tx) error {
		if c.apart {
			tx = apartTx{tx}
		}
		return fn(tx)
	})
	if err == nil && c.fail != nil {
		return c.fail(n)
	}
	return err
}

type apartTx struct{ store.Tx }

func (apartTx) Other(store.Shard) (store.Tx, error) {
	return nil, errs.E("test", errs.Unsupported, "", nil)
}

const text = "Received: x\r\nDKIM-Signature: y\r\nReturn-Path: <z@z>\r\nSubject: s\r\n\r\nbody\r\n"

const delivered = "Return-Path: <anna@mail.example>\r\nSubject: s\r\n\r\nbody\r\n"

func TestLocal(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	c := &counted{Store: o.st}
	rcpts, keys := o.users(10)
	d := New(Options{Store: c, Boxes: o.boxes})
	if err := d.Local(t.Context(), from, append(rcpts, rcpts...), []byte(text)); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if got := o.inbox(k); len(got) != 1 || got[0] != delivered {
			t.Fatalf("%q", got)
		}
	}
	if c.updates != 1 || c.intents != 0 {
		t.Errorf("%d transactions, %d announcements left", c.updates, c.intents)
	}
	if err := d.Local(t.Context(), mail.Address{}, rcpts[:1], []byte(text)); err != nil {
		t.Fatal(err)
	}
	if got := o.inbox(keys[0]); len(got) != 2 || !strings.HasPrefix(got[1], "Return-Path: <>\r\n") {
		t.Errorf("%q", got)
	}
	if err := d.Local(t.Context(), from, nil, []byte(text)); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if err := d.Local(t.Context(), from, rcpts, []byte("no header\r\n\r\n")); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	m := d.Begin()
	if c.intents != 1 {
		t.Error("nothing is announced")
	}
	m.Cancel()
	if c.intents != 0 {
		t.Error("an announcement is left")
	}
}

// TestExpect: a next mail is announced in a crowd only, and not for ever.
func TestExpect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{Store: silent{}}
		d := New(Options{Store: c})
		a, b := d.Begin(), d.Begin()
		d.Expect()()
		if cancel := d.Expect(); c.intents != 2 {
			t.Error("two are no crowd")
		} else {
			cancel()
		}
		m := d.Begin()
		cancel := d.Expect()
		if c.intents != 4 {
			t.Errorf("%d announced", c.intents)
		}
		cancel()
		cancel()
		if c.intents != 3 {
			t.Errorf("%d announced", c.intents)
		}
		d.Expect()
		time.Sleep(2 * expectFor)
		synctest.Wait()
		if c.intents != 3 {
			t.Errorf("%d announced after the time", c.intents)
		}
		for _, m := range []*Mail{a, b, m} {
			m.Cancel()
		}
		if c.intents != 0 || d.open.Load() != 0 {
			t.Errorf("%d announced at the end", c.intents)
		}
	})
}

// silent is a store that only takes announcements.
type silent struct{ store.Store }

func (silent) Intend() func() { return func() {} }

// TestAllOrNothing: one mailbox without room, or gone, and nobody gets the mail.
func TestAllOrNothing(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	d := New(Options{Store: o.st, Boxes: o.boxes})
	rcpts, keys := o.users(3)
	full := append([]account.Account(nil), rcpts...)
	full[2].Quota = 10
	err := d.Local(t.Context(), from, full, []byte(text))
	if errs.KindOf(err) != errs.Full || errs.Public(err) != "a mailbox is full" {
		t.Error(err)
	}
	stranger, _ := seal.NewAccountID(rand.Reader)
	err = d.Local(t.Context(), from, append(rcpts, account.Account{ID: stranger, Public: rcpts[0].Public}), []byte(text))
	if errs.KindOf(err) != errs.Unavailable || strings.Contains(errs.Public(err), stranger.String()) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Local(ctx, from, rcpts, []byte(text)); errs.KindOf(err) != errs.Canceled {
		t.Error(err)
	}
	for _, k := range keys {
		if got := o.inbox(k); len(got) != 0 {
			t.Errorf("%q", got)
		}
	}
}

// TestMemory: the sealed copies of mails under way are bounded, a mail with very many
// leaves half of the room to others, and everything is given back.
func TestMemory(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	rcpts, keys := o.users(3)
	budget := limits.NewBytes(4 << 20)
	d := New(Options{Store: o.st, Boxes: o.boxes, Memory: budget})
	budget.Acquire(3 << 20) // others
	large := append([]byte(text), bytes.Repeat([]byte("x\r\n"), 500_000)...)
	if err := d.Local(t.Context(), from, rcpts, large); errs.KindOf(err) != errs.Busy {
		t.Error(err)
	}
	if err := d.Local(t.Context(), from, rcpts, []byte(text)); err != nil {
		t.Error(err)
	}
	budget.Acquire(1<<20 - 100)
	if err := d.Local(t.Context(), from, rcpts, []byte(text)); errs.KindOf(err) != errs.Busy {
		t.Error(err)
	}
	if n := budget.Used(); n != 4<<20-100 {
		t.Errorf("%d bytes are kept", n-(4<<20-100))
	}
	if n := len(o.inbox(keys[0])); n != 1 {
		t.Errorf("%d mails", n)
	}
	mixed := make([]bool, 1000)
	mixed[7], mixed[8] = true, true
	for _, c := range []struct {
		size    int
		proxied []bool
		want    int64
	}{
		{mailbox.MaxInline, make([]bool, 1000), 1000 * mailbox.MaxInline}, {mailbox.MaxInline + 1, make([]bool, 1000), mailbox.MaxInline + 1},
		{100, mixed, 998*100 + 400}, {mailbox.MaxInline + 1, mixed, 5 * (mailbox.MaxInline + 1)}, {mailbox.MaxInline + 1, mixed[7:9], 4 * (mailbox.MaxInline + 1)},
	} {
		if got := copies(c.size, c.proxied); got != c.want {
			t.Errorf("%d bytes to %d: %d, want %d", c.size, len(c.proxied), got, c.want)
		}
	}
}

// limited is a store whose transactions hold one shard's worth of writes.
type limited struct{ store.Store }

func (l limited) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	return l.Store.Update(ctx, s, func(tx store.Tx) error { return fn(limitedTx{tx}) })
}

type limitedTx struct{ store.Tx }

func (limitedTx) Other(store.Shard) (store.Tx, error) {
	return nil, errs.E("test", errs.TooLarge, "", nil)
}

// TestNothingAfterFailedSync: once a sync has failed nothing is acknowledged.
func TestNothingAfterFailedSync(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	o := open(t, faults)
	d := New(Options{Store: o.st, Boxes: o.boxes})
	rcpts, keys := o.users(2)
	if err := d.Local(t.Context(), from, rcpts, []byte(text)); err != nil {
		t.Fatal(err)
	}
	faults.FailFrom(vfs.OpSync, 1, errors.New("the disk is gone"))
	for range 3 {
		if err := d.Local(t.Context(), from, rcpts, []byte(text)); err == nil || !errs.KindOf(err).Temporary() {
			t.Fatal("acknowledged, or refused for good:", err)
		}
	}
	if got := o.inbox(keys[0]); len(got) != 1 {
		t.Errorf("%d mails can be read", len(got))
	}
}

// TestAcknowledgedSurvives: at every sync point of some deliveries the disk is cut; what
// was acknowledged by then is there after the next start, and no copy is double.
func TestAcknowledgedSurvives(t *testing.T) {
	disk := vfs.NewCrashDisk()
	type cut struct {
		disk  *vfs.CrashDisk
		acked int
	}
	var mu sync.Mutex
	var cuts []cut
	acked := 0
	o := open(t, vfs.NewSyncPoints(disk, func(vfs.SyncPoint) {
		mu.Lock()
		defer mu.Unlock()
		if len(cuts) < 40 {
			cuts = append(cuts, cut{disk.Clone(vfs.Dropped, uint64(len(cuts))), acked})
		}
	}))
	d := New(Options{Store: o.st, Boxes: o.boxes})
	rcpts, keys := o.users(3)
	mu.Lock()
	cuts = nil
	mu.Unlock()
	large := append([]byte(text), bytes.Repeat([]byte("x\r\n"), 30_000)...)
	for i := range 8 {
		raw := []byte(text)
		if i%2 == 1 {
			raw = large // a body in a file of its own
		}
		if err := d.Local(t.Context(), from, rcpts, raw); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		acked++
		mu.Unlock()
	}
	mu.Lock()
	seen := cuts
	mu.Unlock()
	if len(seen) < 8 {
		t.Fatalf("%d sync points", len(seen))
	}
	for _, c := range seen {
		after := open(t, c.disk)
		n := -1
		for _, k := range keys {
			got := len(after.inbox(k))
			if n >= 0 && got != n {
				t.Errorf("a part of a transaction: %d and %d mails", n, got)
			}
			n = got
		}
		if n < c.acked || n > c.acked+1 {
			t.Errorf("%d acknowledged, %d there", c.acked, n)
		}
	}
}

// BenchmarkLocal is one recipient, 10 KB, on the machine's own disk.
func BenchmarkLocal(b *testing.B) {
	dir := b.TempDir()
	st, err := pebble.Open(b.Context(), pebble.Options{Dir: dir + "/store"})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	boxes, err := mailbox.New(mailbox.Options{Store: st, Dir: dir + "/blobs", Chains: seal.NewChains(seal.ChainOptions{}), Quota: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	defer boxes.Close()
	o := &office{t: b, st: st, boxes: boxes}
	d := New(Options{Store: st, Boxes: boxes})
	raw := append([]byte(text), bytes.Repeat([]byte(strings.Repeat("x", 76)+"\r\n"), 128)...)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rcpts, _ := o.users(1)
		for pb.Next() {
			if err := d.Local(context.Background(), from, rcpts, raw); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
