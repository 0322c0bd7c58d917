package main

import (
	"context"
	"fmt"
	stdio "io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/role/mix"
	"postern.email/role/relay"
)

// mixStart are the options of one start.
type mixStart struct {
	src               mixSource
	daemon, nodaemon  bool
	echo, quiet, json bool
	severity          string
}

func mixStartCommand(io streams) *cobra.Command {
	var o mixStart
	c := &cobra.Command{Use: "start", Short: "Start a node of the mix network", Args: cobra.NoArgs,
		Long: `Start a node. It stays in the foreground, or goes to the background where server.daemon
(Daemon) or --daemon says so; then this command returns when the node is ready, or with
the reason why it is not.

SIGTERM and SIGINT stop it cleanly, a second one at once; SIGHUP reads the configuration
again (postern mix reload). What makes the node weak is said at the start.

http_proxy and HTTPS_PROXY are heeded for directory.urls. POSTERN_NO_FILE_PARANOIA, or
MM_NO_FILE_PARANOIA, in the environment: the rights of private files are not looked at.`,
		Example: "  postern mix start\n  postern mix start -f /etc/mixminiond.conf --daemon\n  postern mix start -f mix.toml --echo --severity=debug"}
	o.src.flags(c)
	f := c.Flags()
	f.BoolVar(&o.daemon, "daemon", false, "go to the background, whatever the file says")
	f.BoolVar(&o.nodaemon, "nodaemon", false, "stay in the foreground, whatever the file says")
	f.BoolVar(&o.echo, "echo", false, "log to standard error too, whatever the file says")
	f.StringVar(&o.severity, "severity", "", "log at this `level`, whatever the file says: TRACE DEBUG INFO WARN ERROR FATAL NEVER")
	f.BoolVarP(&o.quiet, "quiet", "Q", false, "say nothing but errors")
	f.BoolVar(&o.json, "json", false, "print one line of JSON when the node is ready")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if o.daemon && o.nodaemon {
			return usageError{"postern mix start", fmt.Errorf("--daemon and --nodaemon contradict each other")}
		}
		l, err := o.load()
		if err != nil {
			return err
		}
		back, detached, err := daemon.Detached()
		if err != nil {
			return err
		}
		if l.Server.Daemon && !detached {
			return o.detach(c.Context(), io, &l)
		}
		return o.run(c.Context(), io, l, back)
	}
	return c
}

// load reads the configuration with what the command line says over it.
func (o *mixStart) load() (mixLoaded, error) {
	l, err := o.src.load()
	if err != nil {
		return l, err
	}
	if o.severity != "" {
		word, err := mix.ParseLevel(o.severity)
		if err != nil {
			return l, usageError{"postern mix start", err}
		}
		l.Log.Level = word
	}
	l.Log.Echo = l.Log.Echo || o.echo
	l.Server.Daemon = (l.Server.Daemon || o.daemon) && !o.nodaemon
	return l, nil
}

// detach starts the node in the background and tells how that went.
func (o *mixStart) detach(ctx context.Context, io streams, l *mixLoaded) error {
	const op = "cmd.mix.start"
	exe, err := executable()
	if err != nil {
		return err
	}
	if pid, err := daemon.PidOf(l.PidFile()); err == nil {
		return mixStartError(errs.E(op, errs.Exists, fmt.Sprintf("the node runs already, as process %d", pid), nil), l)
	}
	var secret []byte
	if l.Keys.Encrypt {
		if secret, err = mixPassphrase(io, l.Config)(!mix.HasIdentity(l.Config)); err != nil {
			return err
		}
		defer clear(secret)
	}
	pid, code, said, err := daemon.Detach(ctx, exe, os.Args, secret)
	fmt.Fprint(io.err, said)
	switch {
	case err != nil:
		return err
	case code != 0:
		return exitError(code)
	case o.json:
		return printJSON(io.out, map[string]any{"ready": true, "pid": pid, "dir": l.Server.BaseDir})
	case !o.quiet:
		fmt.Fprintf(io.out, "The node %s runs in the background, as process %d.\n", l.Nickname, pid)
	}
	return nil
}

// run is the node's process. back is the other end of detach, nil in the foreground.
func (o *mixStart) run(ctx context.Context, io streams, l mixLoaded, back *daemon.Background) error {
	const op = "cmd.mix.start"
	if err := daemon.Harden(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.PidFile()), 0o700); err != nil {
		return errs.E(op, errs.Unavailable, "cannot make the directory of "+l.PidFile(), err)
	}
	held, err := daemon.HoldPid(l.PidFile())
	if err != nil {
		return mixStartError(err, &l)
	}
	defer held.Close()

	// Until the node is ready, errors go to whoever started it.
	var echo stdio.Writer
	if back == nil {
		echo = io.err
	}
	book, err := mix.OpenLogbook(l.Config, echo)
	if err != nil {
		return err
	}
	defer book.Close()
	level := new(slog.LevelVar)
	logger := mix.Logger(book, l.Config, level)
	d := mixDeps(io, &l)
	d.Logger, d.Level, d.Log, d.Echo = logger, level, book, echo
	if back != nil && back.Secret != nil {
		secret := back.Secret
		d.Passphrase = func(bool) ([]byte, error) { return slices.Clone(secret), nil }
	}
	for _, note := range l.notes {
		logger.Warn("an option has no effect", "option", note)
	}
	if !o.quiet {
		o.warn(io, l.Config)
	}
	for _, why := range l.Insecurities() {
		logger.Warn("insecure", "why", why)
	}
	ctx, hup, stopSignals := watchSignals(ctx)
	defer stopSignals()
	reread := func() (mix.Config, error) {
		next, err := o.load()
		return next.Config, err
	}
	s, err := mix.Start(ctx, l.Config, d, reread)
	if err != nil {
		err = mixStartError(err, &l)
		logger.Log(ctx, mix.LevelFatal, "the node cannot start", "err", err)
		return err
	}
	logger.Info("ready", "nickname", l.Nickname, "version", relay.Version)
	if o.json && back == nil {
		i := s.Info()
		if err := printJSON(io.out, struct {
			Ready bool `json:"ready"`
			mix.Info
		}{true, i}); err != nil {
			s.Close()
			return err
		}
	}
	notify := notifier(logger)
	notify("READY=1")
	if back != nil {
		if err := back.Ready(); err != nil {
			s.Close()
			return err
		}
	}
	for {
		select {
		case <-hup:
			notify("RELOADING=1")
			next, err := reread()
			if err == nil {
				_, err = s.Reload(ctx, next)
			}
			if err != nil {
				logger.Error("the configuration cannot be read again; the old one stays", "err", err)
			}
			notify("READY=1")
		case err := <-s.Broken():
			notify("STOPPING=1")
			s.Close()
			logger.Log(ctx, mix.LevelFatal, "the node stopped", "err", err)
			return hint(err, "Every packet that was acknowledged is on the disk. Look at the log, then start again.")
		case <-ctx.Done():
			notify("STOPPING=1")
			logger.Info("stopping")
			err := s.Stop()
			if err != nil {
				logger.Error("the node did not stop cleanly", "err", err)
			}
			return err
		}
	}
}

// warn says what makes the node weak.
func (o *mixStart) warn(io streams, c mix.Config) {
	list := c.Insecurities()
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(io.err, "This node is less secure than it could be:")
	for _, why := range list {
		fmt.Fprintf(io.err, "  - %s\n", why)
	}
}
