package road

import (
	"sync"
	"time"
)

// memory remembers for a while which hosts took mail by SMTP, so that the next mail does
// not ask them over HTTPS first. It lies in memory only: whom users write to
// is nobody's business after a restart.
type memory struct {
	keep time.Duration
	now  func() time.Time

	mu    sync.Mutex
	hosts map[string]time.Time // until when HTTPS is not tried
}

func newMemory(keep time.Duration, now func() time.Time) *memory {
	return &memory{keep: keep, now: now, hosts: make(map[string]time.Time)}
}

// skipWeb tells whether the host is known to take SMTP rather.
func (m *memory) skipWeb(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.hosts[host]
	if ok && !m.now().Before(until) {
		delete(m.hosts, host)
		return false
	}
	return ok
}

// bySMTP is called when a host that did not take a mail over HTTPS took one by SMTP.
func (m *memory) bySMTP(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if _, ok := m.hosts[host]; !ok && len(m.hosts) >= maxHostsKnown {
		for h, until := range m.hosts {
			if !now.Before(until) {
				delete(m.hosts, h)
			}
		}
		for h := range m.hosts { // still full: any one goes
			if len(m.hosts) < maxHostsKnown {
				break
			}
			delete(m.hosts, h)
		}
	}
	m.hosts[host] = now.Add(m.keep)
}
