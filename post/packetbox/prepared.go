package packetbox

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Prepared are packets for one account that somebody else's transaction puts: sealed, and not in
// the store yet.
type Prepared struct {
	b      *Boxes
	id     seal.AccountID
	sealed [][]byte
	marks  [][markLen]byte
	today  uint32
	stored int // by the last Put
}

// Prepare seals packets for the mailbox of an account; list may not be empty. Mailbox of each is
// not looked at. errs.Invalid for a payload of another length.
func (b *Boxes) Prepare(id seal.AccountID, list []Packet) (*Prepared, error) {
	const op = "post/packetbox.Prepare"
	p := &Prepared{b: b, id: id, today: dayOf(b.o.Now()), sealed: make([][]byte, len(list)), marks: make([][markLen]byte, len(list))}
	for i := range list {
		if len(list[i].Payload) != PayloadLen {
			return nil, errs.E(op, errs.Invalid, "", nil)
		}
		p.marks[i] = b.o.Root.PacketMark(id, list[i].Name)
		var err error
		if p.sealed[i], err = b.sealPacket(id, &list[i], p.today); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	return p, nil
}

// Put puts all packets or none; tx lies in the account's shard. It may be called again, for
// another run of the transaction. errs.Full when not all have room, errs.NotFound when
// the account has no mailbox. What is in the mailbox by its name already is not stored again.
func (p *Prepared) Put(tx store.Tx) error {
	const op = "post/packetbox.Prepared.Put"
	p.stored = 0
	if _, err := tx.Get(clientsKey(p.id)); err != nil {
		return errs.Wrap(op, err)
	}
	st, err := getState(tx, p.id)
	if err != nil {
		return errs.Wrap(op, err)
	}
	stored := 0
	for i := range p.sealed {
		known, err := p.b.known(tx, p.id, p.marks[i], p.today)
		switch {
		case err != nil:
			return errs.Wrap(op, err)
		case known:
			continue
		case int(st.waiting) >= p.b.o.MaxPackets:
			return errs.E(op, errs.Full, "the mailbox is full", nil)
		}
		if err := st.add(tx, p.id, p.marks[i], p.sealed[i], p.today); err != nil {
			return errs.Wrap(op, err)
		}
		stored++
	}
	if stored == 0 {
		return nil
	}
	p.stored = stored
	return errs.Wrap(op, tx.Set(stateKey(p.id), st.encode()))
}

// add writes one packet with its name, and counts it in st, which the caller writes.
func (st *state) add(tx store.Tx, id seal.AccountID, mark [markLen]byte, sealed []byte, today uint32) error {
	if err := tx.Set(markKey(id, mark), encodeMark(today)); err != nil {
		return err
	}
	if err := tx.Set(packetKey(id, st.next), sealed); err != nil {
		return err
	}
	st.next++
	st.waiting++
	return nil
}

// Committed is called once when the transaction is durable.
func (p *Prepared) Committed() {
	p.b.count.waiting.Add(int64(p.stored))
	p.b.count.stored.Add(uint64(p.stored))
}

// Room tells whether so many more packets have room in an account's mailbox: errs.Full if not,
// errs.NotFound when it has none.
func (b *Boxes) Room(ctx context.Context, id seal.AccountID, packets int) error {
	const op = "post/packetbox.Room"
	return errs.Wrap(op, b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
		if _, err := r.Get(clientsKey(id)); err != nil {
			return err
		}
		st, err := getState(r, id)
		if err == nil && int(st.waiting)+packets > b.o.MaxPackets {
			err = errs.E(op, errs.Full, "the mailbox is full", nil)
		}
		return err
	}))
}
