package node

import (
	"context"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/replay"
	"postern.email/mixnet/stats"

	"crypto/sha256"
)

// boxBatch is how many packets are put into boxes at once.
const boxBatch = 64

// labelArrival keeps the names of arrivals apart from all other hashes.
const labelArrival = "postern/arrival\n"

// endBody is what is kept of a packet that ends here: payload, mark, and a name that follows
// from its replay tag and does not tell it. It lies in the unit, behind the payload.
func endBody(res packet.Result) []byte {
	h := sha256.New()
	h.Write([]byte(labelArrival))
	h.Write(res.Tag[:])
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return append(append(res.Payload, res.Mark[:]...), sum[:16]...)
}

// arrival reads what endBody wrote.
func arrival(e *replay.Entry, body []byte) (a Arrival, ok bool) {
	if len(body) != endLen {
		return a, false
	}
	const mark, name = packet.PayloadLen, packet.PayloadLen + 16
	return Arrival{Mailbox: packet.ID(e.Next), Reply: e.Use == useReply, Mark: packet.Mark(body[mark:name]),
		Payload: body[:mark:mark], Name: [16]byte(body[name:])}, true
}

// open reads what a packet that ends here holds. have false: it is not there, as the pool has
// ended it, or puts it off; whole false: it does not open.
func open(w waiting) (a Arrival, c packet.Content, have, whole bool) {
	body, err := w.p.Body(nil)
	if err != nil {
		return a, c, false, false
	}
	if a, whole = arrival(w.p.Entry, body); whole {
		c, err = packet.OpenContent(a.Payload)
	}
	return a, c, true, whole && err == nil
}

// ends are what becomes of packets that end here.
type ends struct {
	n       *Node
	boxes   endQueue
	exits   endQueue
	queries endQueue
	windows *windows
	rate    *limits.GCRA // of queries
}

func newEnds(n *Node) *ends {
	e := &ends{n: n, rate: limits.NewGCRA(60*n.o.ServiceRate, n.o.ServiceRate, 1, n.o.Now)}
	for _, l := range []*endQueue{&e.boxes, &e.exits, &e.queries} {
		*l = endQueue{n: n, wake: make(chan struct{}, 1)}
	}
	e.windows = newWindows(e)
	return e
}

// queueOf is where a packet is worked on first.
func (e *ends) queueOf(w waiting) *endQueue {
	if w.p.Entry.Use == useExit {
		return &e.exits
	}
	return &e.boxes
}

func (e *ends) runBoxes(ctx context.Context) error { return e.boxes.run(ctx, boxBatch, e.put) }
func (e *ends) runExits(ctx context.Context) error { return e.exits.run(ctx, 1, e.exit) }

// put gives packets to the boxes, and acknowledges those that are there. What a payload holds
// makes no difference to the box or to when: only the acknowledgement needs one that is whole.
func (e *ends) put(ctx context.Context, ws []waiting) {
	n := e.n
	list := make([]Arrival, 0, len(ws))
	have := make([]waiting, 0, len(ws))
	for _, w := range ws {
		body, err := w.p.Body(nil)
		if err != nil {
			continue // ended, or put off, by the pool
		}
		a, ok := arrival(w.p.Entry, body)
		if !ok {
			w.p.Drop()
			n.drop(whyForm)
			continue
		}
		list, have = append(list, a), append(have, w)
	}
	if len(list) == 0 {
		return
	}
	results := n.o.Boxes.Put(ctx, list)
	var answers []answer
	var failed []waiting
	var failure error
	for i, w := range have {
		var err error = errs.Internal
		if i < len(results) {
			err = results[i]
		}
		switch errs.KindOf(err) {
		case errs.NotFound, errs.Full, errs.Denied:
			if err != nil {
				w.p.Drop()
				n.count(stats.UnretriableDelivery, boxReason(err))
				continue
			}
		}
		if err != nil {
			failed, failure = append(failed, w), err
			continue
		}
		n.count(stats.SuccessfulDelivery, "")
		var c packet.Content // of a reply, and of a payload that does not open, nothing can be read
		if !list[i].Reply {
			if got, err := packet.OpenContent(list[i].Payload); err == nil {
				c = got
			}
		}
		answers = append(answers, e.settle(list[i].Mailbox, c, w)...)
	}
	unsent, err := e.answer(answers)
	if len(unsent) > 0 {
		// They are in the box, which knows them by name when they come again.
		failed, failure = append(failed, unsent...), err
	}
	if ctx.Err() != nil {
		return // what failed is in the log, and comes again at the next start
	}
	if len(failed) > 0 {
		n.o.Logger.Warn("packets could not be put into their boxes; they are tried again", "error", errs.Public(failure))
	}
	e.boxes.tried(max(0, len(have)-len(failed)), failed, failure)
}

func boxReason(err error) string {
	switch errs.KindOf(err) {
	case errs.NotFound:
		return "unknown"
	case errs.Full:
		return "full"
	}
	return "denied"
}

// settle ends a packet that is durable where it was to go, and gives the acknowledgements that
// are due: its own, or that of its window.
func (e *ends) settle(mailbox packet.ID, c packet.Content, w waiting) []answer {
	if c.Kind&content.Windowed != 0 {
		place, _, err := content.CutWindow(c)
		if err == nil {
			return e.windows.note(mailbox, place, c.SURB, w)
		}
		e.n.drop("reply block: window")
		c.SURB = nil
	}
	if c.SURB == nil {
		w.p.Sent()
		return nil
	}
	return []answer{{c.SURB, content.NewAck(0), w}}
}

// answer is a packet that goes back with a reply block. w is what asked for it, and is ended
// when the answer is in the log.
type answer struct {
	surb    *packet.SURB
	content packet.Content
	w       waiting
}

// answer puts answers into the log. They wait there like packets that came over a link, under
// a tag of their own, and leave for layer 1 after a short time. It gives those that could not
// be put, with the reason.
func (e *ends) answer(list []answer) (unsent []waiting, err error) {
	n := e.n
	now := n.o.Now()
	v := n.view.Load()
	key, ok := n.newestKey(now)
	records := make([]replay.Record, 0, len(list))
	asked := make([]waiting, 0, len(list))
	for _, a := range list {
		first := a.surb.First()
		if !v.takes(first, 1) {
			n.drop("reply block: " + whyNext)
			a.w.p.Sent()
			continue
		}
		if !ok {
			unsent, err = append(unsent, a.w), errs.E("mixnet/node.answer", errs.Unavailable, "no packet key is valid now", nil)
			continue
		}
		buf := n.buffers.Get().(*[replay.BufferLen]byte)
		defer n.buffers.Put(buf)
		r, failed := n.useBlock(buf[:0], a.surb, a.content, key, v, now)
		if failed != nil && errs.KindOf(failed) == errs.Internal {
			unsent, err = append(unsent, a.w), failed
			continue
		}
		if failed != nil {
			n.drop("reply block: " + errs.KindOf(failed).Error())
			a.w.p.Sent()
			continue
		}
		records, asked = append(records, r), append(asked, a.w)
	}
	if len(records) == 0 {
		return unsent, err
	}
	results, failed := n.mix.Add(context.Background(), records...)
	for i, w := range asked {
		switch {
		case results == nil:
			unsent, err = append(unsent, w), failed
		case results[i].Err != nil:
			unsent, err = append(unsent, w), results[i].Err
		default:
			w.p.Sent()
		}
	}
	return unsent, err
}

// useBlock makes the record of a packet that is sent with a reply block: it waits in the log for as
// long as answers do, under a tag of its own. dst has room for it. errs.Internal without
// randomness; other kinds are those of packet.SURB.Use.
func (n *Node) useBlock(dst []byte, surb *packet.SURB, c packet.Content, key uint32, v *view, now time.Time) (replay.Record, error) {
	b, err := surb.Use(dst, c, now)
	if err != nil {
		return replay.Record{}, err
	}
	r := replay.Record{Key: replay.Key(key), Body: b, Next: replay.NodeID(surb.First()), Use: useForward, Due: now.Add(n.delay(v))}
	if _, err := io.ReadFull(n.o.Rand, r.Tag[:]); err != nil {
		return replay.Record{}, errs.E("mixnet/node.useBlock", errs.Internal, "", err)
	}
	return r, nil
}

// Reply sends a content with a reply block that its owner gave this node in advance. nil: the packet
// is on the disk, and leaves for layer 1 after a delay like that of all answers. A block is good
// for one packet: sent twice with it, with the same content or another, only the first arrives.
//
// errs.Unavailable while no packet key is valid, there is no consensus, or the block's first hop is
// not in layer 1 now, which may pass; the kinds of packet.SURB.Use (errs.Denied for one that has expired) are
// for good. It may be called before and while Run runs.
func (n *Node) Reply(ctx context.Context, surb *packet.SURB, c packet.Content) error {
	const op = "mixnet/node.Reply"
	now := n.o.Now()
	v := n.view.Load()
	key, ok := n.newestKey(now)
	if !ok || v == nil || !v.takes(surb.First(), 1) {
		return errs.E(op, errs.Unavailable, "the mix network cannot be reached now", nil)
	}
	buf := n.buffers.Get().(*[replay.BufferLen]byte)
	defer n.buffers.Put(buf)
	r, err := n.useBlock(buf[:0], surb, c, key, v, now)
	if err != nil {
		return errs.Wrap(op, err)
	}
	results, err := n.mix.Add(ctx, r)
	if err == nil {
		err = results[0].Err
	}
	return errs.Wrap(op, err)
}

// newestKey gives the ID of the key under which tags of this node's own packets are kept.
func (n *Node) newestKey(now time.Time) (id uint32, ok bool) {
	for _, k := range n.o.Keys.Public(now) {
		if !now.Before(k.From) && now.Before(k.Until) {
			id, ok = k.Key.ID(), true
		}
	}
	return id, ok
}

// exit gives one packet to the exits, or answers for somebody with a reply block.
func (e *ends) exit(ctx context.Context, ws []waiting) {
	n := e.n
	for _, w := range ws {
		a, c, have, whole := open(w)
		if !have {
			continue
		}
		if !whole {
			w.p.Drop()
			n.drop("payload")
			continue
		}
		var unsent []waiting // it, or others of its window, which wait for their answer
		var err error
		switch c.Kind {
		case content.Inject:
			unsent, err = e.inject(c, w)
		case content.Query:
			unsent, err = e.query(c, w)
		default:
			unsent, err = e.leave(ctx, a.Name, c, w)
		}
		switch {
		case len(unsent) == 0:
			e.exits.tried(1, nil, nil)
		case ctx.Err() != nil:
			return
		default:
			n.o.Logger.Warn("a packet could not leave the network here; it is tried again", "error", errs.Public(err))
			e.exits.tried(0, unsent, err)
		}
	}
}

// inject uses a reply block that somebody sent, with the answer beside it. It gives what is to be
// tried again, with the reason.
func (e *ends) inject(c packet.Content, w waiting) (unsent []waiting, err error) {
	surb, reply, err := content.ParseInject(c)
	if err != nil {
		w.p.Drop()
		e.n.drop("inject")
		return nil, nil
	}
	return e.answer([]answer{{surb, reply, w}})
}

// leave gives a content to the exits, and acknowledges mail that they have. It gives what is to be
// tried again, with the reason.
func (e *ends) leave(ctx context.Context, name [16]byte, c packet.Content, w waiting) (unsent []waiting, err error) {
	n := e.n
	kind := content.Name(c.Kind)
	if n.o.Exits == nil {
		w.p.Drop()
		n.drop("exit: " + kind)
		return nil, nil
	}
	whole := c
	if c.Kind&content.Windowed != 0 {
		if _, c, err = content.CutWindow(c); err != nil || c.Kind != content.Mail {
			w.p.Drop()
			n.drop("exit: window")
			return nil, nil
		}
	}
	err = n.o.Exits.Exit(ctx, name, c)
	switch {
	case err != nil && errs.KindOf(err).Temporary():
		return []waiting{w}, err
	case err != nil:
		w.p.Drop()
		n.count(stats.UnretriableDelivery, kind)
		return nil, nil
	}
	n.count(stats.SuccessfulDelivery, kind)
	if c.Kind != content.Mail {
		w.p.Sent()
		return nil, nil
	}
	return e.answer(e.settle(packet.ID{}, whole, w))
}
