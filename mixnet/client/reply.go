package client

import (
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// BlockLife is for how long a reply block can be used, counted from the begin of the hour in
// which it was made: as long as the newest key of a mix with mixminiond's three days is sure
// to last. All blocks of an hour expire together, so that expiry tells no more of them.
const BlockLife = 48 * time.Hour

// hour is the begin of the hour of a time, as reply blocks count.
func hour(t time.Time) time.Time { return time.Unix(t.Unix()/3600*3600, 0).UTC() }

// Home is where answers go: the user's relay and mailbox.
type Home struct {
	Relay   *directory.Entry
	Mailbox packet.ID
}

// NewBlock makes a reply block that can be used for life (0: BlockLife), counted in whole hours from
// the begin of this one. want may name hops. errs.Unavailable, with a public text, when the
// keys of a layer's nodes end before that, or a layer is empty.
func NewBlock(c *directory.Consensus, now time.Time, r Chooser, home Home, seed *packet.Seed, life time.Duration, want Want, random io.Reader) (*packet.SURB, packet.Mark, Way, error) {
	const op = "mixnet/client.NewBlock"
	if life <= 0 {
		life = BlockLife
	}
	expires := hour(now).Add(life)
	return newBlock(op, c, now, r, home, seed, expires, expires.Sub(now), want, random)
}

// newAck makes the reply block for an acknowledgement. It is used as soon as its packet has
// arrived; where the keys on its way do not last for BlockLife it expires with them.
func newAck(c *directory.Consensus, now time.Time, r Chooser, home Home, seed *packet.Seed, random io.Reader) (*packet.SURB, packet.Mark, Way, error) {
	const op = "mixnet/client.newAck"
	block, mark, way, err := newBlock(op, c, now, r, home, seed, hour(now).Add(BlockLife), hour(now).Add(BlockLife).Sub(now), Want{}, random)
	if errs.KindOf(err) != errs.Unavailable {
		return block, mark, way, err
	}
	return newBlock(op, c, now, r, home, seed, time.Time{}, 0, Want{}, random)
}

// newBlock makes a block. A zero time of expiry is the hour in which the first key ends, or
// the next one.
func newBlock(op string, c *directory.Consensus, now time.Time, r Chooser, home Home, seed *packet.Seed, expires time.Time, life time.Duration, want Want, random io.Reader) (*packet.SURB, packet.Mark, Way, error) {
	want.From, want.To, want.Mode, want.Life = 1, packet.Last, directory.Mailbox, life
	want.Hops[packet.Last] = home.Relay
	way, err := Pick(c, now, r, want)
	if err != nil {
		return nil, packet.Mark{}, Way{}, errs.Wrap(op, err)
	}
	if expires.IsZero() {
		expires = hour(way.KeysEnd())
		if next := hour(now).Add(time.Hour); expires.Before(next) {
			expires = next
		}
	}
	block, mark, err := packet.NewSURB(way.Route().Hops, home.Mailbox, seed, expires, random)
	return block, mark, way, errs.Wrap(op, err)
}

// Set is a set of reply blocks for one person, with the name under which their maker finds
// the key again.
type Set struct {
	Hint   letter.Hint
	Blocks []*letter.ReplyBlock
	Marks  []packet.Mark // of the blocks
}

// NewSet makes n reply blocks of one set. See NewBlock for the errors.
func NewSet(n int, c *directory.Consensus, now time.Time, r Chooser, home Home, seed *packet.Seed, life time.Duration, want Want, random io.Reader) (Set, error) {
	const op = "mixnet/client.NewSet"
	if n < 1 || n > letter.MaxBlocks {
		return Set{}, errs.E(op, errs.Invalid, "a set has 1 to 256 reply blocks", nil)
	}
	var s Set
	if _, err := io.ReadFull(random, s.Hint[:]); err != nil {
		return Set{}, errs.E(op, errs.Internal, "", err)
	}
	key, err := letter.ReplyKey(seed, s.Hint)
	if err != nil {
		return Set{}, errs.Wrap(op, err)
	}
	for range n {
		block, mark, _, err := NewBlock(c, now, r, home, seed, life, want, random)
		if err != nil {
			return Set{}, errs.Wrap(op, err)
		}
		s.Blocks = append(s.Blocks, &letter.ReplyBlock{SURB: block, Hint: s.Hint, Key: key.Public()})
		s.Marks = append(s.Marks, mark)
	}
	return s, nil
}
