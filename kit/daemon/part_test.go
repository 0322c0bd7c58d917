package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// TestPart: a part that is stopped says nothing; one that ends by itself is named, once.
func TestPart(t *testing.T) {
	var log bytes.Buffer
	broken := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	part := func(name string, run func(context.Context) error) {
		Part(ctx, slog.New(slog.NewTextHandler(&log, nil)), "relay", name, broken, run)()
	}
	part("clock", func(context.Context) error { return nil })
	part("door", func(context.Context) error { return errors.New("fell") })
	if err := <-broken; errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "the part of the relay called clock stopped" {
		t.Error(err)
	}
	if len(broken) != 0 {
		t.Error("a second part is reported too")
	}
	for _, want := range []string{"part=clock", "ended without an error", "part=door", "fell"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
	log.Reset()
	part("gate", func(context.Context) error { cancel(); return errors.New("stopped") })
	if len(broken) != 0 || log.Len() != 0 {
		t.Errorf("a part that was stopped is reported: %s", &log)
	}
}
