package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"postern.email/kit/daemon"
)

// watchSignals ends the context on SIGTERM and SIGINT, at once on a second one, and gives a
// value for each SIGHUP.
func watchSignals(ctx context.Context) (_ context.Context, reload <-chan struct{}, stop func()) {
	hup := make(chan struct{}, 1)
	ctx, stop = daemon.Signals(ctx, func() {
		select {
		case hup <- struct{}{}:
		default:
		}
	}, func() { os.Exit(exitFailed) })
	return ctx, hup, stop
}

// notifier tells systemd about states.
func notifier(logger *slog.Logger) func(state string) {
	return func(state string) {
		if err := daemon.Notify(os.Getenv, state); err != nil {
			logger.Warn("systemd cannot be told", "err", err)
		}
	}
}

// reread lets a server take over its configuration again; where that cannot be, the old one
// stays.
func reread[C any](logger *slog.Logger, load func() (C, error), reload func(C) error) {
	next, err := load()
	if err == nil {
		err = reload(next)
	}
	if err != nil {
		logger.Error("the configuration cannot be read again; the old one stays", "err", err)
	}
}

// closeWithin stops a server, or gives up after d.
func closeWithin(s io.Closer, d time.Duration) error { return daemon.CloseWithin(s, d) }
