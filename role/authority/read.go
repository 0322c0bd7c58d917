package authority

import (
	"fmt"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// Proofs reads the proofs that an authority keeps, whether it runs or not. errs.NotFound when
// there is no data directory.
func Proofs(c Config, d Deps) ([]*directory.Proof, error) {
	const op = "role/authority.Proofs"
	k, n, err := data(c, d)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	var all []*directory.Proof
	err = k.proofs(n, func(_ string, p *directory.Proof, err error) {
		if err == nil {
			all = append(all, p)
		}
	})
	return all, errs.Wrap(op, err)
}

// Consensus reads the consensus of an epoch from the data of an authority, whether it runs or
// not; 0: the newest. errs.NotFound if there is none.
func Consensus(c Config, d Deps, epoch uint64) (*directory.Consensus, error) {
	const op = "role/authority.Consensus"
	k, n, err := data(c, d)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if epoch == 0 {
		all, err := k.epochs(consensusDir)
		if err != nil || len(all) == 0 {
			return nil, errs.E(op, errs.NotFound, "there is no consensus yet", err)
		}
		epoch = all[len(all)-1]
	}
	p, err := k.consensus(n, epoch)
	if errs.KindOf(err) == errs.NotFound {
		return nil, errs.E(op, errs.NotFound, fmt.Sprintf("there is no consensus of epoch %d here", epoch), err)
	}
	return p, errs.Wrap(op, err)
}

// data opens the data directory for reading.
func data(c Config, d Deps) (*disk, *directory.Network, error) {
	d = d.withDefaults()
	n, err := LoadNetwork(d.FS, c.Network)
	if err != nil {
		return nil, nil, err
	}
	k := &disk{d.FS, c.Dir}
	if _, err := d.FS.Stat(k.path(keyDir)); err != nil {
		return nil, nil, errs.E("role/authority.data", errs.NotFound, "there is no authority's data in "+c.Dir, err)
	}
	return k, n, nil
}
