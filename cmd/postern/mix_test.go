package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/tooltest"
	"postern.email/role/mix"
)

// mixSignal NAME DIR sends a signal to the node in DIR, and waits for the end of one that is killed.
func mixSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	pid, err := daemon.PidOf(filepath.Join(ts.MkAbs(args[1]), "pid"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
	if args[0] == "KILL" {
		mixGone(ts, false, args[1:])
	}
}

// mixGone DIR waits until no node runs in DIR.
func mixGone(ts *testscript.TestScript, _ bool, args []string) {
	tick, end := time.NewTicker(20*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for {
		if _, err := daemon.PidOf(filepath.Join(ts.MkAbs(args[0]), "pid")); errs.KindOf(err) == errs.NotFound {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("a node still runs in %s", args[0])
		}
	}
}

// TestMixArgs: names, cases and hyphens of mixminiond's manual.
func TestMixArgs(t *testing.T) {
	for _, x := range []struct{ line, want, obsolete string }{
		{"/usr/sbin/mixminiond start -f x", "mix start -f x", ""},
		{"mixminion server-start --f x --Q", "mix start -f x -Q", "server-start"},
		{"mixminion server-DELKEYS", "mix delkeys", "server-delkeys"},
		{"mixminiond DELKEYS --h", "mix delkeys -h", ""},
		{"mixminion server-status", "mix server-status", ""},
		{"mixminion send -- --f", "mix send -- --f", ""},
		{"mixminiond", "mix", ""},
		{"postern mix DelKeys", "mix delkeys", ""},
		{"postern mix server-stop", "mix stop", "server-stop"},
		{"postern status --f", "status --f", ""},
		{"postern", "", ""},
	} {
		got, obsolete := mixArgs(namedArgs(strings.Fields(x.line)))
		if strings.Join(got, " ") != x.want || obsolete != x.obsolete {
			t.Errorf("%s: %q, %q", x.line, got, obsolete)
		}
	}
}

// TestMixPlaces: the configuration is looked for in mixminiond's four places, in its order,
// and then in ours.
func TestMixPlaces(t *testing.T) {
	if want := []string{"~/mixminiond.conf", "~/etc/mixminiond.conf", "/etc/mixminiond.conf", "/etc/mixminion/mixminiond.conf"}; !slices.Equal(mixConfigs[:4], want) {
		t.Errorf("%q", mixConfigs)
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{".config/postern/mix.toml", "etc/mixminiond.conf", "mixminiond.conf"} {
		file := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := (&mixSource{}).find(); err != nil || got != file {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, _ := (&mixSource{file: "x"}).find(); got != "x" {
		t.Errorf("-f x: %q", got)
	}
}

// TestMixFreshConfiguration: the file of mix init is read as what was decided, also with every
// proposal in it taken.
func TestMixFreshConfiguration(t *testing.T) {
	set := []string{"incoming.addresses=mix.example.org:48099", "mixing.memory=32M", "contact_email=a@example.org"}
	var want mix.Config
	if err := config.Load(&want, "", append([]string{"nickname=aurora", "server.base_dir=/srv/x"}, set...)); err != nil {
		t.Fatal(err)
	}
	text := mixConfigText(&want, set)
	read := func(text string) map[string]string {
		t.Helper()
		var c mix.Config
		if err := config.LoadText(&c, "m.toml", []byte(text), nil); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if err := c.Check(); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return config.Values(&c)
	}
	got := read(text)
	for key, v := range config.Values(&want) {
		if got[key] != v {
			t.Errorf("%s = %q, want %q, in\n%s", key, got[key], v, text)
		}
	}
	var taken strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = rest
		}
		taken.WriteString(line)
	}
	all := read(taken.String())
	for _, x := range slices.Concat(mixTop[2:], mixChoices) {
		if all[x.key] == got[x.key] && !slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, x.key+"=") }) {
			t.Errorf("%s: the proposal changes nothing", x.key)
		}
	}
}

// TestMixUnit: the unit of a node is a hardened one with a user of its own, and mix init puts
// this program and this file into it.
func TestMixUnit(t *testing.T) {
	unit := deploy.Mix()
	for _, want := range []string{"\nType=notify\n", "\nDynamicUser=yes\n", "\nStateDirectory=postern-mix\n", "\nExecReload=/bin/kill -HUP $MAINPID\n", "\nNoNewPrivileges=yes\n",
		"\nProtectSystem=strict\n", "\nMemorySwapMax=0\n", "\nLimitCORE=0\n", "\nMemoryDenyWriteExecute=yes\n", "LoadCredentialEncrypted=" + mixCredential + ":"} {
		if strings.Count(unit, want) != 1 {
			t.Errorf("%q is %d times in\n%s", want, strings.Count(unit, want), unit)
		}
	}
	got, err := startLine(unit, "mix start --nodaemon --echo", systemMixConfig, "/opt/postern", "/etc/m.toml")
	if err != nil || !strings.Contains(got, "\nExecStart=/opt/postern mix start --nodaemon --echo --config /etc/m.toml\n") {
		t.Errorf("%v in\n%s", err, got)
	}
	u := &mixSetUp{file: "/etc/m.toml"}
	u.cfg.Server.BaseDir = "/srv/other"
	if _, err := u.unitText(); errs.KindOf(err) != errs.Invalid {
		t.Errorf("another directory: %v", err)
	}
}

// TestMixReferenceIsFresh: docs/mix-config.md is what the program would write.
func TestMixReferenceIsFresh(t *testing.T) {
	want := config.Reference(&mix.Config{}, mixReferenceTitle, mixReferenceIntro)
	got, err := os.ReadFile("../../docs/mix-config.md")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/mix-config.md is stale (%v); run: go run ./cmd/postern mix config --markdown > docs/mix-config.md", err)
	}
}

// webProxy FILE starts a web proxy that has nothing, puts its URL into $PROXY, and writes what
// it is asked for into a file.
func webProxy(ts *testscript.TestScript, _ bool, args []string) {
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(file, "%s %s\n", q.Method, q.URL)
		http.NotFound(w, q)
	}))
	ts.Defer(func() { s.Close(); file.Close() })
	ts.Setenv("PROXY", s.URL)
}

// freePort VAR puts a port of loopback that was free into a variable.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	addr, err := tooltest.FreeAddress()
	ts.Check(err)
	_, port, err := net.SplitHostPort(addr)
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// mixID FILE VAR puts the fingerprint of a running node into a variable.
func mixID(ts *testscript.TestScript, _ bool, args []string) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"mix", "status", "--json", "-f", ts.MkAbs(args[0])}, streams{nil, &out, &errs}); code != exitDone {
		ts.Fatalf("%s", errs.String())
	}
	var st mix.Status
	ts.Check(json.Unmarshal(out.Bytes(), &st))
	ts.Setenv(args[1], st.ID)
}
