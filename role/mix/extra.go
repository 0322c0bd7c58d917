package mix

import (
	"context"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/node"
)

// extraShare is how often in an epoch the descriptors in files are read: nodes make new ones
// more seldom, and one is fresh for four epochs.
const extraShare = 4

// addExtra adds the descriptors in files to what the node is told. What cannot be used is named
// among the insecurities, where the operator looks.
func (s *Server) addExtra(c Config, to *node.Settings) {
	var paths []string
	for _, p := range c.Directory.Extra {
		paths = append(paths, c.path(p))
	}
	var faults []error
	to.Extra, faults = dircache.ReadDescriptors(s.d.FS, s.network, s.d.Now(), paths)
	to.Insecure = c.insecure()
	for _, err := range faults {
		to.Insecure = append(to.Insecure, "a descriptor of directory.extra_descriptors is not used: "+errs.Public(err))
	}
}

// rereadExtra keeps up with what is in those files until ctx ends.
func (s *Server) rereadExtra(ctx context.Context) error {
	t := time.NewTicker(max(s.network.Period()/extraShare, time.Second))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := s.refreshExtra(); err != nil {
			s.d.Logger.Warn("descriptors in files could not be taken over", "error", errs.Public(err))
		}
	}
}

// refreshExtra has the node told what is in the files now, if it is something else.
func (s *Server) refreshExtra() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.applied
	s.addExtra(s.c, &next)
	same := func(a, b *directory.Descriptor) bool { return a.Hash() == b.Hash() }
	if slices.EqualFunc(next.Extra, s.applied.Extra, same) && slices.Equal(next.Insecure, s.applied.Insecure) {
		return nil
	}
	if err := s.node.Reload(next); err != nil {
		return err
	}
	s.applied = next
	return nil
}
