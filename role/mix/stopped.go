package mix

import (
	"context"
	"io"
	"time"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/replay"
	"postern.email/mixnet/stats"
)

// Init makes the data directory of a node with its keys, or finds the one that is there; made
// says which. network (may be nil) is the text of the network file, which is kept as the
// configuration says; one that is there already must be the same. errs.Exists when a process
// holds the directory, errs.Conflict for another network.
func Init(ctx context.Context, c Config, d Deps, network []byte) (i Info, made bool, err error) {
	const op = "role/mix.Init"
	d = d.withDefaults()
	fresh, err := version(d.FS, c)
	if err != nil {
		return i, false, errs.Wrap(op, err)
	}
	if err := vfs.MkdirAll(d.FS, c.Server.BaseDir, 0o700); err != nil {
		return i, false, errs.E(op, errs.KindOf(err), "cannot make the directory "+c.Server.BaseDir, err)
	}
	s := &Server{c: c, d: d, started: d.Now(), cancel: func() {}}
	defer s.Close()
	if network != nil {
		if err := keepNetwork(d.FS, c, network); err != nil {
			return i, false, errs.Wrap(op, err)
		}
	}
	if err := s.openDirectories(); err != nil {
		return i, false, errs.Wrap(op, err)
	}
	if err := s.openState(ctx); err != nil {
		return i, false, errs.Wrap(op, err)
	}
	return s.Info(), fresh == 0, nil
}

// HasIdentity reports whether a node has been made by this configuration: a passphrase that is
// asked for is not a new one then.
func HasIdentity(c Config) bool {
	ok, err := vfs.Exists(vfs.OS(), c.IdentityFile())
	return ok && err == nil
}

// keepNetwork writes the network file to its place.
func keepNetwork(fs vfs.FS, c Config, text []byte) error {
	const op = "role/mix.keepNetwork"
	given, err := directory.ParseNetwork(text)
	if err != nil {
		return errs.E(op, errs.KindOf(err), "the network file: "+errs.Public(err), err)
	}
	before, err := vfs.ReadFile(fs, c.NetworkFile())
	switch {
	case errs.KindOf(err) == errs.NotFound:
		return vfs.WriteFileAtomic(fs, c.NetworkFile(), given.Bytes(), 0o644)
	case err != nil:
		return errs.E(op, errs.KindOf(err), "cannot read "+c.NetworkFile(), err)
	}
	if old, err := directory.ParseNetwork(before); err != nil || string(old.Bytes()) != string(given.Bytes()) {
		return errs.E(op, errs.Conflict, c.NetworkFile()+" is there already and names another network; nothing was changed", err)
	}
	return nil
}

// hold takes the directory of a stopped node, whose format is the present one.
func hold(c Config, d Deps) (io.Closer, error) {
	if ok, err := vfs.Exists(d.FS, c.Server.BaseDir); err != nil || !ok {
		return nil, errs.E("role/mix.hold", errs.NotFound, "there is no node in "+c.Server.BaseDir, err)
	}
	lock, err := daemon.Hold(d.FS, c.Server.BaseDir, d.Now())
	if err != nil {
		return nil, err
	}
	n, err := version(d.FS, c)
	if err == nil && n == 0 {
		err = errs.E("role/mix.hold", errs.NotFound, "there is no node in "+c.Server.BaseDir, nil)
	}
	if err == nil && n != FormatVersion {
		err = checkVersion(d.FS, c)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// stopped is a node that does not run: its keys and its log.
type stopped struct {
	lock io.Closer
	keys *keys.Keys
	log  *replay.Log
}

func openStopped(c Config, d Deps) (s stopped, err error) {
	if s.lock, err = hold(c, d); err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	period := directory.DefaultPeriod
	if n, err := ReadNetwork(d.FS, c); err == nil {
		period = n.Period()
	}
	o, err := c.keyOptions(d, period)
	if err != nil {
		return s, err
	}
	if s.keys, err = keys.Open(o); err != nil {
		return s, err
	}
	s.log, err = replay.Open(replay.Options{FS: d.FS, Dir: c.packetDir(), Secret: s.keys.LogSecret(), Rand: d.Rand, Now: d.Now, Log: d.Logger})
	return s, err
}

func (s *stopped) close() error {
	var err error
	if s.log != nil {
		err = s.log.Close()
	}
	if s.lock != nil {
		if lerr := s.lock.Close(); err == nil {
			err = lerr
		}
	}
	return err
}

// DeleteKeys destroys the packet keys of a stopped node and the memory of their packets, and
// says how many there were. Identity and link key stay; the next start makes new packet keys. What
// waits in the log is still sent. errs.Exists when a process holds the directory.
func DeleteKeys(ctx context.Context, c Config, d Deps) (n int, err error) {
	const op = "role/mix.DeleteKeys"
	d = d.withDefaults()
	s, err := openStopped(c, d)
	if err != nil {
		return 0, errs.Wrap(op, err)
	}
	n = len(s.keys.List())
	err = s.keys.DeleteAll(ctx, func(ctx context.Context, id uint32) error { return s.log.Forget(ctx, replay.Key(id)) })
	if cerr := s.close(); err == nil {
		err = cerr
	}
	return n, errs.Wrap(op, err)
}

// Queue gives what is in the log of a stopped node. errs.Exists when a process holds the
// directory.
func Queue(c Config, d Deps, show func(QueueEntry) error) error {
	const op = "role/mix.Queue"
	d = d.withDefaults()
	s, err := openStopped(c, d)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer s.close()
	for v := range s.log.Entries() {
		if err := show(entry(v, nil)); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}

// DumpStats writes the statistics of the present period of a node that does not run, as it
// last saved them. errs.NotFound where nothing was counted yet.
func DumpStats(c Config, d Deps, w io.Writer) error {
	const op = "role/mix.DumpStats"
	d = d.withDefaults()
	if ok, err := vfs.Exists(d.FS, c.statsTmp()); err != nil || !ok {
		return errs.E(op, errs.NotFound, "nothing was counted yet in "+c.Server.BaseDir, err)
	}
	st, err := stats.Open(stats.Options{FS: d.FS, Cache: c.statsTmp(), File: c.path(c.Server.StatsFile), Interval: c.Server.StatsInterval.Std().Truncate(time.Second), Now: d.Now, Log: d.Logger})
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, st.Dump(w))
}
