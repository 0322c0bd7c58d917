package link

import (
	"errors"
	"time"

	"postern.email/kit/errs"
)

// When answers travel in a frame of their own (docs/link.md §4).
const (
	answerDelay = 5 * time.Millisecond
	answerMany  = 16
)

// farewellTime bounds what is written at the end of a connection.
const farewellTime = time.Second

// write sends frames until the connection ends.
func (c *Conn) write() error {
	if c.pace.Constant {
		return c.writeConstant()
	}
	t := newTimers(c)
	defer t.stop()
	covered := true // a frame was sent since the last tick
	for {
		for {
			sent, err := c.next(false, t.answersDue)
			if err != nil {
				return err
			}
			t.answersDue = false
			if !sent {
				break
			}
			covered = true
			t.keepAlive()
		}
		t.arm(c)
		select {
		case <-c.dead:
			return nil
		case <-c.wake:
		case <-t.answer.C:
			t.answerArmed, t.answersDue = false, true
		case <-t.late.C:
			t.lateArmed = false
			if err := c.overdue(); err != nil {
				return err
			}
		case <-t.drain.C:
			return errOver
		case <-t.keep.C:
			if err := c.cover(); err != nil {
				return err
			}
			t.keepAlive()
		case <-c.pace.Ticks:
			if !covered {
				if err := c.cover(); err != nil {
					return err
				}
			}
			covered = false
		}
	}
}

// writeConstant sends one frame a tick. What else goes on changes nothing about it: also
// the end is never put off for what is under way.
func (c *Conn) writeConstant() error {
	late := time.NewTimer(c.l.o.answerTime(true))
	defer late.Stop()
	for {
		select {
		case <-c.dead:
			return nil
		case <-c.wake:
			if c.leaving() {
				return errOver
			}
		case <-late.C:
			if err := c.overdue(); err != nil {
				return err
			}
			late.Reset(c.untilLate())
		case <-c.pace.Ticks:
			if err := c.cover(); err != nil {
				return err
			}
		}
	}
}

// leaving reports whether one of both sides gives the connection up.
func (c *Conn) leaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away != 0 || c.left != 0
}

// cover sends one frame, whatever there is to send.
func (c *Conn) cover() error {
	_, err := c.next(true, true)
	return err
}

// next sends one frame if there is something to send, or in any case with force. It
// gives errOver when the connection has come to its end.
func (c *Conn) next(force, answersDue bool) (sent bool, err error) {
	var h head
	body := zeros[:]
	c.mu.Lock()
	select {
	case <-c.dead:
		c.mu.Unlock()
		return false, nil
	default:
	}
	leave := c.away != 0 || c.left != 0
	var unit []byte
	var pos uint64
	var doc bool
	switch {
	case c.away != 0 && !c.gone && !c.pace.Constant:
		h.typ, h.code = typeGoAway, c.away
		c.gone = true
	case c.turn && c.unit(&h, &unit, &pos, leave):
	default:
		if doc = c.docs.next(&h, &body, leave); !doc {
			c.unit(&h, &unit, &pos, leave)
		}
	}
	if unit != nil || doc {
		c.turn = doc
	}
	if unit != nil {
		body = unit
	}
	if h.typ == 0 {
		n := c.inbox.due()
		if !force && !(n > 0 && (answersDue || leave || n >= answerMany)) {
			over := leave && n == 0 && c.quiet()
			c.mu.Unlock()
			if over {
				return false, errOver
			}
			return false, nil
		}
		h.typ = typeJunk
	}
	h.answers = c.inbox.report()
	box := c.box
	c.mu.Unlock()

	err = c.frame(&h, body, c.l.o.FrameTime)
	if unit != nil && err == nil {
		box.wrote(pos)
	}
	switch {
	case err != nil:
		return false, err
	case h.typ == typeGoAway && (h.code == awayUnknown || h.code == awayBroken):
		return true, errOver
	}
	return true, nil
}

// unit puts the next unit into a frame, if one waits and may be sent.
func (c *Conn) unit(h *head, unit *[]byte, pos *uint64, leave bool) bool {
	if c.box == nil || leave || c.sentTop-c.sentLow+1 >= window {
		return false
	}
	u, p, ok := c.box.take()
	if !ok {
		return false
	}
	c.sentTop++
	c.flight[c.sentTop%window] = flight{pos: p, at: time.Now()}
	h.typ, h.number = typeSend, c.sentTop
	*unit, *pos = u, p
	return true
}

// frame writes one frame, within d.
func (c *Conn) frame(h *head, body []byte, d time.Duration) error {
	h.put(&c.head)
	buf := c.l.records.Get().(*[]byte)
	defer c.l.records.Put(buf)
	// Under the lock, so that stop's shorter time is not overwritten.
	c.mu.Lock()
	select {
	case <-c.dead:
		d = min(d, farewellTime)
	default:
	}
	err := c.raw.SetWriteDeadline(time.Now().Add(d))
	c.mu.Unlock()
	if err == nil {
		c.out.begin(*buf)
		if _, err = c.tls.Write(c.head[:]); err == nil {
			_, err = c.tls.Write(body)
		}
		var failed error
		*buf, failed = c.out.flush()
		err = errors.Join(err, failed)
	}
	if err != nil {
		return brokenConn(err)
	}
	c.l.counts.framesOut.Add(1)
	return nil
}

// overdue is the error when a unit has waited too long for its answer.
func (c *Conn) overdue() error {
	if c.untilLate() > 0 {
		return nil
	}
	return errs.E("mixnet/link", errs.Unavailable, "the peer does not answer", nil)
}

// untilLate is how long the oldest unit may still wait for its answer.
func (c *Conn) untilLate() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.l.o.answerTime(c.pace.Constant)
	if c.sentLow <= c.sentTop {
		d -= time.Since(c.flight[c.sentLow%window].at)
	}
	return d
}

// timers of the free mode.
type timers struct {
	answer, late, drain, keep *time.Timer

	answerArmed, lateArmed, drainArmed bool
	answersDue                         bool
	every                              time.Duration // keep-alive; 0: there are ticks
	drainTime                          time.Duration
}

func newTimers(c *Conn) *timers {
	timer := func() *time.Timer {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	t := &timers{answer: timer(), late: timer(), drain: timer(), keep: timer(), drainTime: c.l.o.DrainTime}
	if c.pace.Ticks == nil {
		t.every = c.l.o.Idle / 3
	}
	t.keepAlive()
	return t
}

func (t *timers) stop() {
	for _, x := range []*time.Timer{t.answer, t.late, t.drain, t.keep} {
		x.Stop()
	}
}

func (t *timers) keepAlive() {
	if t.every > 0 {
		t.keep.Reset(t.every)
	}
}

// arm sets the timers that are needed from now on.
func (t *timers) arm(c *Conn) {
	c.mu.Lock()
	answers, flying, leave := c.inbox.due() > 0, c.sentLow <= c.sentTop, c.away != 0 || c.left != 0
	c.mu.Unlock()
	if answers && !t.answerArmed && !t.answersDue {
		t.answerArmed = true
		t.answer.Reset(answerDelay)
	}
	if flying && !t.lateArmed {
		t.lateArmed = true
		t.late.Reset(c.untilLate())
	}
	if leave && !t.drainArmed {
		t.drainArmed = true
		t.drain.Reset(t.drainTime)
	}
}
