package replay

import (
	"errors"
	"io"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Names in the directory of a log, besides segments, tag files and what is aside.
const (
	formatName = "format"
	lockName   = "LOCK"
)

const formatMagic = "PSTNLOG\n"

// Open opens a log, which is made if there is none, and finds out what waits in it. A torn
// end is cut off; damage is set aside and counted. Kinds of errors: errs.Invalid (an option
// is missing), errs.Busy (somebody has it open), errs.Denied (another secret),
// errs.Unsupported (a later version wrote it), errs.NoSpace, errs.Unavailable.
func Open(o Options) (*Log, error) {
	const op = "mixnet/replay.Open"
	if o.FS == nil || o.Dir == "" || o.Rand == nil || len(o.Secret) < secretLen {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no FS, Dir, Rand or Secret"))
	}
	l := &Log{
		o:       o.withDefaults(),
		secret:  slices.Clone(o.Secret),
		slots:   make(chan struct{}, MaxCallers),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		ended:   make(chan struct{}),
		waiting: make(map[uint64]*Entry),
	}
	l.c.keys = make(map[Key]*keyState)
	l.c.group.seen = make(map[tagged]struct{})
	l.c.body = make([]byte, 0, BufferLen)
	l.calls.New = func() any { return &call{done: make(chan error, 1)} }
	if err := vfs.MkdirAll(o.FS, o.Dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	lock, err := o.FS.Lock(l.path(lockName))
	if err != nil {
		return nil, errs.E(op, errs.Busy, "the log of packets is in use, or cannot be locked", err)
	}
	l.lock = lock
	if err := l.recover(); err != nil {
		l.abandon()
		return nil, errs.Wrap(op, err)
	}
	l.clean = cleaner{wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	go l.cleanUp()
	return l, nil
}

func (l *Log) abandon() {
	for _, s := range l.segs {
		_ = s.file.Close()
	}
	_ = l.lock.Close()
}

// recover reads the directory.
func (l *Log) recover() error {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return diskError("mixnet/replay.recover", err)
	}
	var numbers []uint64
	var keys []Key
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, ".tmp"); ok && l.ours(base) {
			_ = l.o.FS.Remove(l.path(name)) // a file that was never finished
			continue
		}
		if n, ok := parseSegmentName(name); ok {
			numbers = append(numbers, n)
		} else if k, ok := parseTagFileName(name); ok {
			keys = append(keys, k)
		} else if n, records, ok := parseAsideName(name); ok {
			l.c.number = max(l.c.number, n) // a name is never given twice
			l.noteAside(name, records)
		}
	}
	slices.Sort(numbers)
	if err := l.openSegments(numbers); err != nil {
		return err
	}
	if err := l.checkFormat(); err != nil {
		return err
	}
	if err := l.loadKeys(keys); err != nil {
		return err
	}
	return l.readSegments()
}

func (l *Log) ours(name string) bool {
	_, seg := parseSegmentName(name)
	_, tags := parseTagFileName(name)
	_, _, crp := parseAsideName(name)
	return seg || tags || crp || name == formatName
}

func (l *Log) noteAside(name string, records int) {
	f := asideFile{name: name, records: records}
	if info, err := l.o.FS.Stat(l.path(name)); err == nil {
		f.bytes = info.Size()
	}
	l.aside.list = append(l.aside.list, f)
	l.aside.records += records
	l.aside.bytes += f.bytes
}

// openSegments opens the files of segments whose header is whole. One that was being
// dropped goes; one whose header is damaged is judged by badHeader once the format is known.
func (l *Log) openSegments(numbers []uint64) error {
	const op = "mixnet/replay.openSegments"
	for _, n := range numbers {
		l.c.number = max(l.c.number, n)
		path := l.path(segmentName(n))
		f, err := l.o.FS.OpenReadWrite(path, vfs.Unspecified)
		if err != nil {
			return diskError(op, err)
		}
		b := make([]byte, blockLen)
		got, err := f.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			_ = f.Close()
			return diskError(op, err)
		}
		s := &segment{file: f}
		s.header, s.aead, err = readHeader(l.secret, b[:got])
		switch {
		case errs.KindOf(err) == errs.NotFound:
			// The zeros may not have reached the disk: once more.
			if err := errors.Join(f.Close(), vfs.Shred(l.o.FS, path, blockLen)); err != nil {
				return diskError(op, err)
			}
			continue
		case err != nil || s.number != n:
			s.aead, s.number = nil, n
		}
		l.segs = append(l.segs, s)
	}
	return nil
}

// checkFormat sees to it that the log is of this version and this secret.
func (l *Log) checkFormat() error {
	const op = "mixnet/replay.checkFormat"
	path := l.path(formatName)
	b, err := vfs.ReadFile(l.o.FS, path)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return errs.Wrap(op, err)
	}
	const size = 16 + saltLen + 16
	known := slices.ContainsFunc(l.segs, func(s *segment) bool { return s.aead != nil })
	if len(b) == size && string(b[:8]) == formatMagic {
		if v := b[11]; v > version || b[8]|b[9]|b[10] != 0 {
			return errs.E(op, errs.Unsupported, "the log of packets was written by a later version", nil)
		}
		want, err := l.format([saltLen]byte(b[16:]))
		if err != nil || string(want) == string(b) {
			return err
		}
		if !known {
			return errs.E(op, errs.Denied, publicSecret, nil)
		}
	} else if len(l.segs) > 0 && !known {
		return errs.E(op, errs.Denied, publicSecret, nil)
	}
	// New, or damaged while a segment shows that the secret is right.
	var salt [saltLen]byte
	if _, err := io.ReadFull(l.o.Rand, salt[:]); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	if b, err = l.format(salt); err != nil {
		return err
	}
	return errs.Wrap(op, vfs.WriteFileAtomic(l.o.FS, path, b, 0o600))
}

// format is the content of the file format.
func (l *Log) format(salt [saltLen]byte) ([]byte, error) {
	check, err := derive(l.secret, salt[:], "check")
	if err != nil {
		return nil, errs.E("mixnet/replay.format", errs.Internal, "", err)
	}
	b := append([]byte(formatMagic), 0, 0, 0, version, 0, 0, 0, 0)
	return append(append(b, salt[:]...), check[:16]...), nil
}

// loadKeys reads the tag files.
func (l *Log) loadKeys(keys []Key) error {
	for _, key := range keys {
		k, damaged, err := loadTags(l.o.FS, l.path(tagFileName(key)), l.secret, key)
		switch {
		case err == nil:
		case errs.KindOf(err) == errs.NotFound:
			if err := l.shredTags(key); err != nil {
				return err
			}
			continue
		case errs.KindOf(err) == errs.Corrupt:
			k = &keyState{key: key, lost: true}
			l.stats.LostKeys++
		default:
			return err
		}
		l.stats.LostTags += damaged
		l.c.keys[key] = k
	}
	return nil
}

// readSegments reads all segments and ends the last one.
func (l *Log) readSegments() error {
	c := &l.c
	segs := l.segs
	l.segs = nil
	for i, s := range segs {
		if s.aead == nil {
			if err := l.badHeader(s); err != nil {
				return err
			}
			continue
		}
		l.segs = append(l.segs, s)
		acked := uint64(noAcked)
		last := i == len(segs)-1
		if !last && segs[i+1].aead != nil {
			acked = segs[i+1].acked
		}
		if err := l.readSegment(s, acked, last); err != nil {
			return err
		}
		c.seq = max(c.seq, s.first-1)
		c.acked = c.seq
	}
	for _, k := range c.keys {
		c.tags += k.set.n
		if k.ended {
			if err := l.shredTags(k.key); err != nil {
				return err
			}
		}
	}
	for _, e := range l.waiting {
		e.seg.pending++
		e.seg.live += e.blocks()
	}
	l.countKeys()
	return nil
}

// badHeader keeps a segment aside whose header is damaged: nothing in it can be opened.
func (l *Log) badHeader(s *segment) error {
	const op = "mixnet/replay.badHeader"
	_ = s.file.Close()
	name := asideName(s.number, 0, 1)
	if err := l.o.FS.Rename(l.path(segmentName(s.number)), l.path(name)); err != nil {
		return diskError(op, err)
	}
	l.noteAside(name, 1)
	return errs.Wrap(op, vfs.SyncDir(l.o.FS, l.o.Dir))
}

// readSegment takes in the records of a segment; acked is the last one that was
// acknowledged.
func (l *Log) readSegment(s *segment, acked uint64, last bool) error {
	const op = "mixnet/replay.readSegment"
	info, err := s.file.Stat()
	if err != nil {
		return diskError(op, err)
	}
	s.blocks = uint32((info.Size() + blockLen - 1) / blockLen)
	sc := l.scan(s, acked)
	if last && !sc.ended {
		if err := l.cut(s, &sc); err != nil {
			return err
		}
	}
	for _, h := range sc.holes {
		l.setAside(s, h.from, h.to, h.records)
	}
	for i := range sc.records {
		if err := l.takeIn(s, &sc.records[i]); err != nil {
			return err
		}
	}
	if n := len(sc.records); n > 0 {
		l.c.seq = max(l.c.seq, sc.records[n-1].seq)
	}
	return nil
}
