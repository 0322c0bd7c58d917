package keys

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

// told is what a node was told in a scripted life: after a crash it must be true.
type told struct {
	at        time.Time
	identity  string
	published map[uint32]directory.PacketKey // by a Rotate that returned
	forgotten map[uint32]bool                // forget was called
	deleted   bool                           // DeleteAll was called
}

func (w told) clone() told {
	w.published, w.forgotten = maps.Clone(w.published), maps.Clone(w.forgotten)
	return w
}

// script lives on fs: a first start, rotations over some days with a descriptor each, a
// restart, a passphrase that comes later, DELKEYS. say is called with what is true
// from then on.
func script(t *testing.T, fs vfs.FS, clock *clocktest.Clock, w *told) {
	o := options(fs, clock)
	o.CurrentDesc = "/node/current-desc"
	w.published, w.forgotten = map[uint32]directory.PacketKey{}, map[uint32]bool{}
	k := create(t, o)
	w.identity = identityID(k.Identity())
	forget := func(_ context.Context, id uint32) error {
		w.forgotten[id] = true
		return nil
	}
	step := func() {
		t.Helper()
		w.at = clock.Now()
		if _, err := k.Rotate(t.Context(), clock.Now(), forget); err != nil {
			t.Fatal(err)
		}
		d := describe(t, k, clock.Now())
		if _, err := k.SaveDescriptor(d); err != nil {
			t.Fatal(err)
		}
		if err := k.MarkPublished("authority"); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Keys {
			w.published[p.Key.ID()] = p
		}
	}
	for range 3 {
		step()
		clock.Add(48 * time.Hour)
	}
	k = create(t, o)
	step()
	o.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil }
	o.SealAll = true
	k = create(t, o)
	clock.Add(48 * time.Hour)
	step()
	w.deleted = true
	if err := k.DeleteAll(t.Context(), forget); err != nil {
		t.Fatal(err)
	}
	step()
}

// TestCrashAtEverySync cuts the disk at each sync of the script, before and after it, with what
// was not synced gone, there, or torn, and starts again from what is left: the identity is the same,
// no key that was published is lost before its time, none is accepted after its end or after
// the log was told to forget it, no file of such a key is left, no two keys have one ID,
// every key that ended is forgotten, and a second crash changes none of that.
func TestCrashAtEverySync(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	var w told
	cuts, syncs := 0, int64(0)
	fs := vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) {
		syncs = p.N
		was, now := w.clone(), clock.Now()
		for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			if (testing.Short() || racetest.Enabled) && (p.N+int64(mode))%4 != 0 { // the race detector makes it slow
				continue
			}
			cuts++
			left := disk.Clone(mode, uint64(p.N))
			t.Run(fmt.Sprintf("%d-%v-%v", p.N, p.After, mode), func(t *testing.T) { checkCut(t, left, clocktest.New(now), was, mode) })
		}
	})
	script(t, fs, clock, &w)
	if syncs < 60 {
		t.Fatalf("the script has only %d syncs", syncs)
	}
	t.Logf("%d cuts at %d syncs", cuts, syncs)
}

// checkCut starts on a disk that a crash has left.
func checkCut(t *testing.T, disk *vfs.CrashDisk, clock *clocktest.Clock, was told, mode vfs.Unsynced) {
	o := options(disk, clock)
	if ok, _ := vfs.Exists(disk, dir); !ok && was.identity == "" {
		return // nothing was made yet
	}
	o.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil }
	o.SealAll = true
	k := create(t, o)
	if was.identity != "" && identityID(k.Identity()) != was.identity {
		t.Fatal("the node has another identity")
	}
	for id := range was.forgotten {
		if _, ok := k.Find(id); ok {
			t.Errorf("key %08x was forgotten and is accepted", id)
		}
	}
	again := create(t, withDisk(o, disk.Clone(mode, 7))) // a second crash, at once
	if len(again.List()) != len(k.List()) {
		t.Errorf("%d sets, and %d after a second crash", len(k.List()), len(again.List()))
	}
	forgotten := maps.Clone(was.forgotten)
	if forgotten == nil {
		forgotten = map[uint32]bool{}
	}
	living := map[uint32]bool{}
	for _, s := range k.List() {
		if living[s.ID] || s.State == Damaged {
			t.Errorf("set %s with key %08x: %s", s.Name, s.ID, s.State)
		}
		living[s.ID] = true
	}
	if _, err := k.Rotate(t.Context(), clock.Now(), func(_ context.Context, id uint32) error {
		forgotten[id] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for id, p := range was.published {
		_, ok := k.Find(id)
		ended := !clock.Now().Before(p.Until.Add(k.o.Overlap))
		if ended && ok || !ended && !ok && !was.deleted && !clock.Now().Before(p.From.Add(-k.o.Skew)) {
			t.Errorf("key from %v until %v at %v: accepted is %v", p.From, p.Until, clock.Now(), ok)
		}
		if !clock.Now().Before(p.Until.Add(k.o.Overlap+k.o.Skew)) && !forgotten[id] {
			t.Errorf("nobody forgets key %08x", id)
		}
	}
	for id := range living {
		if !forgotten[id] && !hasKey(k, id) {
			t.Errorf("key %08x is gone and not forgotten", id)
		}
	}
	for _, s := range k.all() {
		if forgotten[s.id] && !living[s.id] {
			t.Errorf("key %08x was forgotten and is there", s.id)
		}
		if s.key == nil {
			t.Errorf("set %d is left after Rotate", s.number)
		}
	}
	if (&directory.Node{Keys: k.Public(clock.Now())}).Key(clock.Now()) == nil {
		t.Error("senders have no key")
	}
	if final, err := Open(withDisk(o, disk.Clone(vfs.Dropped, 0))); err != nil || len(final.List()) != len(k.List()) {
		t.Errorf("what Rotate did is not durable: %v", err)
	}
}

func hasKey(k *Keys, id uint32) bool {
	for _, s := range k.all() {
		if s.id == id && s.key != nil {
			return true
		}
	}
	return false
}

func withDisk(o Options, disk vfs.FS) Options {
	o.FS = disk
	return o
}

// TestSweep: files that a crash left half-way are destroyed by Create, and Open writes nothing.
func TestSweep(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	k := create(t, options(disk, clock))
	rotate(t, k, began)
	left := []string{dir + "/identity.key.tmp", dir + "/link.key.old", dir + "/key_0001/mix.key.tmp", dir + "/key_0001/mix.key.old"}
	for i, p := range left {
		if err := vfs.WriteFileAtomic(disk, p, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := disk.Link(p, fmt.Sprintf("/spy%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	faulty := vfs.NewFaults(disk)
	faulty.SetReadOnly(true)
	if _, err := Open(options(faulty, clock)); err != nil {
		t.Fatalf("Open on a disk that cannot be written: %v", err)
	}
	if _, err := Create(options(faulty, clock)); errs.KindOf(err) == errs.Internal || err == nil {
		t.Errorf("Create on a disk that cannot be written: %v", err)
	}
	create(t, options(disk, clock))
	for i, p := range left {
		if ok, _ := vfs.Exists(disk, p); ok {
			t.Errorf("%s is still there", p)
		}
		if b, err := vfs.ReadFile(disk, fmt.Sprintf("/spy%d", i)); err != nil || string(b) != string(make([]byte, 6)) {
			t.Errorf("%s was not overwritten: %q, %v", p, b, err)
		}
	}
}
