package authority

import (
	"fmt"
	"slices"
	"strconv"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Names of what lies in the data directory. Every file in them is written whole
// (vfs.WriteFileAtomic), so a crash leaves each as it was or as it should be.
const (
	keyDir       = "keys"
	nodeDir      = "nodes"       // one file a node, named by its ID: record
	historyDir   = "history"     // one file a mix that reports: directory.History.Report
	epochDir     = "epochs"      // epochs/N: votes, reveals and endorsements of the agreement on N, named by kind and hash
	documentDir  = "documents"   // descriptors and consensuses that votes name, named by hash
	consensusDir = "consensuses" // one file an epoch
	cacheDir     = "cache"       // of dircache: what is given out
	proofDir     = "proofs"      // the first and the newest of each kind against each authority

	// beganFile tells that this authority has taken part with these keys from this disk: see
	// core.sitOut.
	beganFile = "began"
)

// beganText is what is in beganFile: up to which epoch no part is taken.
func beganText(epoch uint64) string { return fmt.Sprintf("stays out until %d\n", epoch) }

var stateDirs = []string{nodeDir, historyDir, epochDir, documentDir, consensusDir, proofDir}

// disk is the data directory of an authority.
type disk struct {
	fs  vfs.FS
	dir string
}

func (d *disk) path(parts ...string) string {
	p := d.dir
	for _, x := range parts {
		p = d.fs.PathJoin(p, x)
	}
	return p
}

// makeDirs makes what is missing of the directories.
func (d *disk) makeDirs() error {
	for _, n := range stateDirs {
		if err := vfs.MkdirAll(d.fs, d.path(n), 0o700); err != nil {
			return errs.E("role/authority.makeDirs", errs.KindOf(err), "cannot make directories in the data directory", err)
		}
	}
	return nil
}

// write makes a file durable.
func (d *disk) write(data []byte, parts ...string) error {
	err := vfs.WriteFileAtomic(d.fs, d.path(parts...), data, 0o600)
	if err != nil {
		return errs.E("role/authority.write", errs.KindOf(err), "cannot write to the data directory", err)
	}
	return nil
}

// remove makes a file's absence durable. That there is none is no error.
func (d *disk) remove(parts ...string) error {
	const op = "role/authority.remove"
	p := d.path(parts...)
	ok, err := vfs.Exists(d.fs, p)
	if err == nil && ok {
		if err = d.fs.Remove(p); err == nil {
			err = vfs.SyncDir(d.fs, d.fs.PathDir(p))
		}
	}
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot remove a file from the data directory", err)
	}
	return nil
}

// read gives a file.
func (d *disk) read(parts ...string) ([]byte, error) {
	b, err := vfs.ReadFile(d.fs, d.path(parts...))
	return b, errs.Wrap("role/authority.read", err)
}

// list gives the names in a directory, sorted, without what a cut write left.
func (d *disk) list(parts ...string) ([]string, error) {
	names, err := d.fs.List(d.path(parts...))
	if err != nil {
		return nil, errs.E("role/authority.list", errs.Unavailable, "cannot read the data directory", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		cut := len(n) > 4 && n[len(n)-4:] == ".tmp"
		if cut {
			_ = d.fs.Remove(d.path(append(parts, n)...)) // whether or not: it is never read
		}
		return cut
	})
	slices.Sort(names)
	return names, nil
}

// epochs gives the numbers that name what is in a directory, ascending. Other names are left
// alone.
func (d *disk) epochs(dir string) ([]uint64, error) {
	names, err := d.list(dir)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, n := range names {
		if e, err := strconv.ParseUint(n, 10, 64); err == nil && strconv.FormatUint(e, 10) == n {
			out = append(out, e)
		}
	}
	slices.Sort(out)
	return out, nil
}

func epochText(e uint64) string { return strconv.FormatUint(e, 10) }

// documentName is the file of a document of the agreement: its kind and hash.
func documentName(doc []byte) string {
	return fmt.Sprintf("%s-%s", kindOf(doc), directory.HashOf(doc))
}

// proofName is the file of a proof. first tells the first of its kind from the newest.
func proofName(accused packet.ID, kind directory.ProofKind, first bool) string {
	which := "newest"
	if first {
		which = "first"
	}
	return fmt.Sprintf("%s-%s-%s", idText(accused), kind, which)
}

// loadNodes reads what is known of all nodes. A file that is damaged is reported and left
// alone: its node is unknown until it publishes again.
func (d *disk) loadNodes(report func(name string, err error)) (map[packet.ID]*record, error) {
	names, err := d.list(nodeDir)
	if err != nil {
		return nil, err
	}
	out := make(map[packet.ID]*record, len(names))
	for _, n := range names {
		id, ok := parseID(n)
		if !ok {
			continue
		}
		b, err := d.read(nodeDir, n)
		if err != nil {
			return nil, err
		}
		r, err := parseRecord(id, b)
		if err != nil {
			report(n, err)
			continue
		}
		out[id] = r
	}
	return out, nil
}

// makeEpoch makes the directory of an agreement.
func (d *disk) makeEpoch(epoch uint64) error {
	if err := vfs.MkdirAll(d.fs, d.path(epochDir, epochText(epoch)), 0o700); err != nil {
		return errs.E("role/authority.makeEpoch", errs.KindOf(err), "cannot make a directory in the data directory", err)
	}
	return nil
}

// consensus reads the one of an epoch. errs.NotFound if there is none, errs.Corrupt if what is
// there is none of this network.
func (d *disk) consensus(n *directory.Network, epoch uint64) (*directory.Consensus, error) {
	const op = "role/authority.consensus"
	b, err := d.read(consensusDir, epochText(epoch))
	if err != nil {
		return nil, err
	}
	p, err := directory.ParseConsensus(b)
	if err == nil {
		_, err = directory.Verify(n, p, nil, p.ValidAfter())
	}
	if err != nil || p.Epoch != epoch {
		return nil, errs.E(op, errs.Corrupt, "what the data directory has is no consensus of this network", err)
	}
	return p, nil
}

// proofs reads all proofs, one after another, with the names of their files; err tells of one
// that proves nothing.
func (d *disk) proofs(n *directory.Network, visit func(file string, p *directory.Proof, err error)) error {
	names, err := d.list(proofDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := d.read(proofDir, name)
		if err != nil {
			return err
		}
		p, err := directory.ParseProof(b)
		if err == nil {
			err = directory.VerifyProof(n, p)
		}
		if err == nil && name != proofName(p.Accused, p.Kind, true) && name != proofName(p.Accused, p.Kind, false) {
			err = errs.E("role/authority.proofs", errs.Corrupt, "a proof has the name of another", nil)
		}
		visit(name, p, err)
	}
	return nil
}
