package replay

import (
	"fmt"
	"log/slog"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Bounds of what is kept aside besides Options.MaxAside.
const (
	maxAsideFiles = 4096
	maxAsideFile  = 1 << 20 // of one damaged stretch, its beginning
)

// aside is what is damaged and kept for who wants to know what the disk did: the blocks as
// they were found, still sealed. A file's name says where they were and how many records
// they stand for, so that damage that is found again is not counted again.
type aside struct {
	list    []asideFile
	records int
	bytes   int64
}

type asideFile struct {
	name    string
	records int
	bytes   int64
}

func asideName(number uint64, block uint32, records int) string {
	return fmt.Sprintf("crp-%016x-%08x-%d", number, block, records)
}

// parseAsideName reads what asideName gives.
func parseAsideName(s string) (number uint64, records int, ok bool) {
	var block uint32
	if _, err := fmt.Sscanf(s, "crp-%016x-%08x-%d", &number, &block, &records); err != nil {
		return 0, 0, false
	}
	return number, records, records >= 0 && asideName(number, block, records) == s
}

// setAside keeps the damaged blocks [from, to) of a segment and counts the records they
// stand for.
func (l *Log) setAside(s *segment, from, to uint32, records int) {
	name := asideName(s.number, from, records)
	n := min(int64(to-from)*blockLen, maxAsideFile)
	l.mu.Lock()
	a := &l.aside
	for _, f := range a.list {
		if strings.TrimRight(f.name, "0123456789") == strings.TrimRight(name, "0123456789") {
			l.mu.Unlock()
			return // known
		}
	}
	a.records += records
	if a.bytes+n > l.o.MaxAside {
		n = 0
	}
	keep := len(a.list) < maxAsideFiles
	if keep {
		a.list = append(a.list, asideFile{name, records, n})
		a.bytes += n
	}
	l.mu.Unlock()
	l.o.Log.Warn("the log of packets is damaged", slog.Int("records", records))
	if !keep {
		return
	}
	b := make([]byte, n)
	_, _ = s.file.ReadAt(b, int64(from)*blockLen) // what cannot be read stays zero
	if err := vfs.WriteFileAtomic(l.o.FS, l.path(name), b, 0o600); err != nil {
		l.o.Log.Warn("a damaged packet could not be kept", slog.String("error", errs.Public(err)))
	}
}
