package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"iter"
	"math"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
)

// Reload changes the settings of a node that runs. Connections stay, and so does what waits in
// the pool, under the new rule. A descriptor that says something else is published. errs.Invalid
// with a public text, and then nothing has changed; the mode cannot change.
func (n *Node) Reload(s Settings) error {
	const op = "mixnet/node.Reload"
	s, err := s.complete(op)
	if err != nil {
		return err
	}
	old := n.settings()
	if s.About.Mode != old.About.Mode {
		return errs.E(op, errs.Invalid, "the mode of a node cannot be changed while it runs: restart it", nil)
	}
	if s.Mixing != old.Mixing {
		if err := n.mix.SetConfig(s.Mixing); err != nil {
			return errs.Wrap(op, err)
		}
	}
	n.set.Store(&s)
	if s.Conns != old.Conns {
		n.link.SetConns(n.conns(&s))
	}
	if s.Bandwidth != old.Bandwidth {
		n.rate.set(s.Bandwidth)
	}
	n.Renew() // Extra, and the layer of a node that is not listed
	if !sameNode(&s.About, &old.About) || s.Operator != old.Operator || s.Mixing != old.Mixing || s.Publish && !old.Publish {
		n.desc.renew()
	}
	return nil
}

// conns is how many connections others may have open.
func (n *Node) conns(s *Settings) int {
	if s.Conns > 0 {
		return s.Conns
	}
	return n.o.Link.Conns
}

// sameNode reports whether two nodes say the same, but for what the node fills in.
func sameNode(a, b *directory.Node) bool {
	return a.Nickname == b.Nickname && a.Mode == b.Mode && slices.Equal(a.Addresses, b.Addresses) &&
		(a.NameKey == b.NameKey || a.NameKey != nil && b.NameKey != nil && a.NameKey.ID() == b.NameKey.ID()) &&
		bytes.Equal(a.LetterKey, b.LetterKey) && slices.EqualFunc(a.TokenKeys, b.TokenKeys, sameTokenKey) && slices.Equal(a.Domains, b.Domains) && a.Family == b.Family && a.Version == b.Version && slices.Equal(a.Parameters, b.Parameters)
}

func sameTokenKey(a, b directory.TokenKey) bool { return a.Day == b.Day && bytes.Equal(a.Key, b.Key) }

// mixing is how a descriptor describes the rule of a pool: its name, and how long a packet
// stays on average, which senders reckon with.
func mixing(c pool.Config) (directory.Mixing, time.Duration) {
	names := map[pool.Algorithm]directory.Mixing{pool.Timed: directory.Timed, pool.DynamicPool: directory.DynamicPool,
		pool.BinomialDynamicPool: directory.BinomialDynamic}
	name, ok := names[c.Algorithm]
	if !ok {
		return directory.Poisson, 0
	}
	// Half an interval to the first round, and the rounds in which it is not chosen: of a pool
	// that is well filled, Rate leaves each time.
	rounds := 0.5
	if c.Algorithm != pool.Timed {
		rounds = float64(pool.WholeRate)/float64(c.Rate) - 0.5
	}
	d := time.Duration(math.Min(rounds*float64(c.Interval), float64(directory.MaxResidence))).Truncate(time.Millisecond)
	return name, max(d, time.Millisecond)
}

// forget ends a key in the log, for keys.Rotate.
func (n *Node) forget(ctx context.Context, id uint32) error {
	return n.log.Forget(ctx, replay.Key(id))
}

// Queue gives all packets that are in the log, as an operator may see them.
func (n *Node) Queue() iter.Seq[replay.View] { return n.log.Entries() }

// shortID is how lists name a node: the first digits of its ID.
func shortID(id packet.ID) string { return hex.EncodeToString(id[:8]) }
