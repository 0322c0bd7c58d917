package mix

import (
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// losses loses packets on purpose, for experiments, and counts them in a file. The file is
// written at each packet and not synced: it is to outlive a kill of the process, not a power cut.
type losses struct {
	share  float64        // that is lost, 0 to 1
	chance func() float64 // from 0 to less than 1

	mu   sync.Mutex
	file vfs.File
	n    Losses
}

// Losses is what a node with experiment.lose counted since its data directory was made.
type Losses struct {
	Came uint64 // packets that came to be sent on
	Lost uint64 // of them
}

// LossesFile is where it is counted, below server.base_dir, unless server.work_dir says otherwise.
const LossesFile = "work/lost"

// lossesForm is the whole file; it is as long at all times, so that it can be written in place.
const lossesForm = "%020d came\n%020d lost\n"

// openLosses begins, or goes on with what the file counted. chance nil: the system's.
func openLosses(fs vfs.FS, path string, share float64, chance func() float64) (*losses, error) {
	const op = "role/mix.openLosses"
	if chance == nil {
		chance = mathrand.Float64
	}
	l := &losses{share: share, chance: chance}
	text, err := vfs.ReadFile(fs, path)
	switch {
	case err == nil && len(text) > 0:
		l.n, err = ParseLosses(text)
	case errs.KindOf(err) == errs.NotFound:
		err = nil
	}
	if err != nil {
		return nil, errs.E(op, errs.KindOf(err), "cannot read "+path+", where lost packets are counted; take it away to begin anew", err)
	}
	if l.file, err = fs.OpenReadWrite(path, vfs.Unspecified); err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot write "+path, err)
	}
	return l, nil
}

// ParseLosses reads the file that experiment.lose writes. errs.Corrupt for anything else.
func ParseLosses(text []byte) (n Losses, err error) {
	_, err = fmt.Sscanf(string(text), lossesForm, &n.Came, &n.Lost)
	if err != nil || fmt.Sprintf(lossesForm, n.Came, n.Lost) != string(text) {
		return Losses{}, errs.E("role/mix.ParseLosses", errs.Corrupt, "these are no counts of lost packets", err)
	}
	return n, nil
}

// lose draws for one packet (node.Options.Lose).
func (l *losses) lose() bool {
	lost := l.chance() < l.share
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n.Came++
	if lost {
		l.n.Lost++
	}
	// Where the disk takes nothing, the node's log refuses packets, which says enough.
	_, _ = l.file.WriteAt(fmt.Appendf(nil, lossesForm, l.n.Came, l.n.Lost), 0)
	return lost
}

func (l *losses) close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}

// checkExperiment keeps experiments away from networks that people use.
func (c Config) checkExperiment() string {
	if c.Experiment.Lose == 0 {
		return ""
	}
	for _, a := range slices.Concat(c.Incoming.Listen, c.Incoming.Addresses) {
		if at, err := netip.ParseAddrPort(a); err != nil || !at.Addr().Unmap().IsLoopback() {
			return "experiment.lose is for a network on one machine: incoming.listen and incoming.addresses must be 127.0.0.1 or ::1 with a port"
		}
	}
	return ""
}
