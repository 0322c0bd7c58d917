package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// worker is what only the goroutine of work uses.
type worker struct {
	messages map[string]*message
	order    []string // of the messages, in turn
	turn     int
	seeds    []seedRecord
	later    time.Time // Free: the relay takes nothing before
	swept    time.Time
}

// Pauses of a Free client.
const (
	laterPause = 5 * time.Second  // after the relay said "later"
	lookPause  = 10 * time.Second // between two looks for what others queued
	freeWindow = 32               // packets on the line at once
)

// begin reads the Store.
func (c *Client) begin() error {
	w := &c.working
	w.messages = make(map[string]*message)
	if err := c.o.Store.loadJSON(seedsFile, &w.seeds); err != nil {
		return err
	}
	if kept := keepSeeds(w.seeds, c.o.Now()); len(kept) != len(w.seeds) {
		w.seeds = kept
		if err := c.o.Store.saveJSON(seedsFile, w.seeds); err != nil {
			return err
		}
	}
	return c.look()
}

// work makes packets and notes what became of them.
func (c *Client) work(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case slot := <-c.slots:
			c.settle()
			if err := c.look(); err != nil {
				c.problem(err)
			}
			c.fill(slot.Slot)
		case <-c.wake:
			if c.settle(); c.poked.Swap(false) {
				if err := c.look(); err != nil {
					c.problem(err)
				}
			}
		case <-t.C:
		}
		if c.o.Free {
			if err := c.look(); err != nil {
				c.problem(err)
			}
			for c.pump() {
			}
			t.Reset(lookPause)
		}
	}
}

func (c *Client) problem(err error) {
	c.o.Logger.Debug("mix client: a problem", "error", err)
	c.note(func(s *Status) { s.Problem = err })
}

// look finds messages that were queued, and gives up those that are too old.
func (c *Client) look() error {
	w, s, now := &c.working, c.o.Store, c.o.Now()
	c.dueQuestions(now)
	all, err := s.names(outDir, "")
	if err != nil {
		return err
	}
	slices.Sort(all)
	given := make(map[string]bool)
	for _, n := range all {
		name, isMessage := strings.CutSuffix(n, msgSuffix)
		if isMessage && w.messages[name] == nil {
			if err := c.adopt(name); err != nil {
				return err
			}
		}
		if name, ok := strings.CutSuffix(n, giveSuffix); ok {
			given[name] = true
		}
	}
	for name := range given {
		if w.messages[name] == nil { // it ended before that was seen
			if err := s.remove(outDir, name+giveSuffix); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Clone(w.order) {
		m := w.messages[name]
		switch {
		case m.done():
			err = c.end(m, Sent, "")
		case given[name]:
			err = c.end(m, Canceled, canceled)
		case !now.Before(m.head.Expires):
			why := "it could not be sent in time"
			if m.why != "" {
				why += ": " + m.why
			}
			err = c.end(m, Failed, why)
		default:
			continue
		}
		if err != nil {
			return err
		}
	}
	if d := now.Sub(w.swept); d < 0 || d > time.Hour {
		w.swept = now
		c.sweepLoops(now)
		if err := c.sweepEnds(now); err != nil {
			return err
		}
	}
	c.counted(0)
	return nil
}

// counted tells others what waits.
func (c *Client) counted(sent int) {
	w := &c.working
	left, why := make([]int, 0, len(w.order)), make(map[string]string)
	for _, name := range w.order {
		m := w.messages[name]
		if left = append(left, m.waits()); m.why != "" {
			why[name] = m.why
		}
	}
	c.note(func(st *Status) {
		st.Waiting, c.left, c.why = len(w.order), left, why
		st.Sent += sent
	})
}

// adopt begins to work on a message.
func (c *Client) adopt(name string) error {
	w, s := &c.working, c.o.Store
	if ok, err := vfs.Exists(s.fs, s.path(outDir+"/"+name+endSuffix)); err != nil {
		return err
	} else if ok { // it ended, and a crash came before it was removed
		return s.removeMessage(name)
	}
	m := &message{name: name}
	h, f, err := s.openMessage(name)
	if err == nil {
		f.Close()
		m.head = h
		m.state, err = s.loadState(name, h)
	}
	switch {
	case errs.KindOf(err) == errs.Corrupt && err != nil:
		return c.o.Store.endAs(Progress{Name: name}, Failed, errs.Public(err))
	case errs.KindOf(err) == errs.NotFound && err != nil:
		return nil
	case err != nil:
		return err
	}
	w.messages[name] = m
	w.order = append(w.order, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	for g := range m.state.Groups {
		for _, mark := range m.state.Groups[g].Marks {
			// Which seed it was made with is not noted: the newest is tried first.
			c.acks[mark] = awaited{name: name, group: g}
		}
	}
	return nil
}

// end notes what became of a message, and removes it.
func (c *Client) end(m *message, r Result, why string) error {
	w := &c.working
	if m.head.Ack && r == Sent {
		r = Delivered
	}
	if err := c.o.Store.endAs(m.state.progress(m.name, m.head), r, why); err != nil {
		return err
	}
	for g := range m.state.Groups {
		c.forget(&m.state.Groups[g])
	}
	delete(w.messages, m.name)
	if i := slices.Index(w.order, m.name); i >= 0 {
		w.order = slices.Delete(w.order, i, i+1)
		if i < w.turn {
			w.turn-- // so that it stays at the same message
		}
	}
	return nil
}

// forget stops waiting for acknowledgements of a group.
func (c *Client) forget(g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, mark := range g.Marks {
		delete(c.acks, mark)
	}
	g.Marks = nil
}

// sweepEnds forgets what became of messages long ago.
func (c *Client) sweepEnds(now time.Time) error {
	s := c.o.Store
	names, err := s.names(outDir, endSuffix)
	if err != nil {
		return err
	}
	var old []string
	for _, n := range names {
		var p Progress
		if err := s.loadJSON(outDir+"/"+n+endSuffix, &p); err != nil || now.Sub(p.Ended) > s.limits.Results {
			old = append(old, n+endSuffix)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return s.remove(outDir, old...)
}

// settle notes what the line and acknowledgements have told.
func (c *Client) settle() {
	c.mu.Lock()
	events := c.events
	c.events = nil
	c.mu.Unlock()
	dirty := make(map[string]*message)
	var receipts []*link.Receipt
	sent := 0
	for _, e := range events {
		if e.ack != nil {
			receipts = append(receipts, e.ack)
		}
		m := c.working.messages[e.name]
		if m == nil {
			continue
		}
		if e.ack == nil {
			m.posted(&e, c.o.AckSlack, c.o.Now(), c.choose)
			if e.err != nil {
				if errs.KindOf(e.err) == errs.Busy {
					c.working.later = c.o.Now().Add(laterPause)
				}
				continue
			}
			sent++
		} else {
			g := &m.state.Groups[e.group]
			e.latest = len(g.Marks) > 0 && g.Marks[len(g.Marks)-1] == e.mark
			if m.acked(&e, c.o.Now()); m.landed(e.group) {
				c.forget(g)
			}
		}
		dirty[e.name] = m
	}
	var failed error
	for name, m := range dirty {
		var err error
		if m.done() {
			err = c.end(m, Sent, "")
		} else {
			err = c.o.Store.saveJSON(outDir+"/"+name+stateSuffix, m.state)
		}
		if err != nil {
			failed = err
		}
	}
	for _, r := range receipts {
		if failed != nil {
			r.Later() // it comes again
		} else {
			r.Commit()
		}
	}
	if failed != nil {
		c.problem(failed)
	}
	if len(events) > 0 {
		c.counted(sent)
	}
}

// fill makes the packet of a slot and gives it to the line, unless something waits there for
// a tick already.
func (c *Client) fill(slot Slot) {
	if !c.line.Status().Connected {
		return
	}
	c.mu.Lock()
	full := c.queued > 0
	c.mu.Unlock()
	if full {
		return
	}
	cons, err := c.o.Consensus()
	if err != nil {
		if c.problem(err); slot == Payload {
			c.withoutDirectory()
		}
		return
	}
	var u *outUnit
	load := slot.Load(true)
	if load == Mail {
		if u = c.urgent(cons); u == nil {
			u, err = c.mail(cons)
		}
		if u == nil {
			load = Nothing
		}
	}
	switch load {
	case Round:
		u, err = c.loop(cons)
	case Nothing:
		u, err = c.drop(cons)
	}
	if err != nil || u == nil {
		c.problem(err)
		return
	}
	c.post(u, load)
}

// withoutDirectory sends a packet of a message that brings all of its way in files. It is false when
// there is none.
func (c *Client) withoutDirectory() bool {
	u, _ := c.mail(nil) // each message notes why it cannot be sent
	return u != nil && c.post(u, Mail)
}

// urgent makes what goes before mail. nil: there is nothing.
func (c *Client) urgent(cons *directory.Consensus) *outUnit {
	if u := c.pinging(cons); u != nil {
		return u
	}
	return c.asking(cons)
}

// pump sends one packet of a Free client. It is false when there is nothing to do now.
func (c *Client) pump() bool {
	if c.o.Now().Before(c.working.later) {
		return false
	}
	c.mu.Lock()
	full := c.pending >= freeWindow
	c.mu.Unlock()
	if full {
		return false
	}
	cons, err := c.o.Consensus()
	if err != nil {
		c.problem(err)
		return c.withoutDirectory()
	}
	u := c.urgent(cons)
	if u == nil {
		if u, err = c.mail(cons); err != nil {
			c.problem(err)
		}
	}
	return u != nil && c.post(u, Mail)
}

// outUnit is a packet that was made.
type outUnit struct {
	unit  []byte
	m     *message
	piece int
	block bool      // it carries the reply block of its group
	asked *question // of a question
	stay  time.Duration
}

// post hands a packet to the line.
func (c *Client) post(u *outUnit, load Load) bool {
	c.mu.Lock()
	c.pending++
	c.queued++
	if u.asked != nil {
		u.asked.busy = true
	}
	c.mu.Unlock()
	name := ""
	if u.m != nil {
		name = u.m.name
		u.m.state.Pieces[u.piece].busy = true
		u.m.state.Pieces[u.piece].Tries++
	}
	err := c.line.Post(u.unit, func(err error) {
		c.mu.Lock()
		c.pending--
		if name != "" {
			c.events = append(c.events, event{name: name, piece: u.piece, block: u.block, err: err, stay: u.stay})
		}
		if u.asked != nil {
			u.asked.posted(c.o.Now(), u.stay, err)
		}
		c.mu.Unlock()
		c.nudge()
	})
	if err != nil {
		c.mu.Lock()
		c.pending--
		c.queued = max(0, c.queued-1)
		if u.asked != nil {
			u.asked.posted(c.o.Now(), u.stay, err)
		}
		c.mu.Unlock()
		if u.m != nil {
			u.m.state.Pieces[u.piece].busy = false
		}
		c.problem(err)
		return false
	}
	c.note(func(s *Status) {
		s.Problem = nil
		switch load {
		case Round:
			s.Loops++
		case Nothing:
			s.Drops++
		}
	})
	return true
}

// home is the own relay and mailbox in a consensus.
func (c *Client) home(cons *directory.Consensus) (Home, error) {
	e := cons.Find(c.o.Relay)
	if e == nil {
		return Home{}, errs.E("mixnet/client", errs.Unavailable, "your own relay is not in the directory of the network now", nil)
	}
	return Home{Relay: e, Mailbox: c.o.Mailbox}, nil
}

// mail makes a packet of the message whose turn it is. nil without an error: nothing is due.
func (c *Client) mail(cons *directory.Consensus) (*outUnit, error) {
	w, now := &c.working, c.o.Now()
	if cons != nil {
		if _, err := c.home(cons); err != nil {
			return nil, err
		}
	}
	n := len(w.order)
	for k := range n {
		m := w.messages[w.order[(w.turn+k)%n]]
		i, block := m.next(now)
		if i < 0 {
			continue
		}
		u, err := c.packet(cons, m, i, block)
		if err != nil {
			m.why = errs.Public(err) // the next one may do better
			c.o.Logger.Debug("mix client: a message cannot be sent now", "error", err)
			continue
		}
		m.why = ""
		w.turn = (w.turn + k + 1) % n
		return u, nil
	}
	return nil, nil
}

// build makes a packet of a way and what it shall carry.
func (c *Client) build(way *Way, d packet.Dest, content packet.Content) ([]byte, error) {
	b, err := packet.Build(make([]byte, 0, packet.Size), way.Route(), d, content, c.o.Random)
	if err != nil {
		return nil, err
	}
	if len(b) != packet.Size {
		return nil, errs.E("mixnet/client.build", errs.Internal, "", fmt.Errorf("a packet of %d bytes", len(b)))
	}
	return b, nil
}
