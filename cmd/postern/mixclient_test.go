package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// mixRegister DIR NAME PASSWORD CLIENT is a command of the scripts: it registers the client in a
// directory with the relay that runs in another, over HTTPS.
func mixRegister(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: mixregister DIR NAME PASSWORD CLIENT")
	}
	st := statusOf(ts, args[0])
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"mix", "register", "https://" + st.HTTPS, "--user", args[1], "--dir", ts.MkAbs(args[3]),
		"--ca", filepath.Join(ts.MkAbs(args[0]), "tls", "cert.pem"), "--json"}, streams{strings.NewReader(args[2] + "\n"), &out, &errs})
	if (code == exitDone) == neg {
		ts.Fatalf("exit code %d: %s%s", code, out.String(), errs.String())
	}
	if !neg && !strings.Contains(out.String(), `"link_key":"`) {
		ts.Fatalf("no link key: %s", out.String())
	}
}
