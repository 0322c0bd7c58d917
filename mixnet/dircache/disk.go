package dircache

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

// Files are public documents: everybody may read them.
const filePerm, dirPerm = 0o644, 0o755

const (
	proofDir  = "proofs"
	asideName = "damaged.txt" // the last file that could not be used
)

func (c *Cache) path(parts ...string) string {
	return c.o.FS.PathJoin(append([]string{c.o.Dir}, parts...)...)
}

// load reads what was kept.
func (c *Cache) load() error {
	for _, dir := range []string{c.o.Dir, c.path(proofDir)} {
		if err := vfs.MkdirAll(c.o.FS, dir, dirPerm); err != nil {
			// A full disk still has what is on it.
			if ok, e := vfs.Exists(c.o.FS, dir); e != nil || !ok {
				return err
			}
		}
	}
	names, err := c.o.FS.List(c.o.Dir)
	if err != nil {
		return errs.E("mixnet/dircache.load", errs.Unavailable, "", err)
	}
	for _, name := range names {
		number, ok := strings.CutPrefix(name, "consensus-")
		number, end := strings.CutSuffix(number, ".txt")
		epoch, err := strconv.ParseUint(number, 10, 64)
		switch {
		case strings.HasSuffix(name, ".tmp"):
			_ = c.o.FS.Remove(c.path(name)) // was never whole
		case ok && end && err == nil && name == fileName(epoch):
			c.loadOne(name, epoch)
		}
	}
	slices.SortFunc(c.list, func(a, b *entry) int { return cmp.Compare(a.c.Epoch, b.c.Epoch) })
	c.prune()
	return c.loadProofs()
}

// loadOne reads one file. The signatures are checked again: the network file may name other
// authorities now, and files can be damaged.
func (c *Cache) loadOne(name string, epoch uint64) {
	b, err := vfs.ReadFile(c.o.FS, c.path(name))
	var con *directory.Consensus
	if err == nil {
		con, err = directory.ParseConsensusAfter(b, c.Newest())
	}
	if err == nil && con.Epoch != epoch {
		err = errs.E("mixnet/dircache.load", errs.Corrupt, "the file holds another epoch than its name says", nil)
	}
	if err == nil {
		_, err = directory.Verify(c.o.Network, con, nil, con.ValidAfter())
	}
	if err != nil {
		c.o.Log.Warn("a kept consensus cannot be used and was set aside", "epoch", epoch, "why", errs.Public(err))
		_ = c.o.FS.Rename(c.path(name), c.path(asideName))
		return
	}
	c.list = append(c.list, &entry{c: con, saved: true})
}

// save writes one consensus. Cache.put is held.
func (c *Cache) save(e *entry) error {
	if e.saved {
		return nil
	}
	err := vfs.WriteFileAtomic(c.o.FS, c.path(fileName(e.c.Epoch)), e.c.Bytes(), filePerm)
	e.saved = err == nil
	return err
}

// saveAll writes what could not be written before.
func (c *Cache) saveAll() {
	c.put.Lock()
	defer c.put.Unlock()
	for _, e := range c.entries() {
		if err := c.save(e); err != nil {
			c.o.Log.Warn("the consensus could not be written to the disk", "epoch", e.c.Epoch, "why", errs.Public(err))
		}
	}
}

func (c *Cache) remove(epoch uint64) {
	if err := c.o.FS.Remove(c.path(fileName(epoch))); err == nil {
		_ = vfs.SyncDir(c.o.FS, c.o.Dir) // else it is removed at the next start
	}
}

func (c *Cache) loadProofs() error {
	names, err := c.o.FS.List(c.path(proofDir))
	if err != nil {
		return errs.E("mixnet/dircache.load", errs.Unavailable, "", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			_ = c.o.FS.Remove(c.path(proofDir, name))
			continue
		}
		b, err := vfs.ReadFile(c.o.FS, c.path(proofDir, name))
		var p *directory.Proof
		if err == nil {
			p, err = directory.ParseProof(b)
		}
		if err == nil {
			err = directory.VerifyProof(c.o.Network, p)
		}
		if err == nil && len(c.proofs) < maxProofs {
			c.proofs = append(c.proofs, p)
		}
	}
	return nil
}

// expose keeps the proofs against those who signed two consensuses of one epoch.
func (c *Cache) expose(mine, other *directory.Consensus) {
	for _, p := range directory.Equivocations(c.o.Network, mine, other) {
		c.mu.Lock()
		known := slices.ContainsFunc(c.proofs, func(o *directory.Proof) bool {
			return o.Kind == p.Kind && o.Accused == p.Accused && o.Epoch == p.Epoch
		})
		room := len(c.proofs) < maxProofs
		if !known && room {
			c.proofs = append(c.proofs, p)
		}
		c.mu.Unlock()
		if known || !room {
			continue
		}
		name := fmt.Sprintf("%s-%d-%x.txt", p.Kind, p.Epoch, p.Accused[:8])
		if err := vfs.WriteFileAtomic(c.o.FS, c.path(proofDir, name), p.Bytes(), filePerm); err != nil {
			c.o.Log.Warn("a proof against an authority could not be written to the disk", "why", errs.Public(err))
		}
		c.o.Proof(p)
	}
}

// Proofs gives what authorities were convicted of here, at most maxProofs.
func (c *Cache) Proofs() []*directory.Proof {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.proofs)
}
