package mix

import (
	"io"
	"log/slog"
	"os"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/logs"
)

// LevelFatal is the level of what ends the process.
const LevelFatal = slog.LevelError + 4

// levels are the words of log.level, mixminiond's in lower case.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
	"error": slog.LevelError, "fatal": LevelFatal, "never": LevelFatal + 100,
}

// Level gives the level that the configuration asks for.
func (c Config) Level() slog.Level { return levels[c.Log.Level] }

// Logbook is the log file of a node, and standard error beside it if it is to echo. It can
// be opened anew while it is written to. It may be used by many goroutines.
type Logbook struct {
	mu   sync.Mutex
	path string // "": no file
	echo io.Writer
	file *os.File
}

// OpenLogbook opens the log that the configuration names, for appending; echo is where to echo
// if it says so, and may be nil. errs.Unavailable.
func OpenLogbook(c Config, echo io.Writer) (*Logbook, error) {
	l := &Logbook{}
	return l, l.Reopen(c, echo)
}

// Reopen turns to the file that the configuration names now, also where it has the same
// name: that may have been moved away. If it cannot be opened, the old one stays in use.
func (l *Logbook) Reopen(c Config, echo io.Writer) error {
	path, file := "", (*os.File)(nil)
	if !c.Log.Echo {
		echo = nil
	}
	if c.Log.File != "" {
		path = c.path(c.Log.File)
		var err error
		if file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
			return errs.E("role/mix.Logbook.Reopen", errs.Unavailable, "cannot open the log "+path, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.path, l.file, l.echo = path, file, echo
	return nil
}

// Write appends one line. Where nothing takes it, it is dropped: a node does not stop
// because its log cannot be written.
func (l *Logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_, _ = l.file.Write(p)
	}
	if l.echo != nil {
		_, _ = l.echo.Write(p)
	}
	return len(p), nil
}

// Close ends the log.
func (l *Logbook) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// Logger makes the logger of a node over its log; level is set from the configuration, and
// again by Reload.
func Logger(w io.Writer, c Config, level *slog.LevelVar) *slog.Logger {
	level.Set(c.Level())
	return logs.New(w, logs.Options{JSON: c.Log.Format == "json", Level: level})
}

// ParseLevel reads a level in mixminiond's words, in any case. errs.Invalid.
func ParseLevel(s string) (string, error) {
	w, err := asLevel(s)
	if err != nil {
		return "", errs.E("role/mix.ParseLevel", errs.Invalid, err.Error(), nil)
	}
	return w, nil
}
