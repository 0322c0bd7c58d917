package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"postern.email/kit/config"
	"postern.email/post/seal"
	"postern.email/role/relay"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postern": main, "mixminiond": main, "mixminion": main, "mailproxy": main, "incognitomail": main})
}

// TestScripts runs the promises of the command line: testdata/scripts/*.txtar.
func TestScripts(t *testing.T) {
	names := nameServers(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/scripts",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			evidence, err := filepath.Abs("../../agent/evidence/testdata/golden.json")
			if err != nil {
				return err
			}
			e.Setenv("EVIDENCE", evidence)
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "data"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":      waitReady,
			"aliasready": aliasReady,
			"fields":     aliasFields,
			"login":      imapLogin,
			"connect":    connects,
			"port":       takePort,
			"signal":     sendSignal,
			"submit":     submitMail,
			"await":      awaitWhy,
			"number":     firstNumber,
			"logged":     waitLogged,

			"mixregister": mixRegister,
			"proxyinit":   proxyInit,

			"mixsignal": mixSignal,
			"gone":      mixGone,
			"webproxy":  webProxy,
			"freeport":  freePort,
			"mixid":     mixID,

			"settle":     settle,
			"offer":      offerNode,
			"authsignal": signalAuthority,

			"names": names["names"], "publish": names["publish"], "withdraw": names["withdraw"],
		},
	})
}

// waitReady DIR waits until a server in the background answers.
func waitReady(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: ready DIR")
	}
	statusOf(ts, args[0])
}

// statusOf waits for a running server and gives its status.
func statusOf(ts *testscript.TestScript, dir string) (st relay.Status) {
	tick, end := time.NewTicker(20*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for {
		var out, errs bytes.Buffer
		if run(context.Background(), []string{"status", "--json", "--dir", ts.MkAbs(dir)}, streams{nil, &out, &errs}) == exitDone {
			ts.Check(json.Unmarshal(out.Bytes(), &st))
			return st
		}
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("no server is ready in %s: %s", dir, errs.String())
		}
	}
}

// imapLogin DIR NAME PASSWORD logs in over IMAP with TLS.
func imapLogin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: login DIR NAME PASSWORD")
	}
	c, err := tls.Dial("tcp", statusOf(ts, args[0]).IMAPS, &tls.Config{InsecureSkipVerify: true})
	ts.Check(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	fmt.Fprintf(c, "a LOGIN %q %q\r\nb LOGOUT\r\n", args[1], args[2])
	var all bytes.Buffer
	_, _ = all.ReadFrom(c) // the end of TLS may be untidy; what was said counts
	if ok := strings.Contains(all.String(), "\na OK"); ok == neg {
		ts.Fatalf("login as %s: %s", args[1], all.String())
	}
}

// submitMail DIR NAME PASSWORD TO hands in a mail with the outside of an encrypted one.
func submitMail(ts *testscript.TestScript, _ bool, args []string) {
	c, err := tls.Dial("tcp", statusOf(ts, args[0]).Submissions, &tls.Config{InsecureSkipVerify: true})
	ts.Check(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	packets := append(append(append([]byte{0xC1, 91, 3}, make([]byte, 90)...), 0xD2, 101, 1), make([]byte, 100)...)
	fmt.Fprintf(c, "EHLO x\r\nAUTH PLAIN %s\r\nMAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n",
		base64.StdEncoding.EncodeToString([]byte("\x00"+args[1]+"\x00"+args[2])), args[1], args[3])
	fmt.Fprintf(c, "From: <%s>\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n"+
		"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"+
		"-----BEGIN PGP MESSAGE-----\r\n\r\n%s\r\n-----END PGP MESSAGE-----\r\n\r\n--b--\r\n.\r\nQUIT\r\n", args[1], base64.StdEncoding.EncodeToString(packets))
	var all bytes.Buffer
	_, _ = all.ReadFrom(c)
	if !strings.Contains(all.String(), "\n221 ") || strings.Contains(all.String(), "\n5") {
		ts.Fatalf("%s", all.String())
	}
}

// queued gives the first mail in the queue.
func queued(ts *testscript.TestScript, dir string) (m relay.QueuedMail) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"queue", "list", "--json", "--dir", ts.MkAbs(dir)}, streams{nil, &out, &errs}); code != exitDone {
		ts.Fatalf("queue list: %s", errs.String())
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	ts.Check(json.Unmarshal([]byte(line), &m))
	return m
}

// awaitWhy DIR TEXT waits until the queue says so of its first recipient.
func awaitWhy(ts *testscript.TestScript, _ bool, args []string) {
	tick, end := time.NewTicker(20*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for {
		m := queued(ts, args[0])
		if len(m.Recipients) > 0 && strings.HasPrefix(m.Recipients[0].Why, args[1]) {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("the queue says: %+v", m)
		}
	}
}

// firstNumber DIR VAR puts the first digits of the first mail in the queue into $VAR.
func firstNumber(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[1], queued(ts, args[0]).ID[:8])
}

// connects FILE tries every address in the JSON line of `postern up`.
func connects(ts *testscript.TestScript, neg bool, args []string) {
	var line map[string]any
	text := ts.ReadFile(args[0])
	ts.Check(json.Unmarshal([]byte(text), &line))
	if strings.Count(text, "\n") != 1 || line["ready"] != true {
		ts.Fatalf("not one line that says ready: %s", text)
	}
	for _, k := range []string{"https", "imaps", "imap", "smtp", "submissions", "submission", "pop3s", "pop3"} {
		addr, _ := line[k].(string)
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err == nil {
			c.Close()
		}
		if (err == nil) == neg {
			ts.Fatalf("%s at %q: %v", k, addr, err)
		}
	}
	for _, k := range []string{"domain", "dir", "tls_cert"} {
		if s, _ := line[k].(string); s == "" {
			ts.Fatalf("%s is missing: %s", k, text)
		}
	}
	if _, err := os.Stat(line["tls_cert"].(string)); err != nil {
		ts.Fatalf("the certificate: %v", err)
	}
}

// sendSignal NAME DIR sends a signal to the server that holds DIR.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	ts.Check(syscall.Kill(statusOf(ts, args[1]).PID, signals[args[0]]))
}

// takePort occupies a free port until the script ends and puts its address into $PORT.
func takePort(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("PORT", l.Addr().String())
}

// TestReferenceIsFresh: docs/config.md is what the program would write.
func TestReferenceIsFresh(t *testing.T) {
	want := config.Reference(&relay.Config{}, referenceTitle, referenceIntro)
	got, err := os.ReadFile("../../docs/config.md")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/config.md is stale (%v); run: go run ./cmd/postern config describe --markdown > docs/config.md", err)
	}
}

// TestRevealIsTheThreatModel: what `postern store reveal` can print is the table
// "What the node key opens" of docs/threat-model.md, row by row.
func TestRevealIsTheThreatModel(t *testing.T) {
	page, err := os.ReadFile("../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n## What the node key opens\n")
	if !ok {
		t.Fatal("docs/threat-model.md has no chapter \"What the node key opens\"")
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	var inPage, inCode []string
	for line := range strings.Lines(section) {
		if kind, ok := strings.CutPrefix(line, "| `"); ok {
			inPage = append(inPage, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.Replace(kind, "` |", " |", 1)), "|")))
		}
	}
	for _, p := range seal.Purposes() {
		inCode = append(inCode, p.Name+" | "+p.What+" | "+p.Why)
	}
	slices.Sort(inPage)
	slices.Sort(inCode)
	if !slices.Equal(inPage, inCode) {
		t.Errorf("the page:\n%s\nthe code:\n%s", strings.Join(inPage, "\n"), strings.Join(inCode, "\n"))
	}
}

// TestHelp: every command has a short text, the ones with arguments an example, and
// every command that prints takes --json.
func TestHelp(t *testing.T) {
	silent := map[string]bool{"postern": true, "postern stop": true, "postern store move-key": true}
	root := newRoot(streams{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}})
	all := root.Commands()
	for len(all) > 0 {
		c := all[0]
		all = append(all[1:], c.Commands()...)
		if c.Short == "" {
			t.Errorf("%s: no short text", c.CommandPath())
		}
		if c.HasSubCommands() {
			continue
		}
		if c.Example == "" {
			t.Errorf("%s: no example", c.CommandPath())
		}
		if c.Flags().Lookup("json") == nil && !silent[c.CommandPath()] {
			t.Errorf("%s: no --json", c.CommandPath())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if strings.Contains(f.Usage, "\n") || f.Usage == "" {
				t.Errorf("%s --%s: usage %q", c.CommandPath(), f.Name, f.Usage)
			}
		})
	}
}
