package stats

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Defaults and bounds.
const (
	DefaultInterval = 24 * time.Hour
	DefaultSave     = time.Minute
	MinInterval     = time.Second // for tests; an interval under two hours is an insecurity, which role/mix prints

	MaxEvents    = 64   // names of events
	MaxArguments = 1024 // arguments of one event; further ones are counted as Other
	MaxArgument  = 64   // bytes of an argument; a longer one is counted as Other
)

// Other is the argument under which arguments are counted that are too many, too long or not
// printable.
const Other = "(other)"

// Options say where statistics lie. FS, Cache and Now are needed.
type Options struct {
	FS       vfs.FS
	Cache    string        // the counts of the period that has not ended (stats.tmp)
	File     string        // where periods are written when they end (stats); "": nowhere
	Interval time.Duration // 24 h: of a period, whole seconds
	Save     time.Duration // 1 min: how often Run saves the counts
	Now      func() time.Time
	Log      *slog.Logger // nil: nothing is logged
}

// Stats counts. All methods may be called by many goroutines.
type Stats struct {
	o Options

	disk sync.Mutex // held by who writes; taken before mu

	mu     sync.Mutex
	counts map[string]map[string]uint64
	period
	last    time.Time // up to which observed counts; zero: nobody observes
	damaged bool      // the cache could not be read
}

// period is the one that has not ended.
type period struct {
	began    time.Time // whole seconds
	observed time.Duration
	ending   *ending
}

// ending is a period that is being written to the file.
type ending struct {
	at     time.Time
	offset int64 // of its first byte in the file
}

// Open reads the cache and writes nothing. A cache that cannot be read is as none; Run sets it
// aside. Kinds of errors: errs.Invalid (options), errs.Denied, errs.Unavailable.
func Open(o Options) (*Stats, error) {
	const op = "mixnet/stats.Open"
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Save = cmp.Or(o.Save, DefaultSave)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil || o.Cache == "" || o.Now == nil || o.Save < 0 {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no FS, Cache or Now"))
	}
	if o.Interval < MinInterval || o.Interval%time.Second != 0 {
		return nil, errs.E(op, errs.Invalid, "the interval of statistics is whole seconds", nil)
	}
	s := &Stats{o: o}
	s.beginLocked(o.Now())
	b, err := vfs.ReadFile(o.FS, o.Cache)
	switch errs.KindOf(err) {
	case errs.NotFound:
		return s, nil
	case errs.TooLarge:
		s.damaged = true
		return s, nil
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	p, counts, err := parseCache(b)
	if err != nil {
		s.damaged = true
		return s, nil
	}
	s.period, s.counts = p, counts
	return s, nil
}

// beginLocked begins a period.
func (s *Stats) beginLocked(now time.Time) {
	s.period = period{began: now.UTC().Truncate(time.Second)}
	s.counts = make(map[string]map[string]uint64)
}

// Count counts one event. arg says more about it (the nickname of a node, the name of a way to
// deliver), or is "". It never holds anything that names a user. An event beyond MaxEvents or with a
// name that is not made of up to 32 letters and digits is not counted.
func (s *Stats) Count(event, arg string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	args := s.counts[event]
	if args == nil {
		if !validEvent(event) || len(s.counts) >= MaxEvents {
			return
		}
		args = make(map[string]uint64)
		s.counts[event] = args
	}
	if _, known := args[arg]; !known && (len(args) >= MaxArguments-1 || !validArgument(arg)) {
		arg = Other // for which one place is kept
	}
	args[arg]++
}

// Run observes: it counts the time, saves now and then, and ends the period when it is over. It
// returns when ctx ends, after saving a last time; that is no error. Failures of the disk are
// logged and tried again.
func (s *Stats) Run(ctx context.Context) error {
	const op = "mixnet/stats.Run"
	if err := s.setAside(); err != nil {
		return errs.Wrap(op, err)
	}
	s.observe(true)
	defer s.observe(false)
	tick := time.NewTicker(s.o.Save)
	defer tick.Stop()
	for {
		if err := s.Save(); err != nil {
			s.o.Log.Warn("the statistics could not be saved", "kind", errs.KindOf(err))
		}
		select {
		case <-ctx.Done():
			return errs.Wrap(op, s.Save())
		case <-tick.C:
		}
	}
}

// observe begins or ends the time that is observed.
func (s *Stats) observe(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Time{}
	if on {
		s.last = s.o.Now()
	}
}

// passLocked adds the time since the last call to what was observed. A clock that was set makes
// a step that is longer than two saves can be apart: of that no more is counted.
func (s *Stats) passLocked(now time.Time) {
	if s.last.IsZero() {
		return
	}
	s.observed += min(max(0, now.Sub(s.last)), 2*s.o.Save)
	s.last = now
}

// overLocked reports whether the period has ended: Interval has passed, and three quarters of it
// were observed.
func (s *Stats) overLocked(now time.Time) bool {
	return now.Sub(s.began) >= s.o.Interval && s.observed*4 >= s.o.Interval*3
}

// setAside keeps a cache that cannot be read, so that nothing is written over it.
func (s *Stats) setAside() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	damaged := s.damaged
	s.mu.Unlock()
	if damaged {
		if err := s.o.FS.Rename(s.o.Cache, s.o.Cache+".crp"); err != nil {
			return vfs.Error("mixnet/stats.setAside", err)
		}
		s.o.Log.Warn("the cache of statistics could not be read and was set aside")
		s.mu.Lock()
		s.damaged = false
		s.mu.Unlock()
	}
	return nil
}

// Save writes the counts to the cache, durably, and ends the period if it is over. Kinds of
// errors: errs.NoSpace, errs.Denied, errs.NotFound (no such directory), errs.Unavailable.
func (s *Stats) Save() error {
	const op = "mixnet/stats.Save"
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	now := s.o.Now()
	s.passLocked(now)
	over := s.ending != nil || s.overLocked(now)
	s.mu.Unlock()
	if over {
		return errs.Wrap(op, s.end(now))
	}
	return errs.Wrap(op, s.cache())
}

// cache writes the cache.
func (s *Stats) cache() error {
	s.mu.Lock()
	b := appendCache(nil, &s.period, s.counts)
	s.mu.Unlock()
	return vfs.WriteFileAtomic(s.o.FS, s.o.Cache, b, 0o600)
}

// end ends the period: first the cache says where in the file the period will stand, then it is
// written there, then a new period begins. A failure or crash anywhere is mended by the next save,
// which writes the period at the same place: its counts only grow, so what may be there is
// covered.
func (s *Stats) end(now time.Time) error {
	offset, err := s.size()
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.ending != nil {
		offset = s.ending.offset
	}
	s.ending = &ending{at: now.UTC().Truncate(time.Second), offset: offset}
	p, counts := s.period, cloneCounts(s.counts)
	s.mu.Unlock()
	if err := vfs.WriteFileAtomic(s.o.FS, s.o.Cache, appendCache(nil, &p, counts), 0o600); err != nil {
		return err
	}
	if s.o.File != "" {
		if err := s.write(p, counts); err != nil {
			return err
		}
	}
	s.mu.Lock()
	// What was counted meanwhile belongs to the new period.
	rest := make(map[string]map[string]uint64)
	for event, args := range s.counts {
		for arg, n := range args {
			if n -= counts[event][arg]; n > 0 {
				if rest[event] == nil {
					rest[event] = make(map[string]uint64)
				}
				rest[event][arg] = n
			}
		}
	}
	s.period, s.counts = period{began: p.ending.at}, rest
	s.mu.Unlock()
	s.o.Log.Debug("a period of statistics has ended")
	return s.cache()
}

// size gives the bytes of the file of statistics, 0 if there is none.
func (s *Stats) size() (int64, error) {
	if s.o.File == "" {
		return 0, nil
	}
	info, err := s.o.FS.Stat(s.o.File)
	if err == nil {
		return info.Size(), nil
	}
	if err = vfs.Error("mixnet/stats.size", err); errs.KindOf(err) == errs.NotFound {
		return 0, nil
	}
	return 0, err
}

func cloneCounts(c map[string]map[string]uint64) map[string]map[string]uint64 {
	out := make(map[string]map[string]uint64, len(c))
	for event, args := range c {
		out[event] = maps.Clone(args)
	}
	return out
}

// write puts a period at its place in the file, durably. A file that was moved away meanwhile
// begins anew.
func (s *Stats) write(p period, counts map[string]map[string]uint64) error {
	const op = "mixnet/stats.write"
	f, err := s.o.FS.OpenReadWrite(s.o.File, vfs.Unspecified)
	if err != nil {
		return vfs.Error(op, err)
	}
	at := p.ending.offset
	info, err := f.Stat()
	if err == nil {
		at = min(at, info.Size())
		var b []byte
		if at == 0 {
			b = append(b, preface...)
		}
		b = appendPeriod(b, p.began, p.ending.at, counts)
		_, err = f.WriteAt(b, at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return vfs.Error(op, err)
	}
	return vfs.SyncDir(s.o.FS, s.o.FS.PathDir(s.o.File))
}

// Dump writes the period that has not ended, in the layout of the file. Kinds of errors are w's.
func (s *Stats) Dump(w io.Writer) error {
	s.mu.Lock()
	b := appendPeriod(nil, s.began, s.o.Now(), s.counts)
	s.mu.Unlock()
	_, err := w.Write(b)
	return err
}

// Reopen is for who moves the file of statistics away (logrotate): it makes sure that there is
// one that can be written to, and begins it if it is new. No file is kept open between periods.
func (s *Stats) Reopen() error {
	const op = "mixnet/stats.Reopen"
	if s.o.File == "" {
		return nil
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	f, err := s.o.FS.OpenReadWrite(s.o.File, vfs.Unspecified)
	if err != nil {
		return vfs.Error(op, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		if _, err = f.WriteAt([]byte(preface), 0); err == nil {
			err = f.Sync()
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return vfs.Error(op, err)
	}
	return vfs.SyncDir(s.o.FS, s.o.FS.PathDir(s.o.File))
}
