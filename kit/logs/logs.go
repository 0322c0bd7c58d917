// Package logs makes the program's logger: log/slog to one writer, as text or
// JSON, with one rule on top: at info or quieter no mail address, no network
// address and no message id is written.
//
// The rule has two layers. Who logs something private wraps it in Secret; such
// an attribute is dropped unless the level is debug. Underneath, every text is
// searched for what looks like an address, so that an error cause of some
// library ("dial tcp 192.0.2.1:25: refused") cannot break the promise.
package logs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"syscall"

	"postern.email/kit/errs"
)

// Secret is a text that only the debug level may show.
type Secret string

// Options for New.
type Options struct {
	JSON  bool
	Level *slog.LevelVar          // may be changed while running; nil = info
	Words func(slog.Level) string // the names of levels; nil: those of slog
}

// New makes a logger that writes to w.
func New(w io.Writer, o Options) *slog.Logger {
	if o.Level == nil {
		o.Level = new(slog.LevelVar)
	}
	ho := &slog.HandlerOptions{Level: o.Level}
	if o.Words != nil {
		ho.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if l, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey {
				return slog.String(a.Key, o.Words(l))
			}
			return a
		}
	}
	var h slog.Handler
	if o.JSON {
		h = slog.NewJSONHandler(w, ho)
	} else {
		h = slog.NewTextHandler(w, ho)
	}
	return slog.New(&handler{next: h, level: o.Level})
}

// Level reads a level's name: debug, info, warn or error; info for anything else.
func Level(name string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(name)) != nil {
		return slog.LevelInfo
	}
	return l
}

type handler struct {
	next  slog.Handler
	level *slog.LevelVar
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.level.Level() <= slog.LevelDebug {
		return h.next.Handle(ctx, r)
	}
	clean := slog.NewRecord(r.Time, r.Level, Scrub(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a, ok := redact(a); ok {
			clean.AddAttrs(a)
		}
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs redacts at once: attributes bound to a logger do not come back when
// the level is turned to debug later, which is the safe side.
func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	if h.level.Level() > slog.LevelDebug {
		kept := as[:0:0]
		for _, a := range as {
			if a, ok := redact(a); ok {
				kept = append(kept, a)
			}
		}
		as = kept
	}
	return &handler{next: h.next.WithAttrs(as), level: h.level}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{next: h.next.WithGroup(name), level: h.level}
}

// redact gives the attribute as info may show it; false = not at all.
func redact(a slog.Attr) (slog.Attr, bool) {
	switch v := a.Value.Any().(type) {
	case Secret:
		return a, false
	case *errs.Error:
		// The operation and what may be shown to anybody; the private cause stays out,
		// but for the kernel's word on it ("read-only file system"), which an operator
		// cannot do without and which names nothing.
		text := v.Op + ": " + errs.Public(v)
		var no syscall.Errno
		if errors.As(v, &no) {
			text += ": " + no.Error()
		}
		return slog.String(a.Key, Scrub(text)), true
	}
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, Scrub(v.String())), true
	case slog.KindGroup:
		var kept []slog.Attr
		for _, m := range v.Group() {
			if m, ok := redact(m); ok {
				kept = append(kept, m)
			}
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(kept...)}, true
	case slog.KindAny:
		switch x := v.Any().(type) {
		case Secret:
			return a, false
		case error:
			return slog.String(a.Key, Scrub(x.Error())), true
		default:
			// Structures could carry anything in their fields: their text is scrubbed too.
			return slog.String(a.Key, Scrub(slog.AnyValue(x).String())), true
		}
	}
	return slog.Attr{Key: a.Key, Value: v}, true
}

// private matches what looks like a mail address or message id, an IPv4 address
// or an IPv6 address (at least two colons between hexadecimal digits).
var private = regexp.MustCompile(`[^\s<>"'(),;:=\[\]]+@[^\s<>"'(),;]+` +
	`|\b\d{1,3}(\.\d{1,3}){3}\b` +
	`|\[?(?i:\b[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7})(%\w+)?\b\]?|::[0-9a-fA-F]{1,4}\b`)

// Scrub replaces everything in s that looks like an address. Long texts are cut
// at 4 KiB, so that no line is unbounded.
func Scrub(s string) string {
	if len(s) > 4096 {
		s = s[:4096] + "…"
	}
	if !strings.ContainsAny(s, "@.:") {
		return s
	}
	return private.ReplaceAllString(s, "[hidden]")
}
