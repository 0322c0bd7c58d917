package imap

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// cmdIdle only accepts; runIdle follows on the session's own goroutine.
func cmdIdle(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.idle = true
	return reply{}, nil
}

// runIdle is RFC 9051 §6.3.13 (RFC 2177). The session's goroutine waits for DONE
// with as little memory as it can; changes are told by the watch group, which is
// shared with other sessions.
func (c *conn) runIdle(ctx context.Context) error {
	w := &waiting{c: c, ctx: ctx}
	switch {
	case c.notify != nil: // RFC 5465 §4: in IDLE just what the client asked for
		c.notify.arm(c)
		w.watches = c.notify.watches()
	case c.sel != nil:
		here := &watched{watch: c.sel.mailbox.Watch()}
		defer here.watch.Close()
		w.watches = []*watched{here}
	}
	c.w.s("+ idling\r\n")
	// Changes until now; the watch is set up already, so none falls between.
	failed := false
	c.onOwnStack(func() { failed = c.idleSync(ctx, true) })
	if failed {
		return c.w.err
	}
	w.due.Store(time.Now().Add(c.s.o.KeepAlive).UnixNano())
	c.s.watchers.join(w)
	// No time limit here: a client that waits says nothing, and the keep-alive
	// lines find out whether it is still there.
	c.readBy(time.Time{})
	err := c.r.wait()
	c.s.watchers.leave(w)
	if err != nil {
		return err
	}
	if c.w.err != nil {
		return c.w.err
	}
	c.readBy(time.Now().Add(literalTime))
	line, err := c.r.line(nil, c.s.o.MaxLine)
	if err != nil {
		return err
	}
	if !isLine(line, "DONE") {
		c.tagged("BAD", "", "IDLE ends with DONE")
		c.wrong()
		return nil
	}
	c.bad = 0
	c.tagged("OK", "", "IDLE done")
	return nil
}

// idleSync tells changes at once, expunged messages too if that is allowed; it reports
// whether the session is over.
func (c *conn) idleSync(ctx context.Context, expunge bool) (failed bool) {
	var err error
	if c.notify != nil && c.notify.here != nil {
		c.notify.here.take()
	}
	if c.sel != nil {
		err = c.sync(ctx, expunge)
		c.sel.view = nil
	}
	if err == nil && c.notify != nil {
		err = c.tellOthers(ctx)
	}
	if err != nil {
		st := answer(err, false)
		c.w.s("* BYE [", st.code, "] ", st.text, "\r\n")
		_ = c.w.flush()
		return true
	}
	return c.w.flush() != nil
}

// waiting is one session in IDLE, or one between commands that uses NOTIFY.
type waiting struct {
	c       *conn
	ctx     context.Context
	watches []*watched // guarded by the group
	group   *watchGroup
	between bool // between commands: no keep-alive lines, numbers may be in use

	weight int // watches counted in the group

	due atomic.Int64 // when the next keep-alive is due, unix nanoseconds

	// running and again: a goroutine tells changes now, and more came meanwhile.
	state          sync.Mutex
	running, again bool

	// telling is held while the session is written to; over says that its own
	// goroutine has it back.
	telling sync.Mutex
	over    bool
}

// kick has a goroutine tell what there is to tell.
func (w *waiting) kick() {
	w.state.Lock()
	defer w.state.Unlock()
	if w.running {
		w.again = true
		return
	}
	w.running = true
	go w.tell()
}

// tell writes changes, and a keep-alive if it is time for one.
func (w *waiting) tell() {
	for {
		w.tellOnce()
		w.state.Lock()
		if !w.again {
			w.running = false
			w.state.Unlock()
			return
		}
		w.again = false
		w.state.Unlock()
	}
}

func (w *waiting) tellOnce() {
	w.telling.Lock()
	defer w.telling.Unlock()
	if w.over {
		return
	}
	c := w.c
	failed := true
	defer func() {
		if failed { // wakes the goroutine that waits for DONE
			c.closing = true
			_ = c.raw.SetReadDeadline(time.Unix(1, 0))
		}
	}()
	c.guard(func() {
		if time.Now().UnixNano() >= w.due.Load() {
			// Looking also finds out that the account or the mailbox is gone.
			c.w.s("* OK Still here\r\n")
		}
		version := 0
		if c.notify != nil {
			version = c.notify.version
		}
		failed = c.idleSync(w.ctx, !w.between || c.notify.immediate())
		if c.notify != nil && c.notify.version != version {
			w.group.renew(w, c.notify.watches())
		}
	})
	if !w.between {
		w.due.Store(time.Now().Add(c.s.o.KeepAlive).UnixNano())
	}
}
