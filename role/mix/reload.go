package mix

import (
	"context"
	"maps"
	"slices"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

// atRestart are the options that a running node cannot change, with all below a name that ends
// in a dot. A reload names those that were changed.
var atRestart = []string{"mode", "network", "keys.", "host.", "mailbox.", "smtp.", "experiment.",
	"server.base_dir", "server.key_dir", "server.work_dir", "server.queue_dir", "server.pid_file", "server.stats_file", "server.stats", "server.stats_interval",
	"server.daemon", "server.timeout", "mixing.memory", "directory.urls", "incoming.listen"}

func needsRestart(key string) bool {
	return slices.ContainsFunc(atRestart, func(a string) bool {
		return key == a || a[len(a)-1] == '.' && len(key) > len(a) && key[:len(a)] == a
	})
}

// Reloaded says what a reload did.
type Reloaded struct {
	Changed []string `json:"changed,omitempty"` // options that have their new values now
	Restart []string `json:"restart,omitempty"` // options that were changed and have them after a restart
}

// Config gives the configuration that the node goes by.
func (s *Server) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

// Reload takes over a configuration: what can change while the node runs changes, the rest
// is named and logged. The log and the file of statistics are opened anew, and the lists
// of clients and addresses read again, whether their options changed or not. If something
// fails the options stay as they were.
func (s *Server) Reload(ctx context.Context, next Config) (r Reloaded, err error) {
	const op = "role/mix.Reload"
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := next.Check(); err != nil {
		return r, errs.Wrap(op, err)
	}
	now := next
	before, after := config.Values(&s.c), config.Values(&next)
	var back []string
	for _, key := range slices.Sorted(maps.Keys(after)) {
		switch {
		case before[key] == after[key]:
		case needsRestart(key):
			r.Restart = append(r.Restart, key)
			back = append(back, key+"="+before[key])
		default:
			r.Changed = append(r.Changed, key)
		}
	}
	if err := config.Apply(&now, back); err != nil {
		return Reloaded{}, errs.Wrap(op, err)
	}
	if err := now.Check(); err != nil {
		return Reloaded{}, errs.E(op, errs.Invalid, "the changes need a restart: "+errs.Public(err), err)
	}
	settings, err := s.settings(now)
	if err == nil {
		err = s.ends.reload(ctx, s, now)
	}
	if err == nil {
		err = s.node.Reload(settings)
	}
	if err != nil {
		return Reloaded{}, errs.Wrap(op, err)
	}
	s.c, s.applied = now, settings
	if s.d.Level != nil {
		s.d.Level.Set(now.Level())
	}
	if s.d.Log != nil {
		err = s.d.Log.Reopen(now, s.d.Echo)
	}
	if s.stats != nil {
		if serr := s.stats.Reopen(); err == nil {
			err = serr
		}
	}
	s.d.Logger.Info("the configuration was read again", "changed", r.Changed)
	if len(r.Restart) > 0 {
		s.d.Logger.Warn("some options were changed that need a restart", "options", r.Restart)
	}
	return r, errs.Wrap(op, err)
}
