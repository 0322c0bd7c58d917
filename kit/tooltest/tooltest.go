// Package tooltest finds what tests need of a machine: programs that need not be on every one, and free ports.
package tooltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// dirs are searched for programs; "" is the PATH. Debian keeps those of mail servers where only root looks.
var dirs = []string{"", "/usr/bin", "/usr/sbin", "/bin", "/sbin"}

// Tool gives the path of the first of some programs that is on this machine. See Missing.
func Tool(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, dir := range dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
	}
	Missing(t, strings.Join(names, " or "))
	return ""
}

// Missing skips the test for want of a thing, or fails it with POSTERN_REQUIRE_TOOLS=1.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("POSTERN_REQUIRE_TOOLS") == "1" {
		t.Fatalf("missing: %s (POSTERN_REQUIRE_TOOLS=1)", what)
	}
	t.Skipf("missing: %s", what)
}

// Python finds a Python with the cryptography module. See Missing.
func Python(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import cryptography").Run() == nil {
			return name
		}
	}
	Missing(t, "python3 with python3-cryptography")
	return ""
}
