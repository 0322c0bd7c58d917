package proxy

import (
	"io"
	"log/slog"
	"os"

	"postern.email/kit/errs"
	"postern.email/kit/logs"
)

// LevelNotice is the level of what a user should see of normal times.
const LevelNotice = slog.LevelInfo + 2

// levels are those of the words of Logging.Level.
var levels = map[string]slog.Level{"ERROR": slog.LevelError, "WARNING": slog.LevelWarn, "NOTICE": LevelNotice, "INFO": slog.LevelInfo, "DEBUG": slog.LevelDebug}

// levelWord is the word of the level that something is logged at.
func levelWord(l slog.Level) string {
	for _, w := range logLevels { // the highest first
		if l >= levels[w] {
			return w
		}
	}
	return logLevels[len(logLevels)-1]
}

// Logger makes the logger that the configuration asks for. usual is where it writes without a
// file. Close the log when the proxy has ended. errs.Unavailable.
func Logger(c Config, usual io.Writer) (*slog.Logger, io.Closer, error) {
	level := new(slog.LevelVar)
	level.Set(levels[c.Logging.Level])
	switch {
	case c.Logging.Disable:
		return slog.New(slog.DiscardHandler), io.NopCloser(nil), nil
	case c.Logging.File == "":
		return logs.New(usual, logs.Options{Level: level, Words: levelWord}), io.NopCloser(nil), nil
	}
	f, err := os.OpenFile(c.Logging.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, errs.E("role/proxy.Logger", errs.Unavailable, "cannot open the log "+c.Logging.File, err)
	}
	return logs.New(f, logs.Options{Level: level, Words: levelWord}), f, nil
}
