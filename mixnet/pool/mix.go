package pool

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mixnet/replay"
)

// Options say what a Mix works with. Zero values mean the defaults, where there is one.
type Options struct {
	Log    *replay.Log
	Config Config
	Now    func() time.Time // nil: time.Now
	Source rand.Source      // see New

	Memory   int64         // 64 MiB: packets are kept in memory too, up to this; beyond, they are read back
	MaxDelay time.Duration // 1 h: a packet found at the start waits no longer from then, whatever its record says
	FlushAge time.Duration // 1 s: how soon what was sent is noted on the disk, at most
	Retry    time.Duration // 1 min: after the disk could not read a packet
}

// Stats are numbers of now and, where it says so, since New.
type Stats struct {
	Held    int     // in the pool
	Later   int     // left the pool, could not be sent, will be tried again
	Leaving int     // left the pool, and nobody has said yet what became of them
	Memory  int64   // bytes of packets in memory
	MeanLen float64 // since New: packets in the pool, averaged over time; -1: not known yet

	Sent    uint64 // since New
	Dropped uint64 // since New: given up
	Damaged uint64 // since New: could not be read back whole
	Reread  uint64 // since New: read back from the log
}

// Mix is a pool over a log. All methods may be called by many goroutines.
type Mix struct {
	o      Options
	log    *replay.Log
	memory *limits.Bytes
	wake   chan struct{} // capacity 1: Next may have changed, or there is something to note

	mu      sync.Mutex
	pool    Pool[*Packet]
	later   timeline[*Packet]
	free    []*[replay.BufferLen]byte
	stats   Stats
	unnoted bool // Sent was called since the last Flush
	began   time.Time
	since   time.Time // of the last change of the pool's length
	area    float64   // of its length over time, in packets times seconds
}

// Packet is one that a Mix holds or lets go.
type Packet struct {
	Entry *replay.Entry

	m *Mix

	// Under Mix.mu:
	buf   *[replay.BufferLen]byte // nil: only in the log
	state state
}

// state is what may be done with a packet.
type state uint8

const (
	waits  state = iota // in the pool, or for its next try
	leaves              // given to Run's leave
	ended
)

// NewMix puts a pool over a log, with all that waits in it. Run must be running for
// anything to leave.
func NewMix(o Options) (*Mix, error) {
	const op = "mixnet/pool.NewMix"
	if o.Log == nil || o.Source == nil {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no Log or no Source"))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	defaults.Zero(&o.Memory, 64<<20)
	defaults.Zero(&o.MaxDelay, time.Hour)
	defaults.Zero(&o.FlushAge, time.Second)
	defaults.Zero(&o.Retry, time.Minute)
	now := o.Now()
	p, err := New[*Packet](o.Config, now, o.Source)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	m := &Mix{o: o, log: o.Log, memory: limits.NewBytes(o.Memory), wake: make(chan struct{}, 1), pool: p,
		began: now, since: now}
	for _, e := range o.Log.Waiting() {
		m.pool.Add(m.dueLocked(e), &Packet{Entry: e, m: m})
	}
	return m, nil
}

// Add takes packets: it returns when they are on the disk, and is replay.Log.Add in all
// else. The link may acknowledge each record without an error then, be it fresh or a
// replay. The bodies are the caller's again.
func (m *Mix) Add(ctx context.Context, recs ...replay.Record) ([]replay.Result, error) {
	out, err := m.log.Add(ctx, recs...)
	m.mu.Lock()
	defer m.mu.Unlock()
	before, had := m.pool.Next()
	for i, r := range out {
		if r.Entry == nil {
			continue
		}
		p := &Packet{Entry: r.Entry, m: m}
		if m.memory.Acquire(replay.BufferLen) {
			p.buf = m.bufferLocked()
			copy(p.buf[:], recs[i].Body)
		}
		m.passLocked()
		m.pool.Add(recs[i].Due, p)
	}
	if next, any := m.pool.Next(); any != had || !next.Equal(before) {
		m.signal()
	}
	return out, err
}

// SetConfig changes the rule; what the pool holds goes on under the new one, and the first
// round of it is one interval from now. errs.Invalid: see Config.Check.
func (m *Mix) SetConfig(c Config) error {
	const op = "mixnet/pool.SetConfig"
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passLocked()
	p, err := New[*Packet](c, m.since, m.o.Source)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, q := range m.pool.Take(nil) {
		p.Add(m.dueLocked(q.Entry), q)
	}
	m.pool, m.o.Config = p, c
	m.signal()
	return nil
}

// dueLocked is when a packet of the log may leave: the clock may have been set since its record
// was written.
func (m *Mix) dueLocked(e *replay.Entry) time.Time {
	return m.since.Add(min(e.DueTime().Sub(m.since), m.o.MaxDelay))
}

// signal has Run look again.
func (m *Mix) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// bufferLocked gives a buffer that the caller has room for in the budget.
func (m *Mix) bufferLocked() *[replay.BufferLen]byte {
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free = m.free[:n-1]
		return b
	}
	return new([replay.BufferLen]byte)
}

// releaseLocked takes a packet's buffer back. There are never more buffers than the budget
// allows at once.
func (m *Mix) releaseLocked(p *Packet) {
	if p.buf == nil {
		return
	}
	m.free = append(m.free, p.buf)
	p.buf = nil
	m.memory.Release(replay.BufferLen)
}

// passLocked counts the time that the pool had its length.
func (m *Mix) passLocked() {
	now := m.o.Now()
	if d := now.Sub(m.since); d > 0 {
		m.area += float64(m.pool.Len()) * d.Seconds()
	}
	m.since = now
}

// due gives what leaves now, and when to ask again.
func (m *Mix) due(out []*Packet) (_ []*Packet, next time.Time, any bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passLocked()
	now := m.since
	out = m.pool.Due(now, out)
	for len(m.later) > 0 && !m.later[0].at.After(now) {
		out = append(out, heap.Pop(&m.later).(timed[*Packet]).v)
	}
	out = slices.DeleteFunc(out, func(p *Packet) bool { return p.state == ended })
	for _, p := range out {
		p.state = leaves
	}
	m.stats.Leaving += len(out)
	next, any = m.pool.Next()
	if len(m.later) > 0 && (!any || m.later[0].at.Before(next)) {
		next, any = m.later[0].at, true
	}
	return out, next, any
}

// Run lets packets leave until ctx ends; leave is called with those that leave together,
// in random order, and must not keep the slice. It should hand them to links and return: for each
// packet, Sent, Later or Drop must be called at some time. Run also has the log note what
// was sent and drop what is not needed. It ends with nil when ctx does.
func (m *Mix) Run(ctx context.Context, leave func([]*Packet)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var out []*Packet
	// The log is told beside: what leaves does not wait for its disk.
	flushed, busy, done := m.o.Now(), false, make(chan struct{}, 1)
	defer func() {
		if busy {
			<-done
		}
	}()
	for {
		var next time.Time
		var any bool
		out, next, any = m.due(out[:0])
		if len(out) > 0 {
			leave(out)
			clear(out)
		}
		at := m.flushAt(flushed)
		if !busy && !at.After(m.o.Now()) {
			busy = true
			go func() {
				// A failure shows in the log's Health and its stats; what is not noted is
				// sent again after a crash, no more.
				m.flush(ctx)
				done <- struct{}{}
			}()
		}
		switch {
		case busy && any:
			at = next
		case busy:
			at = m.o.Now().Add(idleFlush)
		case any && next.Before(at):
			at = next
		}
		timer.Reset(max(0, at.Sub(m.o.Now())))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-m.wake:
		case <-done:
			busy, flushed = false, m.o.Now()
		}
	}
}

// idleFlush is how often the log is told to tidy up when nothing is sent.
const idleFlush = time.Minute

func (m *Mix) flushAt(last time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unnoted {
		return last.Add(m.o.FlushAge)
	}
	return last.Add(idleFlush)
}

func (m *Mix) flush(ctx context.Context) {
	m.mu.Lock()
	m.unnoted = false
	m.mu.Unlock()
	if err := m.log.Flush(ctx); err != nil {
		m.mu.Lock()
		m.unnoted = true
		m.mu.Unlock()
	}
}

// Stats gives the numbers of now.
func (m *Mix) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passLocked()
	s := m.stats
	s.Held, s.Later, s.Memory, s.MeanLen = m.pool.Len(), len(m.later), m.memory.Used(), -1
	if d := m.since.Sub(m.began); d > 0 {
		s.MeanLen = m.area / d.Seconds()
	}
	return s
}

// Insecurities says what makes this mix weak: see Config.Insecurities. How many packets it
// held counts after an hour.
func (m *Mix) Insecurities() []string {
	held := -1.0
	if m.o.Now().Sub(m.began) >= time.Hour {
		held = m.Stats().MeanLen
	}
	m.mu.Lock()
	list := m.o.Config.Insecurities(held)
	m.mu.Unlock()
	if s := m.log.Stats(); s.LostTags > 0 || s.LostKeys > 0 {
		list = append(list, "part of the memory of seen packets is damaged: packets of that time could be sent through this mix again; new mix keys end that")
	}
	return list
}
