package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/relay"
)

// TestFreshConfiguration: the file of init is read as what was decided, also with every
// proposal in it taken.
func TestFreshConfiguration(t *testing.T) {
	var want relay.Config
	set := []string{"log.format=json", "listen.imaps=:9993", "mail.max_mailbox_size=2G"}
	if err := config.Load(&want, "", append([]string{"domain=example.org", "dir=/srv/x"}, set...)); err != nil {
		t.Fatal(err)
	}
	text := configText(&want, set)
	read := func(text string) (c relay.Config) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "p.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := config.Load(&c, file, nil); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if err := c.Check(); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return c
	}
	values := func(c relay.Config) string {
		var all []string
		for _, o := range config.Options(&c) {
			all = append(all, o.Key+"="+config.Values(&c)[o.Key])
		}
		return strings.Join(all, "\n")
	}
	if got := read(text); values(got) != values(want) {
		t.Errorf("read as something else:\n%s", text)
	}
	var taken strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = rest
		}
		taken.WriteString(line)
	}
	got := read(taken.String())
	changed := 0
	for _, x := range choices {
		if config.Values(&got)[x.key] == config.Values(&want)[x.key] {
			t.Errorf("%s: the proposal changes nothing", x.key)
		}
		changed++
	}
	if n := strings.Count(text, "\n#") - strings.Count(text, "\n# "); n != changed {
		t.Errorf("%d proposals in the file, %d are meant", n, changed)
	}
}

// TestUnitOfInit: the unit is the one in deploy, with this program and this file.
func TestUnitOfInit(t *testing.T) {
	got, err := unitFor("/opt/postern", "/etc/p.toml")
	want := strings.Replace(deploy.Unit, "ExecStart=/usr/local/bin/postern serve --config /etc/postern/postern.toml", "ExecStart=/opt/postern serve --config /etc/p.toml", 1)
	if err != nil || got != want || !strings.Contains(got, "\nExecStart=/opt/postern serve --config /etc/p.toml\n") {
		t.Errorf("%v in\n%s", err, got)
	}
	for _, path := range []string{"/opt/my postern", "/opt/50%", "/opt/$HOME", "/opt/a;b", "/opt/ü", "/opt/a\nb"} {
		if _, err := unitFor(path, "/etc/p.toml"); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", path, err)
		}
	}
	u := &setUp{file: "/home/anna/p.toml"}
	u.cfg.Dir = systemDir
	if _, err := u.unitText(); errs.KindOf(err) != errs.Invalid || !strings.Contains(say(err), "/usr/local/bin") {
		t.Errorf("a program that the service cannot see: %v", err)
	}
}

// TestPortsWithoutRoot: who may not take a port is told each way to it.
func TestPortsWithoutRoot(t *testing.T) {
	refused := errs.E("role/relay.bind", errs.Denied, ":25 is not allowed to this user", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)})
	text := say(startError(errs.Wrap("role/relay.Start", refused)))
	for _, want := range []string{":25 is not allowed to this user\n", "setcap cap_net_bind_service=+ep", "postern init DOMAIN --unit", "--set listen.smtp=:8025"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	other := errs.E("x", errs.Denied, "no", &os.PathError{Op: "open", Path: "/x", Err: syscall.EACCES})
	if text := say(startError(other)); strings.Contains(text, "setcap") {
		t.Errorf("another thing that is not allowed: %s", text)
	}
}

// TestGiveBack: what root writes into the data of a service's user is that user's.
func TestGiveBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	inside := filepath.Join(dir, "store", "1")
	err := errors.Join(os.Mkdir(filepath.Dir(inside), 0o700), os.WriteFile(inside, nil, 0o600), os.WriteFile(outside, nil, 0o600), os.Symlink(outside, filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	uid := func(name string) uint32 {
		t.Helper()
		st, ok := ownerOf(name)
		if !ok {
			t.Fatal(name)
		}
		return st.Uid
	}
	if err := giveBack(dir); err != nil || uid(inside) != 0 {
		t.Errorf("root's own: %v", err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "data") // as systemd does it
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := giveBack(link); err != nil {
		t.Fatal(err)
	}
	if uid(inside) != 12345 || uid(filepath.Dir(inside)) != 12345 || uid(outside) != 0 {
		t.Errorf("owners: %d, %d, outside %d", uid(inside), uid(filepath.Dir(inside)), uid(outside))
	}
	if err := giveBack(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}

// TestClock: a clock that nothing keeps right is no fault, and one that cannot be judged is
// not spoken of.
func TestClock(t *testing.T) {
	if d := clockDiagnosis(true, nil); len(d) != 1 || !d[0].OK || d[0].Next != "" {
		t.Errorf("%+v", d)
	}
	if d := clockDiagnosis(false, nil); len(d) != 1 || d[0].OK || !d[0].Advice || d[0].Next == "" {
		t.Errorf("%+v", d)
	}
	if d := clockDiagnosis(false, errs.E("x", errs.Unsupported, "", nil)); len(d) != 0 {
		t.Errorf("%+v", d)
	}
}
