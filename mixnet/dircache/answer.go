package dircache

import (
	"sync"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// forms are the ways in which one consensus is given to others, each made once.
type forms struct {
	mu     sync.Mutex
	packed []byte
	deltas map[directory.Hash][2][]byte // by base: plain and packed; only bases that are here, so at most maxKept
}

// Answer answers a request: RequestConsensus, RequestGossip, and of the proofs that were found
// here RequestProofs and RequestDocument. The answer must not be changed. errs.NotFound for
// what is not here or may not be given out any more, errs.Unsupported for other requests, else
// the errors of directory.ParseRequest.
func (c *Cache) Answer(request []byte) ([]byte, error) {
	const op = "mixnet/dircache.Cache.Answer"
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	switch r.Kind {
	case directory.RequestConsensus:
		return c.answerConsensus(op, r)
	case directory.RequestGossip:
		g := &directory.GossipList{Network: c.o.Network.Name()}
		for _, e := range c.entries() {
			g.Gossip = append(g.Gossip, e.c.Gossip())
		}
		return g.Bytes(), nil
	case directory.RequestProofs:
		return directory.NewProofList(c.o.Network, c.Proofs()).Bytes(), nil
	case directory.RequestDocument:
		for _, p := range c.Proofs() {
			if p.Hash() == r.Hash {
				return p.Bytes(), nil
			}
		}
		return nil, errs.E(op, errs.NotFound, "no such document", nil)
	}
	return nil, errs.E(op, errs.Unsupported, "this is asked of an authority", nil)
}

func (c *Cache) answerConsensus(op string, r *directory.Request) ([]byte, error) {
	all := c.entries()
	var e, base *entry
	for _, x := range all {
		if r.Epoch == 0 || x.c.Epoch == r.Epoch {
			e = x
		}
		if x.c.Hash() == r.From {
			base = x
		}
	}
	if e == nil || c.o.Network.ValidAt(e.c, c.o.Now()) != nil {
		return nil, errs.E(op, errs.NotFound, "this consensus is not here", nil)
	}
	if base == e {
		base = nil
	}
	return e.give(base, r.Packed), nil
}

// give writes the consensus in the form that was asked for.
func (e *entry) give(base *entry, packed bool) []byte {
	if base == nil && !packed {
		return e.c.Bytes()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if base == nil {
		if e.packed == nil {
			e.packed = directory.Pack(e.c.Bytes())
		}
		return e.packed
	}
	d, ok := e.deltas[base.c.Hash()]
	if !ok {
		plain := e.c.Delta(base.c)
		d = [2][]byte{plain, directory.Pack(plain)}
		if e.deltas == nil || len(e.deltas) >= maxKept {
			e.deltas = make(map[directory.Hash][2][]byte)
		}
		e.deltas[base.c.Hash()] = d
	}
	if packed {
		return d[1]
	}
	return d[0]
}
