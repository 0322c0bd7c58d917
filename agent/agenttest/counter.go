package agenttest

import (
	"fmt"
	"sync"
)

// Counter counts events, as mixnet/node.Counter.
type Counter struct {
	mu sync.Mutex
	n  map[string]int
}

// Count counts an event with its argument.
func (c *Counter) Count(event, arg string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[event+" "+arg]++
}

// Of gives how often an event was counted with an argument.
func (c *Counter) Of(event, arg string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[event+" "+arg]
}

// String gives all counts.
func (c *Counter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.n)
}
