package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
)

// What strangers are told.
const (
	publicStopped = "the store stopped: the disk failed a write; restart after mending the disk"
	publicClosed  = "the store is closed"
	publicInUse   = "the store is in use by another process"
)

func checkShard(op string, s store.Shard) error {
	if s >= store.Shards {
		return errs.E(op, errs.Invalid, "no such shard", nil)
	}
	return nil
}

// readError classes an error of a read.
func readError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return errs.E(op, errs.NotFound, "", nil)
	case pebble.IsCorruptionError(err):
		return errs.E(op, errs.Corrupt, "", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errs.E(op, errs.Canceled, "", err)
	}
	return errs.E(op, errs.Unavailable, "", err)
}

func panicError(p any) error {
	if err, ok := p.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %v", p)
}

// logger gives Pebble's remarks to slog at debug level. They name files and
// sizes, never keys or values.
type logger struct {
	log   *slog.Logger
	guard *guard
}

func (l logger) Infof(format string, args ...any)  { l.print(format, args...) }
func (l logger) Errorf(format string, args ...any) { l.print(format, args...) }

// Fatalf is called where Pebble cannot go on, and expects the process to end.
// Instead the guard trips: nothing more is written or acknowledged, and reading
// goes on.
func (l logger) Fatalf(format string, args ...any) {
	l.print(format, args...)
	l.guard.trip(fmt.Errorf(format, args...))
}

func (l logger) print(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}
