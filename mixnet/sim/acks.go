package sim

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// An observer that runs all relays sees which packets that end with them ask for an acknowledgement, which
// are one, and when each acknowledgement was sent. For a message that came to one of its relays
// it looks among the acknowledgements that came later: one of them is that of this message,
// and the user who got it sent the message.
//
// Here a message is what is acknowledged once: a packet on its own, or a window of up to
// content.MaxWindow packets (docs/content.md §7), whose block is in the packet that is sent last.

// mostAcks bounds the acknowledgements of one run, and so its memory: the observer's knowledge is a table
// of all against all.
const mostAcks = 4000

// runAcks has each user send mails at random, some a day, and asks of each of about so many messages who
// sent it, from the acknowledgements alone. If loops ask too, each brings an acknowledgement
// as well.
func runAcks(ctx context.Context, s Setup, perDay float64, loops bool, messages int, whole uint64, part string) (Ends, error) {
	s.CorruptRelays = true
	w, err := newWorld(s, whole, part)
	if err != nil {
		return Ends{}, err
	}
	slots := day.Seconds() / s.seconds(directory.PayloadInterval)
	chance := int(perDay / slots * 1e6)
	w.mail = func(int32) bool { return w.rng.IntN(1e6) < chance }
	rate := float64(s.Users) * perDay / day.Seconds()
	span := max(10*s.delay(), int64(float64(messages)/rate*1e9))
	tr := &trace{most: maxMoves}
	type ack struct {
		born   int64
		asked  bool  // by a message, not by a loop
		sender int32 // who gets it
		at     int   // move with which it came
	}
	var acks []ack
	w.step = func(m move, _ int32, p *parcel) error {
		switch {
		case m.from >= 0:
		case p.marked:
			m.from = ^(p.probe + 1)
		default:
			m.from = ^0 // no acknowledgement, as a relay knows
		}
		if m.to == end && p.marked {
			acks[p.probe].at = len(tr.moves)
		}
		if err := tr.add(m); err != nil {
			return err
		}
		if m.to == end && !p.marked && (p.load == client.Mail || loops && p.load == client.Round) {
			if len(acks) == mostAcks {
				return errs.E("mixnet/sim.acks", errs.Full, "the simulation would need more memory than it may use: fewer users or mails would do", nil)
			}
			acks = append(acks, ack{w.now, p.load == client.Mail, p.user, -1})
			return w.acknowledge(p.user, int32(len(acks)-1))
		}
		return nil
	}
	until := s.settle() + span
	if err := w.run(ctx, until+s.settle()); err != nil {
		return Ends{}, err
	}
	var came []int // moves
	var whose []int
	for k, a := range acks {
		if a.at >= 0 {
			came, whose = append(came, a.at), append(whose, k)
		}
	}
	seen := tr.backwards(came, len(w.nodes), len(acks)+1, w.mine)
	var e Ends
	for k, a := range acks {
		if !a.asked || a.born < s.settle() || a.born > until || a.at < 0 {
			continue
		}
		users := make([]float64, s.Users)
		sum, best, square := 0.0, 0.0, 0.0
		for i, x := range seen {
			users[acks[whose[i]].sender] += x.users[k+1]
			sum += x.users[k+1]
		}
		for _, v := range users {
			best, square = max(best, v/sum), square+v*v/sum/sum
		}
		e.Messages++
		e.Senders += bits(users)
		e.Guess += best
		e.Truth += users[a.sender] / sum
		e.Expected += square
		if best > certain {
			e.Traced++
		}
	}
	if e.Messages == 0 {
		return e, errs.E("mixnet/sim.acks", errs.Invalid, "no message came out of the network", nil)
	}
	for _, v := range []*float64{&e.Senders, &e.Guess, &e.Truth, &e.Expected, &e.Traced} {
		*v /= float64(e.Messages)
	}
	return e, nil
}

// acknowledge has a relay use a reply block of a user. How long it keeps the answer back hides nothing
// from an observer that runs it.
func (w *world) acknowledge(user, number int32) error {
	want := client.Want{From: 1, To: packet.Last}
	want.Hops[packet.Last] = w.users[user].relay
	way, err := client.Pick(w.c, w.began, w.rng, want)
	if err != nil {
		return err
	}
	slot, p := w.parcel()
	p.user, p.probe, p.marked, p.born = user, number, true, w.now
	for _, h := range way.Hops[:mixLayers] {
		p.stops[p.n] = stop{w.number[h.Entry], int32(h.Delay.Milliseconds())}
		p.n++
	}
	return w.enter(slot, move{from: ^user, slot: slot}, 0)
}

func drawAcks(p *plan) *Figure {
	f := &Figure{Title: "Acknowledgements, if all relays work together", X: Axis{Label: "users", Log: true}, Y: Axis{Label: "people a sender hides among", Log: true},
		Note: "Low profile, 3 × 2 mixes, none corrupt. The observer sees all links, runs all relays, and looks at acknowledgements alone."}
	for _, c := range []struct {
		name   string
		perDay float64
		loops  bool
		most   float64
	}{{"10 a day, loops silent", 10, false, 10_000}, {"100 a day, loops silent", 100, false, 1000}, {"10 a day", 10, true, 300}} {
		var xs []float64
		for _, n := range []float64{10, 30, 100, 300, 1000, 3000, 10_000} {
			if n <= c.most && n <= float64(p.e.users) {
				xs = append(xs, n)
			}
		}
		p.curve(f, c.name, xs, func(ctx context.Context, x float64, part string) (Point, error) {
			s := p.o.Setup
			s.Users, s.Mixes, s.Layers, s.Parameters, s.Corrupt = int(x), 2, mixLayers, profiles[0].p(), 0
			messages := p.e.acks
			if c.loops { // beside each there are many others
				messages = max(1, messages/5)
			}
			e, err := runAcks(ctx, s, c.perDay, c.loops, messages, p.o.Seed, part)
			return at(x, hidden(e.Senders)), err
		})
	}
	return f
}
