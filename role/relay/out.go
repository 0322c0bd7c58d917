package relay

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"postern.email/agent/deliver"
	"postern.email/agent/road"
	"postern.email/kit/dial"
	"postern.email/post/policybook"
	"postern.email/post/queue"
	"postern.email/wire/mtasts"
)

// queueDir holds the large bodies of mails that wait for other hosts.
const queueDir = "queue"

// openQueue opens the queue. It is there also where delivery.remote is off: what waits since
// it was on is not lost, and copies that are too many for one transaction go through it.
func (s *Server) openQueue(ctx context.Context) (err error) {
	s.queue, err = queue.Open(ctx, queue.Options{Store: s.db, Root: s.root, FS: s.d.FS, Dir: s.path(queueDir),
		MaxMails: s.c.Queue.MaxMails, MaxBytes: int64(s.c.Queue.MaxSize), Deleted: s.boxes.NoteDeleted,
		Now: s.d.Now, Rand: s.d.Rand, Logger: s.d.Logger})
	return err
}

// openBook opens the store of other domains' policies. It is there also where they are not
// looked up: what has ended must go.
func (s *Server) openBook() {
	s.book = policybook.New(policybook.Options{Store: s.db, Root: s.root, Ends: mtasts.RecordEnds, Deleted: s.boxes.NoteDeleted, Now: s.d.Now, Logger: s.d.Logger})
}

// openOut builds the road out over the queue.
func (s *Server) openOut() error {
	c, d := &s.c.Delivery, &s.d
	routes, err := road.ParseRoutes(c.Routes)
	if err != nil {
		return err
	}
	trust, err := dial.New(dial.Options{CAFiles: s.c.TLS.TrustedCAs, FS: d.FS})
	if err != nil {
		return err
	}
	o := road.Options{Hostname: s.c.Domain, Names: s.names, Roots: trust.Roots(), Routes: routes, NoWeb: !c.HTTPS, NoBare: !c.SelfSigned,
		Us: s.us, Dial: d.Dial, Connect: c.ConnectTimeout.Std(), Reach: c.ReachTimeout.Std(), Now: d.Now, Logger: d.Logger}
	if c.MTASTS {
		s.policies = mtasts.NewCache(mtasts.Options{Fetcher: &mtasts.Fetcher{TXT: s.names.TXT, Client: s.policyClient(trust, routes)},
			Load: s.book.Load, Save: s.book.Save, Now: d.Now, Logger: d.Logger})
		o.Policies = s.policies
	}
	s.roads = road.New(o)
	delay := c.DelayReport.Std()
	if delay == 0 {
		delay = -1 // never
	}
	s.out = deliver.NewOut(deliver.OutOptions{Deliver: s.deliver, Roads: deliver.ByRoad(s.roads), Destinations: c.Destinations,
		PerDestination: c.PerDestination, FirstRetry: c.FirstRetry.Std(), LastRetry: c.LastRetry.Std(), Grace: d.StopGrace, Delay: delay, Logger: d.Logger})
	return nil
}

// policyClient fetches MTA-STS policies: names as the resolver says, certificates as
// trusted everywhere. The https port of the route "*" is for it too.
func (s *Server) policyClient(trust *dial.Dialer, routes road.Routes) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Config(), MaxIdleConns: 1, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if p := routes.For("*").HTTPS; p != 0 {
				port = strconv.Itoa(int(p))
			}
			addrs, err := s.addresses(ctx, host)
			if err != nil {
				return nil, err
			}
			var nd net.Dialer
			var c net.Conn
			for _, a := range addrs[:min(len(addrs), road.MaxAddresses)] {
				if c, err = nd.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
					return c, nil
				}
			}
			return nil, err
		}}}
}

// us tells whether an address is one that this server listens on.
func (s *Server) us(at netip.AddrPort) bool {
	for _, p := range s.ports {
		if p.l == nil {
			continue
		}
		own, ok := p.l.Addr().(*net.TCPAddr)
		if !ok || own.Port != int(at.Port()) {
			continue
		}
		if ip := own.AddrPort().Addr().Unmap(); ip == at.Addr().Unmap() || ip.IsUnspecified() && ours(at.Addr()) {
			return true
		}
	}
	return false
}

// ours tells whether an address belongs to this machine.
func ours(a netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, x := range list {
		if n, ok := x.(*net.IPNet); ok && n.IP.Equal(net.IP(a.Unmap().AsSlice())) {
			return true
		}
	}
	return a.IsLoopback()
}
