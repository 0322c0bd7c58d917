package pool

import (
	"container/heap"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/replay"
)

// Body gives the packet: from memory, or read from the log into buf, which is used where
// it has the capacity replay.BufferLen. It is good until Sent, Later or Drop. errs.Corrupt:
// it is damaged, kept aside, and ended. errs.NotFound: it was ended. errs.Unavailable: the disk could not read it;
// it will leave again later.
func (p *Packet) Body(buf []byte) ([]byte, error) {
	const op = "mixnet/pool.Body"
	m := p.m
	m.mu.Lock()
	if p.state == ended {
		m.mu.Unlock()
		return nil, errs.E(op, errs.NotFound, "", nil)
	}
	if p.buf != nil {
		b := p.buf[:p.Entry.Size]
		m.mu.Unlock()
		return b, nil
	}
	m.stats.Reread++
	m.mu.Unlock()
	b, err := m.log.Read(p.Entry, buf)
	switch errs.KindOf(err) {
	case errs.Corrupt:
		m.end(p, &m.stats.Damaged)
	case errs.Unavailable:
		p.Later(m.o.Now().Add(m.o.Retry))
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return b, nil
}

// Sent ends a packet that the next hop has acknowledged. Further calls change nothing.
func (p *Packet) Sent() { p.m.end(p, &p.m.stats.Sent) }

// Drop ends a packet that will never be sent.
func (p *Packet) Drop() { p.m.end(p, &p.m.stats.Dropped) }

func (m *Mix) end(p *Packet, count *uint64) {
	m.mu.Lock()
	if p.state == ended {
		m.mu.Unlock()
		return
	}
	if p.state == leaves {
		m.stats.Leaving--
	}
	p.state = ended
	*count++
	m.releaseLocked(p)
	first := !m.unnoted
	m.unnoted = true
	m.mu.Unlock()
	m.log.Sent(p.Entry)
	if first {
		m.signal() // Run plans a Flush
	}
}

// Later has a packet leave again at that time. It has been mixed already: the pool's rule
// is not applied again. All packets for one destination should be given the same time, so that
// it tells nothing about any of them. Nothing happens unless the packet has left.
func (p *Packet) Later(at time.Time) {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.state != leaves {
		return
	}
	p.state = waits
	m.stats.Leaving--
	heap.Push(&m.later, timed[*Packet]{at, p})
	m.signal()
}

// Held reports whether the packet is in memory.
func (p *Packet) Held() bool {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.buf != nil
}

// Unload lets the packet be in the log alone, for one that will wait for long: what Body gave
// is not good any more.
func (p *Packet) Unload() {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.m.releaseLocked(p)
}

// Next is whom the packet is for.
func (p *Packet) Next() replay.NodeID { return p.Entry.Next }
