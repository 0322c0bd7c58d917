package link

import (
	"context"
	"net"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
)

// Serve takes connections on ln until ctx ends. Then it closes ln, tells the peers,
// answers what is under way for up to DrainTime, and returns when all connections
// are closed. Its error is nil when ctx ended.
func (l *Link) Serve(ctx context.Context, ln net.Listener) error {
	err := serve.Listener(ctx, ln, serve.Options{
		Conns: l.conns, PeerOf: l.o.PeerOf, Grace: l.o.DrainTime + 2*farewellTime,
		Handle: func(ctx context.Context, nc net.Conn, from limits.Peer) { l.accept(ctx, nc, from) },
	})
	if err != nil {
		return errs.E("mixnet/link.Serve", errs.Unavailable, "the listener failed", err)
	}
	return nil
}

// accept serves one connection.
func (l *Link) accept(ctx context.Context, nc net.Conn, from limits.Peer) {
	if ok, _ := l.handshakes.Allow(from.Network()); !ok {
		l.counts.refused.Add(1)
		nc.Close()
		return
	}
	know := func(k Key) error {
		if _, ok := l.o.Who(k); !ok {
			return errUnknownKey
		}
		return nil
	}
	s, err := l.shake(ctx, nc, true, know, l.o.Who)
	if err != nil {
		if errs.KindOf(err) == errs.Unsupported {
			l.o.Logger.Warn("link: refused a connection", "reason", errs.Public(err))
		} else {
			l.o.Logger.Debug("link: refused a connection", "reason", errs.Public(err))
		}
		return
	}
	// Not under ctx: when that ends, what is under way is still answered.
	c := l.newConn(context.WithoutCancel(ctx), s)
	c.ours = true
	c.pace = l.o.Pace(c.peer)
	if c.pace.Constant && c.pace.Ticks == nil {
		l.o.Logger.Error("link: a pace without ticks")
		c.cancel()
		nc.Close()
		return
	}
	c.attach(newOutbox(l.o.Queue))
	l.register(c)
	if now, ok := l.o.Who(c.peer.Key); !ok || now != c.peer {
		l.Recheck() // the set changed before the connection could be seen in it
	}
	if l.o.Opened != nil {
		l.o.Opened(c)
	}
	ending := context.AfterFunc(ctx, func() { c.goAway(awayEnding) })
	old := time.AfterFunc(2*l.o.MaxLife, func() { c.goAway(awayOld) })
	err = c.run()
	old.Stop()
	ending()
	l.forget(c)
	if l.o.Closed != nil {
		l.o.Closed(c, err)
	}
	if err != nil {
		l.o.Logger.Debug("link: a connection ended", "reason", errs.Public(err))
	}
}

// register notes a connection. Beyond ConnsPerKey the oldest one of the key has to go: it
// may be one that the peer has lost without this side knowing.
func (l *Link) register(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := append(l.open[c.peer.Key], c)
	for _, old := range list[:max(0, len(list)-l.o.ConnsPerKey)] {
		old.goAway(awayReplaced)
	}
	l.open[c.peer.Key] = list
}

func (l *Link) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.DeleteFunc(l.open[c.peer.Key], func(o *Conn) bool { return o == c })
	if len(list) == 0 {
		delete(l.open, c.peer.Key)
		return
	}
	l.open[c.peer.Key] = list
}

// Recheck asks Options.Who again about the peer of each open connection that a peer has
// opened, and ends those of keys that are unknown now or have become somebody else's.
func (l *Link) Recheck() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, list := range l.open {
		now, ok := l.o.Who(key)
		for _, c := range list {
			switch {
			case !ok:
				c.goAway(awayUnknown)
			case now != c.peer:
				c.goAway(awayOld) // it may come again, as who it is now
			}
		}
	}
}

// Open gives the connections that a peer has open now, the oldest first.
func (l *Link) Open(key Key) []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.open[key])
}
