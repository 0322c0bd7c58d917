package keys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

const phrase = "a long passphrase"

// describe signs a descriptor of the keys at a time.
func describe(t testing.TB, k *Keys, now time.Time) *directory.Descriptor {
	t.Helper()
	d, err := directory.SignDescriptor(directory.Descriptor{Network: "test.net", Published: now, Node: directory.Node{
		Nickname: "mix", Mode: directory.Mix, Addresses: []string{"127.0.0.1:4000"}, Version: "postern-0.1",
		Mixing: directory.Poisson, Keys: k.Public(now),
	}}, k.Identity())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDescriptor: the newest set holds the descriptor, current-desc its path; who took it is
// known after a restart, and forgotten when another one is saved.
func TestDescriptor(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	o := options(disk, clock)
	o.CurrentDesc = "/node/current-desc"
	k := create(t, o)
	if _, err := k.SaveDescriptor(describeOther(t)); errs.KindOf(err) != errs.NotFound {
		t.Errorf("before the first key: %v", err)
	}
	if err := k.MarkPublished("a"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("before the first descriptor: %v", err)
	}
	rotate(t, k, began)
	if err := k.MarkPublished("a"); errs.KindOf(err) != errs.NotFound || k.Published() != nil {
		t.Errorf("before the first descriptor: %v", err)
	}
	if _, err := k.SaveDescriptor(describeOther(t)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("the descriptor of another node: %v", err)
	}
	d := describe(t, k, began)
	path, err := k.SaveDescriptor(d)
	if err != nil || path != dir+"/key_0002/ServerDesc" {
		t.Fatalf("%q, %v", path, err)
	}
	read := func(p string) string {
		t.Helper()
		b, err := vfs.ReadFile(disk.Clone(vfs.Dropped, 0), p)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if read(o.CurrentDesc) != path+"\n" || read(path) != string(d.Bytes()) {
		t.Error("another descriptor is in the files")
	}
	for _, a := range []string{"one", "two", "one"} {
		clock.Add(time.Second)
		if err := k.MarkPublished(a); err != nil {
			t.Fatal(err)
		}
	}
	want := []Publication{{"two", began.Add(2 * time.Second)}, {"one", began.Add(3 * time.Second)}}
	if got := k.Published(); !slices.Equal(got, want) {
		t.Errorf("published: %v", got)
	}
	if _, err := k.SaveDescriptor(d); err != nil || len(k.Published()) != 2 {
		t.Errorf("the same descriptor again: %v, %v", k.Published(), err)
	}
	again := create(t, withDisk(o, disk.Clone(vfs.Dropped, 0)))
	if got := again.Published(); !slices.Equal(got, want) || !slices.Equal(again.List()[1].Published, want) {
		t.Errorf("published, after a restart: %v", got)
	}
	if _, err := k.SaveDescriptor(describe(t, k, began.Add(time.Hour))); err != nil || k.Published() != nil {
		t.Errorf("another descriptor: %v, %v", k.Published(), err)
	}
	if again := create(t, withDisk(o, disk.Clone(vfs.Dropped, 0))); again.Published() != nil {
		t.Errorf("another descriptor, after a restart: %v", again.Published())
	}
	for _, bad := range []string{"", "two words", "a\nb", strings.Repeat("x", 65), "ä"} {
		if err := k.MarkPublished(bad); errs.KindOf(err) != errs.Invalid {
			t.Errorf("authority %q: %v", bad, err)
		}
	}
	for i := range 20 {
		if err := k.MarkPublished(string(rune('a' + i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(k.Published()); n != directory.MaxAuthorities {
		t.Errorf("%d authorities", n)
	}
}

func describeOther(t *testing.T) *directory.Descriptor {
	k := create(t, options(vfs.NewCrashDisk(), clocktest.New(began)))
	rotate(t, k, began)
	return describe(t, k, began)
}

// TestList: the states of a set over its life.
func TestList(t *testing.T) {
	clock := clocktest.New(began.Truncate(24 * time.Hour))
	k := create(t, options(vfs.NewCrashDisk(), clock))
	rotate(t, k, clock.Now())
	id := k.Public(clock.Now())[1].Key.ID() // it begins tomorrow
	state := func() State {
		for _, s := range k.List() {
			if s.ID == id {
				return s.State
			}
		}
		return ""
	}
	for _, c := range []struct {
		pass time.Duration
		want State
	}{{0, Ahead}, {24*time.Hour - 1, Ahead}, {1, Current}, {DefaultLifetime - 1, Current}, {1, Overlap}, {DefaultOverlap - 1, Overlap}, {1, Ended}} {
		clock.Add(c.pass)
		if got := state(); got != c.want {
			t.Errorf("at %v: %q, want %q", clock.Now(), got, c.want)
		}
	}
	clock.Add(k.o.Skew)
	rotate(t, k, clock.Now())
	if state() != "" {
		t.Error("it is still listed")
	}
}

// FuzzPublished: what parses is written the same.
func FuzzPublished(f *testing.F) {
	f.Add(formatPublished(directory.Hash{1}, []Publication{{"a", began}, {"b", began}}))
	f.Add([]byte("postern-published 1\ndescriptor \n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		hash, list, err := parsePublished(b)
		if err != nil {
			return
		}
		if len(list) > directory.MaxAuthorities {
			t.Errorf("%d authorities", len(list))
		}
		again := strings.Replace(string(formatPublished(directory.Hash{}, list)), directory.Hash{}.String(), hash, 1)
		if again != string(b) {
			t.Errorf("%q became %q", b, again)
		}
	})
}
