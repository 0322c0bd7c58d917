package limits

import "sync"

// Conns counts connections that are open now, in all and by network. Its memory
// is bounded by the total.
type Conns struct {
	mu         sync.Mutex
	total      int
	perNetwork int
	open       int
	networks   map[string]int
}

// NewConns allows total connections at once, and perNetwork of them from one
// network (Peer.Network). Zero or less means: no such limit.
func NewConns(total, perNetwork int) *Conns {
	return &Conns{total: total, perNetwork: perNetwork, networks: make(map[string]int)}
}

// SetTotal changes how many connections are allowed at once; those that are open stay.
func (c *Conns) SetTotal(total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total = total
}

// Acquire takes a place for one connection. When ok, release gives it back; it
// may be called more than once. When not ok, nothing is held and release is nil.
// A nil *Conns has no limits.
func (c *Conns) Acquire(p Peer) (release func(), ok bool) {
	if c == nil {
		return func() {}, true
	}
	network := p.Network()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total > 0 && c.open >= c.total {
		return nil, false
	}
	counted := network != "" && c.perNetwork > 0
	if counted && c.networks[network] >= c.perNetwork {
		return nil, false
	}
	c.open++
	if counted {
		c.networks[network]++
	}
	var once sync.Once
	return func() { once.Do(func() { c.release(network, counted) }) }, true
}

func (c *Conns) release(network string, counted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if !counted {
		return
	}
	if c.networks[network]--; c.networks[network] <= 0 {
		delete(c.networks, network)
	}
}

// Open gives the number of connections that are open now.
func (c *Conns) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}
