package relay

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"

	"postern.email/kit/vfs"
)

// logText is a log that can be read while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestFailedDisk: after a failed sync nothing more is acknowledged, reading goes on,
// and the log and the status say so.
func TestFailedDisk(t *testing.T) {
	disk := vfs.NewFaults(vfs.NewCrashDisk())
	var log logText
	c := testConfig(t, "/data")
	s := begin(t, Deps{FS: disk, NoControl: true, Logger: Logger(&log, c, new(slog.LevelVar))}, c)
	m, _ := sealedMail(anna, 2000)
	allowed(t, submits(s, m))
	disk.FailFrom(vfs.OpSync, 1, syscall.EIO)
	if err := submits(s, m); err == nil {
		t.Error("a mail was acknowledged whose sync failed")
	}
	disk.FailFrom(vfs.OpSync, 1<<30, nil)
	refusedWith(t, submits(s, m), "4")
	if n := count(t, s, "INBOX"); n != 1 {
		t.Errorf("reading should go on: %d mails", n)
	}
	if h := s.Status().Health; !strings.Contains(h, "disk failed") {
		t.Errorf("health: %s", h)
	}
	until(t, "log line", func() bool {
		text := log.String()
		return strings.Contains(text, "nothing more is acknowledged") && strings.Contains(text, "input/output error")
	})
	if strings.Contains(log.String(), "anna") {
		t.Errorf("a name is in the log:\n%s", log.String())
	}
	_ = s.Close() // it reports the failed disk; that is not the matter here
	s.closeErr = nil
}
