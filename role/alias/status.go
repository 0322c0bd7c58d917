package alias

import (
	"os"
	"time"

	stdio "io"
	"log/slog"

	"postern.email/kit/logs"
)

// Status is how a running server does.
type Status struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Domains []string  `json:"domains"`
	Listen  string    `json:"listen,omitempty"` // where HTTP is served
	TLS     bool      `json:"tls"`
	State   string    `json:"state_dir"`
	MapFile string    `json:"map_file"`
	Map     Map       `json:"map"`
	Disk    string    `json:"disk,omitempty"` // what is wrong with it
}

// Status tells how the server does.
func (s *Server) Status() Status {
	st := Status{PID: os.Getpid(), Version: s.d.Version, Since: s.started.UTC(), Domains: s.domains, TLS: s.certs != nil, State: s.c.Postern.StateDir,
		MapFile: s.c.PostfixConfig.MapFilePath, Map: s.keeper.State()}
	if s.http != nil {
		st.Listen = s.http.Addr().String()
	}
	if s.db.Health() != nil {
		st.Disk = "the disk failed; nothing is changed until the server was restarted"
	}
	return st
}

// Logger makes the logger that the configuration asks for. It writes neither addresses nor tokens unless the level is
// debug, and tokens never.
func Logger(c Config, w stdio.Writer) *slog.Logger {
	level := new(slog.LevelVar)
	level.Set(logs.Level(c.Postern.LogLevel))
	return logs.New(w, logs.Options{Level: level})
}
