package relay

import (
	"io"
	"log/slog"

	"postern.email/kit/logs"
)

// Logger makes the logger that the configuration asks for. level is set from it,
// and again by Reload.
func Logger(w io.Writer, c Config, level *slog.LevelVar) *slog.Logger {
	level.Set(logs.Level(c.Log.Level))
	return logs.New(w, logs.Options{JSON: c.Log.Format == "json", Level: level})
}
