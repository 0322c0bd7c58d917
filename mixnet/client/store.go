package client

import (
	"io"
	"slices"
	"strings"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Store is what a client keeps on disk. Every file of it is sealed with a key of the Identity,
// which lies beside it: who has the disk without client.key learns how many messages there
// are and how long, and when files were written.
//
// One process runs the client (Client), others may use the Store at the same time: what waits
// to be sent is added by anybody (Queue), what has come is taken out by one at a time (Collect).
// Each other file has one writer.
type Store struct {
	fs     vfs.FS
	dir    string
	id     *Identity
	random io.Reader
	now    func() time.Time
	limits StoreLimits
}

// StoreLimits bound a Store. Zero values stand for the defaults.
type StoreLimits struct {
	Messages int           // that wait; DefaultMessages
	Bytes    int64         // of them; DefaultMessageBytes
	Inbox    int           // fragments that have come and were not collected; DefaultInbox
	Keep     time.Duration // of fragments whose letter does not become whole; DefaultKeep
	Results  time.Duration // for how long it is known what became of a message; DefaultResults
}

// Defaults of a Store.
const (
	DefaultMessages     = 1000
	DefaultMessageBytes = 512 << 20
	DefaultInbox        = 20_000
	DefaultKeep         = 30 * 24 * time.Hour
	DefaultResults      = 7 * 24 * time.Hour
)

// The directories and files of a Store.
const (
	outDir       = "out"
	inDir        = "in"
	seedsFile    = "seeds"    // of acknowledgements; the client's
	answeredFile = "answered" // reply blocks that were answered; the client's
	blocksFile   = "blocks"   // reply blocks that were given away; of commands
	usedFile     = "used"     // reply blocks of others that were used; of commands
	knownFile    = "known"    // letters that were collected; of commands
	nymsFile     = "nyms"     // reply addresses; of Nyms
	threadsFile  = "threads"  // mails that came for them; of Nyms
	tempSuffix   = ".tmp"     // of vfs.WriteFileAtomic
)

// OpenStore opens or makes the store in a directory, which must exist. random nil: crypto/rand; now
// nil: time.Now.
func OpenStore(fs vfs.FS, dir string, id *Identity, limits StoreLimits, random io.Reader, now func() time.Time) (*Store, error) {
	const op = "mixnet/client.OpenStore"
	defaults.Positive(&limits.Messages, DefaultMessages)
	defaults.Positive(&limits.Bytes, DefaultMessageBytes)
	defaults.Positive(&limits.Inbox, DefaultInbox)
	defaults.Positive(&limits.Keep, DefaultKeep)
	defaults.Positive(&limits.Results, DefaultResults)
	defaults.Rand(&random)
	defaults.Clock(&now)
	s := &Store{fs: fs, dir: dir, id: id, random: random, now: now, limits: limits}
	for _, d := range []string{outDir, inDir} {
		if err := vfs.MkdirAll(fs, s.path(d), 0o700); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	return s, nil
}

// Identity gives the secrets of the client.
func (s *Store) Identity() *Identity { return s.id }

// path gives the place of a name with slashes.
func (s *Store) path(name string) string {
	return s.fs.PathJoin(append([]string{s.dir}, strings.Split(name, "/")...)...)
}

// names lists the files in one of the directories that end in suffix, without it.
func (s *Store) names(dir, suffix string) ([]string, error) {
	all, err := s.fs.List(s.path(dir))
	if err != nil {
		return nil, vfs.Error("mixnet/client.Store", err)
	}
	var out []string
	for _, n := range all {
		if base, ok := strings.CutSuffix(n, suffix); ok && !strings.HasSuffix(n, tempSuffix) {
			out = append(out, base)
		}
	}
	return out, nil
}

// items lists the fragments in the inbox, in the order of their numbers.
func (s *Store) items() ([]string, error) {
	all, err := s.names(inDir, "")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n string) bool {
		return len(n) != 16 || strings.Trim(n, "0123456789abcdef") != ""
	})
	slices.Sort(all)
	return all, nil
}

// remove removes files of a directory, and makes that durable. What is not there is well.
func (s *Store) remove(dir string, names ...string) error {
	const op = "mixnet/client.Store.remove"
	for _, n := range names {
		p := s.path(dir + "/" + n)
		if ok, err := vfs.Exists(s.fs, p); err != nil {
			return errs.Wrap(op, err)
		} else if !ok {
			continue
		}
		if err := s.fs.Remove(p); err != nil {
			if ok, eerr := vfs.Exists(s.fs, p); eerr == nil && !ok {
				continue // another process was quicker
			}
			return vfs.Error(op, err)
		}
	}
	return errs.Wrap(op, vfs.SyncDir(s.fs, s.path(dir)))
}
