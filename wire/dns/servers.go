package dns

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/vfs"
)

const (
	resolvConf = "/etc/resolv.conf"
	lookAgain  = 5 * time.Second // at most so often is the file looked at
)

type server struct {
	addr    string // "address:port"
	trusted bool   // its AD bit is believed
}

// servers are those that are asked: one that was given, or those of resolv.conf.
type servers struct {
	o     *Options
	fixed []server

	mu     sync.Mutex
	known  []server // as the file says
	looked time.Time
	stamp  [2]int64 // size and time of change of the file as read
}

// list gives at least one server, and at most MaxServers. It must not be changed.
func (s *servers) list() []server {
	if s.fixed != nil {
		return s.fixed
	}
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || now.Sub(s.looked) >= lookAgain || now.Before(s.looked) {
		s.looked = now
		s.read()
	}
	return s.known
}

// read takes the file when it has changed. One that cannot be read changes nothing.
func (s *servers) read() {
	if info, err := s.o.FS.Stat(resolvConf); err == nil {
		stamp := [2]int64{info.Size(), info.ModTime().UnixNano()}
		if s.known != nil && stamp == s.stamp {
			return
		}
		if text, err := vfs.ReadFile(s.o.FS, resolvConf); err == nil {
			s.known, s.stamp = parseResolvConf(string(text), s.o.TrustAD), stamp
			return
		}
	}
	if s.known == nil {
		s.known = parseResolvConf("", s.o.TrustAD)
	}
}

// parseResolvConf reads the nameserver lines and "options trust-ad" of resolv.conf(5).
// Names are always looked up whole, so search lists mean nothing here.
func parseResolvConf(text, trust string) []server {
	var addrs []netip.Addr
	vouched := false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(addrs) < MaxServers {
				addrs = append(addrs, a)
			}
		case "options":
			for _, o := range f[1:] {
				vouched = vouched || o == "trust-ad"
			}
		}
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	list := make([]server, 0, len(addrs))
	for _, a := range addrs {
		list = append(list, server{netip.AddrPortFrom(a, 53).String(), trusted(trust, a, vouched)})
	}
	return list
}

// trusted reports whether the AD bit of a server is believed (RFC 4035 §4.9.3): with
// TrustAuto only where nobody sits on the way, or where the system's own configuration
// vouches for the way.
func trusted(trust string, at netip.Addr, vouched bool) bool {
	switch trust {
	case TrustYes:
		return true
	case TrustNo:
		return false
	}
	return vouched || at.Unmap().IsLoopback()
}

// restTime is how long a server that did not answer is asked only after the others.
const restTime = 30 * time.Second

// resting knows until when which server, by its place in the list, is asked last.
type resting [MaxServers]atomic.Int64

// order gives the places of n servers in the order in which they are asked.
func (r *resting) order(n int, now time.Time) (places [MaxServers]int) {
	var last [MaxServers]int
	asked, rest := 0, 0
	for i := range n {
		if r[i].Load() > now.UnixNano() {
			last[rest] = i
			rest++
		} else {
			places[asked] = i
			asked++
		}
	}
	copy(places[asked:n], last[:rest])
	return places
}

func (r *resting) silent(i int, now time.Time) { r[i].Store(now.Add(restTime).UnixNano()) }
