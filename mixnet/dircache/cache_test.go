package dircache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

// at gives a cache another clock.
func at(c *clocktest.Clock) func(*Options) { return func(o *Options) { o.Now = c.Now } }

func on(disk vfs.FS) func(*Options) { return func(o *Options) { o.FS = disk } }

// What is refused stays refused after a restart.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble)
	disk := vfs.NewCrashDisk()
	c := w.cache(at(clock), on(disk))
	must(t, c.Put(w.of(hour0).Bytes()))
	must(t, c.Put(w.of(hour0).Bytes())) // once more
	few, err := w.of(hour0 + 1).WithSignatures(nil)
	must(t, err)
	stranger := dirtest.New(t, "other.net", time.Hour, 1)
	for range 2 {
		refused(t, c.Put(w.of(hour0-1).Bytes()), errs.Conflict, fmt.Sprintf("consensus of epoch %d is older than the one of epoch %d that was here before", hour0-1, hour0))
		refused(t, c.Put(few.Bytes()), errs.Denied, "consensus has 0 valid signatures, and 1 are needed")
		refused(t, c.Put(stranger.Agree(t, hour0+1, nil).Bytes()), errs.Denied, "consensus is of another network")
		refused(t, c.Put(w.of(hour0+1).Bytes()), errs.Unavailable,
			"the consensus was made at 2000-01-01T00:37:30Z or later, and it is 2000-01-01T00:00:00Z here: this clock is behind")
		refused(t, c.Put([]byte("x")), errs.Invalid, "line 1: no end of line")
		if cur, err := c.Current(); err != nil || cur.Hash() != w.of(hour0).Hash() {
			t.Errorf("another consensus is used: %v", err)
		}
		c = w.cache(at(clock), on(disk.Clone(vfs.Dropped, 1)))
	}
}

// A cache works without any network as long as its consensus is valid, and then says both
// times.
func TestRestartWithoutNetwork(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble.Add(50 * time.Minute))
	disk := vfs.NewCrashDisk()
	c := w.cache(at(clock), on(disk))
	must(t, c.Put(w.of(hour0).Bytes()))
	must(t, c.Put(w.of(hour0+1).Bytes()))
	for _, k := range []struct {
		add  time.Duration
		want uint64
	}{{0, hour0}, {10 * time.Minute, hour0 + 1}, {time.Hour, hour0 + 1}, {time.Hour, hour0 + 1}, {time.Hour - 1, hour0 + 1}} {
		clock.Add(k.add)
		c = w.cache(at(clock), on(disk.Clone(vfs.Dropped, 1)))
		if cur, err := c.Current(); err != nil || cur.Epoch != k.want {
			t.Errorf("at %v another consensus is used: %v", clock.Now(), err)
		}
	}
	clock.Add(1)
	for range 2 {
		_, err := c.Current()
		refused(t, err, errs.Unavailable, "the consensus is valid until 2000-01-01T04:00:00Z, and it is 2000-01-01T04:00:00Z here: it is too old, or this clock is ahead")
		if n := c.Newest(); n == nil || n.Epoch != hour0+1 {
			t.Errorf("newest is %v", n)
		}
		c = w.cache(at(clock), on(disk.Clone(vfs.Dropped, 1)))
	}
	clock.Add(-10 * time.Hour)
	_, err := c.Current()
	refused(t, err, errs.Unavailable, "the consensus was made at 2000-01-01T00:37:30Z or later, and it is 1999-12-31T18:00:00Z here: this clock is behind")
	// An empty cache whose clock is wrong learns it from what it is given.
	empty := w.cache(at(clock))
	_ = empty.Put(w.of(hour0).Bytes())
	_, err = empty.Current()
	refused(t, err, errs.Unavailable, "the consensus was made at 1999-12-31T23:37:30Z or later, and it is 1999-12-31T18:00:00Z here: this clock is behind")
	if s := empty.Status(); s.Err == nil || s.Current != nil {
		t.Errorf("%+v", s)
	}
}

// Only the next, the present and two before are kept, in memory and on the disk.
func TestWhatIsKept(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble)
	disk := vfs.NewCrashDisk()
	c := w.cache(at(clock), on(disk))
	for hour := range uint64(8) {
		must(t, c.Put(w.of(hour0+hour).Bytes()))
		clock.Add(time.Hour)
	}
	names, err := disk.List("/dir")
	must(t, err)
	slices.Sort(names)
	var want []string
	for hour := uint64(4); hour < 8; hour++ {
		want = append(want, fileName(hour0+hour))
	}
	if !slices.Equal(names, append(want, proofDir)) || len(c.entries()) != maxKept {
		t.Errorf("%v", names)
	}
	// After a long absence nothing that is old stays beside the new one.
	clock.Add(10 * time.Hour)
	must(t, c.Put(w.of(hour0+18).Bytes()))
	if l := c.entries(); len(l) != 1 || c.Of(hour0+7) != nil || c.Of(hour0+18) == nil {
		t.Errorf("%d are kept", len(l))
	}
}

// Of two consensuses of one epoch the first stays; the other convicts who signed both. The
// proof holds, is told once, and is there after a restart.
func TestEquivocation(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble)
	disk := vfs.NewCrashDisk()
	var told []*directory.Proof
	open := func(f vfs.FS) *Cache {
		return w.cache(at(clock), on(f), func(o *Options) { o.Proof = func(p *directory.Proof) { told = append(told, p) } })
	}
	c := open(disk)
	must(t, c.Put(w.of(hour0).Bytes()))
	other := w.other(hour0)
	for range 2 {
		refused(t, c.Put(other.Bytes()), errs.Conflict, fmt.Sprintf("two different consensuses of epoch %d: an authority is lying", hour0))
		c = open(disk.Clone(vfs.Dropped, 1))
	}
	if len(told) != 1 || told[0].Kind != directory.TwoEndorsements || told[0].Accused != w.Keys[0].Public().ID() {
		t.Fatalf("told of %d proofs", len(told))
	}
	if cur, err := c.Current(); err != nil || cur.Hash() != w.of(hour0).Hash() {
		t.Errorf("the first one did not stay: %v", err)
	}
	kept := c.Proofs()
	if len(kept) != 1 || c.Status().Proofs != 1 {
		t.Fatalf("%d proofs after a restart", len(kept))
	}
	must(t, directory.VerifyProof(w.Network, kept[0]))
	// Others can have it.
	list, err := directory.ParseProofs(answer(t, c, directory.Request{Kind: directory.RequestProofs}))
	must(t, err)
	if len(list.Proofs) != 1 || !bytes.Equal(answer(t, c, directory.Request{Kind: directory.RequestDocument, Hash: list.Proofs[0].Hash}), kept[0].Bytes()) {
		t.Errorf("%+v", list)
	}
}

func answer(t *testing.T, c *Cache, r directory.Request) []byte {
	t.Helper()
	b, err := directory.AppendRequest(nil, r)
	must(t, err)
	b, err = c.Answer(b)
	must(t, err)
	return b
}

// Whoever fetches from one source compares with others: one of them that was shown another
// consensus gives the proof away. Who only says that there is another one is not believed.
func TestGossip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := w.other(hour0)
		gossip := func(con *directory.Consensus, shown []byte) source {
			return func(_ context.Context, r *directory.Request) ([]byte, error) {
				switch {
				case r.Kind == directory.RequestGossip:
					return (&directory.GossipList{Network: "test.net", Gossip: []directory.Gossip{con.Gossip()}}).Bytes(), nil
				case r.Kind == directory.RequestConsensus && r.Epoch == con.Epoch && shown != nil:
					return shown, nil
				}
				return nil, errNone
			}
		}
		unsigned, err := other.WithSignatures(nil)
		must(t, err)
		for name, k := range map[string]struct {
			from Source
			want int
		}{
			"shows it":      {gossip(other, other.Bytes()), 1},
			"cannot":        {gossip(other, nil), 0},
			"not signed":    {gossip(other, unsigned.Bytes()), 0},
			"another epoch": {gossip(other, w.of(hour0+1).Bytes()), 0},
			"the same":      {gossip(w.of(hour0), other.Bytes()), 0},
			"noise": {source(func(_ context.Context, r *directory.Request) ([]byte, error) {
				return []byte("gossip"), nil
			}), 0},
			"silent": {source(silent), 0},
		} {
			told := 0
			c := w.cache(from(w.authority(), k.from), func(o *Options) { o.Proof = func(*directory.Proof) { told++ } })
			stop := run(c)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if told != k.want || len(c.Proofs()) != k.want {
				t.Errorf("%s: %d proofs", name, told)
			}
			if cur, err := c.Current(); err != nil || cur.Hash() != w.of(hour0).Hash() {
				t.Errorf("%s: another consensus is used: %v", name, err)
			}
			stop()
		}
	})
}

// On a full disk the consensus is used all the same, and written when there is room again.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		disk := vfs.NewCrashDisk()
		faults := vfs.NewFaults(disk)
		var log bytes.Buffer
		c := w.cache(from(w.authority()), on(faults), func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		faults.SetSpace(100)
		stop := run(c)
		synctest.Wait()
		if cur, err := c.Current(); err != nil || cur.Epoch != hour0 || c.Status().Unsaved != 1 {
			t.Errorf("on a full disk: %v, %+v", err, c.Status())
		}
		if ok, err := vfs.Exists(disk, "/dir/"+fileName(hour0)); ok || err != nil {
			t.Error("a part of a file is there", err)
		}
		faults.SetSpace(-1)
		time.Sleep(time.Hour / look)
		synctest.Wait()
		if c.Status().Unsaved != 0 {
			t.Error("it was not written when there was room")
		}
		stop()
		if !strings.Contains(log.String(), "could not be written") || strings.Contains(log.String(), "/dir") {
			t.Errorf("log: %s", &log)
		}
		again := w.cache(on(disk.Clone(vfs.Dropped, 1)))
		if n := again.Newest(); n == nil || n.Hash() != w.of(hour0).Hash() {
			t.Error("it is not on the disk")
		}
	})
}

// A cache opens on a disk that takes nothing any more, and uses what is there.
func TestReadOnlyDisk(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble)
	disk := vfs.NewCrashDisk()
	must(t, w.cache(at(clock), on(disk)).Put(w.of(hour0).Bytes()))
	faults := vfs.NewFaults(disk)
	faults.SetReadOnly(true)
	c := w.cache(at(clock), on(faults))
	if cur, err := c.Current(); err != nil || cur.Epoch != hour0 {
		t.Error(err)
	}
	fresh := vfs.NewFaults(vfs.NewCrashDisk())
	fresh.FailFrom(vfs.OpAny, 1, syscall.ENOSPC)
	if _, err := Open(Options{FS: fresh, Dir: "/dir", Network: w.Network}); errs.KindOf(err) != errs.NoSpace {
		t.Errorf("%v", err)
	}
	for _, o := range []Options{{Dir: "/dir", Network: w.Network}, {FS: disk, Network: w.Network}, {FS: disk, Dir: "/dir"}} {
		if _, err := Open(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%v", err)
		}
	}
}

// Cut at any sync, whatever was not synced lost, kept or torn: the cache opens, has the newest
// consensus that Put had acknowledged, or a newer one, and refuses what is older; and the
// proof that was told of is there.
func TestCutAtEverySync(t *testing.T) {
	w := newWorld(t)
	other := w.other(hour0 + 5)
	for n := int64(1); ; n++ {
		cuts := 0
		for _, after := range []bool{false, true} {
			for _, u := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
				var mu sync.Mutex
				var acked uint64
				proven, ackedThen, provenThen := false, uint64(0), false
				cut := vfs.CutAt(vfs.NewCrashDisk(), n, after, u, uint64(n), func() {
					mu.Lock()
					defer mu.Unlock()
					ackedThen, provenThen = acked, proven
				})
				clock := clocktest.New(bubble)
				c := w.cache(at(clock), on(cut.FS), func(o *Options) {
					o.Proof = func(*directory.Proof) {
						mu.Lock()
						defer mu.Unlock()
						proven = true
					}
				})
				for hour := range uint64(6) {
					must(t, c.Put(w.of(hour0+hour).Bytes()))
					mu.Lock()
					acked = hour0 + hour
					mu.Unlock()
					clock.Add(time.Hour)
				}
				_ = c.Put(other.Bytes())
				disk := cut.Disk()
				if disk == nil {
					continue
				}
				cuts++
				again := w.cache(at(clock), on(disk))
				newest := again.Newest()
				if ackedThen > 0 && (newest == nil || newest.Epoch < ackedThen) {
					t.Fatalf("sync %d, after %v, %s: had %d, found %v", n, after, u, ackedThen, newest)
				}
				if newest != nil {
					if newest.Hash() != w.of(newest.Epoch).Hash() {
						t.Fatal("another consensus")
					}
					if err := again.Put(w.of(newest.Epoch - 1).Bytes()); err != nil && errs.KindOf(err) != errs.Conflict {
						t.Fatal(err)
					}
					if again.Newest() != newest {
						t.Fatal("rolled back")
					}
				}
				if provenThen && len(again.Proofs()) != 1 {
					t.Fatalf("sync %d, after %v, %s: the proof is lost", n, after, u)
				}
				if _, err := disk.Stat("/dir/" + asideName); err == nil {
					t.Fatalf("sync %d, after %v, %s: a damaged file", n, after, u)
				}
			}
		}
		if cuts == 0 {
			t.Logf("%d syncs", n-1)
			if n < 15 {
				t.Error("too few syncs to be all")
			}
			return
		}
	}
}

// What is damaged on the disk is set aside; the rest is used.
func TestDamagedFiles(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble.Add(50 * time.Minute))
	disk := vfs.NewCrashDisk()
	c := w.cache(at(clock), on(disk))
	must(t, c.Put(w.of(hour0).Bytes()))
	must(t, c.Put(w.of(hour0+1).Bytes()))
	unsigned, err := w.of(hour0 + 1).WithSignatures(nil)
	must(t, err)
	write := func(d vfs.FS, name string, b []byte) { must(t, vfs.WriteFileAtomic(d, "/dir/"+name, b, filePerm)) }
	for name, b := range map[string][]byte{"torn": w.of(hour0 + 1).Bytes()[:500], "unsigned": unsigned.Bytes(), "another epoch": w.of(hour0).Bytes(), "empty": nil} {
		d := disk.Clone(vfs.Kept, 1)
		write(d, fileName(hour0+1), b)
		write(d, "consensus-x.txt", nil)
		write(d, "proofs/two-votes-1-aa.txt", []byte("no proof"))
		write(d, fileName(hour0+1)+".tmp", b)
		again := w.cache(at(clock), on(d))
		if n := again.Newest(); n == nil || n.Epoch != hour0 || len(again.Proofs()) != 0 {
			t.Errorf("%s: newest is %v", name, n)
		}
		if ok, _ := vfs.Exists(d, "/dir/"+asideName); !ok {
			t.Errorf("%s: not set aside", name)
		}
		if ok, _ := vfs.Exists(d, "/dir/"+fileName(hour0+1)+".tmp"); ok {
			t.Errorf("%s: what was half written is kept", name)
		}
		must(t, again.Put(w.of(hour0+1).Bytes()))
	}
	// Another network's cache finds nothing.
	strangers := dirtest.New(t, "other.net", time.Hour, 1)
	o := Options{FS: disk.Clone(vfs.Kept, 1), Dir: "/dir", Network: strangers.Network, Now: clock.Now}
	x, err := Open(o)
	must(t, err)
	if x.Newest() != nil {
		t.Error("a consensus of another network was used")
	}
}

// Warnings and changes are told; nothing private is in the log.
func TestWarnings(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble)
	var kinds []directory.WarningKind
	c := w.cache(at(clock), func(o *Options) { o.Warn = func(x directory.Warning) { kinds = append(kinds, x.Kind) } })
	must(t, c.Put(w.of(hour0).Bytes()))
	if !slices.Equal(kinds, []directory.WarningKind{directory.FewMixes, directory.FewMixes, directory.FewMixes}) {
		t.Errorf("warned of %v", kinds)
	}
	kinds = nil
	clock.Add(time.Hour)
	branch := w.Agree(t, hour0+1, w.other(hour0))
	must(t, c.Put(branch.Bytes()))
	if !slices.Equal(kinds, []directory.WarningKind{directory.BrokenChain}) {
		t.Errorf("what is still so is told again, or the new flaw is not: %v", kinds)
	}
	// Where nobody wants to be told, the log is.
	var log bytes.Buffer
	c = w.cache(at(clock), func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	must(t, c.Put(w.of(hour0+1).Bytes()))
	_ = c.Put(branch.Bytes())
	for _, want := range []string{directory.Warning{Kind: directory.FewMixes, Layer: 1}.String(), string(directory.TwoEndorsements)} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
}

func TestAnswers(t *testing.T) {
	w := newWorld(t)
	clock := clocktest.New(bubble.Add(50 * time.Minute))
	c := w.cache(at(clock))
	ask := func(r directory.Request) ([]byte, error) {
		b, err := directory.AppendRequest(nil, r)
		must(t, err)
		return c.Answer(b)
	}
	_, err := ask(directory.Request{Kind: directory.RequestConsensus})
	refused(t, err, errs.NotFound, "this consensus is not here")
	cur, next := w.of(hour0), w.of(hour0+1)
	must(t, c.Put(cur.Bytes()))
	must(t, c.Put(next.Bytes()))
	for name, k := range map[string]struct {
		r    directory.Request
		base *directory.Consensus
		want *directory.Consensus
	}{
		"newest":          {directory.Request{}, nil, next},
		"epoch":           {directory.Request{Epoch: hour0}, nil, cur},
		"packed":          {directory.Request{Epoch: hour0, Packed: true}, nil, cur},
		"from":            {directory.Request{From: cur.Hash()}, cur, next},
		"from packed":     {directory.Request{From: cur.Hash(), Packed: true}, cur, next},
		"from the newer":  {directory.Request{Epoch: hour0, From: next.Hash(), Packed: true}, next, cur},
		"from itself":     {directory.Request{From: next.Hash(), Packed: true}, nil, next},
		"from an unknown": {directory.Request{From: directory.Hash{1}}, nil, next},
	} {
		k.r.Kind = directory.RequestConsensus
		one, two := answer(t, c, k.r), answer(t, c, k.r)
		got, err := directory.OpenConsensus(one, k.base)
		if err != nil || !bytes.Equal(got, k.want.Bytes()) {
			t.Errorf("%s: %v", name, err)
		}
		if &one[0] != &two[0] {
			t.Errorf("%s is made anew for each", name)
		}
	}
	g, err := directory.ParseGossip(answer(t, c, directory.Request{Kind: directory.RequestGossip}))
	must(t, err)
	if !slices.Equal(g.Gossip, []directory.Gossip{cur.Gossip(), next.Gossip()}) || g.Network != "test.net" {
		t.Errorf("%+v", g)
	}
	for r, public := range map[*directory.Request]string{
		{Kind: directory.RequestConsensus, Epoch: hour0 + 2}: "this consensus is not here",
		{Kind: directory.RequestDocument}:                    "no such document",
	} {
		_, err := ask(*r)
		refused(t, err, errs.NotFound, public)
	}
	for _, k := range []directory.RequestKind{directory.RequestOffers, directory.RequestVersion, directory.RequestPublish, directory.RequestStats} {
		r := directory.Request{Kind: k}
		switch k {
		case directory.RequestOffers:
			r.Epoch = 1
		case directory.RequestPublish, directory.RequestStats:
			r.Document = []byte("x")
		}
		_, err := ask(r)
		refused(t, err, errs.Unsupported, "this is asked of an authority")
	}
	_, err = c.Answer([]byte("weather\n"))
	refused(t, err, errs.Unsupported, "the request is unknown")
	// What nobody may use any more is not given out, but it is still compared.
	clock.Add(4 * time.Hour)
	_, err = ask(directory.Request{Kind: directory.RequestConsensus})
	refused(t, err, errs.NotFound, "this consensus is not here")
}

// Many may ask, put and run at the same time.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.cache(from(w.authority()))
		stop := run(c)
		var g sync.WaitGroup
		for range 4 {
			g.Go(func() {
				for range 30 {
					time.Sleep(7 * time.Minute)
					epoch := w.Network.Epoch(time.Now())
					_ = c.Put(w.of(epoch).Bytes())
					if _, err := c.Current(); err != nil {
						t.Error(err)
					}
					b, err := directory.AppendRequest(nil, directory.Request{Kind: directory.RequestConsensus, From: w.of(epoch - 1).Hash(), Packed: true})
					if err == nil {
						_, err = c.Answer(b)
					}
					if err != nil {
						t.Error(err)
					}
					_, _ = c.Next(), c.Status()
				}
			})
		}
		g.Wait()
		stop()
	})
}

// Run ends with the reason of its context, also while a source is silent.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.cache(from(source(silent)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Second)
		cancel()
		if err := <-done; errs.KindOf(err) != errs.Canceled || !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
