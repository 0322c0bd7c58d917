package pool

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/replay"
)

// run starts m.Run; what leaves comes out of the channel. stop ends it and waits.
func run(t testing.TB, m *Mix) (left chan *Packet, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	left = make(chan *Packet, 10_000)
	done := make(chan error)
	go func() {
		done <- m.Run(ctx, func(ps []*Packet) {
			for _, p := range ps {
				left <- p
			}
		})
	}()
	return left, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// next gives what leaves next, or ends the test after a month of virtual time.
func next(t testing.TB, left chan *Packet) *Packet {
	t.Helper()
	select {
	case p := <-left:
		return p
	case <-time.After(31 * 24 * time.Hour):
		t.Fatal("nothing leaves")
		return nil
	}
}

// bubble runs fn in virtual time over a log of its own, which is closed behind it.
func bubble(t *testing.T, fn func(t *testing.T, disk *vfs.CrashDisk, l *replay.Log)) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashDisk()
		l := openLog(t, disk, nil)
		fn(t, disk, l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func addAll(t testing.TB, m *Mix, recs ...replay.Record) {
	t.Helper()
	if _, err := m.Add(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
}

// TestRunLetsLeave: each packet leaves at its own time, whole, and only once; more than the
// budget of memory is read back from the log.
func TestRunLetsLeave(t *testing.T) {
	bubble(t, func(t *testing.T, _ *vfs.CrashDisk, l *replay.Log) {
		m := newMix(t, l, Default(Poisson), func(o *Options) { o.Memory = 3 * replay.BufferLen })
		left, stop := run(t, m)
		start := time.Now()
		for n := 9; n >= 0; n-- {
			addAll(t, m, record(n, start.Add(time.Duration(n+1)*time.Second)))
		}
		out, err := m.Add(t.Context(), record(4, start))
		if err != nil || !out[0].Replay {
			t.Errorf("%+v, %v", out, err)
		}
		if s := m.Stats(); s.Held != 10 || s.Memory != 3*replay.BufferLen {
			t.Errorf("%+v", s)
		}
		for n := range 10 {
			p := next(t, left)
			if number(p) != n || time.Since(start) != time.Duration(n+1)*time.Second {
				t.Errorf("packet %d left after %v", number(p), time.Since(start))
			}
			b, err := p.Body(nil)
			if err != nil || !bytes.Equal(b, record(n, start).Body) {
				t.Errorf("packet %d: another body, %v", n, err)
			}
			p.Sent()
			p.Sent()
			_, err = p.Body(nil)
			wantKind(t, "a packet that was sent", err, errs.NotFound)
		}
		time.Sleep(2 * time.Second) // FlushAge
		synctest.Wait()
		if s, g := m.Stats(), l.Stats(); s.Sent != 10 || s.Reread != 7 || s.Held+s.Leaving+s.Later != 0 || s.Memory != 0 || g.Waiting != 0 || g.Marks != 0 {
			t.Errorf("%+v, %+v", s, g)
		}
		stop()
	})
}

// TestLaterAndDrop: what could not be sent leaves again at the time given; what is given up
// does not.
func TestLaterAndDrop(t *testing.T) {
	bubble(t, func(t *testing.T, _ *vfs.CrashDisk, l *replay.Log) {
		m := newMix(t, l, Default(Poisson), nil)
		left, stop := run(t, m)
		start := time.Now()
		addAll(t, m, record(1, start.Add(time.Second)), record(2, start.Add(2*time.Second)))
		p := next(t, left)
		p.Later(start.Add(time.Hour))
		p.Later(start.Add(time.Minute)) // it has not left again
		q := next(t, left)
		q.Drop()
		q.Later(start)
		if s := m.Stats(); s.Later != 1 || s.Dropped != 1 || s.Leaving != 0 {
			t.Errorf("%+v", s)
		}
		if again := next(t, left); again != p || time.Since(start) != time.Hour {
			t.Errorf("left again after %v", time.Since(start))
		}
		p.Sent()
		stop()
	})
}

// TestRestart: what waited, and what left without an answer, leaves after a restart; what
// was sent does not. A record with a time far off waits for MaxDelay at most.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashDisk()
		l := openLog(t, disk, nil)
		m := newMix(t, l, Default(Poisson), nil)
		left, stop := run(t, m)
		start := time.Now()
		addAll(t, m, record(1, start.Add(time.Second)), record(2, start.Add(2*time.Second)), record(3, start.Add(1000*time.Hour)))
		next(t, left).Sent()
		next(t, left)
		stop()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, disk, nil)
		defer l.Close()
		m = newMix(t, l, Default(Poisson), nil)
		left, stop = run(t, m)
		defer stop()
		start = time.Now()
		if p := next(t, left); number(p) != 2 || time.Since(start) != 0 {
			t.Errorf("packet %d left after %v", number(p), time.Since(start))
		}
		if p := next(t, left); number(p) != 3 || time.Since(start) != time.Hour {
			t.Errorf("packet %d left after %v", number(p), time.Since(start))
		}
	})
}

// TestRounds: a mix with rounds sends nothing before its round, whatever the packets say.
func TestRounds(t *testing.T) {
	bubble(t, func(t *testing.T, _ *vfs.CrashDisk, l *replay.Log) {
		m := newMix(t, l, Default(DynamicPool), nil)
		left, stop := run(t, m)
		start := time.Now()
		for n := range 20 {
			addAll(t, m, record(n, start))
		}
		next(t, left)
		synctest.Wait()
		if d := time.Since(start); d != 30*time.Minute || len(left) != 11 {
			t.Errorf("%d left after %v, want 12 after 30m", len(left)+1, d)
		}
		stop()
	})
}

// TestDamagedPacket: a packet that is damaged on the disk is kept aside and counted, and the
// others leave; a packet that cannot be read now leaves again.
func TestDamagedPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashDisk()
		l := openLog(t, disk, nil)
		defer l.Close()
		m := newMix(t, l, Default(Poisson), func(o *Options) { o.Memory = 1 })
		left, stop := run(t, m)
		defer stop()
		start := time.Now()
		addAll(t, m, record(1, start.Add(time.Second)), record(2, start.Add(2*time.Second)))
		list, err := disk.List("/data/mixlog")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			if len(name) > 4 && name[len(name)-4:] == ".log" {
				f, err := disk.OpenReadWrite("/data/mixlog/"+name, vfs.Unspecified)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte{1, 2, 3}, 3*4096); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
		}
		p := next(t, left)
		_, err = p.Body(nil)
		wantKind(t, "a damaged packet", err, errs.Corrupt)
		if b, err := next(t, left).Body(nil); err != nil || !bytes.Equal(b, record(2, start).Body) {
			t.Errorf("the other packet: %v", err)
		}
		if s := m.Stats(); s.Damaged != 1 || s.Leaving != 1 {
			t.Errorf("%+v", s)
		}
		states := map[replay.State]int{}
		for v := range l.Entries() {
			states[v.State] += v.Count
		}
		if states[replay.Corrupt] != 1 || states[replay.Message] != 1 || l.Stats().Damaged != 1 {
			t.Errorf("%v", states)
		}
	})
}

// TestNewMix: what is missing is said.
func TestNewMix(t *testing.T) {
	_, err := NewMix(Options{Config: Default(Poisson)})
	wantKind(t, "no log", err, errs.Invalid)
	l := openLog(t, vfs.NewCrashDisk(), nil)
	defer l.Close()
	_, err = NewMix(Options{Log: l, Source: source(1)})
	wantKind(t, "no algorithm", err, errs.Invalid)
	m := newMix(t, l, Config{Algorithm: Timed, Interval: time.Minute}, nil)
	if got := m.Insecurities(); !slices.Equal(got, m.o.Config.Insecurities(-1)) || len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestMeanLength: the average over time is that of what was held, and a mix that held little
// for an hour says so; before, it says nothing of it.
func TestMeanLength(t *testing.T) {
	bubble(t, func(t *testing.T, _ *vfs.CrashDisk, l *replay.Log) {
		m := newMix(t, l, Default(Poisson), nil)
		left, stop := run(t, m)
		start := time.Now()
		for n := range 6 { // each held for half an hour
			addAll(t, m, record(n, start.Add(30*time.Minute)))
		}
		for range 6 {
			next(t, left).Sent()
		}
		if got := m.Insecurities(); len(got) != 0 {
			t.Errorf("after half an hour: %q", got)
		}
		<-time.After(30 * time.Minute)
		if s := m.Stats(); s.MeanLen < 2.99 || s.MeanLen > 3.01 {
			t.Errorf("%+v", s)
		}
		if got := m.Insecurities(); len(got) != 1 || got[0] != "the pool held 3.0 packets on average; fewer than 5 hide little" {
			t.Errorf("after an hour: %q", got)
		}
		stop()
	})
}
