package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

const (
	// formatVersion is the layout of keys in Pebble. A store of another version is
	// not opened.
	formatVersion = 1

	// spareBytes is what must be free on the disk, beside the size of the logs
	// that Open rewrites into tables, before Open touches anything.
	spareBytes = 4 << 20

	// openGrace is how long Open waits for pebble.Open to end after the disk failed
	// under it. A directory left behind so stays locked until the process ends.
	openGrace = 100 * time.Millisecond

	// manifestBytes is from which size on the MANIFEST is begun anew. It names the
	// first and last key of each table; a small one forgets those of old tables.
	manifestBytes = 64 << 10
)

// Records of the engine itself lie above all shards.
var (
	metaPrefix  = [2]byte{0xff, 0xff}
	metaVersion = fullKey(metaPrefix, []byte("version"))
	metaDirty   = fullKey(metaPrefix, []byte("dirty"))
	metaEnd     = []byte{0xff, 0xff, 0xff}
)

// Open opens the store in o.Dir, or makes it. Kinds of errors: errs.Busy when
// another process or Open holds it, errs.NoSpace when the disk is too full to
// recover the logs, errs.Corrupt when the files do not hold what they should,
// errs.Unsupported for a store of another version, errs.Unavailable when the
// disk fails. Everything that the store shows after Open is durable.
func Open(ctx context.Context, o Options) (*DB, error) {
	const op = "store/pebble.Open"
	if o.Dir == "" {
		return nil, errs.E(op, errs.Invalid, "the store needs a directory", nil)
	}
	if err := ctx.Err(); err != nil {
		return nil, errs.E(op, errs.Canceled, "", err)
	}
	o = o.withDefaults()
	if err := prepareDir(o.FS, o.Dir); err != nil {
		return nil, openError(op, err)
	}
	lock, err := pebble.LockDirectory(o.Dir, o.FS)
	if err != nil {
		return nil, lockError(op, err)
	}
	d := &DB{
		o: o, log: o.Logger, guard: newGuard(), lock: lock,
		cache:   pebble.NewCache(o.CacheBytes + cachedTables*o.MemTableBytes),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		purging: make(chan struct{}, 1),
	}
	d.queue.init()
	d.snaps.init()
	if err := d.openLocked(); err != nil {
		d.cache.Unref()
		_ = lock.Close()
		return nil, err
	}
	d.snaps.publish(d.pdb.NewSnapshot())
	go d.snaps.sweep()
	go d.commitLoop()
	return d, nil
}

// openLocked is Open after the directory was locked.
func (d *DB) openLocked() error {
	const op = "store/pebble.Open"
	born, err := finishedCreation(d.o.FS, d.o.Dir)
	if err != nil {
		return openError(op, err)
	}
	if err := d.openPebble(); err != nil {
		return openError(op, err)
	}
	err = d.readMeta()
	if err == nil && !born {
		path := d.o.FS.PathJoin(d.o.Dir, bornFile)
		if err = vfs.WriteFileAtomic(d.o.FS, path, []byte(bornText), 0o600); err != nil {
			err = openError(op, err)
		}
	}
	if err != nil {
		close(d.guard.release)
		_ = d.pdb.Close()
	}
	return err
}

const (
	bornFile = "STORE"
	bornText = "This directory is a store of Postern.\n"

	// unbornLog is how large the log of a store can be whose creation was cut.
	unbornLog = 4 << 10
)

// finishedCreation reports whether the store was once opened with success: then
// bornFile is there. Without it, a few small files are what a crash left of a
// creation, in which nothing can have been acknowledged yet; Pebble may be unable
// to open them (the file that names the MANIFEST can survive without it), so they
// are removed. Anything that looks like more is left to Pebble.
func finishedCreation(f vfs.FS, dir string) (bool, error) {
	born, err := vfs.Exists(f, f.PathJoin(dir, bornFile))
	if born || err != nil {
		return born, err
	}
	names, err := f.List(dir)
	if err != nil {
		return false, err
	}
	var remove []string
	for _, n := range names {
		path := f.PathJoin(dir, n)
		switch {
		case n == "LOCK":
			continue
		case isLog(n):
			info, err := f.Stat(path)
			if err != nil {
				return false, err
			}
			if info.Size() > unbornLog {
				return false, nil
			}
		case strings.HasPrefix(n, "MANIFEST-"), strings.HasPrefix(n, "OPTIONS-"),
			strings.HasPrefix(n, "marker."), strings.HasSuffix(n, ".dbtmp"), n == bornFile+".tmp":
		default:
			return false, nil
		}
		remove = append(remove, path)
	}
	for _, path := range remove {
		if err := f.Remove(path); err != nil {
			return false, err
		}
	}
	if len(remove) == 0 {
		return false, nil
	}
	return false, vfs.SyncDir(f, dir)
}

// prepareDir makes the directory for its owner only and sees to room on the disk.
// Pebble itself would try to write out its logs for ever on a full disk.
func prepareDir(f vfs.FS, dir string) error {
	if err := vfs.MkdirAll(f, dir, 0o700); err != nil {
		return err
	}
	names, err := f.List(dir)
	if err != nil {
		return err
	}
	need := uint64(spareBytes)
	for _, n := range names {
		if isLog(n) {
			if info, err := f.Stat(f.PathJoin(dir, n)); err == nil {
				need += uint64(info.Size())
			}
		}
	}
	use, err := f.GetDiskUsage(dir)
	if err != nil {
		return nil // this disk does not tell
	}
	if use.AvailBytes < need {
		return syscall.ENOSPC
	}
	return nil
}

// openPebble runs pebble.Open and leaves it behind when the disk fails under it:
// its recovery tries to write tables again and again, without end.
func (d *DB) openPebble() error {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result)
	abandoned := make(chan struct{})
	opts := d.pebbleOptions()
	go func() {
		r := result{}
		defer func() {
			if p := recover(); p != nil {
				r.err = panicError(p)
			}
			select {
			case done <- r:
			case <-abandoned:
				if r.db != nil {
					_ = r.db.Close()
				}
			}
		}()
		r.db, r.err = pebble.Open(d.o.Dir, opts)
	}()
	var r result
	select {
	case r = <-done:
	case <-d.guard.tripped:
		t := time.NewTimer(openGrace)
		defer t.Stop()
		select {
		case r = <-done:
		case <-t.C:
			close(abandoned)
			d.guard.waits.Store(true) // it shall stand still, not run in a circle
			return d.guard.failure()
		}
	}
	if failure := d.guard.failure(); failure != nil {
		if r.err == nil {
			_ = r.db.Close()
		}
		return failure
	}
	if r.err != nil {
		return r.err
	}
	d.guard.waits.Store(true)
	d.pdb = r.db
	return nil
}

func (d *DB) pebbleOptions() *pebble.Options {
	l := logger{d.log, d.guard}
	o := &pebble.Options{
		FS:                          guardFS{d.o.FS, d.guard},
		Lock:                        d.lock,
		Cache:                       d.cache,
		Cleaner:                     pebble.ArchiveCleaner{}, // see archiveDir
		Comparer:                    pebble.DefaultComparer,
		EventListener:               d.events(),
		FormatMajorVersion:          pebble.FormatNewest,
		LBaseMaxBytes:               4 * d.o.MemTableBytes,
		Logger:                      l,
		MaxManifestFileSize:         manifestBytes,
		MemTableSize:                uint64(d.o.MemTableBytes),
		MemTableStopWritesThreshold: 3,
	}
	// Values are ciphertext: compressing them costs time and gains nothing.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.TargetFileSizes[i] = d.o.MemTableBytes / 2 // Purge rewrites whole tables, and up to ten below each
	}
	return o
}

func (d *DB) events() *pebble.EventListener {
	l := logger{d.log, d.guard}
	return &pebble.EventListener{
		CompactionBegin: func(i pebble.CompactionInfo) { d.jobs.begin(i.JobID) },
		CompactionEnd:   func(i pebble.CompactionInfo) { d.jobs.end(i.JobID) },
		FlushBegin:      func(i pebble.FlushInfo) { d.jobs.begin(i.JobID) },
		FlushEnd:        func(i pebble.FlushInfo) { d.jobs.end(i.JobID) },
		TableDeleted:    func(pebble.TableDeleteInfo) { d.jobs.changed() },
		WALDeleted:      func(pebble.WALDeleteInfo) { d.jobs.changed() },
		BackgroundError: func(err error) { l.Errorf("background work: %v", err) },
	}
}

// readMeta checks the version of the store, or writes it into a new one, and
// reads which shards hold bytes that Purge has to see to.
func (d *DB) readMeta() error {
	const op = "store/pebble.Open"
	v, err := getCopy(d.pdb, metaVersion)
	switch {
	case errors.Is(err, errs.NotFound):
		err = d.inside(func() error {
			return d.pdb.Set(metaVersion, binary.BigEndian.AppendUint32(nil, formatVersion), pebble.Sync)
		})
		if err != nil {
			return openError(op, err)
		}
	case err != nil:
		return openError(op, err)
	case len(v) != 4 || binary.BigEndian.Uint32(v) != formatVersion:
		return errs.E(op, errs.Unsupported, "the store was written by another version of the program", nil)
	}
	bits, err := getCopy(d.pdb, metaDirty)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return openError(op, err)
	}
	return d.dirty.load(bits)
}

func lockError(op string, err error) error {
	// Pebble's message for a directory that this process has open has no type.
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "lock held by current process") {
		return errs.E(op, errs.Busy, publicInUse, err)
	}
	return openError(op, err)
}

func openError(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return errs.E(op, errs.NoSpace, "the disk is too full to open the store", err)
	case errors.Is(err, syscall.EROFS):
		return errs.E(op, errs.Unavailable, "the disk of the store is read-only", err)
	case errors.Is(err, errs.Corrupt), pebble.IsCorruptionError(err):
		return errs.E(op, errs.Corrupt, "the store is damaged; run the store check", err)
	case errors.Is(err, fs.ErrPermission):
		return errs.E(op, errs.Denied, "the directory of the store may not be read or written", err)
	}
	return errs.E(op, errs.Unavailable, "the store could not be opened", err)
}
