package interop

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"postern.email/kit/tooltest"
)

// childRole is set in the environment when the test binary runs itself again as
// a second process of one test.
const childRole = "POSTERN_INTEROP_CHILD"

// children are what such a process may be; each gives its exit code.
var children = map[string]func() int{firstLoginsRole: runFirstLogins, liarRole: runLiarProcess}

// buildDir is where the program is built, once, when the first test needs it.
var buildDir string

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		run := children[role]
		if run == nil {
			fmt.Fprintln(os.Stderr, "unknown child role", role)
			os.Exit(2)
		}
		os.Exit(run())
	}
	dir, err := os.MkdirTemp("", "postern-interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var build = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("POSTERN_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	bin := filepath.Join(buildDir, "postern")
	args := []string{"build", "-o", bin}
	if os.Getenv("POSTERN_RACE") == "1" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "postern.email/cmd/postern")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// startPiped starts a program that ends with this one, with pipes to its standard input and from its
// standard output.
func startPiped(t testing.TB, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err == nil {
		out, err = cmd.StdoutPipe()
	}
	if err == nil {
		tie(cmd)
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return in, out
}

// binary is the program under test.
func binary(t testing.TB) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// needTool gives the path of a tool, or skips (or fails) with its name.
func needTool(t testing.TB, name string) string {
	t.Helper()
	return tooltest.Tool(t, name)
}

// missing skips the test for want of a thing, or fails it.
func missing(t testing.TB, what string) {
	t.Helper()
	tooltest.Missing(t, what)
}

// long reports whether the full numbers are wanted.
func long() bool { return os.Getenv("POSTERN_LONG") == "1" }
