package store

import (
	"context"
	"log/slog"
	"time"

	"postern.email/kit/errs"
)

// Every calls fn at once and then every interval, until ctx ends: it is the clock of what looks
// after records. When s has failed nothing is called any more, as nothing could be written. An
// error is told to log, in the words of failed, and fn is called again at the next interval.
func Every(ctx context.Context, s Store, interval time.Duration, log *slog.Logger, failed string, fn func(context.Context) error) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			log.Warn(failed+"; it is tried again", "kind", errs.KindOf(err))
			log.Debug(failed, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Failed():
			<-ctx.Done()
			return
		case <-t.C:
		}
	}
}
