package pool

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/replay"
)

// hop is the next node: it takes each packet once, as its own log makes it.
type hop struct {
	mu    sync.Mutex
	taken map[int]int // how often each packet came
}

func (h *hop) take(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken[n]++
}

// mixing runs a mix in virtual time: packets come from a link that sends each again until
// it is acknowledged, and go to a hop. acked is called with each that was acknowledged. It
// ends when all that the log holds has left.
func mixing(t *testing.T, fs vfs.FS, c Config, packets []int, h *hop, acked func(int)) {
	l := openLog(t, fs, func(o *replay.Options) { o.SegmentBytes = 128 << 10 })
	m := newMix(t, l, c, func(o *Options) { o.Memory = 2 * replay.BufferLen; o.FlushAge = 500 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- m.Run(ctx, func(ps []*Packet) {
			for i, p := range ps {
				b, err := p.Body(nil)
				if err != nil || len(b) != 31_536 {
					t.Errorf("packet %d: %d bytes, %v", number(p), len(b), err)
				}
				if (number(p)+i)%4 == 3 && h.count(number(p)) == 0 {
					h.take(number(p)) // it took it, and its answer was lost
					p.Later(time.Now().Add(3 * time.Second))
					continue
				}
				h.take(number(p))
				p.Sent()
			}
		})
	}()
	for _, n := range packets {
		if _, err := m.Add(ctx, record(n, time.Now().Add(time.Duration(n*7%40)*time.Second/10))); err != nil {
			t.Error(err)
		}
		acked(n)
		<-time.After(100 * time.Millisecond)
	}
	start := time.Now()
	for m.Stats().Held > 0 || m.Stats().Later+m.Stats().Leaving > 0 {
		if <-time.After(time.Second); time.Since(start) > time.Hour {
			t.Error("not all packets leave")
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func (h *hop) count(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken[n]
}

// TestCrashOfTheNode cuts a mix at every sync, with what was not synced gone, there, or
// torn. The node starts again, and the link before it sends again what was not
// acknowledged. Every packet that was acknowledged reaches the next hop, and one that had been noted as sent
// before does not come again without need: the next hop sees each at most three times, the first
// try, the one whose answer was lost, and the one after the crash.
func TestCrashOfTheNode(t *testing.T) {
	packets := make([]int, 24)
	for i := range packets {
		packets[i] = i
	}
	for _, c := range []Config{Default(Poisson), {Algorithm: Timed, Interval: time.Second}} {
		total := int64(0)
		synctest.Test(t, func(t *testing.T) {
			points := vfs.NewSyncPoints(vfs.NewCrashDisk(), nil)
			mixing(t, points, c, packets, &hop{taken: map[int]int{}}, func(int) {})
			total = points.Count()
		})
		if total < 40 {
			t.Fatalf("only %d syncs", total)
		}
		for n := int64(1); n <= total; n += 2 {
			mode := vfs.Unsynced(n / 2 % 3)
			t.Run(fmt.Sprintf("%s/%d/%v", c.Algorithm, n, mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { crashOnce(t, c, packets, n, mode) })
			})
		}
	}
}

func crashOnce(t *testing.T, c Config, packets []int, n int64, mode vfs.Unsynced) {
	h := &hop{taken: map[int]int{}}
	var mu sync.Mutex
	acked, atCrash := map[int]bool{}, map[int]bool{}
	came := map[int]int{}
	cut := vfs.CutAt(vfs.NewCrashDisk(), n, n%4 == 1, mode, uint64(n), func() {
		mu.Lock()
		defer mu.Unlock()
		for k := range acked {
			atCrash[k] = true
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for k, v := range h.taken {
			came[k] = v
		}
	})
	mixing(t, cut.FS, c, packets, h, func(k int) {
		mu.Lock()
		defer mu.Unlock()
		acked[k] = true
	})
	if cut.Disk() == nil {
		t.Skip("this sync did not come")
	}
	after := &hop{taken: came}
	var again []int
	for _, k := range packets {
		if !atCrash[k] {
			again = append(again, k)
		}
	}
	mixing(t, cut.Disk(), c, again, after, func(int) {})
	for _, k := range packets {
		if got := after.count(k); got < 1 || got > 3 {
			t.Errorf("packet %d reached the next hop %d times", k, got)
		}
	}
}
