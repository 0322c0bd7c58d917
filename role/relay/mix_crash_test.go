package relay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// mixMoment is the disk at one sync point, and what had been promised by then.
type mixMoment struct {
	at         vfs.SyncPoint
	lost       vfs.Unsynced
	registered bool
	acked      uint64          // packets 1 to acked were acknowledged to the mix
	given      map[uint64]bool // packets that the client had got
	disk       *vfs.CrashDisk
}

// TestMixCutAtEverySync: a mix hands over packets for a mailbox, some with a reply block, while
// the client takes some of them. At every sync point the disk is taken as a crash would leave it.
// The next start on that disk, when its log has gone into the mailboxes, has every packet that was
// acknowledged to the mix, unless the client had got it; none twice; and a sound store.
func TestMixCutAtEverySync(t *testing.T) {
	n, disk := newMixNet(t), vfs.NewCrashDisk()
	c := n.config(disk)
	for _, m := range n.mixes { // every moment sends its answers once more: nobody looks at them, and they must not pile up
		run(t, func(ctx context.Context) {
			for {
				select {
				case <-m.got:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	var (
		mu      sync.Mutex // one moment at a time; also guards what it notes
		now     mixMoment
		u       *user
		stopped bool
		taken   int
		seen    = map[[32]byte]bool{}
		moments = make(chan mixMoment, 64)
	)
	take := func(p vfs.SyncPoint) {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		m := now
		m.at, m.given = p, map[uint64]bool{}
		m.lost = []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn}[taken%3]
		taken++
		if u != nil {
			for _, b := range u.items() {
				if k, err := bodyNumber(b.Payload); err == nil {
					m.given[k] = true
				}
			}
		}
		m.disk = disk.Clone(m.lost, uint64(p.N))
		id := fingerprint(m.disk, "/")
		if !seen[id] {
			seen[id] = true
			if !racetest.Enabled || len(seen)%60 == 0 { // every moment is looked at without the race detector
				moments <- m
			}
		}
	}
	var checked, failed int
	var tally sync.Mutex
	var lookers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		lookers.Go(func() {
			for m := range moments {
				err := examineMix(t, c, m)
				tally.Lock()
				checked++
				if err != nil {
					if failed++; failed <= 3 {
						t.Errorf("cut at sync %d (%s, after=%v), unsynced data %s, %d acknowledged: %v", m.at.N, m.at.Path, m.at.After, m.lost, m.acked, err)
					}
				}
				tally.Unlock()
			}
		})
	}
	s, err := Start(t.Context(), Deps{FS: vfs.NewSyncPoints(disk, take), NoControl: true, NewRSA: someRSA, StopGrace: 50 * time.Millisecond}, c)
	if err != nil {
		t.Fatal(err)
	}
	cons := n.join(s)
	e := joined(t, s, anna, annas, "annas client")
	mu.Lock()
	now.registered = true
	mu.Unlock()
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
	hop := relayKey(t, cons, s)
	hops := []packet.Hop{hopOf(t, cons, 1), hopOf(t, cons, 2), hopOf(t, cons, 3), hop}
	const packets = 12
	for i := uint64(1); i <= packets; i++ {
		body := packet.Content{Kind: content.Plain, Body: binary.BigEndian.AppendUint64(nil, i)}
		if i%4 == 1 {
			surb, _, err := packet.NewSURB(hops, mailboxOf(t, e), &packet.Seed{1}, time.Now().Add(24*time.Hour), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			body.SURB = surb
		}
		if i == packets/2 {
			first, _ := clientOf(t, s, "annas client")
			mu.Lock()
			u = first
			mu.Unlock()
			until(t, "the client has some", func() bool { return len(first.items()) >= 3 })
		}
		if err := mix.Send(t.Context(), toMailbox(t, hop, mailboxOf(t, e), body)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		now.acked = i
		mu.Unlock()
	}
	until(t, "the client has all", func() bool { return len(u.items()) == packets && s.packets.Stats().Waiting == 0 })
	mu.Lock()
	stopped = true
	mu.Unlock()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	close(moments)
	lookers.Wait()
	t.Logf("%d packets, %d moments, %d different ones looked at, %d wrong", packets, taken, checked, failed)
	if taken < 4*packets || checked < packets && !racetest.Enabled {
		t.Errorf("%d moments, %d looked at: the hook does not see the syncs", taken, checked)
	}
}

// bodyNumber is the number in a payload of this test's.
func bodyNumber(payload []byte) (uint64, error) {
	c, err := packet.OpenContent(append([]byte(nil), payload...))
	if err != nil {
		return 0, err
	}
	if c.Kind != content.Plain || len(c.Body) != 8 {
		return 0, errors.New("another content")
	}
	return binary.BigEndian.Uint64(c.Body), nil
}

// examineMix starts a relay on the disk of one moment.
func examineMix(t *testing.T, c Config, m mixMoment) error {
	ctx := context.WithoutCancel(t.Context())
	s, err := Start(ctx, Deps{FS: m.disk, NoControl: true, NewRSA: someRSA, StopGrace: 50 * time.Millisecond}, c)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer s.Close()
	tick, end := time.NewTicker(5*time.Millisecond), time.NewTimer(3*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for st := s.mix.node.Status(); st.Log.Waiting > 0; st = s.mix.node.Status() {
		select {
		case <-tick.C:
		case <-end.C:
			return fmt.Errorf("%d packets wait in the log, %d of them for mailboxes", st.Log.Waiting, st.Boxes)
		}
	}
	a, err := s.accounts.Show(ctx, addr("anna"))
	if errs.KindOf(err) == errs.NotFound && err != nil && !m.registered {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.packets.Clients(ctx, a.ID); err != nil && m.registered {
		return fmt.Errorf("the client's registration: %w", err)
	}
	there := map[uint64]int{}
	for after := uint64(0); ; {
		list, err := s.packets.Next(ctx, a.ID, after, 100)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, it := range list {
			after = it.Number
			k, err := bodyNumber(it.Payload)
			if err != nil {
				return err
			}
			there[k]++
		}
	}
	for k, times := range there {
		if times > 1 {
			return fmt.Errorf("packet %d is there %d times", k, times)
		}
		if k > m.acked+1 {
			return fmt.Errorf("packet %d was not sent yet", k)
		}
	}
	for k := uint64(1); k <= m.acked; k++ {
		if there[k] == 0 && !m.given[k] {
			return fmt.Errorf("packet %d is lost; there are %v, and the client has %v", k, there, m.given)
		}
	}
	if racetest.Enabled {
		return nil // every moment is checked without the race detector
	}
	var wrong []error
	err = s.Check(ctx, func(f Finding) {
		if !f.Leftover {
			wrong = append(wrong, fmt.Errorf("check: %s: %s", f.Part, f.Text))
		}
	})
	return errors.Join(append(wrong, err)...)
}
