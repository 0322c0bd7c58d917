package client

import (
	"bytes"
	"context"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Bounds of what is asked.
const (
	MaxQuestions = 64               // that wait for an answer at once
	askTries     = 4                // of one question, each with a reply block of its own
	askSlack     = 30 * time.Second // beyond one and a half times the expected time; twice as long after each try
)

// question is something that was asked of a service of a node.
type question struct {
	relay   packet.ID
	service uint8
	request []byte
	tries   int
	busy    bool      // its packet is on the line
	due     time.Time // when it is asked again, or given up
	marks   []packet.Mark
	why     error         // it cannot be asked now
	done    chan answered // has room for one
}

type answered struct {
	status uint8
	answer []byte
	err    error
}

// Ask asks a service of a node through the mix network (docs/content.md), and waits for the
// answer: nobody but the node learns what was asked, and it does not learn who asks. Questions go
// before mail, at the ticks of the payload clock. One without an answer is asked again, askTries
// times in all, each time with a new reply block.
//
// status and answer are the node's own words. errs.Unavailable, with a public text, when no answer
// came, the node is not in the directory, or the client ended: questions are kept in memory
// only. errs.Busy beyond MaxQuestions, errs.TooLarge for a request that is too long for one packet,
// errs.Canceled when ctx ends.
func (c *Client) Ask(ctx context.Context, relay packet.ID, service uint8, request []byte) (status uint8, answer []byte, err error) {
	const op = "mixnet/client.Ask"
	if len(request) > content.MaxRequest {
		return 0, nil, errs.E(op, errs.TooLarge, "the question is too long for one packet", nil)
	}
	q := &question{relay: relay, service: service, request: bytes.Clone(request), done: make(chan answered, 1)}
	c.mu.Lock()
	switch {
	case c.ended:
		c.mu.Unlock()
		return 0, nil, errs.E(op, errs.Unavailable, askEnded, nil)
	case len(c.asked) >= MaxQuestions:
		c.mu.Unlock()
		return 0, nil, errs.E(op, errs.Busy, "too many questions wait for an answer", nil)
	}
	c.asked = append(c.asked, q)
	c.mu.Unlock()
	c.nudge()
	select {
	case a := <-q.done:
		return a.status, a.answer, errs.Wrap(op, a.err)
	case <-ctx.Done():
		c.mu.Lock()
		c.unask(q, answered{})
		c.mu.Unlock()
		return 0, nil, errs.E(op, errs.Canceled, "", ctx.Err())
	}
}

const askEnded = "the client of the mix network ended before the answer came: ask again"

// unask ends a question, once. mu is held.
func (c *Client) unask(q *question, a answered) {
	for i, other := range c.asked {
		if other == q {
			c.asked = append(c.asked[:i:i], c.asked[i+1:]...)
			for _, m := range q.marks {
				delete(c.answers, m)
			}
			q.done <- a
			return
		}
	}
}

// unasked ends all questions when Run is over.
func (c *Client) unasked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for len(c.asked) > 0 {
		c.unask(c.asked[0], answered{err: errs.E("mixnet/client.Run", errs.Unavailable, askEnded, nil)})
	}
}

// asking makes the packet of the next question that is due. nil: there is none.
func (c *Client) asking(cons *directory.Consensus) *outUnit {
	now := c.o.Now()
	for _, q := range c.dueQuestions(now) {
		u, err := c.question(cons, q)
		if err == nil {
			return u
		}
		c.mu.Lock()
		q.why, q.due = err, now.Add(askSlack)
		q.tries++
		c.mu.Unlock()
	}
	return nil
}

// dueQuestions are those to be asked now. Those that were asked often enough are given up.
func (c *Client) dueQuestions(now time.Time) (due []*question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; i < len(c.asked); {
		q := c.asked[i]
		switch {
		case q.busy || now.Before(q.due):
		case q.tries < askTries:
			due = append(due, q)
		default:
			err := errs.E("mixnet/client.Ask", errs.Unavailable, "no answer came through the mix network", q.why)
			if q.why != nil && errs.Public(q.why) != "" {
				err.Public = errs.Public(q.why)
			}
			c.unask(q, answered{err: err})
			continue
		}
		i++
	}
	return due
}

// question makes the packet of one.
func (c *Client) question(cons *directory.Consensus, q *question) (*outUnit, error) {
	home, err := c.home(cons)
	if err != nil {
		return nil, err
	}
	want := Want{To: packet.Last}
	want.Hops[0], want.Hops[packet.Last] = home.Relay, cons.Find(q.relay)
	if want.Hops[packet.Last] == nil {
		return nil, errs.E("mixnet/client.Ask", errs.Unavailable, "the relay that is asked is not in the directory of the network now", nil)
	}
	way, err := Pick(cons, c.o.Now(), c.choose, want)
	if err != nil {
		return nil, err
	}
	var what packet.Content
	mark, seed, back, err := c.askAck(cons, home, &what)
	if err != nil {
		return nil, err
	}
	if what, err = content.NewQuery(what.SURB, q.service, q.request); err != nil {
		return nil, err
	}
	u := &outUnit{asked: q, stay: way.Stay() + waitBack(cons, back)}
	if u.unit, err = c.build(&way, packet.Dest{Command: packet.Exit}, what); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.asked, q) { // it was given up meanwhile
		return nil, errs.E("mixnet/client.Ask", errs.Canceled, "", nil)
	}
	q.why = nil
	q.marks = append(q.marks, mark)
	c.answers[mark] = awaitedAnswer{q, seed}
	return u, nil
}

// awaitedAnswer is where an answer belongs, and what opens it.
type awaitedAnswer struct {
	q    *question
	seed *packet.Seed
}

// posted notes what the line says of a question's packet. mu is held.
func (q *question) posted(now time.Time, stay time.Duration, err error) {
	q.busy = false
	if err != nil {
		q.due = now.Add(laterPause)
		return
	}
	q.due = now.Add((stay*3/2 + askSlack) << q.tries)
	q.tries++
}

// takeQueryAnswer takes an answer that was asked for. It is false for what is none.
func (c *Client) takeQueryAnswer(a awaitedAnswer, u content.BoxUnit) bool {
	what, err := packet.OpenReply(a.seed, u.Mark, u.Payload)
	if err != nil {
		return false
	}
	status, answer, err := content.ParseAnswer(what)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unask(a.q, answered{status: status, answer: bytes.Clone(answer)})
	return true
}
