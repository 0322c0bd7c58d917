package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"postern.email/kit/config"
	"postern.email/role/proxy"
	"postern.email/role/relay"
)

// proxyInit DIR FILE ADDRESS PASSWORD [ARGS] is a command of the scripts: postern proxy init with the
// relay that runs in a directory.
func proxyInit(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: proxyinit DIR FILE ADDRESS PASSWORD [ARGS]")
	}
	st := statusOf(ts, args[0])
	var out, errs bytes.Buffer
	words := []string{"proxy", "init", args[2], "--relay", "https://" + st.HTTPS, "-f", ts.MkAbs(args[1])}
	if _, err := os.Stat(ts.MkAbs(args[1])); err != nil {
		words = append(words, "--ca", filepath.Join(ts.MkAbs(args[0]), "tls", "cert.pem"))
		for _, k := range []string{"SMTP", "POP3", "IMAP", "Page"} {
			words = append(words, "--set", "Proxy."+k+"Address=127.0.0.1:0")
		}
	}
	code := run(context.Background(), append(words, args[4:]...), streams{strings.NewReader(args[3] + "\n"), &out, &errs})
	ts.Check(os.WriteFile(ts.MkAbs("init.out"), out.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("init.err"), errs.Bytes(), 0o600))
	if (code == exitDone) == neg {
		ts.Fatalf("exit code %d: %s%s", code, out.String(), errs.String())
	}
}

// TestProxyReferenceIsFresh: docs/proxy-config.md is what the program would write.
func TestProxyReferenceIsFresh(t *testing.T) {
	want := config.Reference(&proxy.Config{}, proxyReferenceTitle, proxyReferenceIntro)
	got, err := os.ReadFile("../../docs/proxy-config.md")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/proxy-config.md is stale (%v); run: go run ./cmd/postern proxy config --markdown > docs/proxy-config.md", err)
	}
}

// TestProxyVersion: a proxy says the version of the program, which a release sets in role/relay.
func TestProxyVersion(t *testing.T) {
	defer func(v string) { relay.Version = v }(relay.Version)
	relay.Version = "9.9-test"
	if v := proxyDeps().Version; v != "9.9-test" {
		t.Errorf("version %s", v)
	}
}
