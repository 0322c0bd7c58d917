package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/role/relay"
)

// stopTime bounds a clean stop; what is not done then is cut. Nothing
// acknowledged is lost by that.
const stopTime = 20 * time.Second

func serveCommand(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{
		Use: "serve", Short: "Run the relay that a configuration file describes", GroupID: groupRun, Args: cobra.NoArgs,
		Long: `Run a relay as a service. It stays in the foreground, logs to standard error and
tells systemd when it is ready. SIGTERM and SIGINT stop it cleanly, a second one
at once; SIGHUP reads log.level and the certificate files again.

Sockets that systemd passes (LISTEN_FDS) are used when FileDescriptorName= is the
name of a listener in the configuration: https, imaps, smtp, …`,
		Example: "  postern serve\n  postern serve --config postern.toml --set log.level=debug",
	}
	src.flags(c)
	js := c.Flags().Bool("json", false, "print one line of JSON on standard output when every listener answers")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if src.find(); src.file == "" {
			return usageError{"postern serve", fmt.Errorf("--config is needed; to make one: postern init DOMAIN; to try Postern without one: postern up")}
		}
		cfg, err := src.load()
		if err != nil {
			return err
		}
		return serve(c.Context(), io, cfg, serveOptions{ready: func(i relay.Info) error {
			if *js {
				return printJSON(io.out, i)
			}
			return nil
		}, reread: src.load, names: true})
	}
	return c
}

type serveOptions struct {
	clientHost string
	quiet      bool                         // nothing below warnings in the log
	names      bool                         // look at the DNS records and say what is missing
	ready      func(relay.Info) error       // called when every listener answers
	reread     func() (relay.Config, error) // on SIGHUP
}

// serve runs a relay until a signal or the control socket stops it.
func serve(ctx context.Context, io streams, cfg relay.Config, o serveOptions) error {
	if err := daemon.Harden(); err != nil {
		return err
	}
	got, err := daemon.Inherit()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	logger := relay.Logger(io.err, cfg, level)
	if o.quiet && cfg.Log.Level == "info" {
		level.Set(slog.LevelWarn)
	}

	ctx, reload, stopSignals := watchSignals(ctx)
	defer stopSignals()

	d := relay.Deps{Logger: logger, Level: level, Sockets: got.Sockets, Keys: got.Secret, ClientHost: o.clientHost, CheckNames: o.names}
	if cfg.NodeKey.Source == "passphrase" {
		d.KeySource = relay.KeySource(vfs.OS(), cfg, askPassphrase(io))
	}
	s, err := relay.Start(ctx, d, cfg)
	if err != nil {
		return startError(err)
	}
	info, err := s.Answer(ctx)
	if err != nil {
		s.Close()
		return err
	}
	logger.Info("ready", "domain", info.Domain, "version", relay.Version)
	if err := o.ready(info); err != nil {
		s.Close()
		return err
	}
	notify := notifier(logger)
	notify("READY=1")
	for {
		select {
		case <-reload:
			reread(logger, o.reread, s.Reload)
		case err := <-s.Broken():
			notify("STOPPING=1")
			s.Close()
			return hint(err, "Everything that was acknowledged is on the disk. Look at the log above, then start again.")
		case r := <-s.Requests():
			if r == relay.RequestRestart {
				notify("RELOADING=1")
				return restart(s, logger)
			}
			notify("STOPPING=1")
			return closeWithin(s, stopTime)
		case <-ctx.Done():
			notify("STOPPING=1")
			return closeWithin(s, stopTime)
		}
	}
}

// restart hands sockets and opened keys to a fresh copy of the program on the disk.
func restart(s *relay.Server, logger *slog.Logger) error {
	exe, err := os.Executable()
	if err != nil {
		return errs.E("cmd.restart", errs.Unavailable, "cannot find the program to restart", err)
	}
	sockets, keys, err := s.Handover()
	if err != nil {
		// The state is closed as far as it could be; a fresh start is the best that is left.
		logger.Error("not everything could be handed over", "err", err)
	}
	return hint(daemon.Exec(exe, os.Args, sockets, keys), "The server is stopped; nothing acknowledged is lost. Start it again.")
}

// startError adds what to do next.
func startError(err error) error {
	var socket *net.OpError
	if errors.As(err, &socket) && socket.Op == "listen" && errors.Is(err, fs.ErrPermission) {
		return hint(err, `Any one of these lets it without root:
  sudo setcap cap_net_bind_service=+ep POSTERN      (the file of this program; again after each update)
  sudo postern init DOMAIN --unit                   (a systemd service with just this right)
  --set listen.smtp=:8025 --set listen.imaps=:8993  (other ports, if something passes the usual ones on)`)
	}
	switch errs.KindOf(err) {
	case errs.Exists:
		return hint(err, "To look at what runs: postern status. To take free ports: postern up --ports 0. To use another directory: --dir DIR")
	case errs.Auth:
		return hint(err, "Nothing was changed. Give the right node key: --set node_key.file=FILE")
	case errs.Corrupt:
		return hint(err, "Nothing was changed. To see what is wrong: postern store check")
	case errs.NoSpace:
		return hint(err, "Nothing stored is lost. Make room on the disk and start again.")
	}
	return err
}

// askPassphrase reads the node passphrase from the terminal, without echo.
func askPassphrase(io streams) func(context.Context, bool) ([]byte, error) {
	ask := passphraseOf(io, "node")
	return func(_ context.Context, confirm bool) ([]byte, error) { return ask(confirm) }
}

// passphraseOf reads the passphrase of something, twice if it is a new one.
func passphraseOf(io streams, what string) func(fresh bool) ([]byte, error) {
	return func(confirm bool) ([]byte, error) {
		ask := strings.ToUpper(what[:1]) + what[1:] + " passphrase: "
		if confirm {
			ask = "New " + what + " passphrase: "
		}
		first, err := readSecret(io, ask)
		if err != nil || !confirm {
			return first, err
		}
		second, err := readSecret(io, "Again: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(first, second) {
			return nil, errs.E("cmd.passphrase", errs.Invalid, "the two passphrases differ; nothing was changed", nil)
		}
		return first, nil
	}
}

// readSecret reads one line without echo from a terminal, or as it is from
// anything else.
func readSecret(io streams, ask string) ([]byte, error) {
	const op = "cmd.readSecret"
	if f, ok := io.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(io.err, ask)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(io.err)
		if err != nil {
			return nil, errs.E(op, errs.Unavailable, "cannot read from the terminal", err)
		}
		return b, nil
	}
	b, err := readLine(io.in)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "a password is expected on standard input", err)
	}
	return b, nil
}

// readLine takes one line, byte by byte, so that what follows stays for the next
// reader. At most 4 KiB.
func readLine(r interface{ Read([]byte) (int, error) }) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 4096; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' {
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		line = slices.Concat(line, b[:n])
		if err != nil {
			if len(line) > 0 {
				return line, nil
			}
			return nil, err
		}
	}
	return nil, errs.E("cmd.readLine", errs.TooLarge, "the line is too long", nil)
}
