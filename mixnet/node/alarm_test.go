package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// ways draws the ways of loops through layers of so many nodes.
func ways(rng *rand.Rand, layers []int) (through []packet.ID) {
	for l, k := range layers {
		through = append(through, packet.ID{byte(l), byte(rng.IntN(k))})
	}
	return through
}

// TestFalseAlarms: with the usual loss, and also when one node loses everything besides, the
// alarm is given less often than once in the number of loops that the rule promises; with the
// promise of a year not once in two weeks of the low profile.
func TestFalseAlarms(t *testing.T) {
	const promise, loops = 1000, 40_000
	for _, layers := range [][]int{{2}, {2, 3, 3}} { // of a mix of layer 1, and of layer 3
		for _, loss := range []float64{0, 0.02, 0.2} {
			for _, dead := range []bool{false, true} {
				for _, h := range []float64{threshold(alarmEvery / promise), threshold(37 * time.Second)} {
					rng := rand.New(rand.NewPCG(1, 2))
					a := newAlarm()
					alarms := 0
					for range loops {
						way := ways(rng, layers)
						back := rng.Float64() >= loss && (!dead || way[0] != packet.ID{})
						if a.note(back, way, h) && a.on {
							alarms++
						}
					}
					most := loops / promise
					if h > threshold(time.Minute) {
						most = 0
					}
					t.Logf("layers %v, loss %v, a dead node %v, h %.1f: %d alarms in %d loops", layers, loss, dead, h, alarms, loops)
					if alarms > most {
						t.Errorf("layers %v, loss %v, a dead node %v, h %.1f: %d alarms in %d loops", layers, loss, dead, h, alarms, loops)
					}
				}
			}
		}
	}
}

// TestAlarmInTime: when no loop comes back any more the alarm is given after a few, and it ends
// after a few that do.
func TestAlarmInTime(t *testing.T) {
	for _, tc := range []struct {
		layers  []int
		between time.Duration
		most    int // loops
	}{
		{[]int{2}, 150 * time.Second, 20}, {[]int{2, 3, 3}, 37 * time.Second, 15}, {[]int{20, 20, 20}, 5 * time.Second, 8},
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		a := newAlarm()
		h := threshold(tc.between)
		for range 2000 {
			a.note(rng.Float64() >= 0.01, ways(rng, tc.layers), h)
		}
		missed, came := 0, 0
		for !a.on && missed < 1000 {
			missed++
			a.note(false, ways(rng, tc.layers), h)
		}
		for range 100 { // it goes on for a while
			a.note(false, ways(rng, tc.layers), h)
		}
		for a.on && came < 1000 {
			came++
			a.note(true, ways(rng, tc.layers), h)
		}
		t.Logf("layers %v: given after %d loops, ended after %d", tc.layers, missed, came)
		if missed > tc.most || came > tc.most {
			t.Errorf("layers %v: given after %d loops, ended after %d", tc.layers, missed, came)
		}
	}
	a := newAlarm()
	for range 1000 {
		if a.note(false, []packet.ID{{1}}, 1) {
			t.Error("a node that never had a loop back gives an alarm")
		}
	}
}

// fence keeps everybody's connections from one member, and lets its own out.
type fence struct {
	mu    sync.Mutex
	to    string
	conns map[string][]net.Conn
}

func (f *fence) around(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		to := strings.TrimSuffix(addr, ":1")
		c, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.to == to {
			c.Close()
			return nil, errDown
		}
		f.conns[to] = append(f.conns[to], c)
		return c, nil
	}
}

func (f *fence) raise(to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
	for _, c := range f.conns[to] {
		c.Close()
	}
}

// armed reports whether a loop has come back.
func (l *loops) armed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alarm.armed
}

// TestAlarm: a mix from which somebody keeps all packets says so within minutes, among what makes
// it weak and in the log, once; no other node does, nor does any while a relay is down. When
// packets come again the alarm ends.
func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 24*time.Hour)
		w.set(directory.MixLoopInterval, 150_000)
		w.set(directory.Delay, 5_000)
		w.set(directory.LayerMinimum, 2)
		f := &fence{conns: map[string][]net.Conn{}}
		for i := range 6 {
			w.add(fmt.Sprintf("mix%d", i), directory.Mix)
		}
		w.add("relay0", directory.Relay|directory.Mailbox)
		w.add("relay1", directory.Relay|directory.Mailbox)
		for _, m := range w.members {
			m.tune = func(o *Options) { // some nodes are enough, and quicker
				o.noLoops, o.Dial = w.last != nil && m.entry().Layer != 3, f.around(o.Dial)
			}
		}
		w.startAll()
		alarms := func() (names []string) {
			for _, name := range w.names {
				if w.members[name].end != nil && w.members[name].loops.alarmText() != "" {
					names = append(names, name)
				}
			}
			return names
		}
		wait(10 * time.Minute)
		if got := alarms(); len(got) > 0 {
			t.Errorf("alarms without an attack: %v", got)
		}
		victim := w.layer(3)
		// A node that began before it knew the directory may draw a long time to its first loop.
		for began := time.Now(); !victim.loops.armed() && time.Since(began) < 2*time.Hour; {
			wait(time.Minute)
		}
		f.raise(victim.name)
		began := time.Now()
		for len(alarms()) == 0 && time.Since(began) < time.Hour {
			wait(10 * time.Second)
		}
		t.Logf("the alarm was given after %v", time.Since(began))
		if got := alarms(); len(got) != 1 || got[0] != victim.name || time.Since(began) > 20*time.Minute {
			t.Errorf("%v gave an alarm after %v", got, time.Since(began))
		}
		found := 0
		for _, text := range victim.Status().Insecurities {
			if strings.Contains(text, "do not come back") {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%q", victim.Status().Insecurities)
		}
		f.raise("")
		wait(15 * time.Minute)
		if got := alarms(); len(got) > 0 {
			t.Errorf("alarms after the attack: %v", got)
		}
		w.members["relay1"].stop()
		wait(10 * time.Minute)
		if got := alarms(); len(got) > 0 {
			t.Errorf("alarms while a relay is down: %v", got)
		}
		w.stop()
	})
}
