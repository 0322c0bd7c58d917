package mbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"postern.email/agent/parts"
	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/mail"
	"postern.email/mixnet/stats"
)

func appendInt(b []byte, v int64) []byte { return binary.AppendVarint(b, v) }

// wayPause is the time in which the way out is not tried, since it failed for everybody: a minute,
// then twice as long each time, up to the shortest interval of the schedule. It tells nothing
// of any mail.
type wayPause struct {
	tries int // that failed
	last  time.Time
}

func (p *wayPause) next(s retry.Schedule) time.Time {
	if p.tries == 0 {
		return time.Time{}
	}
	return p.last.Add(min(firstPause<<min(p.tries-1, 20), s.Shortest()))
}

const firstPause = time.Minute

// pause is the time in which a destination is not tried.
type pause struct {
	since, last time.Time // of the tries that failed one after another
}

func (p *pause) failing() bool { return !p.since.IsZero() }

// fail notes a try that failed.
func (p *pause) fail(now time.Time) {
	if !p.failing() {
		p.since = now
	}
	p.last = now
}

// next gives when it is tried again; the zero time: now.
func (p *pause) next(s retry.Schedule) time.Time {
	if !p.failing() {
		return time.Time{}
	}
	if next, ok := s.Next(p.since, p.last); ok {
		return next
	}
	// The schedule is over, and there are mails that came later: on as it ended.
	return p.last.Add(s.LastInterval())
}

// Run sends what waits until ctx ends, which is no error. Failures of the disk are logged and tried
// again.
func (m *MBox) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		next := m.tidy()
		if due := m.due(); len(due) > 0 {
			m.send(ctx, due)
			continue
		}
		if at := m.nextTry(); next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
		if !m.sleep(ctx, next) {
			break
		}
	}
	return nil
}

// sleep waits until a time, or until there is something new; forever for the zero time. False
// when ctx has ended.
func (m *MBox) sleep(ctx context.Context, until time.Time) bool {
	var alarm <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(max(until.Sub(m.o.Now()), time.Millisecond))
		defer t.Stop()
		alarm = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-m.wake:
	case <-alarm:
	}
	return true
}

// due gives the mails that may be sent now, those of one destination together. Within that the
// order is that of their names, which are random.
func (m *MBox) due() []handle {
	now, cfg := m.o.Now(), m.c.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.way.next(cfg.Retry).After(now) {
		return nil
	}
	var out []handle
	for h, w := range m.waiting {
		if p := m.dests[w.dest]; !w.notBefore.After(now) && (p == nil || !p.next(cfg.Retry).After(now)) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b handle) int {
		if c := bytes.Compare([]byte(m.waiting[a].dest.String()), []byte(m.waiting[b].dest.String())); c != 0 {
			return c
		}
		return bytes.Compare(a[:], b[:])
	})
	return out
}

// nextTry gives when a mail may be sent next; the zero time: none waits.
func (m *MBox) nextTry() time.Time {
	cfg := m.c.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	var next time.Time
	for _, w := range m.waiting {
		at := m.way.next(cfg.Retry)
		if w.notBefore.After(at) {
			at = w.notBefore
		}
		if p := m.dests[w.dest]; p != nil {
			if d := p.next(cfg.Retry); d.After(at) {
				at = d
			}
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// maxBroken is how many connections may break in a round, each with another mail, until it is the
// way out that does not work.
const maxBroken = 3

// round is one pass over the mails that are due.
type round struct {
	m       *MBox
	cfg     *Config
	session Session
	fresh   bool                  // nothing was sent in this session yet
	failed  map[mail.Address]bool // destinations of which no more is tried now
	broken  []mail.Address        // whose mail broke a fresh session, since the last one that was taken
}

// send sends mails. When the way out fails nothing more is tried; when a destination does, its
// other mails are not. A connection that breaks with a mail may be the fault of either: others are
// tried then, and if one of them is answered it was that destination's.
func (m *MBox) send(ctx context.Context, list []handle) {
	r := &round{m: m, cfg: m.c.Load(), failed: make(map[mail.Address]bool)}
	defer r.close()
	// Not always the same mail first: it could be the one that breaks connections.
	at := m.first % len(list)
	for _, h := range append(slices.Clone(list[at:]), list[:at]...) {
		m.mu.Lock()
		w := m.waiting[h]
		m.mu.Unlock()
		if w == nil || r.failed[w.dest] {
			continue
		}
		text, err := m.mails.Read(msg, h)
		if err != nil {
			m.unreadable(h, w, err)
			continue
		}
		if !r.one(ctx, h, w, text) {
			return
		}
	}
	if len(r.broken) > 0 {
		r.down(errs.E("agent/mbox.send", errs.Unavailable, "connections break", nil))
	}
}

func (r *round) close() {
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
}

// one sends one mail; false ends the round.
func (r *round) one(ctx context.Context, h handle, w *waiting, text []byte) bool {
	err := r.try(ctx, w, text)
	if errs.KindOf(err) == errs.Unavailable && err != nil && r.session != nil && !r.fresh {
		r.close() // it was used before and may be used up: once more on a fresh one
		err = r.try(ctx, w, text)
	}
	if ctx.Err() != nil {
		if err == nil {
			r.m.succeeded(h, w)
		}
		return false
	}
	kind := errs.KindOf(err)
	switch {
	case err == nil:
		r.answered()
		r.m.succeeded(h, w)
	case kind == errs.Unavailable || kind == errs.Canceled:
		opened := r.session != nil
		r.close()
		r.broken = append(r.broken, w.dest)
		r.failed[w.dest] = true
		if !opened || len(r.broken) == maxBroken {
			r.down(err)
			return false
		}
	case kind.Temporary():
		r.answered()
		r.failed[w.dest] = true
		r.m.destinationFailed(r.cfg, w.dest)
	default:
		r.answered()
		r.m.o.Stats.Count(stats.AttemptedDelivery, module)
		r.m.o.Stats.Count(stats.UnretriableDelivery, module)
		r.m.o.Log.Info("a mail from the mix network was refused for good", "kind", kind)
		r.m.finish(h)
	}
	return ctx.Err() == nil
}

// try opens a session if there is none, and sends a mail.
func (r *round) try(ctx context.Context, w *waiting, text []byte) (err error) {
	if r.session == nil {
		if r.session, err = r.cfg.Sender.Open(ctx); err != nil {
			r.session = nil
			return err
		}
		r.fresh = true
	}
	err = r.session.Send(ctx, r.cfg.Form.ReturnAddress, w.to, text)
	if err == nil || errs.KindOf(err) != errs.Unavailable {
		r.fresh = false
	}
	return err
}

// answered notes that the way out works: who broke connections before did so by itself.
func (r *round) answered() {
	r.m.mu.Lock()
	r.m.way = wayPause{}
	r.m.mu.Unlock()
	for _, to := range r.broken {
		r.m.destinationFailed(r.cfg, to)
	}
	r.broken = nil
}

// down ends a round in which the way out does not work.
func (r *round) down(err error) {
	r.m.first += len(r.broken)
	r.m.wayFailed(r.cfg, err)
}

func (m *MBox) succeeded(h handle, w *waiting) {
	m.o.Stats.Count(stats.AttemptedDelivery, module)
	m.o.Stats.Count(stats.SuccessfulDelivery, module)
	m.mu.Lock()
	delete(m.dests, w.dest) // what waits for it goes at once
	m.mu.Unlock()
	m.finish(h)
}

// wayFailed notes that nothing can be sent, and gives up what has waited too long.
func (m *MBox) wayFailed(cfg *Config, err error) {
	m.o.Stats.Count(stats.AttemptedDelivery, module)
	m.o.Stats.Count(stats.FailedDelivery, module)
	m.o.Log.Warn("mail from the mix network cannot be sent", "why", errs.Public(err))
	now := m.o.Now()
	m.mu.Lock()
	m.way = wayPause{m.way.tries + 1, now}
	m.mu.Unlock()
	m.expire(cfg, func(*waiting) bool { return true })
}

func (m *MBox) destinationFailed(cfg *Config, to mail.Address) {
	m.o.Stats.Count(stats.AttemptedDelivery, module)
	m.o.Stats.Count(stats.FailedDelivery, module)
	now := m.o.Now()
	m.mu.Lock()
	p := m.dests[to]
	if p == nil {
		p = &pause{}
		m.dests[to] = p
	}
	p.fail(now)
	m.mu.Unlock()
	m.expire(cfg, func(w *waiting) bool { return w.dest == to })
}

// expire gives up the mails of which that are older than the schedule is long: the try that
// just failed was their last.
func (m *MBox) expire(cfg *Config, which func(*waiting) bool) {
	now := m.o.Now()
	m.mu.Lock()
	var old []handle
	for h, w := range m.waiting {
		if which(w) && !now.Before(w.since.Add(cfg.Retry.Total())) {
			old = append(old, h)
		}
	}
	m.mu.Unlock()
	for _, h := range old {
		m.o.Stats.Count(stats.UnretriableDelivery, module)
		m.finish(h)
	}
}

// unreadable keeps a mail aside that is damaged; one that the disk cannot give now waits for the
// next round.
func (m *MBox) unreadable(h handle, w *waiting, err error) {
	if k := errs.KindOf(err); k != errs.Corrupt && k != errs.NotFound {
		m.o.Log.Warn("a mail cannot be read now", "kind", k)
		m.mu.Lock()
		w.notBefore = m.o.Now().Add(retryWhole)
		m.mu.Unlock()
		return
	}
	m.locked(func() {
		m.o.Log.Warn("a mail is damaged and is kept aside")
		if err := m.keepAside(h); err != nil {
			m.o.Log.Warn("a damaged mail cannot be kept aside", "kind", errs.KindOf(err))
		}
		m.forget(h)
	})
}

// locked runs fn while nobody else changes the directories. It does not end with a context: what
// was sent must be noted also when the node ends, and the holders of the turn are quick.
func (m *MBox) locked(fn func()) {
	<-m.turn
	defer func() { m.turn <- struct{}{} }()
	fn()
}

// finish ends a mail.
func (m *MBox) finish(h handle) {
	m.locked(func() {
		m.mu.Lock()
		m.done[h] = m.o.Now()
		m.mu.Unlock()
		m.forget(h)
		m.end(h)
	})
}

// end removes a mail that is done: its name is remembered first, then it is destroyed. What cannot be
// done now is done by tidy.
func (m *MBox) end(h handle) bool {
	_, err := m.mails.Write(inpm, rmvm, h, nil)
	if err == nil {
		err = m.mails.Remove(meta, h)
	}
	if err == nil {
		err = m.mails.Remove(msg, h)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.o.Log.Warn("a mail that is done cannot be removed yet; after a restart it would be sent again", "kind", errs.KindOf(err))
		m.ending[h] = true
		return false
	}
	delete(m.ending, h)
	return true
}

// forget takes a mail off the list.
func (m *MBox) forget(h handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.waiting[h]
	if w == nil {
		return
	}
	delete(m.waiting, h)
	m.bytes -= w.size
	if m.toDest[w.dest]--; m.toDest[w.dest] == 0 {
		delete(m.toDest, w.dest)
		delete(m.dests, w.dest)
	}
}

// tidy gives up letters that did not become whole in time, makes mails of those that could not be
// written before, and forgets old names. It gives when to be called again; the zero time: there is
// nothing to wait for.
func (m *MBox) tidy() (next time.Time) {
	now, cfg := m.o.Now(), m.c.Load()
	soon := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	m.locked(func() {
		m.mu.Lock()
		ending := slices.Collect(maps.Keys(m.ending))
		m.mu.Unlock()
		for _, h := range ending {
			if !m.end(h) {
				soon(now.Add(retryWhole))
			}
		}
		at := m.parts.Tidy(cfg.Fragments.MaxInterval, func(k parts.Key) {
			if err := m.tryWhole(cfg, k); err != nil {
				m.o.Stats.Count(stats.UnretriableDelivery, module)
			}
		})
		if !at.IsZero() {
			soon(at)
		}
		if at := m.forgetNames(now, cfg); !at.IsZero() {
			soon(at)
		}
	})
	return next
}

// forgetNames removes the names of mails that are gone for long enough. A node that was down puts again at
// its start what it had not noted as done, so names stay until it has run for a while.
func (m *MBox) forgetNames(now time.Time, cfg *Config) (next time.Time) {
	keep := max(doneTime, cfg.Fragments.MaxInterval+doneTime)
	settled := m.started.Add(settleTime)
	m.mu.Lock()
	if len(m.done) == 0 || len(m.done) <= m.o.MaxDone && now.Before(m.nextNames) {
		defer m.mu.Unlock()
		if len(m.done) == 0 {
			m.nextNames = time.Time{}
		}
		return m.nextNames
	}
	var list []handle
	for h := range m.done {
		if !m.ending[h] {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b handle) int { return m.done[a].Compare(m.done[b]) })
	over := 0
	if len(m.done) > m.o.MaxDone {
		over = len(m.done) - m.o.MaxDone + m.o.MaxDone/16 // many at once, as the list is costly to make
	}
	gone := 0
	for gone < len(list) && (gone < over || !now.Before(m.done[list[gone]].Add(keep)) && !now.Before(settled)) {
		gone++
	}
	if gone < len(list) {
		if next = m.done[list[gone]].Add(keep); next.Before(settled) {
			next = settled
		}
	}
	m.nextNames = next
	m.mu.Unlock()
	for _, h := range list[:gone] {
		if err := m.mails.Remove(rmvm, h); err != nil {
			m.o.Log.Warn("a name cannot be forgotten", "kind", errs.KindOf(err))
			m.nextNames = now.Add(retryWhole)
			return m.nextNames
		}
		m.mu.Lock()
		delete(m.done, h)
		m.mu.Unlock()
	}
	return next
}
