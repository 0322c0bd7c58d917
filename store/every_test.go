package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/store"
)

// failing is a store that can only fail.
type failing struct {
	store.Store
	failed chan struct{}
}

func (f failing) Failed() <-chan struct{} { return f.failed }

// TestEvery: the first call comes at once and the next after each interval, errors are logged
// without what they are about, and when the store has failed nothing is called any more.
func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		st := failing{failed: make(chan struct{})}
		var log bytes.Buffer
		var calls atomic.Int32
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			store.Every(ctx, st, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), "the shelves were not dusted", func(context.Context) error {
				if calls.Add(1) == 2 {
					return errs.E("test", errs.Full, "", errs.E("private", errs.Full, "anna@example.org", nil))
				}
				return nil
			})
		}()
		for i, wait := range []time.Duration{0, time.Hour, time.Hour} {
			time.Sleep(wait)
			synctest.Wait()
			if n := calls.Load(); n != int32(i+1) {
				t.Fatalf("%d calls after %d hours", n, i)
			}
		}
		if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, `msg="the shelves were not dusted; it is tried again"`) || strings.Contains(s, "anna") {
			t.Errorf("logged: %s", s)
		}
		close(st.failed)
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if n := calls.Load(); n != 3 {
			t.Errorf("%d calls, some after the store has failed", n)
		}
		cancel()
		<-ended
	})
}

// TestEveryEnds: what fn says when it was told to end is no failure.
func TestEveryEnds(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	store.Every(ctx, failing{}, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), "x", func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	})
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
}
