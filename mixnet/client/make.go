package client

import (
	"bytes"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// packet makes the packet of one fragment.
func (c *Client) packet(cons *directory.Consensus, home Home, m *message, i int) (*outUnit, error) {
	body, err := c.o.Store.body(m.name, m.head, i)
	if err != nil {
		return nil, err
	}
	want, err := m.head.want(cons, home)
	if err != nil {
		return nil, err
	}
	way, err := Pick(cons, c.o.Now(), c.choose, want)
	if err != nil {
		return nil, err
	}
	u := &outUnit{m: m, piece: i, stay: way.Stay()}
	dest, what := packet.Dest{Command: packet.Deliver, Mailbox: m.head.Mailbox}, packet.Content{Kind: m.head.Kind, Body: body}
	switch m.head.Kind {
	case content.Mbox:
		dest = packet.Dest{Command: packet.Exit}
	case content.Inject:
		dest = packet.Dest{Command: packet.Exit}
		block, err := packet.ParseSURB(m.head.Blocks[i])
		if err != nil {
			return nil, err
		}
		if what, err = content.NewInject(block, content.Letter, body); err != nil {
			return nil, err
		}
	}
	if m.head.Ack {
		back, err := c.ack(cons, home, m, i, &what)
		if err != nil {
			return nil, err
		}
		u.stay += back
	}
	u.unit, err = c.build(&way, dest, what)
	return u, err
}

// want is the way that a message asks for.
func (h *outHead) want(cons *directory.Consensus, home Home) (Want, error) {
	const op = "mixnet/client.want"
	w := Want{To: packet.Last, Mode: directory.Mailbox}
	switch h.Kind {
	case content.Mbox:
		w.Mode = directory.Exit
	case content.Inject:
		w.Mode = 0
	}
	w.Hops[0] = home.Relay
	if h.Relay != (packet.ID{}) {
		if w.Hops[packet.Last] = cons.Find(h.Relay); w.Hops[packet.Last] == nil {
			return w, errs.E(op, errs.Unavailable, "the recipient's relay is not in the directory of the network now", nil)
		}
	}
	path, err := ParsePath(h.Path)
	if err != nil {
		return w, err
	}
	return path.Apply(cons, w, h.file)
}

// file reads a descriptor that the path of the message names.
func (h *outHead) file(name string) (*directory.Descriptor, error) {
	b, ok := h.Files[name]
	if !ok {
		return nil, errs.E("mixnet/client.want", errs.NotFound, "", nil)
	}
	return directory.ParseDescriptor(bytes.Clone(b))
}

// ack adds the reply block for an acknowledgement, and tells how long it should take to come.
func (c *Client) ack(cons *directory.Consensus, home Home, m *message, i int, what *packet.Content) (time.Duration, error) {
	w, now := &c.working, c.o.Now()
	seeds, k, changed, err := useSeed(w.seeds, now, hour(now).Add(BlockLife), c.o.Random)
	if err != nil {
		return 0, err
	}
	if changed {
		if err := c.o.Store.saveJSON(seedsFile, seeds); err != nil {
			return 0, err
		}
	}
	w.seeds = seeds
	seed := seeds[k].seed()
	block, mark, back, err := newAck(cons, now, c.choose, home, seed, c.o.Random)
	if err != nil {
		return 0, err
	}
	what.SURB = block
	p := &m.state.Pieces[i]
	p.Marks = append(p.Marks, mark)
	c.mu.Lock()
	c.acks[mark] = awaited{seed: seed, name: m.name, piece: i}
	c.mu.Unlock()
	// The recipient's relay holds it back for a moment, and the own one until its next tick.
	wait := cons.Parameters.Get(directory.Delay) + 2*cons.Parameters.Get(directory.ReceiveInterval)
	return back.Stay() + time.Duration(wait)*time.Millisecond, nil
}

// drop makes a packet that the last hop throws away.
func (c *Client) drop(cons *directory.Consensus) (*outUnit, error) {
	home, err := c.home(cons)
	if err != nil {
		return nil, err
	}
	want := Want{To: packet.Last}
	want.Hops[0] = home.Relay
	way, err := Pick(cons, c.o.Now(), c.choose, want)
	if errs.KindOf(err) == errs.Unavailable && err != nil { // there is no relay but the own one
		want.Hops[packet.Last] = home.Relay
		way, err = Pick(cons, c.o.Now(), c.choose, want)
	}
	if err != nil {
		return nil, err
	}
	u := &outUnit{}
	u.unit, err = c.build(&way, packet.Dest{Command: packet.Drop}, packet.Content{})
	return u, err
}

// loopContent is what the letter of a loop holds. To everybody but this client it is a letter like
// any other.
var loopContent = []byte("postern/loop\n")

// loop makes a packet to oneself.
func (c *Client) loop(cons *directory.Consensus) (*outUnit, error) {
	home, err := c.home(cons)
	if err != nil {
		return nil, err
	}
	want := Want{To: packet.Last, Mode: directory.Mailbox}
	want.Hops[0], want.Hops[packet.Last] = home.Relay, home.Relay
	way, err := Pick(cons, c.o.Now(), c.choose, want)
	if err != nil {
		return nil, err
	}
	sealed, err := letter.Seal(c.o.Store.id.Letter.Public(), letter.Message{Content: loopContent}, letter.Options{Room: letter.RoomPlain})
	if err != nil {
		return nil, err
	}
	u := &outUnit{}
	u.unit, err = c.build(&way, packet.Dest{Command: packet.Deliver, Mailbox: home.Mailbox},
		packet.Content{Kind: content.Letter, Body: sealed.Bodies[0]})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if len(c.loops) < maxLoops {
		c.loops[sealed.ID] = c.o.Now()
	}
	c.mu.Unlock()
	return u, nil
}

// loopPatience is when a loop counts as lost.
const loopPatience = 24 * time.Hour

func (c *Client) sweepLoops(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.loops {
		if now.Sub(at) > loopPatience {
			delete(c.loops, id)
			c.status.Lost++
		}
	}
}
