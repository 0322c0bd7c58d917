package dircache

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// MaxFiles bounds the descriptors that are read beside the directory.
const MaxFiles = 64

// maxPathName is the longest file that can be the name of another one.
const maxPathName = 4096

// ReadDescriptor reads the file of a descriptor, or a file that names it, as a node's
// current-desc does, and gives its bytes too. Those of vfs.ReadFile and
// directory.ParseDescriptor, with the name of the file in the public text of the latter.
func ReadDescriptor(fs vfs.FS, name string) (*directory.Descriptor, []byte, error) {
	const op = "mixnet/dircache.ReadDescriptor"
	b, err := vfs.ReadFile(fs, name)
	if err == nil && len(b) < maxPathName && !strings.Contains(strings.TrimSpace(string(b)), "\n") {
		b, err = vfs.ReadFile(fs, strings.TrimSpace(string(b)))
	}
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	d, err := directory.ParseDescriptor(b)
	if err != nil {
		return nil, nil, errs.E(op, errs.KindOf(err), name+": "+errs.Public(err), err)
	}
	return d, b, nil
}

// ReadDescriptors reads descriptors that are to be known beside the directory. Each path is a file
// as of ReadDescriptor, or a directory of such files, without those below. A descriptor counts if
// its signature is valid, it is of the network, and it is fresh at now; of two by one node the
// later. What cannot be used is left out and told, with its path, in faults.
func ReadDescriptors(fs vfs.FS, n *directory.Network, now time.Time, paths []string) (list []*directory.Descriptor, faults []error) {
	const op = "mixnet/dircache.ReadDescriptors"
	byID := make(map[packet.ID]*directory.Descriptor)
	read := 0
	for _, path := range expand(fs, paths) {
		if read++; read > MaxFiles {
			faults = append(faults, errs.E(op, errs.TooLarge, fmt.Sprintf("%s: there are more than %d descriptors", path, MaxFiles), nil))
			break
		}
		d, _, err := ReadDescriptor(fs, path)
		switch {
		case errs.KindOf(err) == errs.NotFound:
			err = errs.E(op, errs.NotFound, path+": there is no such file", err)
		case err == nil:
			if err = d.Fresh(n, now); err != nil {
				err = errs.E(op, errs.KindOf(err), path+": "+errs.Public(err), err)
			}
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if old := byID[d.ID()]; old == nil || d.Published.After(old.Published) {
			byID[d.ID()] = d
		}
	}
	for _, d := range byID {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *directory.Descriptor) int {
		x, y := a.ID(), b.ID()
		return slices.Compare(x[:], y[:])
	})
	return list, faults
}

// expand puts the files of directories in the place of those, in the order of their names.
func expand(fs vfs.FS, paths []string) (all []string) {
	for _, p := range paths {
		info, err := fs.Stat(p)
		if err != nil || !info.IsDir() {
			all = append(all, p)
			continue
		}
		names, err := fs.List(p)
		if err != nil {
			all = append(all, p)
			continue
		}
		slices.Sort(names)
		for _, name := range names {
			f := fs.PathJoin(p, name)
			if info, err := fs.Stat(f); err == nil && !info.IsDir() {
				all = append(all, f)
			}
		}
	}
	return all
}
