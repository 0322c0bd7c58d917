package keys

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

var began = time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)

const dir = "/node/keys"

// options are those of a node on a disk, with a passphrase that costs little if it has one.
func options(fs vfs.FS, clock *clocktest.Clock) Options {
	return Options{FS: fs, Dir: dir, Now: clock.Now, Cost: passhash.Cost{Time: 1, Memory: 8, Threads: 1}}
}

func create(t testing.TB, o Options) *Keys {
	t.Helper()
	k, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rotate calls Rotate with a log that forgets what it is told.
func rotate(t testing.TB, k *Keys, now time.Time) (changed bool, forgotten []uint32) {
	t.Helper()
	changed, err := k.Rotate(t.Context(), now, func(_ context.Context, id uint32) error {
		forgotten = append(forgotten, id)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return changed, forgotten
}

// TestFirstStart: a directory that was empty has everything, and the same again at the next
// start; a set that is used now and those of the time Ahead are there.
func TestFirstStart(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	k := create(t, options(disk, clock))
	if changed, _ := rotate(t, k, began); !changed {
		t.Error("the first call changed nothing")
	}
	if changed, _ := rotate(t, k, began); changed {
		t.Error("the second call changed something")
	}
	pub := k.Public(began)
	if len(pub) != 2 || !pub[0].From.Equal(began.Truncate(24*time.Hour)) || !pub[1].From.Equal(pub[0].From.Add(24*time.Hour)) ||
		pub[0].Until.Sub(pub[0].From) != DefaultLifetime {
		t.Fatalf("public keys: %+v", pub)
	}
	again, err := Open(options(disk.Clone(vfs.Dropped, 0), clock))
	if err != nil {
		t.Fatal(err)
	}
	if again.Identity().Public().ID() != k.Identity().Public().ID() || !again.Link().Equal(k.Link()) || string(again.LogSecret()) != string(k.LogSecret()) {
		t.Error("other keys at the next start")
	}
	for _, p := range pub {
		a, ok1 := k.Find(p.Key.ID())
		b, ok2 := again.Find(p.Key.ID())
		want := !began.Before(p.From)
		if ok1 != want || ok2 != want || a == nil || b == nil || a.ID() != b.ID() {
			t.Errorf("key of %v: %v, %v", p.From, ok1, ok2)
		}
	}
}

// life watches the keys of a node, as the network sees them.
type life struct {
	t         *testing.T
	k         *Keys
	o         Options
	published map[uint32]directory.PacketKey
	since     map[uint32]time.Time // when it was seen first
	forgotten map[uint32]time.Time
}

func newLife(t *testing.T, k *Keys, o Options) *life {
	return &life{t: t, k: k, o: o, published: map[uint32]directory.PacketKey{}, since: map[uint32]time.Time{}, forgotten: map[uint32]time.Time{}}
}

// look rotates and checks everything that must hold at a time.
func (l *life) look(now time.Time) {
	l.t.Helper()
	if _, err := l.k.Rotate(l.t.Context(), now, func(_ context.Context, id uint32) error {
		if _, twice := l.forgotten[id]; twice {
			l.t.Errorf("%v: key %08x is forgotten twice", now, id)
		}
		l.forgotten[id] = now
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
	pub := l.k.Public(now)
	if len(pub) == 0 || len(pub) > directory.MaxPacketKeys {
		l.t.Fatalf("%v: %d keys in the descriptor", now, len(pub))
	}
	for _, p := range pub {
		if l.since[p.Key.ID()].IsZero() {
			l.since[p.Key.ID()] = now
			l.published[p.Key.ID()] = p
		}
	}
	if n := (&directory.Node{Keys: pub}); n.Key(now) == nil {
		l.t.Errorf("%v: senders have no key", now)
	}
	ids := map[uint32]bool{}
	for _, s := range l.k.List() {
		if ids[s.ID] {
			l.t.Errorf("%v: two sets have the ID %08x", now, s.ID)
		}
		ids[s.ID] = true
	}
	for id, p := range l.published {
		_, found := l.k.Find(id)
		want := !now.Before(p.From.Add(-l.o.Skew)) && now.Before(p.Until.Add(l.o.Overlap))
		if found != want {
			l.t.Errorf("%v: key from %v until %v is accepted: %v", now, p.From, p.Until, found)
		}
		at, gone := l.forgotten[id]
		if gone && at.Before(p.Until.Add(l.o.Overlap+l.o.Skew)) {
			l.t.Errorf("key until %v was destroyed at %v", p.Until, at)
		}
		if due := !now.Before(p.Until.Add(l.o.Overlap + l.o.Skew)); due && !gone {
			l.t.Errorf("%v: key until %v is still there", now, p.Until)
		}
	}
}

// TestMonth: for 35 days, looked at every 10 minutes, senders always have a key; what
// is published is accepted until its overlap has passed and not a moment longer; each key is known Ahead
// of its time; each is destroyed once, when overlap and skew have passed.
func TestMonth(t *testing.T) {
	for _, c := range []Options{{}, {Lifetime: 24 * time.Hour, Overlap: 6 * time.Hour}, {Lifetime: 30 * 24 * time.Hour, Overlap: 72 * time.Hour}} {
		t.Run(c.Lifetime.String(), func(t *testing.T) {
			clock := clocktest.New(began)
			o := options(vfs.NewCrashDisk(), clock)
			o.Lifetime, o.Overlap = c.Lifetime, c.Overlap
			k := create(t, o)
			l := newLife(t, k, k.o)
			for end := began.Add(35 * 24 * time.Hour); clock.Now().Before(end); clock.Add(10 * time.Minute) {
				l.look(clock.Now())
			}
			first := began.Add(k.o.Ahead)
			for id, p := range l.published {
				if p.From.After(first) && l.since[id].After(p.From.Add(-k.o.Ahead+10*time.Minute)) {
					t.Errorf("key from %v was published at %v only", p.From, l.since[id])
				}
			}
			// As many as began in the time, and those of the first day.
			want := int(35*24*time.Hour/k.o.Every) + int(k.o.Ahead/k.o.Every)
			if n := len(l.published); n < want || n > want+2 {
				t.Errorf("%d keys in 35 days, want about %d", n, want)
			}
		})
	}
}

// TestNext: who calls Rotate only when Next says so has the same life.
func TestNext(t *testing.T) {
	clock := clocktest.New(began)
	k := create(t, options(vfs.NewCrashDisk(), clock))
	l := newLife(t, k, k.o)
	if k.Next().After(began) {
		t.Error("an empty directory needs nothing")
	}
	calls := 0
	for end := began.Add(30 * 24 * time.Hour); clock.Now().Before(end); calls++ {
		l.look(clock.Now())
		next := k.Next()
		if !next.After(clock.Now()) {
			t.Fatalf("%v: Next says %v after Rotate", clock.Now(), next)
		}
		clock.Add(next.Sub(clock.Now()))
	}
	if calls > 70 {
		t.Errorf("%d calls in 30 days", calls)
	}
	for id, p := range l.published {
		if l.since[id].After(p.From.Add(-k.o.Ahead)) && p.From.After(began.Add(k.o.Ahead)) {
			t.Errorf("key from %v was published at %v", p.From, l.since[id])
		}
	}
}

// TestDestroyed: when the log is told to forget a key, the key file is gone, durably, and its
// bytes were overwritten; the key is not accepted. When forget fails it is asked again, also after a
// restart.
func TestDestroyed(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	o := options(disk, clock)
	k := create(t, o)
	rotate(t, k, began)
	first := k.Public(began)[0]
	path := dir + "/key_0001/mix.key"
	before, err := vfs.ReadFile(disk, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.Link(path, "/spy"); err != nil { // another name for the same bytes
		t.Fatal(err)
	}
	clock.Add(first.Until.Add(k.o.Overlap + k.o.Skew).Sub(began))
	asked := 0
	refuse := errors.New("the log is busy")
	forget := func(_ context.Context, id uint32) error {
		if asked++; id != first.Key.ID() {
			t.Errorf("asked to forget %08x", id)
		}
		if ok, _ := vfs.Exists(disk.Clone(vfs.Dropped, 0), path); ok {
			t.Error("the key file is still there when the log is asked")
		}
		spied, err := vfs.ReadFile(disk, "/spy")
		if asked == 1 && (err != nil || !bytes.Equal(spied, make([]byte, len(before)))) {
			t.Errorf("the bytes of the key file are still there: %q, %v", spied, err)
		}
		if asked < 3 {
			return refuse
		}
		return nil
	}
	if _, err := k.Rotate(t.Context(), clock.Now(), forget); !errors.Is(err, refuse) {
		t.Errorf("a failure to forget: %v", err)
	}
	if _, ok := k.Find(first.Key.ID()); ok {
		t.Error("the key is accepted")
	}
	if k.Next().After(clock.Now()) {
		t.Error("nothing is left to do")
	}
	o.FS = disk.Clone(vfs.Dropped, 0)
	disk = o.FS.(*vfs.CrashDisk)
	k = create(t, o)
	if s := k.List()[0]; s.State != Ended || s.ID != first.Key.ID() {
		t.Errorf("after a restart: %+v", s)
	}
	if _, err := k.Rotate(t.Context(), clock.Now(), forget); !errors.Is(err, refuse) {
		t.Errorf("a failure to forget: %v", err)
	}
	if _, err := k.Rotate(t.Context(), clock.Now(), forget); err != nil || asked != 3 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	if ok, _ := vfs.Exists(disk, dir+"/key_0001"); ok || k.List()[0].Number == 1 {
		t.Error("the set is still there")
	}
}

// TestNilForget: without forget nothing is destroyed, whatever the clock says, and new keys are
// made all the same.
func TestNilForget(t *testing.T) {
	clock := clocktest.New(began)
	k := create(t, options(vfs.NewCrashDisk(), clock))
	rotate(t, k, began)
	old := k.Public(began)
	clock.Add(365 * 24 * time.Hour)
	if changed, err := k.Rotate(t.Context(), clock.Now(), nil); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
	if n := len(k.Public(clock.Now())); n != 2 {
		t.Errorf("%d keys a year later", n)
	}
	clock.Add(-365 * 24 * time.Hour)
	for _, p := range old {
		if !slices.ContainsFunc(k.Public(clock.Now()), func(q directory.PacketKey) bool { return p.Key.ID() == q.Key.ID() }) {
			t.Error("a published key is lost")
		}
	}
}

// TestClock: a clock that is set back by hours or days leaves a key for senders at every
// moment, loses none that was published, and what is far in the future is not published.
func TestClock(t *testing.T) {
	for _, back := range []time.Duration{time.Minute, 5 * time.Hour, 26 * time.Hour, 10 * 24 * time.Hour, 400 * 24 * time.Hour} {
		clock := clocktest.New(began)
		k := create(t, options(vfs.NewCrashDisk(), clock))
		rotate(t, k, clock.Now())
		clock.Add(50 * time.Hour)
		rotate(t, k, clock.Now())
		published := k.Public(clock.Now())
		clock.Add(-back)
		if _, gone := rotate(t, k, clock.Now()); len(gone) > 0 {
			t.Errorf("back by %v: %d keys were destroyed", back, len(gone))
		}
		pub := k.Public(clock.Now())
		if (&directory.Node{Keys: pub}).Key(clock.Now()) == nil {
			t.Errorf("back by %v: senders have no key", back)
		}
		for _, p := range pub {
			if p.From.After(clock.Now().Add(k.o.Ahead + k.o.Skew)) {
				t.Errorf("back by %v: a key from %v is published at %v", back, p.From, clock.Now())
			}
		}
		clock.Add(back)
		rotate(t, k, clock.Now())
		for _, p := range published {
			if _, ok := k.Find(p.Key.ID()); !ok && !clock.Now().Before(p.From.Add(-k.o.Skew)) {
				t.Errorf("back by %v: a published key is lost", back)
			}
		}
		if n := len(k.List()); n > 12 {
			t.Errorf("back by %v: %d sets", back, n)
		}
	}
}

// TestClockJumpsAbout: however a clock jumps, the directory has a bound, and says so.
func TestClockJumpsAbout(t *testing.T) {
	clock := clocktest.New(began)
	k := create(t, options(vfs.NewCrashDisk(), clock))
	var err error
	for range 100 {
		clock.Add(-20 * 24 * time.Hour)
		if _, err = k.Rotate(t.Context(), clock.Now(), nil); err != nil {
			break
		}
	}
	if errs.KindOf(err) != errs.Full || len(k.List()) != maxSets || !strings.Contains(errs.Public(err), "clock") {
		t.Errorf("%d sets, %v", len(k.List()), err)
	}
	if again, err := Open(k.o); err != nil || len(again.List()) != maxSets {
		t.Errorf("so many sets cannot be opened: %v", err)
	}
}

// drawn gives each seed as often as it is told to.
type drawn struct {
	seeds []byte
	n     int
}

func (d *drawn) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = d.seeds[d.n/packet.PrivateKeyLen]
		d.n++
	}
	return len(p), nil
}

// TestOneID: a key whose ID another living key has is not used; another one is made.
func TestOneID(t *testing.T) {
	clock := clocktest.New(began)
	o := options(vfs.NewCrashDisk(), clock)
	k := create(t, o)
	r := &drawn{seeds: []byte{1, 1, 1, 2}}
	k.o.Rand = r
	rotate(t, k, began)
	pub := k.Public(began)
	if len(pub) != 2 || pub[0].Key.ID() == pub[1].Key.ID() {
		t.Error("two keys have one ID")
	}
	if r.n != 4*packet.PrivateKeyLen {
		t.Errorf("%d bytes were drawn", r.n)
	}
}

// TestDeleteAll: DELKEYS destroys every packet key and has all of them forgotten; the identity
// and the other keys stay, and new packet keys have other IDs.
func TestDeleteAll(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	k := create(t, options(disk, clock))
	rotate(t, k, began)
	var want, got []uint32
	for _, s := range k.List() {
		want = append(want, s.ID)
	}
	if err := k.DeleteAll(t.Context(), func(_ context.Context, id uint32) error {
		got = append(got, id)
		return nil
	}); err != nil || !slices.Equal(got, want) {
		t.Errorf("forgotten %x, want %x, %v", got, want, err)
	}
	names, err := disk.List(dir)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{identityName, linkName, logName}) {
		t.Errorf("left: %v, %v", names, err)
	}
	if len(k.List()) != 0 || len(k.Public(began)) != 0 || k.newest() != nil {
		t.Error("a key is left")
	}
	rotate(t, k, began)
	for _, id := range want {
		if _, ok := k.Find(id); ok {
			t.Error("an old key is accepted")
		}
	}
}

// TestDiskFull: a full disk leaves what is there in order, tells so, and keys go on when there is
// room.
func TestDiskFull(t *testing.T) {
	clock := clocktest.New(began)
	disk := vfs.NewFaults(vfs.NewCrashDisk())
	k := create(t, options(disk, clock))
	rotate(t, k, began)
	known := k.Public(began)
	clock.Add(24 * time.Hour)
	for _, room := range []int64{0, 1, 100} {
		disk.SetSpace(room)
		if _, err := k.Rotate(t.Context(), clock.Now(), nil); errs.KindOf(err) != errs.NoSpace {
			t.Errorf("a full disk: %v", err)
		}
		if got := k.Public(clock.Now()); len(got) != len(known) {
			t.Errorf("%d keys on a full disk", len(got))
		}
	}
	disk.SetSpace(-1)
	rotate(t, k, clock.Now())
	again := create(t, k.o)
	if len(again.Public(clock.Now())) != len(known)+1 || len(k.List()) != len(again.List()) {
		t.Errorf("%d keys after that, %d after a restart", len(k.List()), len(again.List()))
	}
}
