package keys

import (
	"context"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/vfs"
)

var began = time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)

const dir = "/node/keys"

// options are those of a node on a disk, with a passphrase that costs little if it has one.
func options(fs vfs.FS, clock *clocktest.Clock) Options {
	return Options{FS: fs, Dir: dir, Now: clock.Now, Cost: Cost{1, 8, 1}}
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
