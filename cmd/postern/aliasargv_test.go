//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"postern.email/wire/control"
)

// TestSecretNotInPS: a secret in the command line is gone from where ps reads it before the server
// is asked, and the note says what is left; the server gets it whole.
func TestSecretNotInPS(t *testing.T) {
	dir := t.TempDir()
	l, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("S3cr", 16)
	got := make(chan string, 1)
	goOn := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- control.Serve(ctx, l, map[string]control.Handler{"alias.new": func(_ context.Context, args json.RawMessage, _ func(any) error) (any, error) {
			var a struct{ Token string }
			json.Unmarshal(args, &a)
			got <- a.Token
			<-goOn
			return map[string]string{"address": "x@example.org"}, nil
		}})
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := &exec.Cmd{Path: self, Args: []string{"postern", "alias", "new", "handle", secret, "--dir", dir}, Stdout: &out, Stderr: &errs, Env: append(os.Environ(), secretEnv+"=")}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case token := <-got:
		if token != secret {
			t.Errorf("the server got %q", token)
		}
	case err := <-ended:
		t.Fatalf("%v before the server was asked: %s", err, errs.String())
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.Process.Pid))
	if err != nil || bytes.Contains(line, []byte("S3cr")) || !bytes.Contains(line, []byte("handle")) {
		t.Errorf("ps shows %q, %v", line, err)
	}
	close(goOn)
	if err := <-ended; err != nil || out.String() != "x@example.org\n" || !strings.Contains(errs.String(), "a secret in the command line: it stands in the history of the shell") {
		t.Errorf("%v, %q, %q", err, out.String(), errs.String())
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
