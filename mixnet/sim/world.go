package sim

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
)

// Layers of mixes that a packet has: those between the two relays.
const mixLayers = packet.Layers - 2

// Bounds of a Setup.
const (
	MaxUsers  = 100_000
	MaxMixes  = 100 // in a layer
	MaxLayers = 4 * mixLayers
	MaxRelays = 50
)

// maxStops is how many nodes keep a packet: its sender's relay and mixes.
const maxStops = 1 + MaxLayers

// Setup is a network and those who use it.
type Setup struct {
	Users  int // 1 to MaxUsers; each has a relay by number
	Relays int // 2 to MaxRelays: cover goes to another than one's own
	Mixes  int // of a layer, 1 to MaxMixes
	Layers int // 1 to MaxLayers; packets have 3, see Check

	Parameters directory.Parameters // of the consensus: clocks and mean delay
	Pool       pool.Config          // of the mixes; relays are Poisson mixes always

	// The observer sees all links. Corrupt is the part, 0 to 1, of the mixes that it runs besides,
	// and Relays whether it runs all relays too, which then hide nothing.
	Corrupt       float64
	CorruptRelays bool
}

// Check says what is wrong with s. errs.Invalid.
func (s *Setup) Check() error {
	const op = "mixnet/sim.Check"
	for _, b := range []struct {
		what      string
		n, lo, hi int
	}{{"users", s.Users, 1, MaxUsers}, {"relays", s.Relays, 2, MaxRelays}, {"mixes", s.Mixes, 1, MaxMixes}, {"layers", s.Layers, 1, MaxLayers}} {
		if b.n < b.lo || b.n > b.hi {
			return errs.E(op, errs.Invalid, fmt.Sprintf("the number of %s must be from %d to %d", b.what, b.lo, b.hi), nil)
		}
	}
	if !(s.Corrupt >= 0 && s.Corrupt <= 1) {
		return errs.E(op, errs.Invalid, "the part of corrupt mixes must be from 0 to 1", nil)
	}
	for _, name := range []string{directory.Delay, directory.PayloadInterval, directory.LoopInterval, directory.DropInterval} {
		if s.Parameters.Get(name) == 0 {
			return errs.E(op, errs.Invalid, "the network's parameter "+name+" must not be zero", nil)
		}
	}
	return errs.Wrap(op, s.Pool.Check())
}

// delay is the mean stay in a mix, in nanoseconds.
func (s *Setup) delay() int64 {
	return int64(s.Parameters.Get(directory.Delay)) * int64(time.Millisecond)
}

// settle is after which time the begin does not show any more, in nanoseconds: window mean
// delays, and more where packets have more than four delays.
func (s *Setup) settle() int64 {
	return window * s.delay() * int64(max(4, 1+s.Layers)) / 4
}

// rate is how many packets a user sends in a second.
func (s *Setup) rate() float64 { return client.Rate(s.Parameters, time.Second) }

// seed derives the seed of one part of a simulation from that of the whole.
func seed(whole uint64, part string) (out [32]byte) {
	b := binary.BigEndian.AppendUint64([]byte("postern/sim\n"), whole)
	return sha256.Sum256(append(b, part...))
}

// epoch of one hour in which everything happens.
const epoch = 500_000

// consensus lists nodes that exist only here. The packets are never made, so one key does for
// all of them.
func (s *Setup) consensus() (*directory.Consensus, error) {
	c := &directory.Consensus{Network: "simulation", Epoch: epoch, Period: time.Hour, Parameters: s.Parameters}
	zero := make([]byte, packet.PrivateKeyLen)
	private, err := packet.NewPrivateKey(zero)
	if err != nil {
		return nil, err
	}
	keys := []directory.PacketKey{{From: c.ValidAfter().Add(-time.Hour), Until: c.ValidAfter().AddDate(100, 0, 0), Key: private.Public()}}
	add := func(layer int, mode directory.Mode) {
		e := directory.Entry{Layer: layer, Score: directory.MaxScore}
		binary.BigEndian.PutUint64(e.ID[:], uint64(len(c.Nodes)+1))
		e.Nickname, e.Mode, e.Keys = fmt.Sprintf("node-%d", len(c.Nodes)), mode, keys
		if mode == directory.Mix {
			e.Mixing = mixing[s.Pool.Algorithm]
			if s.Pool.Algorithm != pool.Poisson {
				e.Residence = s.Pool.Interval
			}
		}
		c.Nodes = append(c.Nodes, e)
	}
	for range s.Relays {
		add(0, directory.Relay|directory.Mailbox)
	}
	for l := 1; l <= mixLayers; l++ {
		for range s.Mixes {
			add(l, directory.Mix)
		}
	}
	return c, nil
}

var mixing = map[pool.Algorithm]directory.Mixing{pool.Poisson: directory.Poisson, pool.Timed: directory.Timed,
	pool.DynamicPool: directory.DynamicPool, pool.BinomialDynamicPool: directory.BinomialDynamic}

// world is a network in virtual time: the pools of its nodes, the clocks of its users, and what
// is under way.
type world struct {
	s      Setup
	c      *directory.Consensus
	number map[*directory.Entry]int32 // of a node
	began  time.Time
	now    int64 // nanoseconds since
	rng    *rand.Rand
	bad    []bool // nodes of the observer

	nodes  []pool.Pool[int32] // relays, then mixes layer by layer
	users  []user
	probes []probe
	order  *agenda // users, nodes, then probes
	out    []int32

	parcels []parcel
	free    []int32

	// step is called for each move, with how many were in the node that was left, the packet among
	// them. An error ends the run.
	step func(m move, held int32, p *parcel) error
	// admit, if set, says whether a packet gets into a node; else it is lost.
	admit func(p *parcel, node int32) bool
	// back, if set, is called when the loop of a node has come back to it.
	back func(p *parcel)
	// mail, if set, tells whether a user has mail waiting for the payload slot that is now.
	mail func(user int32) bool

	sent uint64
}

type user struct {
	clocks *client.Clocks
	slot   client.Slot // of the next tick
	relay  *directory.Entry
}

// parcel is a packet under way.
type parcel struct {
	user   int32 // its sender; of a node's loop none, and end
	probe  int32 // whose loop it is
	load   client.Load
	slot   client.Slot
	born   int64 // when it was sent
	stops  [maxStops]stop
	n, i   int8 // stops in all, and that where it is
	marked bool // for whoever watches
}

// stop is a node that keeps a packet for a while, in milliseconds.
type stop struct{ node, delay int32 }

// newWorld makes a world in which nothing has happened.
func newWorld(s Setup, whole uint64, part string) (*world, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	c, err := s.consensus()
	if err != nil {
		return nil, err
	}
	w := &world{s: s, c: c, number: make(map[*directory.Entry]int32), began: c.ValidAfter(), rng: rand.New(rand.NewChaCha8(seed(whole, part+"/users")))}
	for i := range c.Nodes {
		w.number[&c.Nodes[i]] = int32(i)
	}
	n := s.Relays + s.Layers*s.Mixes
	w.nodes, w.bad = make([]pool.Pool[int32], n), make([]bool, n)
	for i := range w.nodes {
		config := s.Pool
		if i < s.Relays {
			config = pool.Default(pool.Poisson)
		}
		source := rand.NewChaCha8(seed(whole, fmt.Sprintf("%s/node %d", part, i)))
		if w.nodes[i], err = pool.New[int32](config, w.began, source); err != nil {
			return nil, err
		}
	}
	w.corrupt()
	w.users = make([]user, s.Users)
	w.order = newAgenda(s.Users + 2*n)
	for i := range w.users {
		u := &w.users[i]
		u.clocks, u.relay = client.NewClocks(s.Parameters, w.began, w.rng), &c.Nodes[i%s.Relays]
		w.wind(int32(i))
	}
	for i := range w.nodes {
		w.rouse(int32(i))
	}
	return w, nil
}

// corrupt chooses the observer's nodes.
func (w *world) corrupt() {
	for i := range w.s.Relays {
		w.bad[i] = w.s.CorruptRelays
	}
	mixes := w.bad[w.s.Relays:]
	for i, at := range w.rng.Perm(len(mixes)) {
		mixes[at] = float64(i)+0.5 < w.s.Corrupt*float64(len(mixes))
	}
}

func (w *world) mine(node int32) bool { return w.bad[node] }

// wind notes a user's next tick.
func (w *world) wind(id int32) {
	t := w.users[id].clocks.Next()
	w.users[id].slot = t.Slot
	w.order.set(id, int64(t.At.Sub(w.began)))
}

// rouse notes when a node has to be asked.
func (w *world) rouse(node int32) {
	when := int64(never)
	if t, ok := w.nodes[node].Next(); ok {
		when = int64(t.Sub(w.began))
	}
	w.order.set(int32(len(w.users))+node, when)
}

// run goes on until a time. It ends with the context's error, or with that of step.
func (w *world) run(ctx context.Context, until int64) error {
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		id, when := w.order.first()
		if when > until {
			w.now = until
			return nil
		}
		w.now = when
		var err error
		switch n := int32(len(w.users)); {
		case id < n:
			err = w.tick(id)
			w.wind(id)
		case id < n+int32(len(w.nodes)):
			err = w.leave(id - n)
		default:
			err = w.loop(id - n - int32(len(w.nodes)))
		}
		if err != nil {
			return err
		}
	}
}

func (w *world) time() time.Time { return w.began.Add(time.Duration(w.now)) }

// tick sends a packet of a user.
func (w *world) tick(id int32) error {
	u := &w.users[id]
	load := u.slot.Load(u.slot == client.Payload && w.mail != nil && w.mail(id))
	to := u.relay // a loop comes back to where it began
	switch load {
	case client.Mail:
		to = w.users[w.rng.IntN(len(w.users))].relay
	case client.Nothing:
		to = nil
	}
	slot, p := w.parcel()
	p.user, p.load, p.slot = id, load, u.slot
	return w.send(slot, u.relay, to)
}

// send chooses a packet's way, as clients do, and hands it to the sender's relay. Where a world
// has more layers of mixes than packets have, ways are put one behind the other.
func (w *world) send(slot int32, from, to *directory.Entry) error {
	p := &w.parcels[slot]
	p.born, p.n, p.i = w.now, 0, 0
	for layer := 0; layer < w.s.Layers; layer += mixLayers {
		want := client.Want{To: packet.Last, Mode: directory.Mailbox}
		want.Hops[0], want.Hops[packet.Last] = from, to
		way, err := client.Pick(w.c, w.began, w.rng, want)
		if err != nil {
			return err
		}
		for l, h := range way.Hops[:packet.Last] {
			switch node := w.number[h.Entry]; {
			case l == 0 && layer == 0:
				p.stops[p.n] = stop{node, int32(h.Delay.Milliseconds())}
				p.n++
			case l == 0 || layer+l > w.s.Layers:
			default:
				p.stops[p.n] = stop{node + int32(layer*w.s.Mixes), int32(h.Delay.Milliseconds())}
				p.n++
			}
		}
	}
	w.sent++
	return w.enter(slot, move{from: ^p.user, slot: slot}, 0)
}

// enter puts a packet into the node of its next stop, or ends it.
func (w *world) enter(slot int32, m move, held int32) error {
	p := &w.parcels[slot]
	if p.i == p.n {
		m.to = end
		defer func() { w.free = append(w.free, slot) }()
		if p.user != end {
			return w.did(m, held, p)
		}
		if w.admit == nil || w.admit(p, p.probe) {
			w.back(p)
		}
		return nil
	}
	at := p.stops[p.i]
	if w.admit != nil && !w.admit(p, at.node) {
		w.free = append(w.free, slot)
		return nil
	}
	node := w.nodes[at.node]
	node.Add(w.time().Add(time.Duration(at.delay)*time.Millisecond), slot)
	m.to, m.held = at.node, int32(node.Len())
	w.rouse(at.node)
	return w.did(m, held, p)
}

func (w *world) did(m move, held int32, p *parcel) error {
	if w.step == nil {
		return nil
	}
	return w.step(m, held, p)
}

// leave lets go what a node holds no longer.
func (w *world) leave(node int32) error {
	w.out = w.nodes[node].Due(w.time(), w.out[:0])
	stay := w.nodes[node].Len()
	w.rouse(node)
	out := w.out
	for i, slot := range out {
		w.parcels[slot].i++
		if err := w.enter(slot, move{from: node, slot: slot}, int32(stay+len(out)-i)); err != nil {
			return err
		}
	}
	return nil
}

// parcel gives a place for a packet.
func (w *world) parcel() (int32, *parcel) {
	if n := len(w.free); n > 0 {
		slot := w.free[n-1]
		w.free = w.free[:n-1]
		w.parcels[slot] = parcel{}
		return slot, &w.parcels[slot]
	}
	w.parcels = append(w.parcels, parcel{})
	slot := int32(len(w.parcels) - 1)
	return slot, &w.parcels[slot]
}
