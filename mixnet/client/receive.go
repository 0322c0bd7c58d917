package client

import (
	"bytes"
	"context"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// Take takes a unit that the relay sends: something from the packet box. It is answered
// "taken" when whatever is worth keeping of it is on the disk; that removes it from the box.
func (c *Client) Take(_ context.Context, _ link.Peer, unit []byte, r link.Receipt) {
	u, err := content.ParseBoxUnit(unit)
	switch {
	case errs.KindOf(err) == errs.Unsupported && err != nil:
		c.problem(errs.E("mixnet/client.Take", errs.Unsupported, "the relay speaks a later version: update this program", err))
		r.Later() // a later version of this program can read it
		return
	case err != nil:
		c.strange()
		r.Commit()
		return
	}
	if u.Reply {
		c.takeReply(u, r)
	} else {
		c.takeLetter(u, r)
	}
}

// strange counts what nobody could make anything of.
func (c *Client) strange() { c.note(func(s *Status) { s.Strange++ }) }

func (c *Client) takeLetter(u content.BoxUnit, r link.Receipt) {
	what, err := packet.OpenContent(u.Payload)
	if err == nil && what.Kind&content.Windowed != 0 {
		_, what, err = content.CutWindow(what)
	}
	if err != nil || what.Kind != content.Letter {
		c.strange()
		r.Commit()
		return
	}
	f, err := letter.Open(c.o.Store.id.Letter, what.Body)
	switch {
	case err != nil:
		c.strange()
		r.Commit()
	case c.ownLoop(f):
		r.Commit()
	default:
		c.keep(u.Item, f, r)
	}
}

// keep puts a fragment into the inbox and answers.
func (c *Client) keep(item uint64, f *letter.Fragment, r link.Receipt) bool {
	if err := c.o.Store.put(item, f, ""); err != nil {
		c.problem(err)
		r.Later()
		return false
	}
	r.Commit()
	c.note(func(s *Status) { s.Received++ })
	return true
}

// ownLoop reports whether a fragment is a loop of this client, also one from before a restart.
func (c *Client) ownLoop(f *letter.Fragment) bool {
	if f.Total != 1 {
		return false
	}
	g := *f
	g.Data = bytes.Clone(f.Data)
	l, err := letter.NewAssembler(letter.Limits{}).Add(&g, c.o.Now())
	if err != nil || l == nil || !bytes.Equal(l.Content, loopContent) {
		return false
	}
	c.mu.Lock()
	loop, ok := c.loops[f.ID]
	delete(c.loops, f.ID)
	c.mu.Unlock()
	if !ok {
		return true
	}
	took := c.o.Now().Sub(loop.sent)
	if loop.done != nil {
		loop.done <- took
	}
	c.note(func(s *Status) {
		s.Back++
		s.Round = took
	})
	return true
}

func (c *Client) takeReply(u content.BoxUnit, r link.Receipt) {
	c.mu.Lock()
	a, ok := c.acks[u.Mark]
	asked, question := c.answers[u.Mark]
	c.mu.Unlock()
	if question {
		if !c.takeQueryAnswer(asked, u) {
			c.strange()
		}
		r.Commit()
		return
	}
	what, opened := c.openReply(a.seed, u)
	switch durable, err := content.ParseAck(what); {
	case ok && opened && err == nil:
		c.mu.Lock()
		c.events = append(c.events, event{name: a.name, group: a.group, ack: &r, mark: u.Mark, durable: durable})
		c.mu.Unlock()
		c.nudge()
	case ok:
		c.strange()
		r.Commit()
	case opened && (what.Kind == content.Ack || what.Kind == content.Answer):
		r.Commit() // of a loop, or of a message or a question that has ended
	default:
		if err := c.takeAnswer(u, r); err != nil {
			c.problem(err)
			r.Later()
		}
	}
}

// openReply opens what came with a reply block of an acknowledgement or a question. seed nil: it is
// not known which one the block was made with, as after a restart.
func (c *Client) openReply(seed *packet.Seed, u content.BoxUnit) (what packet.Content, ok bool) {
	seeds := []*packet.Seed{seed}
	if seed == nil {
		var list []seedRecord
		if err := c.o.Store.loadJSON(seedsFile, &list); err != nil {
			c.problem(err)
			return what, false
		}
		seeds = nil
		for i := len(list) - 1; i >= 0; i-- {
			if len(list[i].Seed) == len(packet.Seed{}) {
				seeds = append(seeds, list[i].seed())
			}
		}
	}
	for _, s := range seeds {
		if what, err := packet.OpenReply(s, u.Mark, bytes.Clone(u.Payload)); err == nil {
			return what, true
		}
	}
	return what, false
}

// takeAnswer takes an answer to a reply block that this user gave away. An error: it is to
// come again.
func (c *Client) takeAnswer(u content.BoxUnit, r link.Receipt) error {
	s := c.o.Store
	list, err := s.made()
	if err != nil {
		return err
	}
	answered, err := s.answered()
	if err != nil {
		return err
	}
	_, again := answered[u.Mark]
	for i := range list {
		b := &list[i]
		if b.Mark != u.Mark || again {
			continue
		}
		seed := packet.Seed(b.Seed)
		what, err := packet.OpenReply(&seed, u.Mark, u.Payload)
		if err != nil || what.Kind != content.Letter {
			break
		}
		f, err := letter.OpenAnswer(&seed, what.Body)
		if err != nil {
			break
		}
		if err := s.put(u.Item, f, b.Note); err != nil {
			return err
		}
		answered[u.Mark] = b.Expires.Add(seedLinger)
		if err := s.saveAnswered(answered); err != nil {
			return err
		}
		r.Commit()
		c.note(func(st *Status) { st.Received++ })
		return nil
	}
	c.strange()
	r.Commit()
	return nil
}
