// Package tooltest finds what tests need of a machine: programs that need not be on every one, and free ports.
package tooltest

import (
	"os"
	"os/exec"
	"testing"
)

// Python finds a Python with the cryptography module; without one the test is skipped, or fails
// when POSTERN_REQUIRE_TOOLS=1.
func Python(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import cryptography").Run() == nil {
			return name
		}
	}
	const missing = "missing: python3 with python3-cryptography"
	if os.Getenv("POSTERN_REQUIRE_TOOLS") == "1" {
		t.Fatal(missing + " (POSTERN_REQUIRE_TOOLS=1)")
	}
	t.Skip(missing)
	return ""
}
