package packetbox

import (
	"context"
	"sync"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Packet is one that arrives.
type Packet struct {
	Mailbox [KeyLen]byte
	Name    [markLen]byte // the same when it is put again
	Reply   bool          // it came by a reply block of the account's
	Mark    [markLen]byte // of that block
	Payload []byte        // PayloadLen bytes; it is not kept
}

// How packets are put.
const (
	maxTogether = 64 // packets of one account in one transaction
	putters     = 32 // transactions at one time of one call
)

// Put stores packets. The answers, in the order of list, come when all that are nil are
// durable: errs.NotFound when there is no such mailbox, errs.Full when it holds MaxPackets,
// errs.Denied when its account gets none; these are for good. Other kinds are for now:
// nothing of the packet was kept. A packet whose name the mailbox had in the last Remember days is
// answered like a new one, and not stored again.
func (b *Boxes) Put(ctx context.Context, list []Packet) []error {
	const op = "post/packetbox.Put"
	out := make([]error, len(list))
	groups := make(map[seal.AccountID][]int)
	var order []seal.AccountID
	for i := range list {
		if len(list[i].Payload) != PayloadLen {
			out[i] = errs.E(op, errs.Invalid, "", nil)
			continue
		}
		id, err := b.find(ctx, nameMailbox, list[i].Mailbox)
		if err != nil {
			out[i] = errs.Wrap(op, err)
			continue
		}
		if groups[id] == nil {
			order = append(order, id)
		}
		groups[id] = append(groups[id], i)
	}
	if len(order) > 0 {
		defer b.o.Store.Intend()()
	}
	var tasks sync.WaitGroup
	slots := make(chan struct{}, putters)
	for _, id := range order {
		put := func() {
			which := groups[id]
			if err := b.o.May(ctx, id); err != nil {
				for _, i := range which {
					out[i] = errs.Wrap(op, err)
				}
				return
			}
			for len(which) > 0 {
				n := min(len(which), maxTogether)
				b.putSome(ctx, id, list, which[:n], out)
				which = which[n:]
			}
		}
		if len(order) == 1 {
			put()
			break
		}
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			put()
		})
	}
	tasks.Wait()
	for _, err := range out {
		switch {
		case err == nil:
		case !errs.KindOf(err).Temporary(), errs.KindOf(err) == errs.Full:
			b.count.refused.Add(1)
		}
	}
	return out
}

// putSome puts packets of one account in one transaction.
func (b *Boxes) putSome(ctx context.Context, id seal.AccountID, list []Packet, which []int, out []error) {
	const op = "post/packetbox.Put"
	today := dayOf(b.o.Now())
	sealed, marks := make([][]byte, len(which)), make([][markLen]byte, len(which))
	var err error
	for j, i := range which {
		marks[j] = b.o.Root.PacketMark(id, list[i].Name)
		if sealed[j], err = b.sealPacket(id, &list[i], today); err != nil {
			break
		}
	}
	var stored, again int
	if err == nil {
		err = b.o.Store.Update(ctx, id.Shard(), func(tx store.Tx) error {
			stored, again = 0, 0
			// Whose mailbox was closed since it was looked up gets no more.
			if _, err := tx.Get(clientsKey(id)); err != nil {
				return err
			}
			st, err := getState(tx, id)
			if err != nil {
				return err
			}
			for j, i := range which {
				out[i] = nil
				known, err := b.known(tx, id, marks[j], today)
				switch {
				case err != nil:
					return err
				case known:
					again++
					continue
				case int(st.waiting) >= b.o.MaxPackets:
					out[i] = errs.E(op, errs.Full, "the mailbox is full", nil)
					continue
				}
				if err := st.add(tx, id, marks[j], sealed[j], today); err != nil {
					return err
				}
				stored++
			}
			if stored == 0 {
				return nil
			}
			return tx.Set(stateKey(id), st.encode())
		})
	}
	if err != nil {
		for _, i := range which {
			out[i] = errs.Wrap(op, err)
		}
		return
	}
	b.count.waiting.Add(int64(stored))
	b.count.stored.Add(uint64(stored))
	b.count.again.Add(uint64(again))
}

// known reports whether a packet was put before and is remembered. A mark that cannot be read
// is written anew: twice is better than never.
func (b *Boxes) known(r store.Reader, id seal.AccountID, mark [markLen]byte, today uint32) (bool, error) {
	v, err := r.Get(markKey(id, mark))
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return false, nil
		}
		return false, err
	}
	day, err := decodeMark(v)
	return err == nil && !over(day, today, b.o.Remember), nil
}
