package node

import (
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/replay"
	"postern.email/mixnet/stats"
)

// What the node makes of a packet that waits in its log (replay.Record.Use).
const (
	useForward uint8 = 1 // body: the packet for the next hop
	useDeliver uint8 = 2 // body: the payload, mark, name; next: the mailbox
	useReply   uint8 = 3 // the same
	useExit    uint8 = 4 // the same, without mailbox or mark
)

// endLen is the length of the body of a packet that ends here.
const endLen = packet.PayloadLen + 2*16

// Why a packet is not taken, for counters. To whoever sent it, all of them look like a
// packet that was.
const (
	whyForm    = "form"    // no packet
	whyLayer   = "layer"   // of a layer that this node does not serve
	whyKey     = "key"     // sealed to a key that is not accepted
	whyHeader  = "header"  // the header does not open
	whyRouting = "routing" // the routing is not canonical
	whyDelay   = "delay"   // longer than the network allows
	whyNext    = "next"    // the next hop is no node of the next layer
	whyEnd     = "end"     // for a mailbox or an exit, and this node has none
	whyEnded   = "ended"   // the key ended, or its memory is lost, at that moment
	whyLost    = "lost"    // on purpose: Options.Lose

	// whyLater is none of them: nothing can be judged yet, and the unit is to come again.
	whyLater = "later"
)

// How many units wait between the stages, and how many groups wait for the disk: while one
// group is synced, the next forms.
const (
	queueLen = 64
	adders   = 4
)

// unit is one that came over a link.
type unit struct {
	raw     []byte
	from    link.Peer
	receipt link.Receipt
}

// outcome is a unit that was looked at.
type outcome struct {
	receipt link.Receipt
	why     string        // "": record is to be kept
	record  replay.Record // its body lies within the unit
	ping    bool
	mark    packet.Mark // of a ping
}

// handler is the node as a link.Handler.
type handler struct{ n *Node }

// Take implements link.Handler.
func (h handler) Take(ctx context.Context, from link.Peer, raw []byte, r link.Receipt) {
	n := h.n
	n.count(stats.ReceivedPacket, "")
	select {
	case n.units <- unit{raw, from, r}:
	case <-ctx.Done():
		r.Later()
	}
}

// unwrap is one worker.
func (n *Node) unwrap() {
	for u := range n.units {
		o := outcome{receipt: u.receipt}
		o.why = n.judge(u.raw, u.from, &o)
		n.outcomes <- o
	}
}

// judge takes a layer off the packet in a unit, in place, and says what is to be kept; else
// why nothing is. The order is that of docs/packet.md §4.5, but for the replay check, which the
// log makes.
func (n *Node) judge(raw []byte, from link.Peer, o *outcome) (why string) {
	p, prefix, err := packet.CutUnit(raw)
	if err != nil {
		return whyForm
	}
	v := n.view.Load()
	if v.current == nil {
		return whyLater // no directory since the start: who is in which layer is not known
	}
	if !v.own.has(prefix.Layer) || from.Role == link.Client && prefix.Layer != 0 {
		return whyLayer
	}
	key, ok := n.o.Keys.Find(prefix.KeyID)
	if !ok {
		return whyKey
	}
	res, err := packet.Unwrap(key, p)
	switch errs.KindOf(err) {
	case errs.Auth:
		return whyHeader
	default:
		if err != nil {
			return whyRouting
		}
	}
	rec := &o.record
	rec.Key, rec.Tag = replay.Key(prefix.KeyID), replay.Tag(res.Tag)
	switch res.Command {
	case packet.Forward:
		switch {
		case res.Delay > v.maxDelay:
			return whyDelay
		case !v.takes(res.Next, prefix.Layer+1):
			return whyNext
		case n.o.Lose != nil && n.o.Lose():
			return whyLost
		}
		rec.Use, rec.Body, rec.Next, rec.Due = useForward, res.Packet, replay.NodeID(res.Next), n.o.Now().Add(res.Delay)
	case packet.Deliver, packet.Reply:
		if n.o.Boxes == nil {
			return whyEnd
		}
		rec.Use = useDeliver
		if res.Command == packet.Reply {
			rec.Use = useReply
		}
		rec.Body, rec.Next = endBody(res), replay.NodeID(res.Mailbox)
	case packet.Exit:
		if n.o.Boxes == nil && n.o.Exits == nil {
			return whyEnd
		}
		rec.Use, rec.Body = useExit, endBody(res)
	case packet.Ping:
		o.ping, o.mark = true, res.Mark
	}
	return "" // of cover, too, the tag is kept
}

// add puts what was looked at into the log, in groups, and acknowledges it. There are a few
// of it: while one waits for the disk, another gathers the next group.
func (n *Node) add() {
	group := make([]outcome, 0, replay.MaxBatch)
	records := make([]replay.Record, 0, replay.MaxBatch)
	for first := range n.outcomes {
		group, records = append(group[:0], first), records[:0]
		for len(group) < cap(group) {
			select {
			case o, ok := <-n.outcomes:
				if ok {
					group = append(group, o)
					continue
				}
			default:
			}
			break
		}
		for i := range group {
			if group[i].why == "" {
				records = append(records, group[i].record)
			}
		}
		n.addGroup(group, records)
		clear(group)
		clear(records)
	}
}

func (n *Node) addGroup(group []outcome, records []replay.Record) {
	began := n.o.Now()
	// Not under a context: what has come is answered also at the end, and the log is closed
	// after that.
	results, err := n.mix.Add(context.Background(), records...)
	fresh := false
	for i := range results {
		fresh = fresh || results[i].Err == nil && !results[i].Replay
	}
	if took := n.o.Now().Sub(began); fresh {
		n.syncTime.Store(int64(took))
	} else if rest := time.Duration(n.syncTime.Load()) - took; rest > 0 {
		// Nothing was written. The answer comes when it would have come otherwise, so that
		// it does not tell a packet that was dropped from one that was taken.
		n.pause(min(rest, longestPause))
	}
	next := 0
	for i := range group {
		o := &group[i]
		switch o.why {
		case "":
		case whyLater:
			n.count(stats.Later, "")
			o.receipt.Later()
			continue
		default:
			n.drop(o.why)
			o.receipt.Commit()
			continue
		}
		var res replay.Result
		if results == nil {
			res.Err = err
		} else {
			res = results[next]
			next++
		}
		n.answer(o, res)
	}
}

// longestPause bounds how long a group that was not written waits for its answer.
const longestPause = 50 * time.Millisecond

// pause waits, without regard to the end of the node, which waits for the answers.
func (n *Node) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// answer acknowledges a packet by what the log said.
func (n *Node) answer(o *outcome, res replay.Result) {
	switch {
	case res.Err == nil && res.Replay:
		n.count(stats.Replay, "")
	case res.Err == nil:
		if o.ping {
			n.loops.back(o.mark)
		}
	case errs.KindOf(res.Err) == errs.Denied, errs.KindOf(res.Err) == errs.Corrupt:
		// It would not be taken at any time.
		n.drop(whyEnded)
	default:
		n.count(stats.Later, "")
		o.receipt.Later()
		return
	}
	o.receipt.Commit()
}

// drop counts a packet that nobody gets.
func (n *Node) drop(why string) { n.count(stats.Dropped, why) }

func (n *Node) count(event, arg string) { n.o.Stats.Count(event, arg) }
