package authority

import (
	"bytes"
	"maps"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// nameOf names a proof. Proofs may be large, so only their names are in memory.
func nameOf(p *directory.Proof) directory.ProofName {
	return directory.ProofName{Hash: p.Hash(), Kind: p.Kind, Accused: p.Accused, Epoch: p.Epoch, Size: len(p.Bytes())}
}

func (c *core) loadProofs() error {
	err := c.disk.proofs(c.net, func(file string, p *directory.Proof, err error) {
		if err != nil {
			c.log.Warn("a proof on the disk proves nothing in this network; it is left alone", "err", err)
			return
		}
		c.proofs[file] = nameOf(p)
	})
	c.listProofs()
	return err
}

// listProofs makes the list that is given out.
func (c *core) listProofs() {
	l := &directory.ProofList{Network: c.net.Name(), Proofs: slices.Collect(maps.Values(c.proofs))}
	slices.SortFunc(l.Proofs, func(a, b directory.ProofName) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	c.proofNames = l.Bytes()
}

// news reports whether a proof of a kind against an authority is the first or the newest.
func (c *core) news(accused packet.ID, kind directory.ProofKind, epoch uint64) bool {
	first, known := c.proofs[proofName(accused, kind, true)]
	newest := c.proofs[proofName(accused, kind, false)]
	return !known || first.Epoch < epoch && newest.Epoch < epoch
}

// prove keeps the first and the newest proof of each kind against each authority: at most
// 2 · 6 · MaxAuthorities of them.
func (c *core) prove(p *directory.Proof) {
	if !c.news(p.Accused, p.Kind, p.Epoch) {
		return
	}
	_, known := c.proofs[proofName(p.Accused, p.Kind, true)]
	file := proofName(p.Accused, p.Kind, !known)
	if err := c.disk.write(p.Bytes(), proofDir, file); err != nil {
		c.log.Error("a proof cannot be kept; it is tried again", "err", err)
		return
	}
	c.proofs[file] = nameOf(p)
	c.listProofs()
	text := "an authority broke a rule; the proof is published"
	if p.Accused == c.self {
		text = "a rule was broken with the keys of this authority: does another process use them, or is its line to the others cut?"
	}
	c.log.Warn(text, "authority", shortID(p.Accused), "rule", string(p.Kind), "epoch", p.Epoch)
}

// namedProofs lists the proofs, as an answer.
func (c *core) namedProofs() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proofNames
}

// proof gives one by its hash, nil if it is not here.
func (c *core) proof(h directory.Hash) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for file, n := range c.proofs {
		if n.Hash == h {
			if b, err := c.disk.read(proofDir, file); err == nil {
				return b
			}
		}
	}
	return nil
}

// isNews reports whether a proof that another names says more than those that are here.
func (c *core) isNews(n directory.ProofName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news(n.Accused, n.Kind, n.Epoch)
}

// takeProof takes a proof from another authority. errs.Denied for one that proves nothing.
func (c *core) takeProof(doc []byte) error {
	const op = "role/authority.takeProof"
	p, err := directory.ParseProof(doc)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if err := directory.VerifyProof(c.net, p); err != nil {
		return errs.Wrap(op, err)
	}
	if p.Epoch > c.net.Epoch(c.now())+1 {
		return errs.E(op, errs.Denied, "the proof is of an epoch to come", nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prove(p)
	return nil
}
