package relay

import (
	"context"
	"slices"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Init makes the data directory of a relay with its keys, or opens the one that is
// there; made says which. When it fails, what it made is gone again. errs.Exists when a
// process holds the directory, errs.Corrupt when there is stored data without the key to it.
func Init(ctx context.Context, d Deps, c Config) (t *State, made bool, err error) {
	const op = "role/relay.Init"
	d, c = d.withDefaults(c), c.withLiteral()
	at := func(name string) string { return d.FS.PathJoin(c.Dir, name) }
	if ok, err := vfs.Exists(d.FS, at(rootFile)); err != nil {
		return nil, false, errs.E(op, errs.KindOf(err), "cannot look into the data directory "+c.Dir, err)
	} else if ok {
		t, err := Open(ctx, d, c)
		return t, false, err
	}
	if ok, err := vfs.Exists(d.FS, at(storeDir)); err != nil || ok {
		return nil, false, errs.E(op, errs.Corrupt, "there is stored data in "+c.Dir+" without "+rootFile+", the key to it; nothing was changed", err)
	}
	before, err := vfs.Exists(d.FS, c.Dir)
	if err != nil {
		return nil, false, errs.E(op, errs.KindOf(err), "cannot look into the data directory "+c.Dir, err)
	}
	var kept []string
	if before {
		if kept, err = d.FS.List(c.Dir); err != nil {
			return nil, false, errs.E(op, errs.Unavailable, "cannot read the data directory "+c.Dir, err)
		}
	}
	if err := vfs.MkdirAll(d.FS, c.Dir, 0o700); err != nil {
		return nil, false, errs.E(op, errs.KindOf(err), "cannot make the data directory "+c.Dir, err)
	}
	s := &Server{c: c, d: d, started: d.Now(), serve: func() {}, work: func() {}}
	s.lock, err = daemon.Hold(d.FS, c.Dir, d.Now())
	if err != nil { // somebody else's directory
		return nil, false, errs.Wrap(op, err)
	}
	if err = s.openState(ctx); err == nil && s.dkim != nil {
		_, err = s.dkim.Current(ctx)
	}
	if err == nil {
		return &State{s}, true, nil
	}
	s.Close()
	if !before {
		_ = d.FS.RemoveAll(c.Dir)
		return nil, false, errs.Wrap(op, err)
	}
	if names, lerr := d.FS.List(c.Dir); lerr == nil {
		for _, n := range names {
			if !slices.Contains(kept, n) {
				_ = d.FS.RemoveAll(at(n))
			}
		}
	}
	return nil, false, errs.Wrap(op, err)
}

// Zone is Server.Zone.
func (t *State) Zone(ctx context.Context, check bool) (Zone, error) { return t.s.Zone(ctx, check) }
