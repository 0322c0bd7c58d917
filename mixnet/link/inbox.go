package link

import (
	"math/bits"

	"postern.email/mixnet/packet"
)

// inbox is what has come from the peer and is not answered. It is guarded by Conn.mu.
type inbox struct {
	low      uint64 // the lowest number without a reported answer
	top      uint64 // the last number that has come
	taken    uint64 // bit i: low+i is taken, and the peer is not told yet
	later    uint64
	reported uint64
	units    [window]*[packet.Size]byte // with the handler, by number
}

// open reports whether the unit n waits for its answer, and at which bit.
func (in *inbox) open(n uint64) (bit uint64, ok bool) {
	if n < in.low || n > in.top {
		return 0, false
	}
	bit = 1 << (n - in.low)
	return bit, (in.taken|in.later|in.reported)&bit == 0
}

// due gives the number of answers that the peer is not told yet.
func (in *inbox) due() int { return bits.OnesCount64(in.taken | in.later) }

// quiet reports whether the peer was told all answers.
func (in *inbox) quiet() bool { return in.low > in.top }

// report gives the answers for the next frame.
func (in *inbox) report() (a answers) {
	all := in.taken | in.later
	if all == 0 {
		return answers{}
	}
	skip := bits.TrailingZeros64(all)
	a = answers{first: in.low + uint64(skip), taken: in.taken >> skip, later: in.later >> skip}
	in.reported |= all
	in.taken, in.later = 0, 0
	done := bits.TrailingZeros64(^in.reported)
	in.low += uint64(done)
	in.reported >>= done // a shift by 64 gives 0
	return a
}

// Receipt is the answer that a handler owes for one unit. It must be answered exactly
// once, from any goroutine; further calls do nothing.
type Receipt struct {
	c *Conn
	n uint64
}

// Commit acknowledges: the unit, and what is needed to know it again, is on the disk.
// The unit must not be used any more.
func (r Receipt) Commit() { r.c.answer(r.n, true) }

// Later refuses for now: nothing of the unit was kept. It must not be used any more.
func (r Receipt) Later() { r.c.answer(r.n, false) }

func (c *Conn) answer(n uint64, taken bool) {
	c.mu.Lock()
	bit, ok := c.inbox.open(n)
	if !ok {
		c.mu.Unlock()
		return
	}
	if taken {
		c.inbox.taken |= bit
		c.l.counts.unitsIn.Add(1)
	} else {
		c.inbox.later |= bit
		c.l.counts.laterIn.Add(1)
	}
	unit := c.inbox.units[n%window]
	c.inbox.units[n%window] = nil
	due := c.inbox.due()
	leave := c.away != 0 || c.left != 0
	c.mu.Unlock()
	if unit != nil {
		c.l.memory.Release(packet.Size)
		c.l.units.Put(unit)
	}
	// Only the first answer and enough of them change what the writer does.
	if due == 1 || due >= answerMany || leave {
		c.kick()
	}
}

// received takes in unit n of a SEND. Whoever is given the unit owns it: the inbox, or
// the caller when it gives it back.
func (c *Conn) received(n uint64, unit *[packet.Size]byte) (back *[packet.Size]byte, err error) {
	if !c.peer.Role.maySend() {
		return unit, broken("units from somebody who may not send any")
	}
	room := c.l.memory.Acquire(packet.Size)
	c.mu.Lock()
	switch {
	case n != c.inbox.top+1:
		err = broken("a unit out of order")
	case n-c.inbox.low >= window:
		err = broken("too many unanswered units")
	default:
		c.inbox.top = n
		if room {
			c.inbox.units[n%window] = unit
		}
	}
	c.mu.Unlock()
	if err != nil {
		if room {
			c.l.memory.Release(packet.Size)
		}
		return unit, err
	}
	if !room {
		c.answer(n, false)
		return unit, nil
	}
	c.l.o.Handler.Take(c.ctx, c.peer, unit[:], Receipt{c, n})
	return nil, nil
}

// answered takes in the answers to our units.
func (c *Conn) answered(a answers) error {
	if !a.any() {
		return nil
	}
	c.mu.Lock()
	for all := a.taken | a.later; all != 0; all &= all - 1 {
		n := a.first + uint64(bits.TrailingZeros64(all))
		if n < c.sentLow || n > c.sentTop || c.replied&(1<<(n-c.sentLow)) != 0 {
			c.mu.Unlock()
			return errAnswers
		}
	}
	var positions [window]uint64
	count := 0
	var laters uint64 // bit i: positions[i]
	box := c.box
	for all := a.taken | a.later; all != 0; all &= all - 1 {
		i := bits.TrailingZeros64(all)
		n := a.first + uint64(i)
		c.replied |= 1 << (n - c.sentLow)
		positions[count] = c.flight[n%window].pos
		laters |= (a.later >> i & 1) << count
		count++
	}
	done := bits.TrailingZeros64(^c.replied)
	c.sentLow += uint64(done)
	c.replied >>= done
	leave := c.away != 0 || c.left != 0
	c.mu.Unlock()
	for i := range count {
		var err error
		if laters>>i&1 != 0 {
			err = ErrLater
			c.l.counts.laterOut.Add(1)
		} else {
			c.l.counts.unitsOut.Add(1)
		}
		box.settle(positions[i], err)
	}
	// There is room in the window again, or the last answer before the end.
	if leave || box.some() {
		c.kick()
	}
	return nil
}
