package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"postern.email/kit/errs"
)

var planted = []string{"alice@example.org", "192.0.2.17", "2001:db8::17", "fe80::1", "::1", "<0123.abc@mail.example>", "x.y@[192.0.2.18]"}

// say logs the planted words on every road that a word can take into a line.
func say(l *slog.Logger) {
	for _, p := range planted {
		l.Info("message "+p, "text", p)
		l.Warn("error", "err", errors.New("dial tcp "+p+":25: refused"))
		l.Error("errs", "err", errs.E("op.X", errs.Unavailable, "try again", errors.New("cause "+p)))
		l.Info("secret", "who", Secret("carol-"+p))
		l.Info("group", slog.Group("g", "who", Secret("carol"), "text", p))
		l.Info("any", "v", struct{ A string }{p}, "list", []string{p})
		l.With("bound", p, "who", Secret("carol")).Info("bound")
		l.WithGroup("grp").Info("in group", "text", p)
	}
	l.Info("addr", "a", netip.MustParseAddr("192.0.2.17"), "b", netip.MustParseAddrPort("[2001:db8::17]:25"))
	l.Info("wrapped", "err", fmt.Errorf("x: %w", errs.E("op.X", errs.Busy, "", errors.New("192.0.2.17"))))
}

func TestNothingPrivateAtInfo(t *testing.T) {
	for _, json := range []bool{false, true} {
		for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			var out bytes.Buffer
			lv := new(slog.LevelVar)
			lv.Set(level)
			say(New(&out, Options{JSON: json, Level: lv}))
			for _, p := range append(planted, "carol", "alice", "192.0.2", "2001:db8", "fe80") {
				if strings.Contains(out.String(), p) {
					t.Errorf("json=%v level=%v: %q is in the log:\n%s", json, level, p, out.String())
				}
			}
			if !strings.Contains(out.String(), "op.X: try again") {
				t.Error("operation and public text should stay")
			}
		}
	}
}

func TestDebugShows(t *testing.T) {
	var out bytes.Buffer
	lv := new(slog.LevelVar)
	lv.Set(slog.LevelDebug)
	say(New(&out, Options{Level: lv}))
	for _, p := range append(planted, "carol") {
		if !strings.Contains(out.String(), p) {
			t.Errorf("%q is not in the debug log", p)
		}
	}
}

func TestKernelsWordStays(t *testing.T) {
	var out bytes.Buffer
	err := errs.E("op.X", errs.Unavailable, "the disk failed", &os.PathError{Op: "write", Path: "/home/alice/x", Err: syscall.EROFS})
	New(&out, Options{}).Error("stopped", "err", err)
	if s := out.String(); !strings.Contains(s, "the disk failed: read-only file system") || strings.Contains(s, "alice") {
		t.Error(s)
	}
}

func TestOrdinaryTextStays(t *testing.T) {
	for _, s := range []string{"started in 12ms", "version 1.2.3", "https 8443", "ratio 1:2", "a/b.c: d", "pebble v2.1.7"} {
		if got := Scrub(s); got != s {
			t.Errorf("Scrub(%q) = %q", s, got)
		}
	}
	if got := Scrub(strings.Repeat("x", 10000)); len(got) > 4200 {
		t.Errorf("not cut: %d", len(got))
	}
}

func TestLevel(t *testing.T) {
	for name, want := range map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError, "info": slog.LevelInfo, "": slog.LevelInfo} {
		if Level(name) != want {
			t.Errorf("Level(%q) = %v", name, Level(name))
		}
	}
}

func FuzzScrub(f *testing.F) {
	for _, p := range planted {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(Scrub(s+" bob@example.org"), "bob@example.org") && len(s) < 4000 {
			t.Fatalf("Scrub(%q) keeps the address", s)
		}
	})
}

// TestWords: levels have the names that are wanted, at the top only.
func TestWords(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, Options{Words: func(l slog.Level) string { return map[bool]string{true: "LOUD", false: "QUIET"}[l > slog.LevelInfo] }})
	l.Warn("a")
	l.Info("b", slog.Group("g", "level", "mine"))
	if got := b.String(); !strings.Contains(got, "level=LOUD msg=a") || !strings.Contains(got, "level=QUIET msg=b g.level=mine") {
		t.Error(got)
	}
}
