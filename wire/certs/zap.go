package certs

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// zapCore writes what certmagic logs by zap to a slog.Logger, at debug: what an
// operator needs of it comes as an event and is logged in our own words. Errors that
// come as no event are warnings, without the fields, which name addresses.
type zapCore struct{ log *slog.Logger }

// asEvents are the errors that come as events too.
var asEvents = map[string]bool{
	"will retry": true, "could not get certificate from issuer": true, "job failed": true,
	"validating authorization": true, "HTTP request failed; retrying": true,
}

func (c zapCore) Enabled(l zapcore.Level) bool {
	return l >= zapcore.ErrorLevel || c.log.Enabled(context.Background(), slog.LevelDebug)
}

func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	if !c.log.Enabled(context.Background(), slog.LevelDebug) {
		return c
	}
	return zapCore{c.log.With(attrs(fields)...)}
}

func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if e.Level < zapcore.ErrorLevel || asEvents[e.Message] {
		c.log.Debug("certmagic: "+e.Message, attrs(fields)...)
		return nil
	}
	args := []any{"doing", e.Message}
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Key == "error" {
			args = append(args, "err", err)
		}
	}
	c.log.Warn("trouble with TLS certificates", args...)
	return nil
}

func (zapCore) Sync() error { return nil }

func attrs(fields []zapcore.Field) (list []any) {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	for k, v := range enc.Fields {
		list = append(list, slog.Any(k, v))
	}
	return list
}
