package tooltest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// longAgo is when the main.cf of Postfix was written: Postfix's programs wait until a fresh one is two
// seconds old, since somebody may still be writing it.
var longAgo = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Postfix gives a configuration directory for the programs of this machine's Postfix, with a main.cf of
// further lines, in which DIR stands for the directory itself. See Missing.
func Postfix(t testing.TB, main string) (dir string) {
	t.Helper()
	Tool(t, "postmap")
	Tool(t, "postconf")
	dir = t.TempDir()
	file := filepath.Join(dir, "main.cf")
	text := strings.ReplaceAll("compatibility_level = 3.6\nmyhostname = mx.example\n"+main, "DIR", dir)
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "master.cf"), nil, 0o644),
		os.Chtimes(file, longAgo, longAgo)); err != nil {
		t.Fatal(err)
	}
	return dir
}
