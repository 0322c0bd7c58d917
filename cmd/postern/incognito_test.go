package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/tooltest"
	"postern.email/role/alias"
	"postern.email/wire/control"
)

// aliasReady SOCKET waits until the server beside a Postfix answers.
func aliasReady(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: aliasready SOCKET")
	}
	tick, end := time.NewTicker(20*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for {
		err := control.CallAt(context.Background(), ts.MkAbs(args[0]), "status", struct{}{}, nil, nil)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("no server is ready: %v", err)
		}
	}
}

// startBeside starts an alias server beside a Postfix that is not there but for its programs, and gives the
// configuration's file.
func startBeside(t *testing.T) string {
	t.Helper()
	dir := tooltest.Postfix(t, "")
	text := strings.ReplaceAll("[General]\nUnixSockPath=DIR/sock\nLockFilePath=DIR/lock\nListenAddress=127.0.0.1:0\n[Persistence]\nDatabasePath=DIR/old.db\n"+
		"[PostfixConfig]\nDomain=@alias.example\nMapFilePath=DIR/map\n[Postern]\nPostfixDir=DIR\nMapType=hash\nHandleStyle=random\n", "DIR", dir)
	file := filepath.Join(dir, "incognitomail.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := alias.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := alias.Start(t.Context(), alias.Deps{}, l.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return file
}

// incognitoRun executes a command line under IncognitoMail's name.
func incognitoRun(t *testing.T, in string, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{incognitoName}, args...), streams{strings.NewReader(in), &o, &e})
	return code, o.String(), e.String()
}

// TestIncognito: outputs and exit codes of IncognitoMail's commands (IM-02 to IM-10), and why something failed before its
// sentence for all failures (IM-53).
func TestIncognito(t *testing.T) {
	file := startBeside(t)
	ok := func(in, pattern string, args ...string) string {
		t.Helper()
		code, out, said := incognitoRun(t, in, append([]string{"-c", file}, args...)...)
		if code != exitDone || !regexp.MustCompile("^(?:"+pattern+")\n$").MatchString(out) {
			t.Fatalf("%q: exit code %d, %q, %q", args, code, out, said)
		}
		return strings.TrimSuffix(out, "\n")
	}
	secret := ok("", "[a-zA-Z0-9]{64}", "new", "account", "anna@mailbox.example")
	other := ok("", "[a-zA-Z0-9]{64}", "new", "account", "ben@mailbox.example")
	first := ok("", `[a-z0-9]{18}@alias\.example`, "new", "handle", secret)
	second := ok(secret+"\n", `[a-z0-9]{18}@alias\.example`, "new", "handle", "-") // from standard input
	local := func(address string) string { s, _, _ := strings.Cut(address, "@"); return s }
	list := []string{local(first), local(second)}
	if list[0] > list[1] {
		list[0], list[1] = list[1], list[0]
	}
	if got := ok("", "[a-z0-9]{18}\n[a-z0-9]{18}", "list", secret); got != strings.Join(list, "\n") { // IM-07
		t.Errorf("%q", got)
	}
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok("", "success", "delete", "handle", local(first), secret)
	if got := ok("", "[a-z0-9]{18}", "-secret-file", secretFile, "list"); got != local(second) {
		t.Errorf("%q", got)
	}
	t.Setenv(secretEnv, secret)
	ok("", "success", "delete", "account")
	t.Setenv(secretEnv, "")

	wrong := strings.Repeat("x", 64)
	for _, c := range []struct {
		args []string
		code int
		why  string // on standard error
	}{
		{[]string{"new", "handle", secret}, exitFailed, "account not found"},
		{[]string{"new", "handle", wrong}, exitFailed, "account not found"},
		{[]string{"new", "handle", "short"}, exitFailed, "account not found"},
		{[]string{"list", wrong}, exitFailed, "account not found"},
		{[]string{"delete", "handle", local(second), other}, exitFailed, "there is no such alias of yours"}, // IM-61
		{[]string{"delete", "account", wrong}, exitFailed, "account not found"},
		{[]string{"new", "account", "no address"}, exitFailed, "this is not a mail address"},
		{[]string{"new"}, exitFailed, "wrong command usage"},
		{[]string{"new", "handle"}, exitFailed, "wrong command usage"},
		{[]string{"new", "handle", other, "more"}, exitFailed, "wrong command usage"},
		{[]string{"delete", "everything", other}, exitFailed, "wrong command usage"}, // IM-60: there, nobody answered
		{[]string{"delete", "handle", other}, exitFailed, "wrong command usage"},
		{[]string{"stop", "now"}, exitFailed, "wrong command usage"},
		{[]string{"rename"}, exitFailed, "unknown command received"},
	} {
		code, out, said := incognitoRun(t, "", append([]string{"--config", file}, c.args...)...)
		if code != c.code || out != unsuccessful+"\n" || !strings.Contains(said, "incognitomail: "+c.why) {
			t.Errorf("%q: exit code %d, %q, %q", c.args, code, out, said)
		}
	}
	for _, args := range [][]string{{"list"}, {"list", other, "more"}} { // IM-07
		if code, out, _ := incognitoRun(t, "", append([]string{"-config=" + file}, args...)...); code != exitUsage || !strings.HasPrefix(out, "Usage: incognitomail [-c|--config <path>]") {
			t.Errorf("%q: exit code %d, %q", args, code, out)
		}
	}
	ok("", "Stopped server", "stop") // IM-08
}

func TestIncognitoUsage(t *testing.T) {
	code, out, said := incognitoRun(t, "", "-h") // IM-10
	for _, want := range []string{"new account <address>", "new handle <secret>", "delete account <secret>", "delete handle <handle> <secret>", "list <secret>", "stop", "-c string", "-config string"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if code != exitDone || said != "" {
		t.Errorf("exit code %d, %q", code, said)
	}
	if code, _, said := incognitoRun(t, "", "-nonsense"); code != exitUsage || !strings.Contains(said, "-nonsense") {
		t.Errorf("exit code %d, %q", code, said)
	}
	// IM-02, IM-20: a file that cannot be read, or used, whatever the command.
	bad := filepath.Join(t.TempDir(), "bad.conf")
	if err := os.WriteFile(bad, []byte("[General]\nMailSystem=exim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, why := range map[string]string{bad: "invalid configuration values: General.MailSystem", bad + "x": "there is no configuration file"} {
		for _, args := range [][]string{{"-c", file}, {"--c", file, "stop"}, {"-config", file, "list", "x"}} {
			if code, out, said := incognitoRun(t, "", args...); code != exitFailed || out != unsuccessful+"\n" || !strings.Contains(said, why) {
				t.Errorf("%q: exit code %d, %q, %q", args, code, out, said)
			}
		}
	}
}

// TestAliasReferenceIsFresh: docs/alias-config.md is what the program would write.
func TestAliasReferenceIsFresh(t *testing.T) {
	want := config.Reference(&alias.Config{}, aliasReferenceTitle, aliasReferenceIntro)
	got, err := os.ReadFile("../../docs/alias-config.md")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/alias-config.md is stale (%v); run: go run ./cmd/postern alias config --markdown > docs/alias-config.md", err)
	}
}

// TestAliasUnit: it runs as Postfix's user, and is protected as the others are.
func TestAliasUnit(t *testing.T) {
	unit := deploy.Alias()
	for _, want := range []string{"\nUser=postfix\n", "\nExecStart=/usr/local/bin/postern alias serve -c /etc/incognitomail.conf\n", "\nStateDirectoryMode=0700\n", "\nNoNewPrivileges=yes\n",
		"\nProtectSystem=strict\n", "\nMemorySwapMax=0\n", "\nCapabilityBoundingSet=\n", "\nRuntimeDirectory=incognitomail\n"} {
		if strings.Count(unit, want) != 1 {
			t.Errorf("%q is %d times in\n%s", want, strings.Count(unit, want), unit)
		}
	}
}
