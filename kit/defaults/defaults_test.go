package defaults

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestDefaults: what was not set gets its default, what was set stays.
func TestDefaults(t *testing.T) {
	for _, c := range []struct{ was, zero, positive time.Duration }{{0, 9, 9}, {-1, -1, 9}, {3, 3, 3}} {
		zero, positive := c.was, c.was
		Zero(&zero, 9)
		Positive(&positive, 9)
		if zero != c.zero || positive != c.positive {
			t.Errorf("%d: %d and %d", c.was, zero, positive)
		}
	}
	var now func() time.Time
	Clock(&now)
	if now == nil || time.Since(now()) > time.Hour {
		t.Error("there is no clock")
	}
	at := time.Unix(7, 0)
	now = func() time.Time { return at }
	if Clock(&now); !now().Equal(at) {
		t.Error("another clock")
	}
	var r io.Reader
	if Rand(&r); r != rand.Reader {
		t.Error("another source of randomness")
	}
	mine := strings.NewReader("x")
	r = mine
	if Rand(&r); r != mine {
		t.Error("the source of randomness did not stay")
	}
	var l *slog.Logger
	if Logger(&l); l == nil || l.Enabled(context.Background(), slog.LevelError) {
		t.Error("something is logged")
	}
	own := slog.Default()
	l = own
	if Logger(&l); l != own {
		t.Error("the logger did not stay")
	}
}
