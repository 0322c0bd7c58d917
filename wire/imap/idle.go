package imap

import (
	"context"
	"time"
)

// runIdle is RFC 9051 §6.3.13 (RFC 2177). The session's goroutine waits for DONE
// with as little memory as it can; another one waits for changes and writes them.
func (c *conn) runIdle(ctx context.Context) error {
	var watch Watch
	if c.sel != nil {
		watch = c.sel.mailbox.Watch()
		defer watch.Close()
	}
	c.w.s("+ idling\r\n")
	// Changes until now; the watch is set up already, so none falls between.
	failed := false
	c.onOwnStack(func() { failed = c.idleSync(ctx) })
	if failed {
		return c.w.err
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		c.idleWatch(ctx, watch, stop)
	}()
	// No time limit here: a client that waits says nothing, and the keep-alive
	// lines find out whether it is still there.
	c.readBy(time.Time{})
	err := c.r.wait()
	close(stop)
	<-stopped
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

// idleWatch tells the client about changes until stop is closed. When nothing
// can be told any more it wakes the reading goroutine.
func (c *conn) idleWatch(ctx context.Context, watch Watch, stop <-chan struct{}) {
	var changed <-chan struct{}
	if watch != nil {
		changed = watch.C()
	}
	keepAlive := time.NewTimer(c.s.o.KeepAlive)
	defer keepAlive.Stop()
	for {
		failed := false
		select {
		case <-stop:
			return
		case <-changed:
			c.onOwnStack(func() { failed = c.idleSync(ctx) })
		case <-keepAlive.C:
			// Looking also finds out that the account or the mailbox is gone.
			c.w.s("* OK Still here\r\n")
			c.onOwnStack(func() { failed = c.idleSync(ctx) })
		}
		if failed {
			c.closing = true
			_ = c.raw.SetReadDeadline(time.Unix(1, 0))
			<-stop
			return
		}
		keepAlive.Reset(c.s.o.KeepAlive)
	}
}

// idleSync tells changes at once; it reports whether the session is over.
func (c *conn) idleSync(ctx context.Context) (failed bool) {
	if c.sel != nil {
		if err := c.sync(ctx, true); err != nil {
			st := answer(err, false)
			c.w.s("* BYE [", st.code, "] ", st.text, "\r\n")
			_ = c.w.flush()
			return true
		}
		c.sel.view = nil
	}
	return c.w.flush() != nil
}

// cmdIdle only accepts; runIdle follows on the session's own goroutine.
func cmdIdle(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	c.idle = true
	return reply{}, nil
}
