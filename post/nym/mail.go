package nym

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Set is one to which a letter can be sealed.
type Set struct {
	Hint   [HintLen]byte
	Key    [KeyLen]byte
	Blocks int // that can be used now
}

// Sets gives the sets of a name that have blocks, those first whose blocks expire first.
// errs.NotFound when the name is not alive: nobody fed it, or all of its blocks have expired.
func (s *Stock) Sets(ctx context.Context, name string) ([]Set, error) {
	const op = "post/nym.Sets"
	p := s.place(name)
	var st *stock
	err := s.o.Store.View(ctx, p.shard, func(r store.Reader) (err error) { st, err = s.read(r, p); return err })
	now := s.o.Now()
	if err == nil && st.until <= seconds(now) {
		err = errs.NotFound
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	st.prune(seconds(now.Add(LeastLife)))
	var out []Set
	for i := range st.sets {
		out = append(out, Set{st.sets[i].hint, st.sets[i].key, len(st.sets[i].entries)})
	}
	return out, nil
}

// Prepared is what is to be sent to one name, for somebody else's transaction.
type Prepared struct {
	s      *Stock
	p      place
	set    Set
	sealed [][]byte
	taken  int // by the last Put
}

// Prepare seals what is to be sent with blocks of a set, one each. errs.TooLarge for more than
// MaxBlocks, or one that no packet holds.
func (s *Stock) Prepare(name string, set Set, bodies [][]byte) (*Prepared, error) {
	const op = "post/nym.Prepare"
	p := &Prepared{s: s, p: s.place(name), set: set}
	if len(bodies) > MaxBlocks {
		return nil, errs.E(op, errs.TooLarge, "", nil)
	}
	for _, b := range bodies {
		if len(b) > maxBody {
			return nil, errs.E(op, errs.TooLarge, "", nil)
		}
		v, err := s.o.Root.Seal(seal.PurposeMixReply, p.p.key(kindOut), b)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		p.sealed = append(p.sealed, v)
	}
	return p, nil
}

// Shard is where Put writes.
func (p *Prepared) Shard() store.Shard { return p.p.shard }

// Put takes the blocks, all or none; tx lies in Shard. It may be called again, for another run of
// the transaction. errs.Full when the set has not enough blocks any more.
func (p *Prepared) Put(tx store.Tx) error {
	const op = "post/nym.Prepared.Put"
	full := errs.E(op, errs.Full, "the mailbox is full", nil)
	p.taken = 0
	st, err := p.s.read(tx, p.p)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return full
		}
		return errs.Wrap(op, err)
	}
	old := st.prune(seconds(p.s.o.Now().Add(LeastLife)))
	set := st.find(p.set.Hint, &p.set.Key)
	if set == nil || len(set.entries) < len(p.sealed) {
		return full
	}
	if err := deleteBlocks(tx, p.p, old); err != nil {
		return errs.Wrap(op, err)
	}
	for i, v := range p.sealed {
		if err := tx.Set(p.p.numbered(kindOut, set.entries[i].number), v); err != nil {
			return errs.Wrap(op, err)
		}
	}
	set.entries = set.entries[len(p.sealed):]
	p.taken = len(p.sealed)
	st.prune(0) // a set without blocks
	return errs.Wrap(op, p.s.write(tx, p.p, st))
}

// Committed is called once when the transaction is durable.
func (p *Prepared) Committed() {
	p.s.count.used.Add(uint64(p.taken))
	p.s.poke()
}

// Out is one packet that is to be sent.
type Out struct {
	Block []byte
	Body  []byte

	shard    store.Shard
	out, key []byte // of the body's record and of the block's
}

// Next gives up to n packets that are to be sent, from the one behind after on (nil: the first). One
// that cannot be read is passed over; Check names it.
func (s *Stock) Next(ctx context.Context, after *Out, n int) (list []*Out, err error) {
	const op = "post/nym.Next"
	first := store.Shard(0)
	start := []byte{prefix, kindOut}
	if after != nil {
		first, start = after.shard, append(append([]byte(nil), after.out...), 0)
	}
	for in := first; in < seal.MixShards && len(list) < n; in++ {
		var found []*Out
		err := s.o.Store.View(ctx, in, func(r store.Reader) error {
			found = nil
			return r.Scan(start, []byte{prefix, kindOut + 1}, func(k, v []byte) (bool, error) {
				o, err := s.openOut(r, in, k, v)
				if err == nil {
					found = append(found, o)
				} else if errs.KindOf(err) != errs.Corrupt && errs.KindOf(err) != errs.NotFound {
					return false, err
				}
				return len(list)+len(found) < n, nil
			})
		})
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		list = append(list, found...)
		start = []byte{prefix, kindOut}
	}
	return list, nil
}

func (s *Stock) openOut(r store.Reader, in store.Shard, k, v []byte) (*Out, error) {
	if len(k) != keyLen+numberLen {
		return nil, errs.E("post/nym.openOut", errs.Corrupt, "", errForm)
	}
	o := &Out{shard: in, out: append([]byte(nil), k...), key: append([]byte(nil), k...)}
	o.key[1] = kindBlock
	sealed, err := r.Get(o.key)
	if err == nil {
		o.Block, err = s.o.Root.Open(seal.PurposeMixReply, o.key[:keyLen], sealed)
	}
	if err == nil {
		o.Body, err = s.o.Root.Open(seal.PurposeMixReply, k[:keyLen], v)
	}
	return o, err
}

// Sent removes a packet that the node has on its own disk, with its block. lost: it could not be
// sent before its block expired.
func (s *Stock) Sent(ctx context.Context, o *Out, lost bool) error {
	err := s.o.Store.Update(ctx, o.shard, func(tx store.Tx) error {
		if err := tx.Delete(o.out); err != nil {
			return err
		}
		return tx.Delete(o.key)
	})
	if err != nil {
		return errs.Wrap("post/nym.Sent", err)
	}
	if lost {
		s.count.lost.Add(1)
	}
	s.o.Deleted()
	return nil
}
