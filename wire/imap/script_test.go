package imap

import (
	"context"
	"flag"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"postern.email/wire/imap/imaptest"
)

var update = flag.Bool("update", false, "write the answers of the server into the scripts")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer serves on loopback until the test ends.
func startServer(t testing.TB, o Options) string {
	t.Helper()
	_, addr := startedServer(t, o)
	return addr
}

func startedServer(t testing.TB, o Options) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// TestScripts runs the conversations in testdata on mailboxes in memory.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { imaptest.RunScript(t, f, *update, scriptServer) })
	}
}

// scriptServer starts the server a script asks for in its first lines.
func scriptServer(t testing.TB, options map[string]string) (addr string, deliver func(box, raw string)) {
	b := newFake()
	o := Options{Backend: b, Private: true, Now: fixedNow, Name: "Postern", ExtraCapabilities: []string{"XCHATMAIL", "XDELTAPUSH"}}
	if options["private"] == "no" {
		o.Private = false
	}
	if options["compress"] == "yes" {
		o.Compress = true
	}
	b.undated = options["savedate"] == "no"
	if v, err := strconv.ParseUint(options["forget"], 10, 64); err == nil {
		b.forget = v
	}
	return startServer(t, o), func(box, raw string) { b.deliver(box, raw) }
}
