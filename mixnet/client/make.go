package client

import (
	"bytes"
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// packet makes the packet of one fragment. block: it carries the reply block of its group. cons nil:
// there is none, and the message has to bring what it needs.
func (c *Client) packet(cons *directory.Consensus, m *message, i int, block bool) (*outUnit, error) {
	var err error
	if cons == nil {
		if cons, err = c.byFiles(m); err != nil {
			return nil, err
		}
	}
	home, err := c.home(cons)
	if err != nil {
		return nil, err
	}
	body, err := c.o.Store.body(m.name, m.head, i)
	if err != nil {
		return nil, err
	}
	want, err := m.head.want(cons, home)
	if err != nil {
		return nil, err
	}
	way, err := c.pickEnd(cons, home, want)
	if err != nil {
		return nil, err
	}
	u := &outUnit{m: m, piece: i, block: block, stay: way.Stay()}
	dest, what := packet.Dest{Command: packet.Deliver, Mailbox: m.head.Mailbox}, packet.Content{Kind: m.head.Kind, Body: body}
	switch m.head.Kind {
	case content.Mbox, content.Mail:
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
		g := m.head.groupOf(i)
		if first, n := m.head.span(g); n > 1 {
			head, err := content.AppendWindow(nil, content.Window{ID: c.o.Store.id.window(m.name, g), Index: i - first, Count: n})
			if err != nil {
				return nil, err
			}
			what.Kind, what.Body = what.Kind|content.Windowed, append(head, body...)
			if m.state.Pieces[i].Stage == wanting { // else all is there, and nobody waits for the rest
				u.stay += content.WindowWait * time.Duration(cons.Parameters.Get(directory.Delay)) * time.Millisecond
			}
		}
		if block {
			back, err := c.ack(cons, home, m, g, &what)
			if err != nil {
				return nil, err
			}
			u.stay += back
		}
	}
	if u.unit, err = c.build(&way, dest, what); err == nil && c.o.Chosen != nil {
		c.o.Chosen(m.name, i, way)
	}
	return u, err
}

// want is the way that a message asks for.
func (h *outHead) want(cons *directory.Consensus, home Home) (Want, error) {
	const op = "mixnet/client.want"
	w := Want{To: packet.Last, Mode: directory.Mailbox}
	switch h.Kind {
	case content.Mbox:
		w.Mode = directory.Exit
	case content.Inject, content.Mail:
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

// byFiles is what the files of a message tell of the network, while there is no consensus.
func (c *Client) byFiles(m *message) (*directory.Consensus, error) {
	if m.own != nil {
		return m.own, nil
	}
	path, err := ParsePath(m.head.Path)
	if err != nil {
		return nil, err
	}
	if len(m.head.Files) == 0 {
		return nil, errs.E("mixnet/client.byFiles", errs.Unavailable, "there is no directory of the network now", nil)
	}
	m.own, err = FromFiles(path, c.o.Relay, c.o.Parameters(), m.head.file)
	return m.own, err
}

// file reads a descriptor that the path of the message names.
func (h *outHead) file(name string) (*directory.Descriptor, error) {
	b, ok := h.Files[name]
	if !ok {
		return nil, errs.E("mixnet/client.want", errs.NotFound, "", nil)
	}
	return directory.ParseDescriptor(bytes.Clone(b))
}

// askAck puts a reply block for an acknowledgement into a content. It gives the block's mark and
// seed, and the way of the answer.
func (c *Client) askAck(cons *directory.Consensus, home Home, what *packet.Content) (mark packet.Mark, seed *packet.Seed, back Way, err error) {
	w, now := &c.working, c.o.Now()
	seeds, k, changed, err := useSeed(w.seeds, now, hour(now).Add(BlockLife), c.o.Random)
	if err == nil && changed {
		err = c.o.Store.saveJSON(seedsFile, seeds)
	}
	if err != nil {
		return mark, nil, back, err
	}
	w.seeds = seeds
	seed = seeds[k].seed()
	what.SURB, mark, back, err = newAck(cons, now, c.choose, home, seed, c.o.Random)
	return mark, seed, back, err
}

// ack asks for the acknowledgement of a group, and tells how long it should take to come.
func (c *Client) ack(cons *directory.Consensus, home Home, m *message, g int, what *packet.Content) (time.Duration, error) {
	mark, seed, back, err := c.askAck(cons, home, what)
	if err != nil {
		return 0, err
	}
	of := &m.state.Groups[g]
	of.Marks = append(of.Marks, mark)
	c.mu.Lock()
	c.acks[mark] = awaited{seed: seed, name: m.name, group: g}
	c.mu.Unlock()
	return waitBack(cons, back), nil
}

// waitBack is how long an answer should take that comes back on a way: the relay at its other end
// holds it back for a moment, and the own one until its next tick.
func waitBack(cons *directory.Consensus, back Way) time.Duration {
	wait := cons.Parameters.Get(directory.Delay) + 2*cons.Parameters.Get(directory.ReceiveInterval)
	return back.Stay() + time.Duration(wait)*time.Millisecond
}

// drop makes a packet that the last hop throws away.
func (c *Client) drop(cons *directory.Consensus) (*outUnit, error) {
	home, err := c.home(cons)
	if err != nil {
		return nil, err
	}
	want := Want{To: packet.Last}
	want.Hops[0] = home.Relay
	way, err := c.pickEnd(cons, home, want)
	if err != nil {
		return nil, err
	}
	u := &outUnit{}
	u.unit, err = c.build(&way, packet.Dest{Command: packet.Drop}, packet.Content{})
	return u, err
}

// pickEnd is Pick, and takes the own relay as the last hop where any would do and there is no
// other.
func (c *Client) pickEnd(cons *directory.Consensus, home Home, want Want) (Way, error) {
	way, err := Pick(cons, c.o.Now(), c.choose, want)
	if err != nil && errs.KindOf(err) == errs.Unavailable && want.Hops[packet.Last] == nil {
		want.Hops[packet.Last] = home.Relay
		if alone, aerr := Pick(cons, c.o.Now(), c.choose, want); aerr == nil {
			return alone, nil
		}
	}
	return way, err
}

// loopContent is what the letter of a loop holds. To everybody but this client it is a letter like
// any other.
var loopContent = []byte("postern/loop\n")

// loop makes a packet to oneself.
func (c *Client) loop(cons *directory.Consensus) (*outUnit, error) {
	u, _, err := c.loopVia(cons, Path{}, nil, nil)
	return u, err
}

// loopVia makes a packet to oneself on a way that a path names. done is told when it is back.
func (c *Client) loopVia(cons *directory.Consensus, path Path, read func(string) (*directory.Descriptor, error), done chan<- time.Duration) (*outUnit, Way, error) {
	home, err := c.home(cons)
	if err != nil {
		return nil, Way{}, err
	}
	want := Want{To: packet.Last, Mode: directory.Mailbox}
	want.Hops[0], want.Hops[packet.Last] = home.Relay, home.Relay
	if want, err = path.Apply(cons, want, read); err != nil {
		return nil, Way{}, err
	}
	way, err := Pick(cons, c.o.Now(), c.choose, want)
	if err != nil {
		return nil, Way{}, err
	}
	// As mail does, it asks for an acknowledgement: else a relay could tell the two apart, and
	// the answers that come would all be to mail.
	sealed, err := letter.Seal(c.o.Store.id.Letter.Public(), letter.Message{Content: loopContent}, letter.Options{Room: letter.RoomACK})
	if err != nil {
		return nil, Way{}, err
	}
	what := packet.Content{Kind: content.Letter, Body: sealed.Bodies[0]}
	if _, _, _, err = c.askAck(cons, home, &what); err != nil {
		return nil, Way{}, err
	}
	u := &outUnit{}
	u.unit, err = c.build(&way, packet.Dest{Command: packet.Deliver, Mailbox: home.Mailbox}, what)
	if err != nil {
		return nil, Way{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.loops) >= maxLoops && done == nil {
		return u, way, nil // it comes back all the same, and is not counted
	}
	c.loops[sealed.ID] = roundTrip{sent: c.o.Now(), done: done}
	return u, way, nil
}

// roundTrip is a loop under way.
type roundTrip struct {
	sent time.Time
	done chan<- time.Duration // has room for one; nil: nobody waits
}

// ping is a loop that somebody asked for.
type ping struct {
	path Path
	read func(string) (*directory.Descriptor, error)
	made chan made
	done chan time.Duration
}

type made struct {
	way Way
	err error
}

// Ping sends a loop on a way that a path names, through the own relay and back to it. It returns
// when the packet was made; back gets the time that it took, if it comes back. In constant mode
// it takes the place of the next packet of mail. The errors are those of Path.Apply and Pick.
func (c *Client) Ping(ctx context.Context, path Path, read func(string) (*directory.Descriptor, error)) (way Way, back <-chan time.Duration, err error) {
	const op = "mixnet/client.Ping"
	p := &ping{path: path, read: read, made: make(chan made, 1), done: make(chan time.Duration, 1)}
	c.mu.Lock()
	if len(c.pings) >= maxLoops {
		c.mu.Unlock()
		return Way{}, nil, errs.E(op, errs.Busy, "too many pings wait", nil)
	}
	c.pings = append(c.pings, p)
	c.mu.Unlock()
	c.nudge()
	select {
	case m := <-p.made:
		return m.way, p.done, errs.Wrap(op, m.err)
	case <-ctx.Done():
		return Way{}, nil, errs.E(op, errs.Canceled, "", ctx.Err())
	}
}

// pinging makes the next loop that was asked for. nil: there is none.
func (c *Client) pinging(cons *directory.Consensus) *outUnit {
	for {
		c.mu.Lock()
		if len(c.pings) == 0 {
			c.mu.Unlock()
			return nil
		}
		p := c.pings[0]
		c.pings = c.pings[1:]
		c.mu.Unlock()
		u, way, err := c.loopVia(cons, p.path, p.read, p.done)
		p.made <- made{way, err}
		if err == nil {
			return u
		}
	}
}

// loopPatience is when a loop counts as lost.
const loopPatience = 24 * time.Hour

func (c *Client) sweepLoops(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, l := range c.loops {
		if now.Sub(l.sent) > loopPatience {
			delete(c.loops, id)
			c.status.Lost++
		}
	}
}
