package smallworld

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"postern.email/kit/tooltest"
)

// within is a command that sees other files in the place of some, as a program of another
// machine would: resolv.conf, the list of users. Both sides of a pair are files that exist.
func within(files map[string]string, program string, args ...string) *exec.Cmd {
	const script = `n=$1; shift; while [ "$n" -gt 0 ]; do mount --bind "$2" "$1" || exit; shift 2; n=$((n-1)); done; exec "$@"`
	all := []string{"-m", "--", "sh", "-c", script, "sh", strconv.Itoa(len(files))}
	for place, file := range files {
		all = append(all, place, file)
	}
	return exec.Command("unshare", append(append(all, program), args...)...)
}

func resolvConf(resolver string) string {
	return "nameserver " + resolver + "\noptions trust-ad edns0 timeout:5\n"
}

// publicDir makes a directory that programs of other users can walk into.
func publicDir(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needRoot(t testing.TB, why string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip(why)
	}
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		tooltest.Missing(t, "the right to a mount namespace (unshare -m)")
	}
}

// uid is the number of a user that a package makes.
func uid(t testing.TB, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		tooltest.Missing(t, "user "+name)
	}
	n, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// maildir gives the new mails of a Maildir with CRLF, in no order.
func maildir(dir string) ([]string, error) {
	dir = filepath.Join(dir, "new")
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var mails []string
	for _, e := range list {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		mails = append(mails, string(bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))))
	}
	return mails, nil
}
